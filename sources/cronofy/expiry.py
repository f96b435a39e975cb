"""When an access token expires, in the forms that stores write a point in time in."""

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

EPOCH = re.compile(r"\d+(\.\d*)?")
# seconds since 1970 reach this in the year 5138; what is larger counts milliseconds or less
MOST_SECONDS = 100_000_000_000
OFFSET = re.compile(r"\d[+-]\d\d(:?\d\d)?")


def parse_expiry(value: Any) -> datetime | None:
    """The point in time, UTC; None where the value is empty.

    Args:
        value: a datetime, a date (its first instant) or ISO 8601 text, all in UTC where they name no zone;
            or seconds since 1970, or milliseconds, microseconds or nanoseconds.

    Raises:
        ValueError: it is nothing of that.
    """
    if isinstance(value, str):
        value = value.strip()
    # pandas writes a missing value as NaN or NaT, which equal nothing
    if value is None or value == "" or value != value:
        return None
    try:
        if isinstance(value, str) and not EPOCH.fullmatch(value):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime.combine(value, time(), UTC)
        if isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool):
            return datetime.fromtimestamp(float(value) / _parts_of_a_second(float(value)), UTC)
    except (ArithmeticError, OSError, TypeError, ValueError):
        pass  # what was wrong may quote the value
    raise ValueError("not a point in time")


def _parts_of_a_second(number: float) -> int:
    """What a number counts since 1970: 1 for seconds, 1000 for milliseconds and so on."""
    parts = 1
    while number / parts >= MOST_SECONDS and parts < 10**9:
        parts *= 1000
    return parts


def expiry_like(moment: datetime | None, sample: Any) -> Any:
    """The point in time, in whole seconds, in the form that the store has it in already.

    Args:
        moment: with a zone, or None.
        sample: what stands or stood in its place: text gives text, a number a number of the same unit, a
            date the day, a datetime without a zone one without; None gives a datetime in UTC.
    """
    if moment is None:
        return None
    moment = moment.astimezone(UTC).replace(microsecond=0)
    if isinstance(sample, str):
        return _text_like(moment, sample.strip())
    if isinstance(sample, datetime) and sample.tzinfo is None:
        return moment.replace(tzinfo=None)
    if isinstance(sample, date) and not isinstance(sample, datetime):
        return moment.date()  # never later than the token expires
    if isinstance(sample, (int, float, Decimal)):
        return type(sample)(int(moment.timestamp()) * _parts_of_a_second(float(sample)))
    return moment


def _text_like(moment: datetime, sample: str) -> str:
    if EPOCH.fullmatch(sample):
        return str(int(moment.timestamp()) * _parts_of_a_second(float(sample)))
    text = moment.replace(tzinfo=None).isoformat(sep=" " if " " in sample else "T")
    if not sample or sample[-1] in "Zz":
        return text + "Z"
    return text + "+00:00" if OFFSET.search(sample[10:]) else text
