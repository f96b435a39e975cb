"""ConcurrencySlot: so many requests at once, and a slow one lets another one in."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import pytest

from dlt_cronofy.source.api.limits.concurrency import ConcurrencySlot
from dlt_cronofy.source.api.limits.tuning import SLOW_SECONDS
from tests.cronofy.clocks import simulate


class Requests:
    """Requests with their durations, all started at once; notes when each was sent."""

    def __init__(self, limiter: asyncio.Semaphore) -> None:
        self.limiter = limiter
        self.sent_at: list[float] = []
        self.under_way = self.most_under_way = 0

    async def request(self, seconds: float, queue_seconds: float = 0.0) -> None:
        async with ConcurrencySlot(self.limiter) as slot:
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
        requests = Requests(asyncio.Semaphore(number))
        await requests.all([0.5] * 30)
        return requests

    found = simulate(scenario())
    assert found.most_under_way == number
    assert found.sent_at == pytest.approx([0.5 * (place // number) for place in range(30)])


def test_a_slow_request_gives_its_place_to_the_next() -> None:
    """Three that hang for a minute cost the others a second, not a minute."""

    async def scenario() -> Requests:
        requests = Requests(asyncio.Semaphore(3))
        await requests.all([60, 60, 60, 0.1, 0.1, 0.1, 0.1])
        return requests

    found = simulate(scenario())
    assert found.sent_at == pytest.approx([0, 0, 0, *[SLOW_SECONDS] * 3, SLOW_SECONDS + 0.1])


def test_waiting_for_the_rate_limit_is_not_slow() -> None:
    """The time runs from when a request is sent: a place is not given up by one that waits to be sent."""

    async def scenario() -> Requests:
        requests = Requests(asyncio.Semaphore(2))
        await requests.all([0.1] * 6, queue_seconds=10 * SLOW_SECONDS)
        return requests

    assert simulate(scenario()).most_under_way == 2


@pytest.mark.parametrize("ends_with", [asyncio.CancelledError, ValueError])
@pytest.mark.parametrize("seconds", [0.1, 5.0], ids=["quick", "slow"])
def test_a_place_is_given_back_once_however_a_request_ends(
    seconds: float, ends_with: type[BaseException]
) -> None:
    async def scenario() -> int:
        limiter = asyncio.Semaphore(1)
        for _ in range(3):
            with suppress(ends_with):
                async with ConcurrencySlot(limiter) as slot:
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
        limiter = asyncio.Semaphore(1)
        requests = Requests(limiter)
        holder = asyncio.create_task(requests.request(0.5))
        waiting = asyncio.create_task(requests.request(0.5))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(holder, waiting, return_exceptions=True)
        await asyncio.wait_for(requests.request(0.1), 0.2)

    simulate(scenario())


@pytest.mark.parametrize(
    ("answer", "write", "let_in_at"),
    [
        (0.1, 0.0, 0.1),
        (100.0, 0.0, SLOW_SECONDS),
        # a slow store lets in nobody: what it takes long over is not saved
        (0.1, 5.0, 5.1),
    ],
    ids=["quick", "slow answer", "slow store"],
)
def test_only_a_slow_answer_lets_another_in(answer: float, write: float, let_in_at: float) -> None:
    async def run() -> None:
        limiter = asyncio.Semaphore(1)

        async def refresh() -> None:
            async with ConcurrencySlot(limiter) as slot:
                slot.sent()
                await asyncio.sleep(answer)
                slot.answered()
                await asyncio.sleep(write)

        refreshing = asyncio.create_task(refresh())
        await asyncio.sleep(0)
        async with ConcurrencySlot(limiter):
            assert asyncio.get_running_loop().time() == pytest.approx(let_in_at)
        await refreshing
        # and the slot was given back once
        assert limiter._value == 1

    simulate(run())
