"""The rate limiter, in simulated time: what the server counts never exceeds a limit."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlt_cronofy.source.api.limits import rate_limiter as budget_module
from dlt_cronofy.source.api.limits.rate_limiter import RateLimiter
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.limits.tuning import MAX_PAUSE_SECONDS
from tests.cronofy.api.limits.conftest import slot
from tests.cronofy.clocks import LoopClock, simulate

TOLERANCE = 1e-6  # of sums of floats


def busiest_window(arrivals: Sequence[float], period_seconds: float) -> int:
    """The most arrivals that any window of that length contains."""
    times = sorted(arrivals)
    return max(
        sum(begin <= at < begin + period_seconds - TOLERANCE for at in times[index:])
        for index, begin in enumerate(times)
    )


async def spend(
    limiter: RateLimiter, clock: LoopClock, calls: Sequence[tuple[float, float, float]], workers: int
) -> list[float]:
    """Make calls of (pause before it, latency, share of the latency before it arrives); returns arrivals."""
    arrivals: list[float] = []
    remaining = iter(calls)

    async def work() -> None:
        for pause, latency, share in remaining:
            await asyncio.sleep(pause)
            async with slot(limiter):
                await asyncio.sleep(latency * share)
                arrivals.append(clock.monotonic())
                await asyncio.sleep(latency * (1 - share))

    await asyncio.gather(*(work() for _ in range(workers)))
    return arrivals


@settings(max_examples=60, deadline=None)
@given(
    per_second=st.sampled_from([0.2, 0.5, 1, 1.5, 3, 7.9, 20]),
    per_minute=st.sampled_from([0.5, 5, 12.5, 40, 400]),
    calls=st.lists(
        st.tuples(
            st.one_of(st.just(0.0), st.floats(0, 2)),
            st.one_of(st.just(0.0), st.floats(0, 2), st.sampled_from([5.0, 61.0])),
            st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
        ),
        min_size=1,
        max_size=30,
    ),
    workers=st.integers(1, 6),
)
def test_no_window_of_the_server_exceeds_a_limit_whatever_the_latencies(
    per_second: float, per_minute: float, calls: list[tuple[float, float, float]], workers: int
) -> None:
    async def scenario() -> list[float]:
        clock = LoopClock()
        return await spend(RateLimiter(clock, per_second, per_minute), clock, calls, workers)

    with mock.patch.object(budget_module, "IN_FLIGHT_CHECK_SECONDS", 0.1):  # fewer steps to simulate
        arrivals = simulate(scenario())
    assert len(arrivals) == len(calls)
    for limit, period in ((per_second, 1.0), (per_minute, 60.0)):
        # below one call a period: one in a period that is longer in proportion
        length = period * max(1.0, 1 / limit)
        assert busiest_window(arrivals, length) <= max(1, limit)


@pytest.mark.parametrize(
    ("per_second", "per_minute", "calls", "seconds"),
    [
        (10, 1000, 100, 9),  # ten at once, then ten a second
        (1, 1000, 5, 4),
        (0.5, 1000, 4, 6),
        (1.9, 1000, 4, 3),  # rounded down, never up
        (1000, 60, 120, 60),
        (1000, 0.5, 2, 120),
    ],
)
def test_a_budget_is_spent_as_fast_as_its_limits_allow(
    per_second: float, per_minute: float, calls: int, seconds: float
) -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, per_second, per_minute)
        arrivals = await spend(limiter, clock, [(0, 0, 0)] * calls, workers=20)
        assert limiter.requests == calls
        return arrivals[-1] - arrivals[0]

    assert simulate(scenario()) == pytest.approx(seconds, rel=0.02, abs=0.1)


def test_a_call_counts_until_a_period_after_its_answer_even_if_it_raised() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 1, 1000)
        with suppress(ConnectionResetError):
            async with slot(limiter):
                await asyncio.sleep(5)
                raise ConnectionResetError
        async with slot(limiter) as sent_at:
            return sent_at

    assert simulate(scenario()) == pytest.approx(6.0)


def test_a_cancelled_call_gives_its_slot_back_after_a_period() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 1, 1000)

        async def call() -> None:
            async with slot(limiter):
                await asyncio.sleep(1000)

        task = asyncio.create_task(call())
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with slot(limiter) as sent_at:
            return sent_at

    assert simulate(scenario()) == pytest.approx(3.0)


def test_one_budget_serves_several_event_loops() -> None:
    clock = LoopClock()
    limiter = RateLimiter(clock, 2, 1000)
    for _ in range(3):
        simulate(spend(limiter, clock, [(0, 0, 0)], workers=1))
    assert limiter.requests == 3


@pytest.mark.parametrize(
    ("deadline", "sent", "ended_at"),
    [(0.0, 0, 0.0), (0.5, 1, 0.5), (1.0, 1, 1.0), (2.5, 3, 2.5)],
)
def test_no_slot_is_given_at_or_after_the_deadline(deadline: float, sent: int, ended_at: float) -> None:
    async def scenario() -> tuple[int, float]:
        clock = LoopClock()
        limiter = RateLimiter(clock, 1, 1000)
        with suppress(TimeoutError):
            while True:
                async with slot(limiter, deadline):
                    pass
        return limiter.requests, clock.monotonic()

    requests, ended = simulate(scenario())
    assert requests == sent
    assert ended == pytest.approx(ended_at)


def test_a_pause_does_not_outlast_the_deadline() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        limiter.refused(clock.monotonic(), timedelta(seconds=50))
        with pytest.raises(TimeoutError):
            async with slot(limiter, 7):
                pass
        return clock.monotonic()

    assert simulate(scenario()) == pytest.approx(7.0)


async def next_slot(limiter: RateLimiter) -> float:
    async with slot(limiter) as sent_at:
        return sent_at


@pytest.mark.parametrize("seconds", [0, 0.5, 3, 60])
def test_retry_after_pauses_everyone_exactly_as_long(seconds: float) -> None:
    async def scenario() -> list[float]:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        limiter.refused(clock.monotonic(), timedelta(seconds=seconds))
        return await asyncio.gather(*(next_slot(limiter) for _ in range(5)))

    assert simulate(scenario()) == [pytest.approx(seconds)] * 5


def test_a_shorter_retry_after_does_not_end_a_longer_pause() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        sent_at = await next_slot(limiter)
        limiter.refused(sent_at, timedelta(seconds=30))
        limiter.refused(sent_at, timedelta(seconds=1))
        limiter.refused(sent_at, None)
        return await next_slot(limiter)

    assert simulate(scenario()) == pytest.approx(30)


def test_refusals_of_one_wave_make_one_pause() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        wave = [await next_slot(limiter) for _ in range(50)]
        await asyncio.sleep(0.1)
        for sent_at in wave:
            limiter.refused(sent_at, None)
        return await next_slot(limiter)

    # the first of them began the pause; the others were under way already
    assert 0.1 + 1.0 <= simulate(scenario()) <= 0.1 + 1.25


def test_a_late_refusal_of_what_was_sent_before_the_pause_does_not_lengthen_it() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        early, late = [await next_slot(limiter) for _ in range(2)]
        await asyncio.sleep(0.1)
        limiter.refused(early, None)
        await asyncio.sleep(5)
        limiter.refused(late, None)
        return await next_slot(limiter)

    assert simulate(scenario()) == pytest.approx(5.1)


def test_wave_after_wave_the_pause_doubles_up_to_eight_seconds() -> None:
    async def scenario() -> list[float]:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        pauses = []
        for _ in range(7):
            refused_at = 0.0
            for sent_at in await asyncio.gather(*(next_slot(limiter) for _ in range(10))):
                await asyncio.sleep(0.01)
                limiter.refused(sent_at, None)
                refused_at = refused_at or clock.monotonic()
            pauses.append(await next_slot(limiter) - refused_at)
            await asyncio.sleep(1)
        return pauses

    nominal = [1, 2, 4, 8, 8, 8, 8]
    for pause, shortest in zip(simulate(scenario()), nominal, strict=True):
        assert shortest - 0.01 <= pause <= 1.25 * shortest + 0.11
    assert MAX_PAUSE_SECONDS == 8


@pytest.mark.parametrize(
    ("latency", "answers", "calls", "most", "seconds"),
    [
        (0.1, "unknown", 6, 1, 0.5),  # an answer that proves nothing lets no other call go
        (0.1, "accepted", 15, 4, 0.5),  # about one more a round trip
        (50, "hang", 4, 4, 3),  # one that hangs holds nobody up for more than a second
    ],
)
def test_after_a_pause_calls_go_one_by_one(
    latency: float, answers: str, calls: int, most: int, seconds: float
) -> None:
    async def scenario() -> tuple[int, float]:
        clock = LoopClock()
        limiter = RateLimiter(clock, 1000, 10_000)
        limiter.refused(clock.monotonic(), None)
        times: list[float] = []

        async def call() -> None:
            async with slot(limiter) as sent_at:
                times.append(sent_at)
                await asyncio.sleep(latency)
            if answers == "accepted":
                limiter.accepted()

        await asyncio.gather(*(call() for _ in range(calls)))
        return busiest_window(times, latency), times[-1] - times[0]

    at_once, took = simulate(scenario())
    assert at_once == most
    assert took == pytest.approx(seconds, abs=0.15)


def test_nothing_is_held_back_any_more_after_some_hundred_accepted_calls() -> None:
    async def scenario() -> tuple[float, float]:
        clock = LoopClock()
        limiter = RateLimiter(clock, 1000, 10_000)
        for _ in range(6):
            limiter.refused(await next_slot(limiter), None)
        for _ in range(150):
            await next_slot(limiter)
            limiter.accepted()
        now = clock.monotonic()
        last = max(await asyncio.gather(*(next_slot(limiter) for _ in range(100))))
        limiter.refused(last, None)
        return last - now, await next_slot(limiter) - last

    waited, pause = simulate(scenario())
    assert waited == 0
    # and the next pause is short again
    assert 1.0 <= pause <= 1.25


def test_what_is_accepted_during_a_pause_was_sent_before_it_and_tells_nothing() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        for _ in range(3):
            limiter.refused(await next_slot(limiter), None)
            for _ in range(200):
                limiter.accepted()
        began = clock.monotonic()
        return await next_slot(limiter) - began

    assert 4.0 <= simulate(scenario()) <= 5.0


def test_several_processes_do_not_come_back_at_one_instant() -> None:
    async def scenario() -> float:
        clock = LoopClock()
        limiter = RateLimiter(clock, 100, 1000)
        limiter.refused(clock.monotonic(), None)
        return await next_slot(limiter)

    random.seed(1)
    assert len({simulate(scenario()) for _ in range(5)}) > 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_a_server_that_counts_strictly_never_refuses(seed: int) -> None:
    """The limits of the server itself as limiter, over jittery latencies and bursts."""
    chance = random.Random(seed)
    calls = [
        (chance.choice([0, 0, 0, chance.uniform(0, 2)]), chance.expovariate(5), chance.random())
        for _ in range(300)
    ]

    async def scenario() -> list[float]:
        clock = LoopClock()
        return await spend(RateLimiter(clock, 50, 150), clock, calls, workers=40)

    arrivals = simulate(scenario())
    assert busiest_window(arrivals, 1.0) <= 50
    assert busiest_window(arrivals, 60.0) <= 150


def test_a_quota_is_reserved_whole_or_not_at_all() -> None:
    quota = RunQuota(max_requests=5)
    assert [quota.reserve(2), quota.reserve(2), quota.reserve(2), quota.reserve(1)] == [
        True,
        True,
        False,
        True,
    ]
    quota.release(2)
    assert quota.reserve(2)
    assert not quota.reserve(1)


def test_without_a_limit_anything_goes() -> None:
    quota = RunQuota()
    assert all(quota.reserve(10**9) for _ in range(5))
    assert quota.exhausted_by(1e12) is None


@pytest.mark.parametrize(
    ("max_requests", "taken", "now", "reason"),
    [
        (3, (1,), 0, None),
        (3, (3,), 0, "max_requests"),
        (3, (2, 2), 0, "max_requests"),  # one is left, but not enough for the next token
        (0, (), 0, "max_requests"),
        (None, (), 99.9, None),
        (None, (), 100, "max_duration"),
        (3, (3,), 100, "max_duration"),
    ],
)
def test_it_says_what_ran_out(
    max_requests: int | None, taken: tuple[int, ...], now: float, reason: str | None
) -> None:
    quota = RunQuota(max_requests, deadline=100)
    for requests in taken:
        quota.reserve(requests)
    assert quota.exhausted_by(now) == reason
