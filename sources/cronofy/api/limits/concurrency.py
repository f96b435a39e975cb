"""ConcurrencyLimiter: how many requests are under way at once, slow ones not counted."""

import asyncio

# more cost throughput (benchmarks/); fewer would let ordinary answers hold up the rest
MAX_IN_FLIGHT = 64
# a request that takes longer gives its place to another one, so that hanging ones hold up nobody
SLOW_SECONDS = 1.0
# and that many may be open in all
MAX_OPEN = 512


class ConcurrencyLimiter:
    """A semaphore whose places are given up by whoever takes long."""

    def __init__(self, number: int = MAX_IN_FLIGHT) -> None:
        self._free = asyncio.Semaphore(number)

    def place(self) -> "Place":
        """A place to wait for with `async with`."""
        return Place(self._free)


class Place:
    """One request's place; a class of its own because there are thousands a second."""

    __slots__ = ("_free", "_is_held", "_timer")

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._is_held = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Place":
        await self._free.acquire()
        self._is_held = True
        return self

    def sent(self) -> None:
        """The request is sent: from now on it may turn out to be slow."""
        self._timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._leave)

    def _leave(self) -> None:
        if self._is_held:
            self._is_held = False
            self._free.release()

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._leave()
