"""Places: how many requests are under way at once, slow ones not counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# more cost throughput (benchmarks/); fewer would let ordinary answers hold up the rest
MAX_IN_FLIGHT = 64
# a request that takes longer gives its place to another one, so that hanging ones hold up nobody
SLOW_SECONDS = 1.0
# and that many may be open in all
MAX_OPEN = 512


class Places:
    """A semaphore whose places are given up by whoever takes long."""

    def __init__(self, number: int = MAX_IN_FLIGHT) -> None:
        self._free = asyncio.Semaphore(number)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Callable[[], None]]:
        """Wait for a place; yields what is to be called when the request is sent."""
        await self._free.acquire()
        held = [True]

        def leave() -> None:
            if held:
                held.clear()
                self._free.release()

        timers: list[asyncio.TimerHandle] = []

        def sent() -> None:
            timers.append(asyncio.get_running_loop().call_later(SLOW_SECONDS, leave))

        try:
            yield sent
        finally:
            for timer in timers:
                timer.cancel()
            leave()
