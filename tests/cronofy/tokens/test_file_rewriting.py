"""Token files with refreshed tokens: what changes, and that no other value does."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.base import Renewal
from dlt_cronofy.source.tokens.file_csv import csv_records, write_csv
from dlt_cronofy.source.tokens.file_formats import FORMATS
from dlt_cronofy.source.tokens.token import Token, token_key

rewrite_csv, rewrite_json_lines, rewrite_parquet = (
    partial(FORMATS[suffix].renewed, "tokens") for suffix in (".csv", ".jsonl", ".parquet")
)
EXPIRES = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)
SECONDS = int(EXPIRES.timestamp())
FLOAT = float(SECONDS)
LARGE = 123456789012345678901
NAMED = token_key("", "rt1")  # what a row without a key goes by


def renewed(used: str, access: str, refresh: str, expires_at: datetime | None = EXPIRES) -> Renewal:
    return Renewal(Token("k", Secret("at"), Secret(used)), Secret(access), Secret(refresh), expires_at)


ROTATED = renewed("rt1", "AT", "RT")
SAME = renewed("rt1", "AT", "rt1")


@pytest.mark.parametrize(
    ("before", "renewal", "after"),
    [
        ("key,access_token,refresh_token\nk,at,rt1\nl,at2,rt2\n", ROTATED,
         "key,access_token,refresh_token\nk,AT,RT\nl,at2,rt2\n"),
        ("key,access_token,refresh_token\nk,at,rt1\nl,at2,rt1", ROTATED,
         "key,access_token,refresh_token\nk,AT,RT\nl,AT,RT"),
        ('\ufeff"key", access_token ,refresh_token,"n"\r\n"k","at", rt1 ,"a ""b"", c"\r\n\r\n', ROTATED,
         '\ufeff"key", access_token ,refresh_token,"n"\r\nk,AT,RT,"a ""b"", c"\r\n\r\n'),
        ('key,note,access_token,refresh_token\rk,"two\r\nlines",at,rt1\rl,x"y,at2,rt2\r', ROTATED,
         'key,note,access_token,refresh_token\rk,"two\r\nlines",AT,RT\rl,x"y,at2,rt2\r'),
        ('key,note,access_token,refresh_token\nk,"a"b"c,at,rt1\n', ROTATED,
         'key,note,access_token,refresh_token\nk,"ab""c",AT,RT\n'),
        ('access_token,refresh_token,key,note\nat,rt1,k,"open, to the end\n', ROTATED,
         'access_token,refresh_token,key,note\nAT,RT,k,"open, to the end\n"\n'),
        ("key,access_token,refresh_token\n,at,rt1\n", ROTATED,
         f"key,access_token,refresh_token\n{NAMED},AT,RT\n"),
        ("key,access_token,refresh_token\n,at,rt1\n", SAME, "key,access_token,refresh_token\n,AT,rt1\n"),
        ("access_token,refresh_token,key\nat,rt1\n", ROTATED,
         f"access_token,refresh_token,key\nAT,RT,{NAMED}\n"),
        ("access_token,refresh_token\r\nat2,\r\n\r\nat,rt1\r\nat3\r\nat4,rt4,extra\r\n", ROTATED,
         f"access_token,refresh_token,key\r\nat2,,\r\n\r\nAT,RT,{NAMED}\r\nat3,,\r\nat4,rt4,,extra\r\n"),
        ("access_token,refresh_token\nat,rt1\n", SAME, "access_token,refresh_token\nAT,rt1\n"),
        ("key,access_token,refresh_token,expires_at\nk,at,rt1,2020-01-01 00:00:00\n", ROTATED,
         "key,access_token,refresh_token,expires_at\nk,AT,RT,2026-01-05 06:07:08\n"),
        ("key,access_token,refresh_token,expires_at\nj,at,rt0,1\nk,at,rt1\n", ROTATED,
         f"key,access_token,refresh_token,expires_at\nj,at,rt0,1\nk,AT,RT,{SECONDS}\n"),
        ("key,access_token,refresh_token,expires_at\nk,at,rt1,1\n", renewed("rt1", "AT", "RT", None),
         "key,access_token,refresh_token,expires_at\nk,AT,RT,\n"),
        ("key,access_token,refresh_token\nk,at,rt1\n", renewed("rt1", 'A"T', "R,T"),
         'key,access_token,refresh_token\nk,"A""T","R,T"\n'),
        ("access_token,key,access_token,refresh_token\nx,k,at,rt1\n", ROTATED,
         "access_token,key,access_token,refresh_token\nx,k,AT,RT\n"),
    ],
    ids=[
        "one", "two rows of one token", "spreadsheet", "line ends", "stray quotes", "open quote", "key given",
        "key not needed", "short row", "new column", "no new column", "expiry", "expiry like the others",
        "expiry unknown", "quoting", "two columns of one name",
    ],
)  # fmt: skip
def test_csv(before: str, renewal: Renewal, after: str) -> None:
    assert rewrite_csv(before.encode(), [renewal]) == (after.encode(), [])


@pytest.mark.parametrize(
    ("before", "renewal", "after"),
    [
        ('{"key":"k","access_token":"at","refresh_token":"rt1"}\n{ "x" : 1.0 }', ROTATED,
         '{"key": "k", "access_token": "AT", "refresh_token": "RT"}\n{ "x" : 1.0 }'),
        ('\ufeff\n{ "refresh_token" : " rt1" ,\t"n":{"key":1.50},"access_token": "é", "key": "é"} \r\n"at"\n',
         ROTATED,
         '\ufeff\n{"refresh_token": "RT", "n": {"key": 1.5}, "access_token": "AT", "key": "é"} \r\n"at"\n'),
        ('{"access_token":"at","refresh_token":"rt1"}', ROTATED,
         f'{{"access_token": "AT", "refresh_token": "RT", "key": "{NAMED}"}}'),
        ('{"key":null,"access_token":"at","refresh_token":"rt1"}', ROTATED,
         f'{{"key": "{NAMED}", "access_token": "AT", "refresh_token": "RT"}}'),
        ('{"access_token":"at","refresh_token":"rt1"}', SAME,
         '{"access_token": "AT", "refresh_token": "rt1"}'),
        ('{"access_token":"at","refresh_token":"rt1","key":1,"expires_at":1.0,"n":123456789012345678901}',
         ROTATED,
         f'{{"access_token": "AT", "refresh_token": "RT", "key": 1, "expires_at": {FLOAT}, "n": {LARGE}}}'),
        ('{"key":1,"access_token":"at","refresh_token":"rt1","expires_at":null}', ROTATED,
         '{"key": 1, "access_token": "AT", "refresh_token": "RT", "expires_at": "2026-01-05T06:07:08Z"}'),
        ('{"key":1,"access_token":"a","refresh_token":"x","access_token":"at","refresh_token":"rt1"}',
         ROTATED, '{"key": 1, "access_token": "AT", "refresh_token": "RT"}'),
        ('{"key":"k","refresh\\u005ftoken":"rt\\u0031","access_token":"at}"}\n{"access', ROTATED,
         '{"key": "k", "refresh_token": "RT", "access_token": "AT"}\n{"access'),
    ],
    ids=[
        "one", "spacing", "key added", "key given", "key not needed", "numbers", "expiry", "twice", "escapes",
    ],
)  # fmt: skip
def test_json_lines(before: str, renewal: Renewal, after: str) -> None:
    assert rewrite_json_lines(before.encode(), [renewal]) == (after.encode(), [])


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("kind", "others", "expected"),
    [
        (pa.timestamp("us", "UTC"), [EXPIRES, None], EXPIRES),
        (pa.timestamp("ms"), [EXPIRES.replace(tzinfo=None), None], EXPIRES.replace(tzinfo=None)),
        (pa.timestamp("us"), [None, None], EXPIRES.replace(tzinfo=None)),
        (pa.timestamp("ns", "Europe/Berlin"), [None, None], EXPIRES),
        (pa.string(), ["2020-01-01 00:00:00", None], "2026-01-05 06:07:08"),
        (pa.large_string(), [None, None], "2026-01-05T06:07:08Z"),
        (pa.int64(), [None, None], SECONDS),
        (pa.float64(), [1.0, None], float(SECONDS)),
        (pa.decimal128(20, 2), [None, None], Decimal(SECONDS)),
    ],
)
def test_parquet_expiries_keep_their_type(kind: pa.DataType, others: list[Any], expected: Any) -> None:
    columns = {"key": ["a", "b", "c"], "access_token": ["at", "b", "c"], "refresh_token": ["rt1", None, "x"]}
    table = pa.table({**columns, "expires_at": pa.array([None, *others], kind)})
    after = pq.read_table(pa.BufferReader(rewrite_parquet(parquet(table), [ROTATED])[0]))
    assert after.schema.field("expires_at").type == kind
    assert after.column("expires_at").to_pylist() == [expected, *others]
    assert after.column("access_token").to_pylist() == ["AT", "b", "c"]


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us", "UTC")])
def test_a_parquet_expiry_that_python_cannot_read_stays(kind: pa.DataType) -> None:
    expiries = pa.chunked_array([pa.array([2**58, 5], pa.int64()), pa.array([7], pa.int64())]).cast(kind)
    columns = {"access_token": ["a", "at", "c"], "refresh_token": ["x", "rt1", None]}
    table = pa.table({**columns, "expires_at": expiries})
    after = pq.read_table(pa.BufferReader(rewrite_parquet(parquet(table), [ROTATED])[0]))
    written = after.column("expires_at").cast(pa.int64()).to_pylist()
    units = 1000 if kind.unit == "ms" else 10**6
    assert written == [2**58, SECONDS * units, 7]
    assert after.column("access_token").to_pylist() == ["a", "AT", "c"]


def test_parquet_keeps_schema_metadata_and_layout() -> None:
    columns = {
        "note": pa.array([{"a": [n]} for n in range(10)]),
        "access_token": pa.array([f"at{n}" for n in range(10)]).dictionary_encode(),
        "refresh_token": pa.array([f"rt{n}" for n in range(10)], pa.large_string()),
        "seen": pa.array([1_700_000_000_000_000_001] * 10, pa.timestamp("ns")),
    }
    table = pa.table(columns).replace_schema_metadata({b"made by": b"us"})
    content = parquet(table, row_group_size=4, compression={"access_token": "zstd", "refresh_token": "none"})
    file = pq.ParquetFile(pa.BufferReader(rewrite_parquet(content, [SAME])[0]))
    before = pq.ParquetFile(pa.BufferReader(content))
    assert file.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert file.metadata.num_row_groups == 3
    assert [file.metadata.row_group(0).column(n).compression for n in range(4)] == [
        before.metadata.row_group(0).column(n).compression for n in range(4)
    ]
    after = file.read()
    assert after.column("access_token").to_pylist() == ["at0", "AT", *(f"at{n}" for n in range(2, 10))]
    for name in ("note", "refresh_token", "seen"):
        assert after.column(name).equals(table.column(name))


def test_parquet_rows_without_a_key_are_given_theirs() -> None:
    table = pa.table({"access_token": ["at", "at2"], "refresh_token": ["rt1", "rt2"]})
    after = pq.read_table(pa.BufferReader(rewrite_parquet(parquet(table), [ROTATED])[0]))
    assert after.to_pylist() == [
        {"access_token": "AT", "refresh_token": "RT", "key": NAMED},
        {"access_token": "at2", "refresh_token": "rt2", "key": None},
    ]


CSV_FILE = b"key,access_token,refresh_token\nk,at,rt1\n"
JSON_FILE = b'{"key":"k","access_token":"at","refresh_token":"rt1"}\n'
PARQUET_FILE = parquet(pa.table({"key": ["k"], "access_token": ["at"], "refresh_token": ["rt1"]}))
REWRITES = pytest.mark.parametrize(
    ("rewrite", "content"),
    [(rewrite_csv, CSV_FILE), (rewrite_json_lines, JSON_FILE), (rewrite_parquet, PARQUET_FILE)],
)
Rewrite = Callable[[bytes, list[Renewal]], tuple[bytes, list[Renewal]]]


@REWRITES
def test_a_used_token_that_is_gone_is_a_conflict(rewrite: Rewrite, content: bytes) -> None:
    late = renewed("rt0", "AT", "RT")
    keyless = Renewal(Token("k", Secret("at")), Secret("AT"), Secret("RT"))
    assert rewrite(content, [late, keyless]) == (content, [late, keyless])


@pytest.mark.parametrize(
    ("rewrite", "content"),
    [
        (rewrite_csv, b"\xff"),
        (rewrite_csv, b'access_token,"refresh_token\n' + b"x" * 200_000),
        (rewrite_json_lines, b"\xff"),
        (rewrite_parquet, b"PAR1"),
        (rewrite_parquet, PARQUET_FILE[:40] + bytes(20) + PARQUET_FILE[60:]),
    ],
)
def test_a_damaged_file_is_named(rewrite: Rewrite, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="tokens"):
        rewrite(content, [ROTATED])


@pytest.mark.parametrize("content", [b"", b"key,access_token\nk,rt1\n"])
def test_a_csv_file_without_the_columns_stays(content: bytes) -> None:
    assert rewrite_csv(content, [ROTATED]) == (content, [ROTATED])


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def read_csv(content: bytes) -> list[list[str]]:
    return [*csv.reader(io.StringIO(content.decode(), newline=""), skipinitialspace=True)]


@given(st.lists(st.tuples(CELLS, CELLS, st.booleans()), max_size=6), QUOTING, ENDS)
def test_csv_cells_beside_the_tokens_stay(rows: list[Any], quoting: int, end: str) -> None:
    def written(access: str, refresh: str) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
        writer.writerow(["before", "refresh_token", "key", "access_token", "after"])
        for number, (before, after, is_used) in enumerate(rows):
            tokens = (refresh, access) if is_used else (f"r{number}", f"a{number}")
            writer.writerow([before, tokens[0], f"k{number}", tokens[1], after])
        return text.getvalue().encode()

    content, _ = rewrite_csv(written("at", "rt1"), [ROTATED])
    assert read_csv(content) == read_csv(written("AT", "RT"))
    assert content.endswith(end.encode())


@given(st.text(st.sampled_from('a ",\r\n'), max_size=20))
def test_any_csv_text_keeps_its_other_cells(text: str) -> None:
    content = f"access_token,refresh_token\nat,rt1,{text}"

    def cells(content: str) -> list[list[str]]:
        return [list(record.cells) for record in csv_records(content) if record.cells]

    header, first, *others = cells(content)
    edits = {2: {"access_token": "AT", "refresh_token": "RT", "key": NAMED}}
    after_header, after_first, *after_others = cells(write_csv(content, edits))
    assert after_header == [*header, "key"]
    assert after_first == ["AT", "RT", NAMED, *first[2:]]
    for row, after in zip(others, after_others, strict=True):
        padded = row + [""] * (2 - len(row))
        assert after == [*padded[:2], "", *padded[2:]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(CELLS, JSON, max_size=4), st.booleans(), st.sampled_from([None, (" , ", " : ")]))
def test_json_members_beside_the_tokens_stay(row: dict[str, Any], ascii_only: bool, separators: Any) -> None:
    def members(access: str, refresh: str) -> dict[str, Any]:
        others = {f"_{name}": value for name, value in row.items()}
        return {"key": "k", "refresh_token": refresh, **others, "access_token": access}

    text = json.dumps(members("at", "rt1"), ensure_ascii=ascii_only, separators=separators)
    after = rewrite_json_lines(text.encode(), [ROTATED])[0].decode()
    assert json.loads(after) == members("AT", "RT")
