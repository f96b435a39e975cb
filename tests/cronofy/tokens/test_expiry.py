"""When a token expires: every form that stores write it in, and the same form back."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.tokens.expiry import expiry_like, parse_expiry

MOMENT = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        (float("nan"), None),
        (pd.NaT, None),
        (MOMENT, MOMENT),
        (MOMENT.replace(tzinfo=None), MOMENT),
        (MOMENT.astimezone(timezone(timedelta(hours=5))), MOMENT),
        (pd.Timestamp(MOMENT), MOMENT),
        ("2026-01-05T06:07:08Z", MOMENT),
        (" 2026-01-05 06:07:08 ", MOMENT),
        ("2026-01-05T06:07:08.5+00:00", MOMENT + timedelta(seconds=0.5)),
        ("2026-01-05 11:07:08+05", MOMENT),
        ("2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
        (date(2026, 1, 5), datetime(2026, 1, 5, tzinfo=UTC)),
        (np.datetime64("2026-01-05T06:07:08", "s"), MOMENT),
        (np.datetime64("2026-01-05T06:07:08", "ns"), MOMENT),
        (np.datetime64("2026-01-05"), datetime(2026, 1, 5, tzinfo=UTC)),
        (np.int64(SECONDS), MOMENT),
        (pd.NA, None),
        (Decimal("NaN"), None),
        (np.datetime64("NaT"), None),
        (SECONDS * 10**3, MOMENT),
        (SECONDS * 10**6, MOMENT),
        (SECONDS * 10**9, MOMENT),
        (float(SECONDS * 10**3 + 500), MOMENT + timedelta(seconds=0.5)),
        (Decimal(SECONDS * 10**6), MOMENT),
        (f"{SECONDS}000", MOMENT),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (99_999_999_999, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        (100_000_000_000, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (SECONDS, MOMENT),
        (float(SECONDS), MOMENT),
        (Decimal(SECONDS), MOMENT),
        (f"{SECONDS}", MOMENT),
        (f"{SECONDS}.5", MOMENT + timedelta(seconds=0.5)),
        (SECONDS * 1000 + 500, MOMENT + timedelta(seconds=0.5)),
        (float(SECONDS * 1000), MOMENT),
        (Decimal(SECONDS * 1000), MOMENT),
        (f"{SECONDS * 1000}", MOMENT),
    ],
)
def test_a_point_in_time_is_read(value: Any, expected: datetime | None) -> None:
    assert parse_expiry(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "soon", "1e9", SECONDS * 10**12, float("inf"), -float("inf"), Decimal("sNaN"), True, [], {},
        np.bool_(1), b"2026-01-05", "x" * 9, np.array([1, 2]), time(1), MOMENT - MOMENT, 1j,
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))),
    ],
)  # fmt: skip
def test_nonsense_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a point in time"):
        parse_expiry(value)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (None, MOMENT),
        ("", "2026-01-05T06:07:08Z"),
        ("2020-01-01T00:00:00Z", "2026-01-05T06:07:08Z"),
        ("2020-01-01 00:00:00", "2026-01-05 06:07:08"),
        ("2020-01-01 00:00:00.123456+05:30", "2026-01-05 06:07:08+00:00"),
        ("2020-01-01T00:00:00-08", "2026-01-05T06:07:08+00:00"),
        ("2020-01-01", "2026-01-05T06:07:08"),
        ("1577836800", f"{SECONDS}"),
        (1577836800, SECONDS),
        (1577836800.5, float(SECONDS)),
        (Decimal(1), Decimal(SECONDS)),
        (0, SECONDS),
        (1577836800000, SECONDS * 1000),
        ("1577836800000", f"{SECONDS}000"),
        (1577836800000.5, float(SECONDS * 1000)),
        (Decimal(1577836800000000), Decimal(SECONDS * 10**6)),
        (1577836800000000000, SECONDS * 10**9),
        (float("nan"), float(SECONDS)),
        (1e30, float(SECONDS)),
        (datetime(2020, 1, 1), MOMENT.replace(tzinfo=None)),
        (datetime(2020, 1, 1, tzinfo=UTC), MOMENT),
    ],
)
def test_it_is_written_in_the_form_of_what_stood_there(sample: Any, expected: Any) -> None:
    written = expiry_like(MOMENT + timedelta(microseconds=5), sample)
    assert (type(written), written) == (type(expected), expected)
    assert parse_expiry(written) == MOMENT
    assert expiry_like(None, sample) is None


@given(
    st.datetimes(datetime(2010, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(
        ["", "2020-01-01 00:00:00", "0", 0, 10**12, 10**18, 0.0, Decimal(), None, datetime(2020, 1, 1)]
    ),
)
def test_what_is_written_is_read_back(moment: datetime, sample: Any) -> None:
    assert parse_expiry(expiry_like(moment, sample)) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [(MOMENT, date(2026, 1, 6)), (datetime(2026, 1, 5, tzinfo=UTC), date(2026, 1, 5))],
)
def test_a_date_is_never_before_the_moment(moment: datetime, expected: date) -> None:
    """Else a token that was just refreshed would be taken for expired."""
    assert expiry_like(moment, date(2020, 1, 1)) == expected
    read = parse_expiry(expected)
    assert read is not None
    assert timedelta(0) <= read - moment < timedelta(days=1)
