"""ConcurrencyLimiter: so many requests at once, and a slow one lets another one in."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import pytest

from dlt_cronofy.source.api.limits.concurrency import ConcurrencyLimiter
from dlt_cronofy.source.api.limits.tuning import SLOW_SECONDS
from tests.cronofy.clocks import simulate


class Requests:
    """Requests with their durations, all started at once; notes when each was sent."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self.sent_at: list[float] = []
        self.under_way = self.most_under_way = 0

    async def request(self, seconds: float, queue_seconds: float = 0.0) -> None:
        async with self.limiter.slot() as slot:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            await asyncio.sleep(queue_seconds)
            slot.sent()
            self.sent_at.append(asyncio.get_running_loop().time())
            try:
                await asyncio.sleep(seconds)
            finally:
                self.under_way -= 1

    async def all(self, durations: Iterable[float], queue_seconds: float = 0.0) -> None:
        await asyncio.gather(*(self.request(seconds, queue_seconds) for seconds in durations))


@pytest.mark.parametrize("number", [1, 3, 10])
def test_so_many_quick_requests_are_under_way_at_once(number: int) -> None:
    async def scenario() -> Requests:
        requests = Requests(ConcurrencyLimiter(number))
        await requests.all([0.5] * 30)
        return requests

    found = simulate(scenario())
    assert found.most_under_way == number
    assert found.sent_at == pytest.approx([0.5 * (place // number) for place in range(30)])


def test_a_slow_request_gives_its_place_to_the_next() -> None:
    """Three that hang for a minute cost the others a second, not a minute."""

    async def scenario() -> Requests:
        requests = Requests(ConcurrencyLimiter(3))
        await requests.all([60, 60, 60, 0.1, 0.1, 0.1, 0.1])
        return requests

    found = simulate(scenario())
    assert found.sent_at == pytest.approx([0, 0, 0, *[SLOW_SECONDS] * 3, SLOW_SECONDS + 0.1])


def test_waiting_for_the_rate_limit_is_not_slow() -> None:
    """The time runs from when a request is sent: a place is not given up by one that waits to be sent."""

    async def scenario() -> Requests:
        requests = Requests(ConcurrencyLimiter(2))
        await requests.all([0.1] * 6, queue_seconds=10 * SLOW_SECONDS)
        return requests

    assert simulate(scenario()).most_under_way == 2


@pytest.mark.parametrize("ends_with", [asyncio.CancelledError, ValueError])
@pytest.mark.parametrize("seconds", [0.1, 5.0], ids=["quick", "slow"])
def test_a_place_is_given_back_once_however_a_request_ends(
    seconds: float, ends_with: type[BaseException]
) -> None:
    async def scenario() -> int:
        limiter = ConcurrencyLimiter(1)
        for _ in range(3):
            with suppress(ends_with):
                async with limiter.slot() as slot:
                    slot.sent()
                    await asyncio.sleep(seconds)
                    raise ends_with
        await asyncio.sleep(10)
        requests = Requests(limiter)
        await requests.all([0.1] * 5)
        return requests.most_under_way

    assert simulate(scenario()) == 1


def test_whoever_is_cancelled_while_waiting_takes_no_place() -> None:
    async def scenario() -> None:
        limiter = ConcurrencyLimiter(1)
        requests = Requests(limiter)
        holder = asyncio.create_task(requests.request(0.5))
        waiting = asyncio.create_task(requests.request(0.5))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(holder, waiting, return_exceptions=True)
        await asyncio.wait_for(requests.request(0.1), 0.2)

    simulate(scenario())


MOST = 4


class Crowd:
    """Refreshes that take their time, and how many of them were under way at once."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self.under_way = 0
        self.most = 0
        self.order: list[int] = []

    async def refresh(self, number: int, answer: float, write: float) -> None:
        async with self.limiter.slot() as slot:
            self.order.append(number)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            slot.sent()
            await asyncio.sleep(answer)
            slot.answered()
            await asyncio.sleep(write)
            self.under_way -= 1


def crowd(
    refreshes: int, answer: float, write: float, meanwhile: Callable[[ConcurrencyLimiter], Awaitable[None]]
) -> tuple[Crowd, float]:
    """All of them at once; returns how long that took as well."""

    async def run() -> tuple[Crowd, float]:
        found = Crowd(ConcurrencyLimiter(1, MOST))
        work = [asyncio.create_task(found.refresh(n, answer, write)) for n in range(refreshes)]
        await meanwhile(found.limiter)
        await asyncio.gather(*work)
        return found, asyncio.get_running_loop().time()

    return simulate(run())


async def nothing(limiter: ConcurrencyLimiter) -> None:
    """It stays as it is."""


async def wider(limiter: ConcurrencyLimiter) -> None:
    limiter.resize(MOST, MOST)


async def wider_later(limiter: ConcurrencyLimiter) -> None:
    await asyncio.sleep(0.35)
    limiter.resize(MOST, MOST)


@pytest.mark.parametrize(
    ("answer", "write", "meanwhile", "most", "seconds"),
    [
        (0.1, 0.0, nothing, 1, 1.2),
        (0.1, 0.0, wider, MOST, 0.3),
        (0.1, 0.0, wider_later, MOST, 0.6),
        # each slow answer lets in one more, up to as many as are allowed at all
        (100.0, 0.0, nothing, MOST, 300.0 + 3 * SLOW_SECONDS),
        # while a slow store lets in nobody: what it takes long over is not saved
        (0.1, 5.0, nothing, 1, 12 * 5.1),
        (0.1, 5.0, wider, MOST, 3 * 5.1),
    ],
    ids=["alone", "together", "first alone", "slow answers", "slow store", "slow store, wider"],
)
def test_as_many_at_once_as_may_be_lost(
    answer: float,
    write: float,
    meanwhile: Callable[[ConcurrencyLimiter], Awaitable[None]],
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
        limiter = ConcurrencyLimiter(1, MOST)
        async with limiter.slot():
            waiting = [asyncio.create_task(Crowd(limiter).refresh(n, 0, 0)) for n in range(12)]
            await asyncio.sleep(0)
            limiter.resize(math.inf)
            await asyncio.gather(*waiting)

    simulate(run())


def test_an_answer_in_time_is_not_slow() -> None:
    async def run() -> None:
        limiter = ConcurrencyLimiter(1, MOST)
        async with limiter.slot() as slot:
            slot.sent()
            slot.answered()
            other = asyncio.create_task(Crowd(limiter).refresh(1, 0, 0))
            await asyncio.sleep(2 * SLOW_SECONDS)
            assert not other.done()
        await other

    simulate(run())


def test_a_place_that_came_too_late_is_given_back() -> None:
    """Its refresh was cancelled when it had just been let in."""

    async def run() -> bool:
        limiter = ConcurrencyLimiter(1)
        await limiter.enter()
        waiting = asyncio.create_task(limiter.enter())
        await asyncio.sleep(0)
        limiter.leave()
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(limiter.enter(), 1)
        return True

    assert simulate(run())
