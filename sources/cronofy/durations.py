"""Durations as people write them: 90s, 30m, 1h, 24 h, 7d."""

import re
from datetime import timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", re.IGNORECASE)
LONGEST = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """A duration like `30m`; a bare number is seconds.

    Raises:
        ValueError: it is not of that form, or longer than ten years.
    """
    match = DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration like 90s, 30m, 1h or 7d")
    try:
        duration = timedelta(**{UNITS[match[2].lower() or "s"]: float(match[1])})
    except OverflowError:
        duration = timedelta.max
    if duration > LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    return duration
