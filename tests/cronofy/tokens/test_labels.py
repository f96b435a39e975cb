"""Labels: what of a row is kept, as text that every warehouse can store."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.labels import LONGEST_LABEL, LabelReader, label_text
from dlt_cronofy.source.tokens.store import open_store


class Plan(StrEnum):
    GOLD = "gold"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Ada & Co", "Ada & Co"),
        (" as it stands ", " as it stands "),
        ("Zoë 🙂\n2", "Zoë 🙂\n2"),
        (Plan.GOLD, "gold"),
        (np.str_("gold"), "gold"),
        ("", None),
        (" \t", None),
        (None, None),
        (True, "true"),
        (np.False_, "false"),
        (7, "7"),
        (np.int64(7), "7"),
        (7.0, "7"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
        (Decimal("1.10"), "1.10"),
        (Decimal("7.00"), "7"),
        pytest.param(10**5000, None, id="too many digits"),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("sNaN"), None),
        (Decimal("1E+999999"), None),
        (date(2026, 1, 5), "2026-01-05"),
        (datetime(2026, 1, 5, 6, 7, tzinfo=UTC), "2026-01-05T06:07:00+00:00"),
        (time(6, 7), "06:07:00"),
        (pd.Timestamp("2026-01-05 06:07"), "2026-01-05T06:07:00"),
        (pd.NaT, None),
        (pd.NA, None),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
        ("x" * 1000 + "y", "x" * 1000),
        (b"bytes", None),
        (["list"], None),
        ({"a": 1}, None),
        (np.array([1, 2]), None),
        (Secret("hunter2"), None),
        (object(), None),
    ],
)
def test_a_value_as_text(value: Any, text: str | None) -> None:
    found = label_text(value)
    assert (found, type(found)) == (text, type(text))


@given(
    st.one_of(
        st.text(st.characters(codec=None), max_size=2000),
        st.floats(),
        st.decimals(),
        st.integers(),
        st.binary(),
        st.datetimes(),
        st.lists(st.text()),
    )
)
def test_a_label_can_be_stored_whatever_it_was(value: Any) -> None:
    text = label_text(value)
    if text is not None:
        assert 0 < len(text.encode().decode()) <= LONGEST_LABEL
        assert "\0" not in text


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        ({"plan": "a", "customer": "b", "email": "c"}, ("a", "b")),
        ({" Plan ": "a", "CUSTOMER": "b"}, ("a", "b")),
        ({"Plan": "not this", "plan": "a", "PLAN": "nor this"}, ("a", None)),
        ({"Plan": "a", "PLAN": "not this"}, ("a", None)),
        ({7: "x", None: "y", ("plan",): "z", "customer": "b"}, (None, "b")),
        ({"email": "c"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_columns_are_found_in_any_case(row: Mapping[Any, Any], labels: tuple[str | None, ...]) -> None:
    assert LabelReader(("plan", "customer")).read(row) == labels


def test_labels_that_no_row_has_are_known_in_the_end() -> None:
    reader = LabelReader(("plan", "region", "customer"))
    rows = [{"customer": "b"}, {"plan": "a"}, {"email": "c"}]
    assert [reader.read(row) for row in rows] == [(None, None, "b"), ("a", None, None), (None,) * 3]
    assert reader.missing == ("region",)


def test_tokens_of_a_customer_share_its_labels() -> None:
    rows = [
        {"key": str(number), "access_token": "at", "customer": f"customer {number % 3}"}
        for number in range(300)
    ]
    assert len({id(each.labels) for each in open_store(rows).read()}) == 3
