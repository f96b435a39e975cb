"""Token files: their rows, and the one line that says where a file cannot be used."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tokens.file_store import FileStore
from dlt_cronofy.source.tokens.token import (
    Token,
    UnusableRow,
    token_key,
)

SECRET = "hunter2-is-secret"


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


def test_cells_that_are_missing_at_the_end_of_a_line_are_empty(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,access_token,customer\nk1,at1\nk2,at2\n")
    found = FileStore(str(tmp_path / "t.csv")).read()
    assert (found.label_names, [each.labels for each in found]) == (("customer",), [(None,), (None,)])


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
    tokens = FileStore(str(tmp_path / name)).read()
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
    tokens = FileStore(str(path)).read()
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
    found = FileStore(str(tmp_path / "t.parquet")).read()
    assert [each.key for each in found] == ["4", "5", "6"]
    assert [(row.place[-5:], row.key, row.reason.split()[0]) for row in found.unusable] == [
        ("row 1", "1", "expires_at"), ("row 2", "2", "access_token"), ("row 3", None, "key"),
    ]  # fmt: skip


def test_parquet_files(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "key": [1, 2], "access_token": ["at1", "at2"], "refresh_token": ["rt1", None], "secret": ["x", "y"],
    }  # fmt: skip
    parquet(tmp_path / "t.parquet", columns)
    tokens = FileStore(str(tmp_path / "t.parquet")).read()
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
        FileStore(str(tmp_path / name)).read()
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
        FileStore(str(tmp_path / "t.parquet")).read()
    assert message in str(error.value)
