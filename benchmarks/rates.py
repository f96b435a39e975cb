"""The rate limit as the server sees it, with connections that take a while to set up.

Both limiters may send 40 requests in any second. The server counts arrivals in sliding seconds; every new
connection takes a quarter of a second, as TLS over a continent does. A peak above 40 is a refusal.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from pyrate_limiter import Duration, Limiter, Rate

from sources.cronofy.calls.budget import RequestBudget
from sources.cronofy.clock import SystemClock

LIMIT, REQUESTS, WORKERS = 40, 400, 64
CONNECT_SECONDS, ANSWER_SECONDS = 0.25, 0.03

Slot = Callable[[], AbstractAsyncContextManager[object]]


def measure() -> list[dict[str, Any]]:
    """One row a limiter: peak arrivals in any second, and the share of the allowed rate used."""
    budget = RequestBudget(SystemClock(), LIMIT, 1e9)
    limiter = Limiter(Rate(LIMIT, Duration.SECOND))

    @asynccontextmanager
    async def permitted() -> AsyncIterator[None]:
        await limiter.try_acquire_async("cronofy")
        yield

    rows = []
    for name, slot in (("our budget", budget.slot), ("pyrate-limiter", permitted)):
        peak, seconds = asyncio.run(_send(slot))
        rows.append(
            {
                "limiter": name,
                "allowed in a second": LIMIT,
                "peak at the server": peak,
                "share of the allowed rate used": REQUESTS / seconds / LIMIT,
            }
        )
    return rows


async def _send(slot: Slot) -> tuple[int, float]:
    arrivals: list[float] = []
    numbers = iter(range(REQUESTS))

    async def worker() -> None:
        connected = False
        for _ in numbers:
            async with slot():
                if not connected:
                    await asyncio.sleep(CONNECT_SECONDS)
                    connected = True
                arrivals.append(time.monotonic())
                await asyncio.sleep(ANSWER_SECONDS)

    started = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return _peak(arrivals), time.monotonic() - started


def _peak(arrivals: list[float]) -> int:
    window: deque[float] = deque()
    peak = 0
    for arrival in sorted(arrivals):
        window.append(arrival)
        while window[0] <= arrival - 1.0:
            window.popleft()
        peak = max(peak, len(window))
    return peak
