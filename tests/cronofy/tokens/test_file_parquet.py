"""Token files as pandas, Polars and DuckDB write them: refreshed, or refused before a grant is used."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.base import Renewal, StoreError
from dlt_cronofy.source.tokens.file_store import FileStore
from dlt_cronofy.source.tokens.token import Token

EXPIRES = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)
ROWS = 130  # more than one byte can number
ACCESS, REFRESH = ([f"{name}-{number:024}" for number in range(ROWS)] for name in ("at", "rt"))
KEYS = [f"user_{number}" for number in range(ROWS)]


def table(**columns: Any) -> pa.Table:
    """Keys and tokens as text, and columns beside them or in their place; None leaves one out."""
    found = {"key": KEYS, "access_token": ACCESS, "refresh_token": REFRESH} | columns
    return pa.table({name: values for name, values in found.items() if values is not None})


def typed(kind: pa.DataType) -> pa.Table:
    """All texts of that type, which Polars and pandas have several of."""
    columns = {"key": KEYS, "access_token": ACCESS, "refresh_token": REFRESH, "data_center": ["us"] * ROWS}
    return pa.table({name: pa.array(values).cast(kind) for name, values in columns.items()})


def twice(name: str, first: Any) -> pa.Table:
    """A column of a name that is there already, before it."""
    whole = table()
    return pa.Table.from_arrays([pa.array([first] * ROWS), *whole.columns], names=[name, *whole.column_names])


def nullable(kind: pa.DataType, value: Any = None) -> pa.Array:
    """A column with one value in its last row, or none at all."""
    return pa.array([None] * (ROWS - 1) + [value], kind)


def by_pandas(**columns: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        frame = pd.DataFrame({"key": KEYS, "access_token": ACCESS, "refresh_token": REFRESH} | columns)
        frame.to_parquet(path)

    return write


def by_duckdb(columns: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with duckdb.connect() as connection:
            connection.register("written", table())
            connection.execute(f"COPY (SELECT {columns} FROM written) TO '{path}' (FORMAT parquet)")

    return write


TOKENS_OF_DUCKDB = "key, access_token, refresh_token"
FILES: dict[str, pa.Table | Callable[[Path], None]] = {
    "string": typed(pa.string()),
    "large string": typed(pa.large_string()),
    "string view": typed(pa.string_view()),
    "dictionary": typed(pa.dictionary(pa.int32(), pa.string())),
    "Polars categorical": typed(pa.dictionary(pa.uint32(), pa.large_string())),
    "small dictionary": table(data_center=pa.array(["us"] * ROWS, pa.dictionary(pa.int8(), pa.string()))),
    # a column of nothing but None
    "null key": table(key=pa.nulls(ROWS)),
    "null expiry": table(expires_at=pa.nulls(ROWS)),
    "null data center": table(data_center=pa.nulls(ROWS)),
    "null everything": table(key=pa.nulls(ROWS), expires_at=pa.nulls(ROWS), data_center=pa.nulls(ROWS)),
    "key without a value": table(key=nullable(pa.int32())),
    "expiry without a value": table(expires_at=nullable(pa.bool_())),
    "no key": table(key=None),
    # whatever an expiry is written as
    "timestamp s": table(expires_at=nullable(pa.timestamp("s"))),
    "timestamp ms": table(expires_at=nullable(pa.timestamp("ms", "UTC"), EXPIRES)),
    "timestamp us": table(expires_at=nullable(pa.timestamp("us", "Europe/Berlin"), EXPIRES)),
    "timestamp ns": table(expires_at=nullable(pa.timestamp("ns"), EXPIRES.replace(tzinfo=None))),
    "date32": table(expires_at=nullable(pa.date32(), EXPIRES.date())),
    "date without a value": table(expires_at=nullable(pa.date32())),
    "date64": table(expires_at=nullable(pa.date64(), EXPIRES.date())),
    "seconds": table(expires_at=nullable(pa.int64(), 1_700_000_000)),
    "milliseconds": table(expires_at=nullable(pa.int64(), 1_700_000_000_000)),
    "seconds, unsigned": table(expires_at=nullable(pa.uint32())),
    "seconds, float": table(expires_at=nullable(pa.float64(), 1_700_000_000.5)),
    "seconds, half exact": table(expires_at=nullable(pa.float32(), 1_700_000_000.0)),
    "seconds, decimal": table(expires_at=nullable(pa.decimal128(20, 3))),
    "seconds, large decimal": table(expires_at=nullable(pa.decimal256(40, 0))),
    "text": table(expires_at=nullable(pa.large_string(), "2020-01-01T00:00:00+02:00")),
    "text view": table(expires_at=nullable(pa.string_view(), "2020-01-01 00:00:00")),
    "text, dictionary": table(expires_at=nullable(pa.dictionary(pa.int8(), pa.string()), "2020-01-01")),
    # two columns of one name: the last one is read
    "access token twice": twice("access_token", "old"),
    "refresh token twice": twice("refresh_token", "old"),
    "expiry twice": twice("expires_at", 7).append_column("expires_at", nullable(pa.int64())),
    "note twice": twice("note", "a").append_column("note", pa.array(range(ROWS))),
    # what stands beside the tokens
    "nested": table(note=[{"a": [number], "b": {"c": None}} for number in range(ROWS)]),
    "map": table(note=pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64()))),
    "binary": table(note=[b"\xff"] * ROWS, view=pa.array([b"x"] * ROWS, pa.binary_view())),
    "duration": table(note=pa.array([1] * ROWS, pa.duration("us"))),
    "half": table(note=pa.array([1.0] * ROWS).cast(pa.float16())),
    "rows of nothing": table(note=pa.array([None] * ROWS, pa.list_(pa.null()))),
    "pandas": by_pandas(),
    "pandas, None": by_pandas(key=None, expires_at=None, data_center=None, note=None),
    "pandas, NaT": by_pandas(expires_at=pd.Series([pd.NaT] * ROWS, dtype="datetime64[ns, UTC]")),
    "pandas, numbers with NaN": by_pandas(expires_at=[float("nan")] * (ROWS - 1) + [1.7e9]),
    "pandas, categories": by_pandas(
        access_token=pd.Categorical(ACCESS), refresh_token=pd.Categorical(REFRESH)
    ),
    "pandas, string": by_pandas(
        access_token=pd.array(ACCESS, "string"), expires_at=pd.array([None] * ROWS, "Int64")
    ),
    "DuckDB": by_duckdb(TOKENS_OF_DUCKDB),
    # DuckDB takes NULL for an INTEGER
    "DuckDB, NULL": by_duckdb("NULL AS key, access_token, refresh_token, NULL AS expires_at"),
    "DuckDB, types": by_duckdb(
        f"{TOKENS_OF_DUCKDB}, TIMESTAMPTZ '2020-01-01 00:00:00+00' AS expires_at, uuid() AS id, '{{}}'::JSON"
        " AS data, 1::HUGEINT AS large, TIME '10:00' AS t, {'a': 1} AS s, MAP{'a': 1} AS m,"
        " 'x'::ENUM('x') AS e"
    ),
    "DuckDB, date": by_duckdb(f"{TOKENS_OF_DUCKDB}, DATE '2020-01-01' AS expires_at"),
    "DuckDB, nanoseconds": by_duckdb(f"{TOKENS_OF_DUCKDB}, TIMESTAMP_NS '2020-01-01' AS expires_at"),
}  # fmt: skip


def write(path: Path, file: pa.Table | Callable[[Path], None]) -> None:
    if isinstance(file, pa.Table):
        pq.write_table(file, path)
    else:
        file(path)


def read(path: Path) -> pa.Table:
    """As it is, with two columns of one name too."""
    return pq.ParquetFile(path).read()


def is_written_by_arrow(file: pa.Table | Callable[[Path], None]) -> bool:
    """The lowest version that is supported does not write views."""
    if isinstance(file, pa.Table):
        try:
            pq.write_table(file, pa.BufferOutputStream())
        except pa.ArrowException:
            return False
    return True


NAMES = [name for name, file in FILES.items() if is_written_by_arrow(file)]


def renewed(token: Token) -> Renewal:
    return Renewal(token, Secret(f"NEW-{token.key}-AT"), Secret(f"NEW-{token.key}-RT"), EXPIRES)


@pytest.mark.parametrize("name", NAMES)
def test_refreshed_tokens_are_written_and_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    write(path, FILES[name])
    content, store = path.read_bytes(), FileStore(str(path))
    before = store.read()
    assert store.why_not_saved() is None
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir() if ".new-" in each.name] == []
    assert store.save([renewed(token) for token in before[1:]]) == []
    after = FileStore(str(path)).read()
    assert [each.key for each in after] == [each.key for each in before]
    assert (after[0].access_token, after[0].refresh_token) == (
        before[0].access_token, before[0].refresh_token,
    )  # fmt: skip
    for was, now in zip(before[1:], after[1:], strict=True):
        assert (now.access_token, now.refresh_token) == (
            renewed(was).access_token,
            renewed(was).refresh_token,
        )
        assert now.expires_at is None or abs(now.expires_at - EXPIRES) <= timedelta(days=1)
    written = read(path)
    assert (after[1].expires_at is None) == ("expires_at" not in written.column_names)


@pytest.mark.parametrize("name", NAMES)
def test_types_stay_unless_a_column_had_no_value(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    write(path, FILES[name])
    before = read(path)
    store = FileStore(str(path))
    store.save([renewed(store.read()[0])])
    after = read(path)
    assert after.schema.metadata == before.schema.metadata
    assert after.column_names == before.column_names + ["key"] * ("key" not in before.column_names)
    for index, field in enumerate(before.schema):
        column, new = before.column(index), after.column(index)
        if new.type != field.type:
            assert column.null_count == len(column)
            assert str(new.type) == {"key": "string"}.get(field.name, str(new.type))
        if field.name in ("note", "id", "data", "large", "t", "s", "m", "e", "view", "half"):
            assert new.equals(column)


def test_a_column_of_nothing_but_none_takes_its_type_from_its_first_value(tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    write(path, FILES["pandas, None"])
    store = FileStore(str(path))
    store.save([renewed(store.read()[3])])
    frame = pd.read_parquet(path)
    assert frame["expires_at"].tolist()[3] == pd.Timestamp(EXPIRES)
    assert frame["expires_at"].isna().sum() == ROWS - 1
    assert frame["key"].notna().tolist() == [number == 3 for number in range(ROWS)]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            table(expires_at=nullable(pa.decimal128(9, 0), 1)),
            "its column 'expires_at' of type decimal128(9, 0) does not take what a refresh brings",
        ),
        (
            table(expires_at=nullable(pa.int16(), 1)),
            "its column 'expires_at' of type int16 does not take what a refresh brings",
        ),
        (
            table(key=pa.array([None, *range(1, ROWS)], pa.int64())),
            "its column 'key' of type int64 does not take what a refresh brings",
        ),
    ],
)
def test_what_cannot_be_written_is_said_before(file: pa.Table, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    write(path, file)
    content, store = path.read_bytes(), FileStore(str(path))
    [first, *_] = store.read()
    assert store.why_not_saved() == f"{path} cannot be written: {message}"
    with pytest.raises(StoreError) as error:
        store.save([renewed(first)])
    assert str(error.value) == f"{path} cannot be written: {message}"
    assert path.read_bytes() == content


def test_a_column_that_arrow_cannot_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an older Arrow does not write what a newer one reads."""
    path = tmp_path / "tokens.parquet"
    write(path, table(note=[b"x"] * ROWS))
    whole = pq.write_table

    def refuses(table: pa.Table, *arguments: Any, **options: Any) -> None:
        if pa.binary() in table.schema.types:
            raise pa.ArrowNotImplementedError("binary")
        whole(table, *arguments, **options)

    monkeypatch.setattr(pq, "write_table", refuses)
    why = FileStore(str(path)).why_not_saved()
    assert why == f"{path} cannot be written: its column 'note' of type binary cannot be written"


def test_a_damaged_column_is_named_and_no_parquet_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    write(path, table(note=["beside the tokens"] * ROWS))
    start = pq.ParquetFile(path).metadata.row_group(0).column(3).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    store = FileStore(str(path))
    [first, *_] = store.read()
    why = f"{path} cannot be written: its column 'note' of type string cannot be read"
    assert store.why_not_saved() == why
    path.write_bytes(b"not a Parquet file")
    with pytest.raises(StoreError, match="not a Parquet file"):
        store.save([renewed(first)])
    assert store.why_not_saved() == f"{path}: not a Parquet file"
