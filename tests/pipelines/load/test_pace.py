"""Rates: which one is enough, and that a load in shards and a plan use it."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dlt_cronofy.load.pace import enough_per_minute, least_seconds, paced
from dlt_cronofy.load.preview import Preview, Reach, preview_lines
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.settings import PollingSettings

SETTINGS = PollingSettings()


@pytest.mark.parametrize(
    ("calls", "per_second", "per_minute", "seconds"),
    [
        (0, 40, 400, 0),
        (1, 40, 400, 0),
        (40, 40, 400, 0),
        (41, 40, 400, 1),
        (400, 40, 400, 9),
        (401, 40, 400, 60),
        (1_000_000, 40, 400, 2499 * 60 + 9),
        (100, 1, 1000, 99),
        (100, 1, math.inf, 99),
        (10, math.inf, math.inf, 0),
        (3, 0.5, 400, 4),
        (3, 40, 0.5, 240),
    ],
)
def test_calls_take_that_long_at_least(
    calls: int, per_second: float, per_minute: float, seconds: float
) -> None:
    assert least_seconds(calls, per_second, per_minute) == seconds


@pytest.mark.parametrize(
    ("calls", "minutes", "per_minute"),
    [
        (8_481, 50, 170),
        (16_962, 50, 340),
        (24_000, 60, 400),
        (1, 50, 1),
        (50, 50, 1),
        (51, 50, 1),
        (52, 50, 2),
        (0, 50, 1),
    ],
)
def test_the_lowest_rate_that_is_enough(calls: int, minutes: float, per_minute: int) -> None:
    assert enough_per_minute(calls, timedelta(minutes=minutes)) == per_minute


def test_a_load_that_is_spread_takes_no_more_than_that_and_most_of_it() -> None:
    for calls in (100, 999, 8_481, 19_000):
        rates = paced(SETTINGS, calls, timedelta(minutes=50))
        seconds = least_seconds(calls, rates.requests_per_second, rates.requests_per_minute)
        assert 0.9 * 3000 <= seconds <= 3000
        assert rates.requests_per_second <= rates.requests_per_minute / 60 + 2


def test_spreading_never_raises_a_rate() -> None:
    assert paced(SETTINGS, 1_000_000, timedelta(minutes=1)) == SETTINGS
    assert paced(SETTINGS, 10, None) is SETTINGS


def lines(calls: int, **options: Any) -> str:
    chosen = LoadOptions(**options)
    reach = Reach.of([1] * calls, SETTINGS, chosen)
    now = datetime(2026, 1, 5, tzinfo=UTC)
    spread = chosen.spread.total_seconds() if chosen.spread else None
    preview = Preview(
        **vars(reach),
        at=now,
        order="oldest",
        every_seconds=chosen.every.total_seconds(),
        endpoints=("userinfo",),
        tokens=calls,
        due=calls,
        fresh=0,
        fallback_tokens=0,
        never_polled=0,
        failing=0,
        notified=0,
        spread_seconds=spread,
        only=(),
        max_requests=None,
        first=[],
        not_connected=0,
        unusable_rows=0,
        unusable=[],
    )
    return "\n".join(preview_lines(preview))


def test_a_plan_names_the_rate_that_would_do_and_what_is_left() -> None:
    shown = lines(8_481)
    assert "to finish within 50 min, 170 a minute is enough (34 % of Cronofy's 500)" in shown
    assert "100 of 500 a minute for your product, --spread 50m leaves 330" in shown
    assert "at least 21 min at 40 a second and 400 a minute" in shown


def test_a_plan_that_is_spread_shows_its_own_rate() -> None:
    shown = lines(8_481, spread=timedelta(minutes=50))
    assert "at least 50 min at 4 a second and 170 a minute" in shown
    assert "330 of 500 a minute for your product" in shown
    assert "--spread" not in shown


def test_too_many_calls_are_more_than_cronofy_allows() -> None:
    assert "800 a minute are needed, more than Cronofy's 500" in lines(40_000)
    assert "a minute is enough" not in lines(10, every=timedelta(0))
