"""When an access token expires, in the forms that stores write a point in time in."""

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

EPOCH = re.compile(r"\d+(\.\d*)?")
# PostgreSQL's word is infinity
NEVER = ("", "infinity")
START = datetime(1970, 1, 1, tzinfo=UTC)
OFFSET = re.compile(r"\d[+-]\d\d(:?\d\d)?")
# units of a second, and below which number a time is in that unit: 1e11 seconds are the year 5138, and
# 1e11 milliseconds were in 1973, before anything expired
UNITS = ((1, 1e11), (10**3, 1e14), (10**6, 1e17), (10**9, 1e20))


def plain(value: Any) -> Any:
    """A value of numpy's, which pandas hands out, as Python's own; any other one as it is."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def is_missing(value: Any) -> bool:
    """Whether it stands for no value: None, and what pandas has for it (NaN, NaT, NA)."""
    try:
        return value is None or bool(value != value)
    except (ArithmeticError, TypeError, ValueError):
        return type(value).__name__ == "NAType"


def parse_expiry(value: Any) -> datetime | None:
    """The point in time, UTC; None where the value is empty, or that is never.

    Args:
        value: a datetime or ISO 8601 text, both in UTC where they name no zone; a date, which is its first
            instant; or seconds, milliseconds, microseconds or nanoseconds since 1970, known by their size.

    Raises:
        ValueError: it is nothing of that.
    """
    value = value.strip() if isinstance(value, str) else plain(value)
    if is_missing(value) or (isinstance(value, str) and value.lower() in NEVER):
        return None
    try:
        if isinstance(value, str) and not EPOCH.fullmatch(value):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime.combine(value, time(), UTC)
        if isinstance(value, (int, float, Decimal, str)) and type(value) is not bool:
            units = _units_a_second(float(value))
            if units is not None:
                return START + timedelta(microseconds=int(Decimal(value) * 10**6 / units))
    except (ArithmeticError, OSError, TypeError, ValueError):
        pass  # what was wrong may quote the value
    raise ValueError("not a point in time")


def _units_a_second(number: float) -> int | None:
    """In what unit a number counts from 1970: how many of it a second has; None: it is too large for any."""
    return next((units for units, limit in UNITS if abs(number) < limit), None)


def expiry_form(values: Iterable[Any], default: Any) -> Any:
    """The first of the values that is a point in time: a sample for `expiry_like`."""
    for value in values:
        with suppress(ValueError):
            if parse_expiry(value) is not None:
                return value
    return default


def expiry_like(moment: datetime | None, sample: Any) -> Any:
    """The point in time, in whole seconds, in the form that the store has it in already.

    Args:
        moment: with a zone, or None.
        sample: what stands or stood in its place: text gives text, a number a number in the same unit, a
            datetime without a zone one without, and so on; None gives a datetime in UTC. A date gives the
            first one that is not before the moment: with an earlier one, a token just refreshed would be
            refreshed again by every load of that day.
    """
    if moment is None:
        return None
    moment = moment.astimezone(UTC).replace(microsecond=0)
    if isinstance(sample, str):
        return _text_like(moment, sample.strip())
    if isinstance(sample, datetime):
        return moment if sample.tzinfo is not None else moment.replace(tzinfo=None)
    if isinstance(sample, date):
        return (moment + timedelta(days=1, seconds=-1)).date()
    if isinstance(sample, (int, float, Decimal)):
        kind: Any = type(sample)
        return kind(_number_like(moment, float(sample)))
    return moment


def _number_like(moment: datetime, sample: float) -> int:
    return int(moment.timestamp()) * (_units_a_second(sample) or 1)


def _text_like(moment: datetime, sample: str) -> str:
    if EPOCH.fullmatch(sample):
        return str(_number_like(moment, float(sample)))
    text = moment.replace(tzinfo=None).isoformat(sep=" " if " " in sample else "T")
    if not sample or sample[-1] in "Zz":
        return text + "Z"
    return text + "+00:00" if OFFSET.search(sample[10:]) else text
