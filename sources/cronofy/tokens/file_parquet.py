"""Parquet token files: their rows, and the same file with other tokens in it."""

import io
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigurationError
from ..settings import TOKEN_COLUMNS
from .expiry import expiry_like
from .rows import NAMED_COLUMNS, Edits, NumberedRows, is_blank

# what a value of a type that Python lacks is read as: nothing that any column may hold
UNREADABLE = object()
# what Arrow raises where a value does not fit, and Python below it
CONVERSION_ERRORS = (pa.ArrowException, ArithmeticError, OSError, TypeError, ValueError)
# the form of an expiry in a column without any, by what `pyarrow.types` says of the column; else it is text
EMPTY_EXPIRIES = {
    "is_null": None,
    "is_timestamp": None,
    "is_date": date.min,
    "is_integer": 0,
    "is_floating": 0.0,
    "is_decimal": Decimal(),
}
SHOWN_TYPE = 60


class ColumnError(ValueError):
    """One column stands in the way; the message names it and its type, and quotes no value."""

    def __init__(self, field: pa.Field, problem: str) -> None:
        kind = str(field.type)
        shown = kind if len(kind) <= SHOWN_TYPE else f"{kind[:SHOWN_TYPE]}…"
        super().__init__(f"its column {field.name!r} of type {shown} {problem}")


def parquet_rows(name: str, content: bytes, labels: Container[str]) -> NumberedRows:
    """The rows of a file by their number, with the columns of tokens and the labels only.

    Raises:
        ConfigurationError: not a Parquet file, or not one of tokens.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = file.schema_arrow.names
        if "access_token" not in names:
            raise ConfigurationError(f"{name}: no column access_token; expected {NAMED_COLUMNS}")
        labelled = [each for each in names if each not in TOKEN_COLUMNS and each.strip().lower() in labels]
        batches = file.iter_batches(columns=[*(each for each in TOKEN_COLUMNS if each in names), *labelled])
        rows = enumerate((row for batch in batches for row in _batch_rows(batch)), start=1)
        yield from ((number, row) for number, row in rows if not is_blank(row, labelled))
    except (pa.ArrowException, OSError):
        raise ConfigurationError(f"{name}: not a Parquet file") from None


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    columns = map(_plain_values, batch.columns)
    return (dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _plain_values(column: pa.Array) -> list[Any]:
    """The values as Python has them; a time or a text that it has nothing for is `UNREADABLE`."""

    def plain(cell: pa.Scalar) -> Any:
        try:
            return cell.as_py()
        except (ArithmeticError, ValueError):
            return UNREADABLE

    try:
        values: list[Any] = column.to_pylist()
    except (ArithmeticError, ValueError):
        values = list(map(plain, column))
    return values


def write_parquet(content: bytes, edits: Edits) -> bytes:
    """The file with new values; schema, metadata and compression stay.

    A column without any value, such as pandas writes one of nothing but None, is given a type with its
    first value.

    Raises:
        ColumnError: a column cannot be read, written, or take its new values.
    """
    file = pq.ParquetFile(pa.BufferReader(content))
    names = file.schema_arrow.names
    try:
        table = file.read()
    except CONVERSION_ERRORS:
        raise _culprit(
            file.schema_arrow, "cannot be read", lambda index: file.read(columns=[names[index]])
        ) from None
    if "key" not in names and any("key" in values for values in edits.values()):
        table = table.append_column("key", pa.nulls(table.num_rows, pa.string()))
    # of two columns of one name the last one is read
    at = {name: index for index, name in enumerate(table.column_names)}
    for name in ("key", "access_token", "refresh_token", "expires_at"):
        changed = {number - 1: values[name] for number, values in edits.items() if name in values}
        if changed:
            table = _with_values(table, at[name], changed)
    return _file_of(table, file.metadata)


def _culprit(schema: pa.Schema, problem: str, attempt: Callable[[int], Any]) -> ValueError:
    """The error that names the first column that an attempt, given its index, fails for."""
    for index, field in enumerate(schema):
        try:
            attempt(index)
        except CONVERSION_ERRORS:
            return ColumnError(field, problem)
    return ValueError(f"it {problem}")


def _with_values(table: pa.Table, index: int, changed: Mapping[int, Any]) -> pa.Table:
    """The table with some values of one column replaced; the others are never taken for Python's."""
    field, before = table.schema.field(index), table.column(index)
    changed = {number: _fitting(value, field.type) for number, value in changed.items()}
    for kind in _possible_types(field.type, before, changed):
        with suppress(*CONVERSION_ERRORS):
            # a dictionary is made of its values: pyarrow before 25 makes none of large strings
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            fresh = {number: pa.scalar(value, plain) for number, value in changed.items()}
            kept = enumerate(before if plain == field.type else before.cast(plain))
            column = pa.array([fresh.get(number, cell) for number, cell in kept], plain)
            if plain != kind:
                column = column.dictionary_encode().cast(kind)
            return table.set_column(index, field.with_type(kind), column)
    raise ColumnError(field, "does not take what a refresh brings")


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """The value; an expiry for a column that had none in the form that its type holds."""
    form = next((empty for name, empty in EMPTY_EXPIRIES.items() if getattr(pa.types, name)(kind)), "")
    return expiry_like(value, form) if isinstance(value, datetime) and form is not None else value


def _possible_types(
    kind: pa.DataType, column: pa.ChunkedArray, changed: Mapping[int, Any]
) -> Iterator[pa.DataType]:
    """The column's own type; the same with room for more values; without any value, that of the new ones."""
    if not pa.types.is_null(kind):
        yield kind
    if pa.types.is_dictionary(kind):
        yield pa.dictionary(pa.int32(), kind.value_type, kind.ordered)
    if column.null_count == len(column):
        yield pa.array([*changed.values()]).type


def _file_of(table: pa.Table, metadata: Any) -> bytes:
    groups: Sequence[Any] = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [groups[0].column(number) for number in range(groups[0].num_columns)] if groups else []
    compression = {
        column.path_in_schema: "none" if column.compression == "UNCOMPRESSED" else column.compression
        for column in columns
    }
    rows = max((group.num_rows for group in groups), default=None)
    file = io.BytesIO()
    try:
        pq.write_table(table, file, row_group_size=rows, compression=compression)
    except CONVERSION_ERRORS:
        raise _culprit(
            table.schema,
            "cannot be written",
            lambda index: pq.write_table(table.select([index]), io.BytesIO()),
        ) from None
    return file.getvalue()
