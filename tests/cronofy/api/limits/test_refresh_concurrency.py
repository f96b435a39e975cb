"""The refresh limit: the first goes alone, a slow answer holds up nobody, and never are too many at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from dlt_cronofy.source.api.limits.refresh_concurrency import SLOW_SECONDS, RefreshLimiter
from tests.cronofy.clocks import simulate

MOST = 4


class Crowd:
    """Refreshes that take their time, and how many of them were under way at once."""

    def __init__(self, limit: RefreshLimiter) -> None:
        self.limit = limit
        self.under_way = 0
        self.most = 0
        self.order: list[int] = []

    async def refresh(self, number: int, answer: float, write: float) -> None:
        async with self.limit.place() as place:
            self.order.append(number)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            place.sent()
            await asyncio.sleep(answer)
            place.answered()
            await asyncio.sleep(write)
            self.under_way -= 1


def crowd(
    refreshes: int, answer: float, write: float, meanwhile: Callable[[RefreshLimiter], Awaitable[None]]
) -> tuple[Crowd, float]:
    """All of them at once; returns how long that took as well."""

    async def run() -> tuple[Crowd, float]:
        found = Crowd(RefreshLimiter(MOST))
        work = [asyncio.create_task(found.refresh(n, answer, write)) for n in range(refreshes)]
        await meanwhile(found.limit)
        await asyncio.gather(*work)
        return found, asyncio.get_running_loop().time()

    return simulate(run())


async def nothing(limit: RefreshLimiter) -> None:
    """The store has not taken anything."""


async def proven(limit: RefreshLimiter) -> None:
    limit.prove()


async def proven_later(limit: RefreshLimiter) -> None:
    await asyncio.sleep(0.35)
    limit.prove()


@pytest.mark.parametrize(
    ("answer", "write", "meanwhile", "most", "seconds"),
    [
        (0.1, 0.0, nothing, 1, 1.2),
        (0.1, 0.0, proven, MOST, 0.3),
        (0.1, 0.0, proven_later, MOST, 0.6),
        # each slow answer lets in one more, up to as many as are allowed at all
        (100.0, 0.0, nothing, MOST, 300.0 + 3 * SLOW_SECONDS),
        # while a slow store lets in nobody: what it takes long over is not saved
        (0.1, 5.0, nothing, 1, 12 * 5.1),
        (0.1, 5.0, proven, MOST, 3 * 5.1),
    ],
    ids=["alone", "together", "first alone", "slow answers", "slow store", "slow store, proven"],
)
def test_as_many_at_once_as_may_be_lost(
    answer: float,
    write: float,
    meanwhile: Callable[[RefreshLimiter], Awaitable[None]],
    most: int,
    seconds: float,
) -> None:
    found, taken = crowd(12, answer, write, meanwhile)
    assert found.most == most
    assert found.under_way == 0
    assert found.order == list(range(12))
    assert taken == pytest.approx(seconds)


def test_nobody_waits_for_what_is_over() -> None:
    async def run() -> None:
        limit = RefreshLimiter(MOST)
        async with limit.place():
            waiting = [asyncio.create_task(Crowd(limit).refresh(n, 0, 0)) for n in range(12)]
            await asyncio.sleep(0)
            limit.end()
            await asyncio.gather(*waiting)

    simulate(run())


def test_an_answer_in_time_is_not_slow() -> None:
    async def run() -> None:
        limit = RefreshLimiter(MOST)
        async with limit.place() as place:
            place.sent()
            place.answered()
            other = asyncio.create_task(Crowd(limit).refresh(1, 0, 0))
            await asyncio.sleep(2 * SLOW_SECONDS)
            assert not other.done()
        await other

    simulate(run())


def test_a_place_that_came_too_late_is_given_back() -> None:
    """Its refresh was cancelled when it had just been let in."""

    async def run() -> bool:
        limit = RefreshLimiter(1)
        await limit.enter()
        waiting = asyncio.create_task(limit.enter())
        await asyncio.sleep(0)
        limit.leave()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(limit.enter(), 1)
        return True

    assert simulate(run())
