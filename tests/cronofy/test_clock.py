"""The clock: stamps that never repeat nor step back."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.clock import SystemClock
from tests.cronofy.clocks import START


class SteppingClock(SystemClock):
    """Reads the given seconds after the start, one after the other."""

    def __init__(self, readings: list[float]) -> None:
        super().__init__()
        self._readings = iter(readings)

    def read(self) -> datetime:
        return START + timedelta(seconds=next(self._readings))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_now_is_strictly_increasing_whatever_the_wall_clock_does(readings: list[float]) -> None:
    clock = SteppingClock(readings)
    given_out = [clock.now() for _ in readings]
    assert all(one < other for one, other in pairwise(given_out))
    for instant, reading in zip(given_out, readings, strict=True):
        assert instant >= START + timedelta(seconds=reading)


def test_now_is_the_present_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_sleep_waits_by_the_monotonic_clock() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    asyncio.run(clock.sleep(0.02))
    assert 0.015 <= clock.monotonic() - before < 5
    assert abs(clock.monotonic() - time.monotonic()) < 1
