"""Token stores: what is read, and the one line that says where a store cannot be used."""

import traceback
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import (
    StoredTokens,
    Token,
    UnusableRow,
    in_data_centers,
    token_key,
)

SECRET = "hunter2-is-secret"


def read_tokens(tokens: Any) -> StoredTokens:
    return StoredTokens.of(open_store(tokens).read())


def shown(tokens: list[Token]) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (
            each.key,
            each.access_token.reveal(),
            each.refresh_token.reveal() if each.refresh_token else None,
            each.data_center,
        )
        for each in tokens
    ]


FULL = {"key": "k", "access_token": "at", "refresh_token": "rt", "data_center": "DE"}


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([FULL], [("k", "at", "rt", "de")]),
        (["at"], [(token_key("at", None), "at", None, None)]),
        ('["at"]', [(token_key("at", None), "at", None, None)]),
        ('[{"key": "k", "access_token": "at"}]', [("k", "at", None, None)]),
        (lambda: [FULL], [("k", "at", "rt", "de")]),
        (iter([FULL]), [("k", "at", "rt", "de")]),
        ([{"key": 7, "access_token": "at"}], [("7", "at", None, None)]),
        ([{"key": "Ω é", "access_token": "at"}], [("Ω é", "at", None, None)]),
        (
            [{"key": " k ", "access_token": " at ", "refresh_token": " ", "data_center": ""}],
            [("k", "at", None, None)],
        ),
        ([{"access_token": Secret("at"), "key": "k"}], [("k", "at", None, None)]),
        ([Token("k", Secret("at"))], [("k", "at", None, None)]),
        ([{"key": "k", "access_token": "at", "email": "x@y"}], [("k", "at", None, None)]),
        ([Secret("at")], [(token_key("at", None), "at", None, None)]),
        ([{"key": "k", "refresh_token": "rt"}], [("k", "", "rt", None)]),
        ([{"access_token": float("nan"), "refresh_token": "rt", "key": pd.NA, "data_center": pd.NaT}],
         [(token_key("", "rt"), "", "rt", None)]),
    ],
    ids=[
        "full", "plain", "JSON plain", "JSON", "callable", "iterator", "number as key", "Unicode key",
        "blanks", "secret", "token", "more columns", "plain secret", "refresh token only", "pandas",
    ],
)  # fmt: skip
def test_configured_tokens(tokens: Any, expected: list[tuple[Any, ...]]) -> None:
    assert shown(read_tokens(tokens)) == expected


def test_the_order_of_the_store_is_kept() -> None:
    keys = [f"k{n}" for n in (5, 1, 3)]
    assert [each.key for each in read_tokens([{"key": key, "access_token": "at"} for key in keys])] == keys


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "no tokens: set tokens in .dlt/secrets.toml or tokens_file in .dlt/config.toml"),
        ([], "tokens: holds no tokens"),
        (SECRET, "tokens is not a list"),
        (f'"{SECRET}"', "tokens is not a list"),
        (f'{{"access_token": "{SECRET}"}}', "tokens is not a list"),
        ({"access_token": SECRET}, "tokens is not a list"),
        (5, "tokens is not a list"),
        ([["x"]], "tokens, entry 1: not a table with the columns"),
        ([5, None], "tokens, entry 1: not a table with the columns"),
        ([{"access_token": ""}], "tokens, entry 1: access_token is missing"),
        ([{"access_token": 5}], "tokens, entry 1: access_token is not text"),
        ([{"access_token": SECRET + "\r\nX-Evil: 1"}], "entry 1: access_token holds characters"),
        ([{"access_token": SECRET + "é"}], "entry 1: access_token holds characters that no token has"),
        ([{"access_token": "at", "refresh_token": f"{SECRET} x"}], "refresh_token holds characters"),
        ([{"access_token": "at", "key": "a\x00b"}], "entry 1: key holds control characters"),
        ([{"access_token": f'"{SECRET}"'}], "entry 1: access_token has quotation marks around it"),
        ([{"access_token": "at", "refresh_token": f"'{SECRET}'"}], "refresh_token has quotation marks"),
        ([{"access_token": "at", "key": True}], "entry 1: key is neither text nor an exact whole"),
        ([{"access_token": "at", "key": SECRET.encode()}], "entry 1: key is neither text nor an exact"),
        ([{"access_token": "at", "key": 1.5}], "entry 1: key is neither text nor an exact"),
        ([{"access_token": "at", "key": Decimal("Infinity")}], "entry 1: key is neither text nor"),
        ([{"access_token": "at", "key": Decimal("1E+999999")}], "entry 1: key is neither text nor"),
        ([{"access_token": "at", "key": 2.0**60}], "entry 1: key is neither text nor"),
        ([{"access_token": "at", "expires_at": SECRET}], "entry 1: expires_at is no point in time"),
        (
            [{"access_token": "at", "data_center": SECRET}],
            "tokens, entry 1: unknown data_center; use one of us, au, ca, de, sg, uk",
        ),
        (
            [{"access_token": each, "key": "k"} for each in "abc"],
            "entry 2: its key was used before, at entry 1; keys must be unique (key 'k'); 2 of 3 rows",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_list_is_said_with_its_place(tokens: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_tokens(tokens)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


KEYS: list[tuple[Any, str]] = [
    (42, "42"), (-1, "-1"), (2**63, str(2**63)), (Decimal(42), "42"), (Decimal("42.00"), "42"),
    (Decimal("4.2E+1"), "42"), (42.0, "42"), (np.int64(42), "42"), (np.float64(42), "42"),
    (np.str_("42"), "42"),
    (UUID(int=42), "00000000-0000-0000-0000-00000000002a"), (" 42.0 ", "42.0"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "key"), KEYS, ids=[repr(given) for given, _ in KEYS])
def test_what_databases_have_for_keys(given: Any, key: str) -> None:
    [token] = read_tokens([{"key": given, "access_token": "at"}])
    assert token.key == key


GOOD = [{"key": key, "access_token": f"at-{key}"} for key in "abcd"]
# a row that is not polled, and what is said of it; with a key where there is one
BAD_ROWS: dict[str, tuple[Any, str, str | None]] = {
    "null": ({"access_token": None, "data_center": "us"}, "access_token is missing", None),
    "empty": ("", "access_token is missing", None),
    "nothing": (None, "not a table with the columns key, access_token, refresh_token, data_center", None),
    "data center": (
        {"key": "e", "access_token": SECRET, "data_center": "mars"},
        "unknown data_center; use one of us, au, ca, de, sg, uk",
        "e",
    ),
    "characters": (
        {"key": "e", "access_token": f"{SECRET} 2"},
        "access_token holds characters that no token has",
        "e",
    ),
    "type": ({"key": 7, "access_token": {SECRET: 1}}, "access_token is not text", "7"),
    "expiry": (
        {"key": "e", "access_token": SECRET, "expires_at": SECRET},
        "expires_at is no point in time; use ISO 8601 text, a date or a number since 1970",
        "e",
    ),
    "key": (
        {"key": b"e", "access_token": SECRET},
        "key is neither text nor an exact whole number nor a UUID",
        None,
    ),
    "key twice": (
        {"key": "a", "access_token": SECRET},
        "its key was used before, at entry 1; keys must be unique",
        "a",
    ),
    "a token for a key": (
        {"key": SECRET * 2, "access_token": "at", "expires_at": "us"},
        "expires_at is no point in time; use ISO 8601 text, a date or a number since 1970",
        None,
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_one_bad_row_costs_that_row_only(case: str) -> None:
    row, reason, key = BAD_ROWS[case]
    found = read_tokens([*GOOD, row])
    assert [each.key for each in found] == ["a", "b", "c", "d"]
    assert found.unusable == (UnusableRow("tokens, entry 5", reason, key),)
    assert found.not_connected == ()
    assert SECRET not in repr(found.unusable)
    # also as what a store of somebody else's gives
    assert in_data_centers(found, "de").unusable == found.unusable


def test_rows_without_tokens_are_users_who_have_not_connected() -> None:
    found = read_tokens([{"key": key} for key in "xyxa"] + GOOD)
    assert (len(found), found.unusable) == (4, ())
    assert found.not_connected == (Token("x", labels=(None,)), Token("y", labels=(None,)))
    [only] = read_tokens([{"key": "x", "data_center": "mars", "access_token": " "}]).not_connected
    assert only == Token("x", labels=(None,))
    [first] = read_tokens([{"key": "x", "customer": each} for each in ("Ada", "Eve")]).not_connected
    assert first == Token("x", labels=("Ada",))


def test_the_same_token_twice_is_one() -> None:
    found = read_tokens([FULL, FULL | {"expires_at": 1, "data_center": "de"}, "at", "at"])
    assert shown(found) == [("k", "at", "rt", "de"), (token_key("at", None), "at", None, None)]
    assert found.unusable == ()
    found = read_tokens([FULL | {"customer": "Ada"}, FULL | {"customer": "Eve"}])
    assert [each.labels for each in found] == [("Ada",)]
    assert found.unusable == ()


def test_a_key_is_the_tokens_that_comes_first_and_can_be_used() -> None:
    found = read_tokens([{"key": "k", "access_token": each} for each in ("a b", "one", "two", "one")] + GOOD)
    assert shown(found)[0] == ("k", "one", None, None)
    assert [row.place for row in found.unusable] == ["tokens, entry 1", "tokens, entry 3"]


@pytest.mark.parametrize(("good", "bad"), [(2, 3), (0, 1), (1, 2)])
def test_a_store_of_which_most_rows_are_wrong_is_refused(good: int, bad: int) -> None:
    def rows(bad: int) -> Iterator[Any]:
        # who has not connected counts for neither side
        yield from ({"key": str(number)} for number in range(9))
        yield from (f"at{number}" for number in range(good))
        yield from (f"{SECRET} {number}" for number in range(bad))

    assert len(read_tokens(rows(good)).unusable) == good
    with pytest.raises(ConfigurationError) as error:
        read_tokens(rows(bad))
    message = f"tokens, entry {10 + good}: access_token holds characters that no token has"
    assert str(error.value) == f"{message}; {bad} of {good + bad} rows cannot be used, more than half"
    shown = traceback.TracebackException.from_exception(error.value, capture_locals=True).format()
    assert SECRET not in "".join(shown)


@given(
    st.one_of(
        st.text(), st.lists(st.one_of(st.text(), st.dictionaries(st.sampled_from(list(FULL)), st.text())))
    )
)
def test_any_list_is_read_or_a_configuration_error(tokens: Any) -> None:
    try:
        found = read_tokens(tokens)
    except ConfigurationError:
        return
    assert len({each.key for each in found}) == len(found)
    assert len(found) + len(found.unusable) + len(found.not_connected) > 0
    assert len(found) >= len(found.unusable)
    for each in found:
        assert each.access_token.reveal().isascii()
        assert each.has_access_token or each.refresh_token
        assert each.data_center in (None, "us", "au", "ca", "de", "sg", "uk")
