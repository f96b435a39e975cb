"""Concurrency: how many requests are under way at once, slow ones not counted."""

import asyncio
import math
from collections import deque
from typing import Any

from .tuning import SLOW_SECONDS


class ConcurrencyLimiter:
    """Lets so many in at once, first come, first served; a slow one lets another one in.

    Args:
        number: how many may be under way, slow ones not counted.
        most: and how many with the slow ones.
    """

    def __init__(self, number: float, most: float = math.inf) -> None:
        self._number, self._most = number, most
        self._under_way = 0
        self._slow = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def slot(self) -> "ConcurrencySlot":
        """To be entered with `async with`, which waits for room."""
        return ConcurrencySlot(self)

    def resize(self, number: float, most: float = math.inf) -> None:
        """Let more in from now on."""
        self._number, self._most = number, most
        self._let_in()

    async def enter(self) -> None:
        """Wait for room."""
        if not self._waiting and self._has_room():
            self._under_way += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # it is counted when it is let in
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """A request has ended, well or not."""
        self._under_way -= 1
        self._let_in()

    def count_slow(self, change: int) -> None:
        """One more or one less is slow to be answered."""
        self._slow += change
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.cancelled():
                self._under_way += 1
                turn.set_result(None)

    def _has_room(self) -> bool:
        return self._under_way < min(self._number + self._slow, self._most)


class ConcurrencySlot:
    """One request under way; a class and not a generator, because there are thousands a second."""

    __slots__ = ("_is_slow", "_timer", "limiter")

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self._timer: asyncio.TimerHandle | None = None
        self._is_slow = False

    async def __aenter__(self) -> Any:
        await self.limiter.enter()
        return self

    def sent(self) -> None:
        """The request is sent, perhaps again: from now on it may turn out to be slow."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._slow_down)

    def answered(self) -> None:
        """The request is answered, or will not be; what takes long now is something else."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_slow:
            self._is_slow = False
            self.limiter.count_slow(-1)

    def _slow_down(self) -> None:
        self._is_slow = True
        self.limiter.count_slow(1)

    async def __aexit__(self, *_: object) -> None:
        self.answered()
        self.limiter.leave()
