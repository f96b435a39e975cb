import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dlt_cronofy.sandbox import MovableClock

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def test_stands_still_until_moved() -> None:
    clock = MovableClock(NOON)
    time.sleep(0.01)
    assert clock.now() == NOON
    assert clock.advance(timedelta(hours=6)) == NOON + timedelta(hours=6) == clock.now()
    assert clock.move_to(NOON - timedelta(days=1)) == clock.now()


def test_runs_on_from_where_it_was_moved_to() -> None:
    clock = MovableClock(NOON, running=True)
    clock.move_to(NOON + timedelta(days=1))
    first = clock.now()
    time.sleep(0.01)
    passed = clock.now() - first
    assert timedelta(milliseconds=9) < passed < timedelta(seconds=5)
    assert first - NOON < timedelta(days=1, seconds=5)


def test_shows_utc() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=9)))
    assert MovableClock(there).now().tzinfo is UTC
    assert MovableClock(there).now() == NOON


def test_refuses_a_time_without_zone() -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="time zone"):
        MovableClock(naive)
    with pytest.raises(ValueError, match="time zone"):
        MovableClock(NOON).move_to(naive)
