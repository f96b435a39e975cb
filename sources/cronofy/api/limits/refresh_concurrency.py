"""The refresh limit: how many refreshes are under way at once, which is how many a failing store can lose."""

import asyncio
from collections import deque

# from the request until the store has the answer. With rotating refresh tokens so many are lost at most when
# the store fails in the middle of a run
MOST_UNDER_WAY = 8
# one that is not answered by then lets another one begin, so that a hanging answer holds up nobody
SLOW_SECONDS = 1.0


class RefreshLimiter:
    """One refresh at a time until the store has taken its first new token, then several.

    A trial cannot show everything, a function that is given every new token for instance; so the first
    refresh of a run goes alone, and where the store fails from the start one refresh token is lost.
    Holds nothing that belongs to an event loop while no refresh is under way.

    Attributes:
        is_proven: whether the store has taken a new token in this run.
    """

    def __init__(self, most: int = MOST_UNDER_WAY) -> None:
        self._most = most
        self._under_way = 0
        self._slow = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.is_proven = False
        self._is_over = False

    def place(self) -> "RefreshSlot":
        """A place to wait for with `async with`, first come, first served."""
        return RefreshSlot(self)

    def prove(self) -> None:
        """The store has taken a new token: others may be refreshed beside each other."""
        self.is_proven = True
        self.let_in()

    def end(self) -> None:
        """Nothing is sent any more, so nobody waits."""
        self._is_over = True
        self.let_in()

    async def enter(self) -> None:
        """Wait for a place."""
        if self._waiting or not self._has_room():
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place  # it is counted when it is let in
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.leave()
                raise
        else:
            self._under_way += 1

    def leave(self) -> None:
        """A refresh has ended, well or not."""
        self._under_way -= 1
        self.let_in()

    def count_slow(self, change: int) -> None:
        """One more or one less is slow to be answered."""
        self._slow += change
        self.let_in()

    def let_in(self) -> None:
        """Give free places to those that wait."""
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.cancelled():
                self._under_way += 1
                place.set_result(None)

    def _has_room(self) -> bool:
        together = self._most if self.is_proven else min(self._most, 1 + self._slow)
        return self._is_over or self._under_way < together


class RefreshSlot:
    """One refresh's place."""

    def __init__(self, limit: RefreshLimiter) -> None:
        self._limit = limit
        self._timer: asyncio.TimerHandle | None = None
        self._is_slow = False

    async def __aenter__(self) -> "RefreshSlot":
        await self._limit.enter()
        return self

    def sent(self) -> None:
        """Its request is sent, perhaps again."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._slow_down)

    def answered(self) -> None:
        """Its request is answered, or will not be; what takes long now is the store."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_slow:
            self._is_slow = False
            self._limit.count_slow(-1)

    def _slow_down(self) -> None:
        self._is_slow = True
        self._limit.count_slow(1)

    async def __aexit__(self, *_: object) -> None:
        self.answered()
        self._limit.leave()
