"""Rates: how long calls take at one, and which one is enough."""

import math
from bisect import bisect_left
from dataclasses import replace
from datetime import timedelta

from dlt_cronofy.source.api.limits.rate_limiter import Window
from dlt_cronofy.source.settings import PollingSettings

# what Cronofy allows an application, the product's own calls included
CRONOFY_PER_MINUTE = 500
# of the time until the next load, so that one ends before the next begins: 50 minutes of an hour
SHARE_OF_EVERY = 5 / 6


def least_seconds(calls: int, per_second: float, per_minute: float) -> float:
    """How long so many calls take at least under both limits, answers that come at once."""
    seconds, minutes = Window(per_second, 1.0), Window(per_minute, 60.0)
    # the last call waits for the periods that the calls before it fill
    before = max(0, calls - 1)
    if math.isinf(minutes.limit):
        return before // seconds.limit * seconds.period_seconds
    full_minutes, rest = divmod(before, minutes.limit)
    one_minute = max(minutes.period_seconds, minutes.limit // seconds.limit * seconds.period_seconds)
    return full_minutes * one_minute + rest // seconds.limit * seconds.period_seconds


def enough_per_minute(calls: int, within: timedelta) -> int:
    """The lowest whole rate at which so many calls end within that time; at least 1 a minute."""
    seconds = max(within.total_seconds(), 1.0)

    def is_enough(per_minute: int) -> bool:
        return least_seconds(calls, _per_second(per_minute), per_minute) <= seconds

    return 1 + bisect_left(range(1, max(calls, 1)), x=True, key=is_enough)


def paced(settings: PollingSettings, calls: int, within: timedelta | None) -> PollingSettings:
    """The settings with the rate at which so many calls take that long, if that is lower than theirs.

    A second gets little more than its part of the minute, so that the calls come evenly and the product finds
    room between them.
    """
    if within is None:
        return settings
    per_minute = enough_per_minute(calls, within)
    return replace(
        settings,
        requests_per_minute=min(settings.requests_per_minute, per_minute),
        requests_per_second=min(settings.requests_per_second, _per_second(per_minute)),
    )


def _per_second(per_minute: int) -> int:
    # one more: answers take time, and a second that is not used up is lost
    return math.ceil(per_minute / 60) + 1
