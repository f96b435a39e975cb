"""Token stores: what is read, and the one line that says where a store cannot be used."""

import hashlib
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
    log_unusable,
    token_key,
    without_refreshing,
)

SECRET = "hunter2-is-secret"


def read_tokens(tokens: Any = None, tokens_file: str | None = None) -> StoredTokens:
    return StoredTokens.of(open_store(tokens, tokens_file).read())


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


@pytest.mark.parametrize(
    ("access", "refresh", "hashed"), [("at", "rt", "rt"), ("at", None, "at"), ("at", "", "at")]
)
def test_a_token_without_a_key_is_named_by_what_lasts(access: str, refresh: str | None, hashed: str) -> None:
    assert token_key(access, refresh) == "tok_" + hashlib.sha256(hashed.encode()).hexdigest()[:16]


def test_a_key_survives_a_refresh() -> None:
    [before] = read_tokens([{"access_token": "old", "refresh_token": "rt"}])
    [after] = read_tokens([{"access_token": "new", "refresh_token": "rt"}])
    assert before.key == after.key


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda s: f"{Token('k', s, s)}"]
)
def test_a_secret_does_not_show_itself(show: Callable[[Any], str]) -> None:
    assert SECRET not in show(Secret(SECRET))


def test_a_secret_is_neither_pickled_nor_shown_in_a_traceback() -> None:
    secret = Secret(SECRET)
    with pytest.raises(TypeError, match="not pickled") as error:
        pickle.dumps(secret)
    assert SECRET not in "".join(
        traceback.TracebackException.from_exception(error.value, capture_locals=True).format()
    )


def test_secrets_are_equal_by_value() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


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
        ([{"access_token": "at", "key": True}], "entry 1: key is neither text nor a whole number nor a UUID"),
        ([{"access_token": "at", "key": SECRET.encode()}], "entry 1: key is neither text nor a whole number"),
        ([{"access_token": "at", "key": 1.5}], "entry 1: key is neither text nor a whole number"),
        ([{"access_token": "at", "key": Decimal("Infinity")}], "entry 1: key is neither text nor"),
        ([{"access_token": "at", "key": Decimal("1E+999999")}], "entry 1: key is neither text nor"),
        ([{"access_token": "at", "key": 2.0**60}], "entry 1: key is a number too large to be exact"),
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
    "key": ({"key": b"e", "access_token": SECRET}, "key is neither text nor a whole number nor a UUID", None),
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


def test_tokens_to_be_refreshed_first_need_client_credentials() -> None:
    rows = [{"key": "a", "access_token": "at"}, {"key": "b", "refresh_token": SECRET}]
    found = without_refreshing(read_tokens(rows), "tokens")
    assert [each.key for each in found] == ["a"]
    [row] = found.unusable
    assert str(row).startswith("tokens, entry 2: access_token is missing; client_id and client_secret")
    with pytest.raises(ConfigurationError, match=r"entry 1: .* \(key 'b'\); 1 of 1 rows"):
        without_refreshing(read_tokens(rows[1:]), "tokens")


def test_the_log_names_the_first(caplog: pytest.LogCaptureFixture) -> None:
    log_unusable([*GOOD])  # type: ignore[list-item]
    log_unusable(read_tokens(GOOD))
    assert caplog.records == []
    log_unusable(read_tokens([*GOOD, "a b"]))
    log_unusable(read_tokens([*GOOD, None, "a b", {"key": 1.5, "access_token": "x"}, 5]))
    one, several = caplog.messages
    assert one.startswith("1 row of the token store cannot be used: tokens, entry 5: access_token holds")
    assert one.endswith("characters that no token has")
    assert several.startswith("4 rows of the token store cannot be used: tokens, entry 5: not a table with")
    assert several.endswith("a whole number nor a UUID; and 1 more")


def test_cells_that_are_missing_at_the_end_of_a_line_are_empty(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,access_token,customer\nk1,at1\nk2,at2\n")
    found = read_tokens(tokens_file=str(tmp_path / "t.csv"))
    assert (found.label_names, [each.labels for each in found]) == (("customer",), [(None,), (None,)])


def test_two_stores_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="two token stores are set"):
        read_tokens(["at"], "tokens.csv")


def parquet(path: Path, columns: Mapping[str, list[Any]]) -> None:
    pq.write_table(pa.table(dict(columns)), path)


FIRST = '{"key":"k1","access_token":"at1","refresh_token":"rt1","data_center":"de"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "key,access_token,refresh_token,data_center\nk1,at1,rt1,de\nk2,at2,,\n"),
        ("t.CSV", "\ufeffdata_center, access_token ,key,refresh_token\r\nDE,at1,k1,rt1\r\n,at2,k2,\r\n"),
        ("t.csv", 'key,access_token,refresh_token,data_center\n"k1","at1","rt1","de"\n\nk2,at2\n'),
        ("t.csv", "note,key,access_token,refresh_token,data_center\nx,k1,at1,rt1,de\ny,k2,at2,,,,\n"),
        ("t.jsonl", f'{FIRST}\n\n{{"key":"k2","access_token":"at2","refresh_token":null}}'),
        ("t.ndjson", f'{FIRST}\n{{"key":"k2","access_token":"at2"}}\n'),
    ],
    ids=["CSV", "CSV from a spreadsheet", "CSV with gaps", "CSV with more", "JSON Lines", "ndjson"],
)
def test_text_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    tokens = read_tokens(tokens_file=str(tmp_path / name))
    assert shown(tokens) == [("k1", "at1", "rt1", "de"), ("k2", "at2", None, None)]


CSV_HEADER = "key,access_token,refresh_token,note\n"
# a file with rows that are not polled: the keys of those that are, and what is said of the others
MIXED_FILES: dict[str, tuple[str, str, list[str], list[tuple[str, str, str | None]]]] = {
    "empty rows of a spreadsheet": ("t.csv", CSV_HEADER + ",,,\na,at1,,\n, ,\t,\n\n,,\n", ["a"], []),
    "a token is missing": (
        "t.csv",
        CSV_HEADER + "a,at1,,\n,,,x\n",
        ["a"],
        [("line 3", "access_token is missing", None)],
    ),
    "too many cells": (
        "t.csv",
        CSV_HEADER + f"a,at1,,,,,\nb,{SECRET},,x,y\nc,at3\n",
        ["a", "c"],
        [("line 3", "has 5 cells, the first line has 4", None)],
    ),
    "too few cells": (
        "t.csv",
        CSV_HEADER + f"a,at1\n{SECRET}\nc,at3\n",
        ["a", "c"],
        [("line 3", "has 1 cell, the first line has 4", None)],
    ),
    "blanks before quotes": ("t.csv", 'key, "access_token" ,"refresh_token"\na, "at1",  "r,t" \n', ["a"], []),
    "blank text": ("t.csv", CSV_HEADER + 'a, at1 ,, "two\nlines"\nb,at2\n', ["a", "b"], []),
    "a tab before quotes": (
        "t.csv",
        CSV_HEADER + f'a,at1\nb,\t"{SECRET}"\n',
        ["a"],
        [("line 3", "access_token has quotation marks around it, which no token has", "b")],
    ),
    "an open quote takes in no other row": (
        "t.csv",
        CSV_HEADER + f'a,at1\nb,"{SECRET},rt,\nc,at3\nd,at4\n',
        ["a", "c", "d"],
        [("line 3", "a quotation mark is not closed", None)],
    ),
    "nor where another one closes it": (
        "t.csv",
        CSV_HEADER + f'a,at1\nb,"{SECRET},rt,\nc,"at3",rt\nd,at4\n',
        ["a", "c", "d"],
        [("line 3", "a quotation mark is not closed", None)],
    ),
    "nor in another column": (
        "t.csv",
        CSV_HEADER + 'a,at1,,"5 inch\nb,at2,,6" wide\nc,at3,,"7 inch\n',
        ["a", "b", "c"],
        [],
    ),
    "a file that breaks off": (
        "t.csv",
        CSV_HEADER + f'a,at1\nb,"{SECRET}',
        ["a"],
        [("line 3", "a quotation mark is not closed", None)],
    ),
    "a zero byte": (
        "t.csv",
        CSV_HEADER + f"a,at1\nb,{SECRET}\0\n",
        ["a"],
        [("line 3", "access_token holds characters that no token has", "b")],
    ),
    "no JSON": (
        "t.jsonl",
        f'{{"key":"a","access_token":"at1"}}\n{{"access_token":"{SECRET}\n[1]\n{{}}\n"b"\n"c"\n"d"\n',
        ["a", *(token_key(each, None) for each in "bcd")],
        [
            ("line 2", "not a JSON object", None),
            ("line 3", "not a table with the columns key, access_token, refresh_token, data_center", None),
            ("line 4", "access_token is missing", None),
        ],
    ),
}


@pytest.mark.parametrize("case", MIXED_FILES)
def test_a_bad_line_costs_that_line_only(tmp_path: Path, case: str) -> None:
    name, content, keys, unusable = MIXED_FILES[case]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    tokens = read_tokens(tokens_file=str(path))
    assert [each.key for each in tokens] == keys
    assert tokens.unusable == tuple(
        UnusableRow(f"{path}, {line}", reason, key) for line, reason, key in unusable
    )
    assert all('"' not in each.access_token.reveal() for each in tokens)
    assert SECRET not in repr(tokens.unusable)


def test_parquet_rows_that_python_has_nothing_for_cost_themselves_only(tmp_path: Path) -> None:
    tokens = pa.array([b"at", SECRET.encode() + b"\xff", *[b"at"] * 4, None], pa.binary())
    table = pa.table(
        {
            "key": [*(Decimal(number) / 2 for number in (2, 4, 7, 8, 10, 12)), None],
            "access_token": pa.Array.from_buffers(pa.string(), len(tokens), tokens.buffers()),
            "expires_at": pa.array([2**62, 1, None, 1, None, None, None]).cast(pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_tokens(tokens_file=str(tmp_path / "t.parquet"))
    assert [each.key for each in found] == ["4", "5", "6"]
    assert [(row.place[-5:], row.key, row.reason.split()[0]) for row in found.unusable] == [
        ("row 1", "1", "expires_at"), ("row 2", "2", "access_token"), ("row 3", None, "key"),
    ]  # fmt: skip


def test_parquet_files(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "key": [1, 2], "access_token": ["at1", "at2"], "refresh_token": ["rt1", None], "secret": ["x", "y"],
    }  # fmt: skip
    parquet(tmp_path / "t.parquet", columns)
    tokens = read_tokens(tokens_file=str(tmp_path / "t.parquet"))
    assert shown(tokens) == [("1", "at1", "rt1", None), ("2", "at2", None, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"x", "t.txt: tokens_file must end in .csv, .jsonl, .ndjson or .parquet"),
        ("missing.csv", None, "missing.csv: tokens_file does not exist"),
        ("t.csv", b"", "t.csv: holds no tokens"),
        ("t.csv", b"key,access_token\n", "t.csv: holds no tokens"),
        ("t.csv", f"{SECRET}\n{SECRET}2\n".encode(), "t.csv, line 1: no column access_token"),
        ("t.csv", b"access_token\nat\n\xff\xfe\n", "t.csv: not UTF-8 text"),
        ("t.csv", b"key,access_token\n,,,\n\n , \n", "t.csv: holds no tokens"),
        ("t.csv", b"access_token,data_center\nat,mars\n", "t.csv, line 2: unknown data_center"),
        ("t.csv", b'access_token\n"a' + b"x" * 200_000, "t.csv, line 2: a quotation mark is not closed"),
        ("t.csv", b'key,"access_token\nk,at\n', "t.csv, line 1: no column access_token"),
        ("t.csv", b"key;access_token\nk;at\n", "t.csv, line 1: the columns are separated by semicolons"),
        ("t.csv", b'"key";"access_token"\r\n"k";"at"\r\n', "separated by semicolons; save it with commas"),
        ("t.csv", b"key\taccess_token\nk\tat\n", "t.csv, line 1: the columns are separated by tabs"),
        (
            "t.csv",
            b"key | access_token\nk | at\n",
            "t.csv, line 1: the columns are separated by vertical bars",
        ),
        ("t.csv", b"sep=;\nkey;access_token\nk;at\n", "t.csv, line 1: remove this line"),
        ("t.csv", "key,access_token\nk,at\n".encode("utf-16"), "t.csv: not UTF-8 text; save it as UTF-8"),
        ("t.csv", "key,access_token\nk,at\n".encode("utf-16-le"), "t.csv: not UTF-8 text; save it as UTF-8"),
        ("t.jsonl", b"", "t.jsonl: holds no tokens"),
        ("t.jsonl", b'{"access', "t.jsonl, line 1: not a JSON object"),
        ("t.jsonl", b"[1]", "t.jsonl, line 1: not a table"),
        ("t.jsonl", b'{"key": null, "access_token": " "}', "t.jsonl: holds no tokens"),
        ("t.jsonl", b'{"note": "x"}', "t.jsonl, line 1: access_token is missing"),
        ("t.parquet", b"no parquet", "t.parquet: not a Parquet file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        read_tokens(tokens_file=str(tmp_path / name))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"token": ["at"]}, "no column access_token"),
        ({"access_token": pa.array([], pa.string())}, "holds no tokens"),
        ({"access_token": [None]}, "row 1: access_token is missing"),
        ({"access_token": [None], "key": [None]}, "t.parquet: holds no tokens"),
        ({"access_token": [b"at"]}, "row 1: access_token is not text"),
    ],
)
def test_what_is_wrong_with_a_parquet_file(tmp_path: Path, columns: Any, message: str) -> None:
    parquet(tmp_path / "t.parquet", columns)
    with pytest.raises(ConfigurationError) as error:
        read_tokens(tokens_file=str(tmp_path / "t.parquet"))
    assert message in str(error.value)


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
