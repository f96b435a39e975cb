"""Token files with refreshed tokens in the place of used ones, and everything else as it was."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet

from .expiry import expiry_like
from .file_formats import UNREADABLE, csv_records, plain_values
from .store import Renewal
from .token import token_key

BOM = b"\xef\xbb\xbf"
# a cell as the csv module reads it: quotes mean something at its start only, blanks before it aside
CELL = re.compile(r' *+(?:"(?:[^"]|"")*+"[^,\r\n]*|[^",\r\n][^,\r\n]*|)')
JSON_DECODER = json.JSONDecoder()
JSON_SPACE = re.compile(r"[ \t\r\n]*")
# what Arrow raises where a value does not fit, and Python below it
CONVERSION_ERRORS = (pa.ArrowException, ArithmeticError, OSError, TypeError, ValueError)
SHOWN_TYPE = 60


class ColumnError(ValueError):
    """One column stands in the way; the message names it and its type, and quotes no value."""

    def __init__(self, field: pa.Field, problem: str) -> None:
        kind = str(field.type)
        shown = kind if len(kind) <= SHOWN_TYPE else f"{kind[:SHOWN_TYPE]}…"
        super().__init__(f"its column {field.name!r} of type {shown} {problem}")


class Changes:
    """What becomes of the rows of a file, renewal by renewal, in their order."""

    def __init__(self, renewals: Sequence[Renewal]) -> None:
        self._renewals = renewals
        self._applied: set[int] = set()
        self._by_used: dict[str, list[tuple[int, Renewal]]] = {}
        for number, renewal in enumerate(renewals):
            if renewal.token.refresh_token is not None:
                used = renewal.token.refresh_token.reveal()
                self._by_used.setdefault(used, []).append((number, renewal))

    def of(self, refresh_token: Any) -> Renewal | None:
        """The renewal that a row with this refresh token ends with, or None where there is none."""
        held = refresh_token.strip() if isinstance(refresh_token, str) else ""
        if held not in self._by_used:
            return None
        last, found = -1, None
        # a token renewed twice ends with the second, which used what the first one brought
        while following := next((each for each in self._by_used.get(held, ()) if each[0] > last), None):
            last, found = following
            held = found.refresh_token.reveal()
            self._applied.add(last)
        return found

    def conflicts(self) -> list[Renewal]:
        """The renewals that no row was found for."""
        return [each for number, each in enumerate(self._renewals) if number not in self._applied]


def _values(row: Mapping[str, Any], renewal: Renewal, expiry_sample: Any) -> dict[str, Any]:
    """The new values of a row, without `expires_at` where the row has no such column.

    A row without a key is known by its refresh token, so it is given that name before the token goes.
    """
    refresh_token = renewal.refresh_token.reveal()
    values: dict[str, Any] = {
        "access_token": renewal.access_token.reveal(),
        "refresh_token": refresh_token,
    }
    used, key = row["refresh_token"].strip(), row.get("key")
    if used != refresh_token and (key is None or (isinstance(key, str) and not key.strip())):
        values["key"] = token_key("", used)
    if "expires_at" in row:
        values["expires_at"] = expiry_like(renewal.expires_at, expiry_sample)
    return values


def rewrite_csv(content: bytes, changes: Changes) -> bytes:
    """The CSV file with its changes; records without one stay as they are, byte for byte.

    Raises:
        ValueError: not UTF-8, or not CSV.
    """
    records = _csv_records(content.removeprefix(BOM).decode("utf-8"))
    first, names = next(records, ("", []))
    # of two columns of one name the last one is read
    at = {name.strip(): index for index, name in enumerate(names)}
    if "refresh_token" not in at or "access_token" not in at:
        return content
    rows: list[tuple[str, Sequence[str], Renewal | None]] = []
    sample = ""
    for raw, cells in records:
        sample = sample or _cell(cells, at.get("expires_at"))
        rows.append((raw, cells, changes.of(_cell(cells, at["refresh_token"]))))
    lines: list[tuple[str, Sequence[str], dict[str, Any]]] = []
    for raw, cells, renewal in rows:
        row = {name: _cell(cells, index) for name, index in at.items()} if renewal else {}
        values = _values(row, renewal, row.get("expires_at") or sample) if renewal else {}
        lines.append((raw, cells, values))
    new_column = "key" not in at and any("key" in values for _, _, values in lines)
    width = len(names) if new_column else None
    header = _edited(first, {len(names): "key"}, width) if new_column else first
    body = "".join(
        _edited(raw, {at.get(name, len(names)): value or "" for name, value in values.items()}, width)
        if values or (new_column and cells)
        else raw
        for raw, cells, values in lines
    )
    return (BOM if content.startswith(BOM) else b"") + (header + body).encode()


def _cell(cells: Sequence[str], index: int | None) -> str:
    return cells[index].strip() if index is not None and index < len(cells) else ""


def _csv_records(text: str) -> Iterator[tuple[str, Sequence[str]]]:
    """The records of a CSV text as reading has them, each as it is written and as cells.

    Raises:
        ValueError: the first line, which names the columns, cannot be read.
    """
    for record in csv_records(text):
        if record.is_broken and record.line == 1:
            raise ValueError("not CSV")
        yield record.raw, record.cells


def _edited(raw: str, edits: Mapping[int, str], new_column: int | None) -> str:
    """A record with some cells replaced, and perhaps a new column, whose cell is empty without an edit."""
    body = raw.rstrip("\r\n")
    written = _csv_cells(body)
    if not written:
        cells = next(csv.reader(io.StringIO(raw, newline=""), skipinitialspace=True))
        written = [_csv_cell(cell, quoted='"' in cell) for cell in cells]
    if new_column is not None:
        written += [""] * (new_column - len(written))
        written.insert(new_column, "")
    written += [""] * (max(edits, default=0) + 1 - len(written))
    for index, value in edits.items():
        written[index] = _csv_cell(value, quoted=written[index].lstrip(" ").startswith('"'))
    return ",".join(written) + raw[len(body) :]


def _csv_cells(body: str) -> list[str]:
    """The cells of a record as they are written; none where a quote is not closed."""
    cells, at = [], 0
    while match := CELL.match(body, at):
        cells.append(match.group())
        if match.end() == len(body):
            return cells
        if body[match.end()] != ",":
            break
        at = match.end() + 1
    return []


def _csv_cell(value: str, *, quoted: bool) -> str:
    if quoted or value.startswith(" ") or any(character in value for character in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def rewrite_json_lines(content: bytes, changes: Changes) -> bytes:
    """The JSON Lines file with its changes; nothing but the changed values is touched.

    A row gets an `expires_at` only where it had one. A line that is not JSON stays.

    Raises:
        ValueError: not UTF-8.
    """
    content.decode("utf-8")
    lines = content.removeprefix(BOM).split(b"\n")
    sample: Any = ""
    changed: list[tuple[int, dict[str, Any], Renewal]] = []
    for number, line in enumerate(lines):
        row = _json(line)
        if isinstance(row, dict):
            sample = sample or row.get("expires_at") or ""
            renewal = changes.of(row.get("refresh_token"))
            if renewal is not None:
                changed.append((number, row, renewal))
    for number, row, renewal in changed:
        values = _values(row, renewal, row.get("expires_at") or sample)
        lines[number] = _with_members(lines[number].decode(), values).encode()
    return (BOM if content.startswith(BOM) else b"") + b"\n".join(lines)


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


def _with_members(text: str, values: Mapping[str, Any]) -> str:
    """The JSON object with some values replaced or added; every other character stays."""
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for name, start, end in _members(text):
        places[name] = (start, end)  # of two members of one name the last one is read
    for name in values.keys() - places.keys():
        places[name] = (end, end)
    for name in sorted(values, key=lambda name: places[name], reverse=True):
        start, stop = places[name]
        value = json.dumps(values[name], ensure_ascii=False)
        text = text[:start] + (f',"{name}":{value}' if start == stop else value) + text[stop:]
    return text


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The members of a JSON object: name, start and end of the value."""
    at = text.index("{") + 1
    while (at := _after_space(text, at)) < len(text) and text[at] != "}":
        name, at = JSON_DECODER.raw_decode(text, at)
        start = _after_space(text, text.index(":", at) + 1)
        _, end = JSON_DECODER.raw_decode(text, start)
        yield name, start, end
        at = _after_space(text, end)
        at += text[at] == ","


def _after_space(text: str, at: int) -> int:
    match = JSON_SPACE.match(text, at)
    return match.end() if match else at


def rewrite_parquet(content: bytes, changes: Changes) -> bytes:
    """The Parquet file with its changes; schema, metadata and compression stay.

    A column without any value, such as pandas writes one of nothing but None, is given a type with its
    first value.

    Raises:
        ColumnError: a column cannot be read, written, or take its new values.
        ValueError: not a Parquet file.
    """
    try:
        file = pyarrow.parquet.ParquetFile(pa.BufferReader(content))
    except (pa.ArrowException, OSError):
        raise ValueError("not a Parquet file") from None
    table = _read_columns(file)
    # of two columns of one name the last one is read
    at = {name: index for index, name in enumerate(table.column_names)}
    if not {"access_token", "refresh_token"} <= at.keys():
        return content
    edits = _parquet_edits(table, at, changes)
    if not edits:
        return content
    if "key" not in at and any("key" in values for values in edits.values()):
        at["key"] = table.num_columns
        table = table.append_column("key", pa.nulls(table.num_rows, pa.string()))
    for name in ("key", "access_token", "refresh_token", "expires_at"):
        changed = {number: values[name] for number, values in edits.items() if name in values}
        if changed:
            table = _with_values(table, at[name], changed)
    return _parquet_bytes(table, file.metadata)


def _read_columns(file: pyarrow.parquet.ParquetFile) -> pa.Table:
    try:
        return file.read()
    except (pa.ArrowException, OSError):
        for name in dict.fromkeys(file.schema_arrow.names):
            try:
                file.read(columns=[name])
            except (pa.ArrowException, OSError):
                raise ColumnError(file.schema_arrow.field(name), "cannot be read") from None
        raise ValueError("not a Parquet file") from None


def _parquet_edits(table: pa.Table, at: Mapping[str, int], changes: Changes) -> dict[int, dict[str, Any]]:
    """The new values of the rows that change, by the row's number."""
    known = {
        name: plain_values(table.column(at[name]))
        for name in ("key", "refresh_token", "expires_at")
        if name in at
    }
    expiries = (value for value in known.get("expires_at", ()) if value is not UNREADABLE)
    sample = next((value for value in expiries if value is not None), None)
    edits: dict[int, dict[str, Any]] = {}
    for number, used in enumerate(known["refresh_token"]):
        renewal = changes.of(used)
        if renewal is not None:
            row = {name: values[number] for name, values in known.items()}
            expiry = row.get("expires_at")
            edits[number] = _values(row, renewal, sample if expiry in (None, UNREADABLE) else expiry)
    return edits


def _with_values(table: pa.Table, index: int, changed: Mapping[int, Any]) -> pa.Table:
    field = table.schema.field(index)
    before = table.column(index)
    values = plain_values(before)
    is_readable = UNREADABLE not in values
    fresh = [_fitting(value, field.type) for value in changed.values()]
    for number, value in zip(changed, fresh, strict=True):
        values[number] = value
    for kind in _possible_types(field.type):
        with suppress(*CONVERSION_ERRORS):
            array = (
                pa.array(values, kind) if is_readable else _replaced(before, changed, pa.array(fresh, kind))
            )
            return table.set_column(index, field.with_type(kind), array)
    if before.null_count < len(before):
        raise ColumnError(field, "does not take what a refresh brings")
    # nothing but nulls: the column is what its first value is
    array = pa.array([changed.get(number) for number in range(len(values))])
    return table.set_column(index, field.with_type(array.type), array)


def _replaced(before: pa.ChunkedArray, places: Iterable[int], fresh: pa.Array) -> pa.ChunkedArray:
    """The column with some values replaced, none of which Python needs to read."""
    wanted = list(range(len(before)))
    for number, place in enumerate(places):
        wanted[place] = len(before) + number
    return pa.chunked_array([*before.chunks, fresh]).take(pa.array(wanted))


def _possible_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The column's own type, and the same with room for more different values."""
    if not pa.types.is_null(kind):
        yield kind
    if pa.types.is_dictionary(kind):
        yield pa.dictionary(pa.int32(), kind.value_type, kind.ordered)


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """The value as the column has it; a column without any value yet does not show what belongs there."""
    if not isinstance(value, datetime) or pa.types.is_timestamp(kind) or pa.types.is_null(kind):
        return value
    if pa.types.is_date(kind):
        return expiry_like(value, value.date())
    numbers = {pa.types.is_integer: 0, pa.types.is_floating: 0.0, pa.types.is_decimal: Decimal()}
    return expiry_like(value, next((zero for fits, zero in numbers.items() if fits(kind)), ""))


def _parquet_bytes(table: pa.Table, metadata: Any) -> bytes:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [groups[0].column(number) for number in range(groups[0].num_columns)] if groups else []
    compression = {
        column.path_in_schema: "none" if column.compression == "UNCOMPRESSED" else column.compression
        for column in columns
    }
    rows = max((group.num_rows for group in groups), default=None)
    sink = pa.BufferOutputStream()
    try:
        pyarrow.parquet.write_table(table, sink, row_group_size=rows, compression=compression)
    except CONVERSION_ERRORS:
        raise ColumnError(_unwritable(table), "cannot be written") from None
    return bytes(sink.getvalue())


def _unwritable(table: pa.Table) -> pa.Field:
    """The first column that cannot be written by itself."""
    for field, column in zip(table.schema, table.columns, strict=True):
        try:
            pyarrow.parquet.write_table(
                pa.Table.from_arrays([column], schema=pa.schema([field])), io.BytesIO()
            )
        except CONVERSION_ERRORS:
            return field
    return table.schema.field(0)
