"""ConcurrencyLimiter: so many requests at once, and one that takes long keeps nobody waiting."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import pytest

from dlt_cronofy.source.api.limits.concurrency import SLOW_SECONDS, ConcurrencyLimiter
from tests.cronofy.clocks import simulate


class Requests:
    """Requests with their durations, all started at once; notes when each was sent."""

    def __init__(self, places: ConcurrencyLimiter) -> None:
        self.places = places
        self.sent_at: list[float] = []
        self.under_way = self.most_under_way = 0

    async def request(self, seconds: float, queue_seconds: float = 0.0) -> None:
        async with self.places.place() as place:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            await asyncio.sleep(queue_seconds)
            place.sent()
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
        places = ConcurrencyLimiter(1)
        for _ in range(3):
            with suppress(ends_with):
                async with places.place() as place:
                    place.sent()
                    await asyncio.sleep(seconds)
                    raise ends_with
        await asyncio.sleep(10)
        requests = Requests(places)
        await requests.all([0.1] * 5)
        return requests.most_under_way

    assert simulate(scenario()) == 1


def test_whoever_is_cancelled_while_waiting_takes_no_place() -> None:
    async def scenario() -> None:
        places = ConcurrencyLimiter(1)
        requests = Requests(places)
        holder = asyncio.create_task(requests.request(0.5))
        waiting = asyncio.create_task(requests.request(0.5))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(holder, waiting, return_exceptions=True)
        await asyncio.wait_for(requests.request(0.1), 0.2)

    simulate(scenario())
