"""Token files: CSV, JSON Lines and Parquet as numbered rows, unchecked.

A row that cannot be read is a `BrokenRow` in its place; one without any content is none.
"""

import csv
import io
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from ..errors import ConfigurationError
from .expiry import is_missing
from .labels import DEFAULT_LABELS
from .token import COLUMNS, READ_COLUMNS, BrokenRow

NumberedRows = Iterator[tuple[int, Any]]

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
NOT_CLOSED = BrokenRow("a quotation mark is not closed")
# what a value of a type that Python lacks is read as: nothing that any column may hold
UNREADABLE = object()


def file_rows(
    path: Path, suffix: str | None = None, labels: Sequence[str] | None = None
) -> tuple[str, NumberedRows]:
    """What a row of the file is called, and the rows with their numbers, unchecked.

    Args:
        path: the file.
        suffix: what its name would end in, where it ends otherwise.
        labels: names of the labels to read as well, in lower case; None for the default.

    Raises:
        ConfigurationError: no such file, or none that can be read; also while the rows are read.
    """
    readers: dict[str, tuple[str, Callable[[Path], NumberedRows]]] = {
        ".csv": ("line", _csv_rows),
        ".jsonl": ("line", _json_lines),
        ".ndjson": ("line", _json_lines),
        ".parquet": ("row", partial(_parquet_rows, labels=DEFAULT_LABELS if labels is None else labels)),
    }
    suffix = (suffix or path.suffix).lower()
    if suffix not in readers:
        raise ConfigurationError(f"{path}: tokens_file must end in .csv, .jsonl, .ndjson or .parquet")
    if not path.is_file():
        raise ConfigurationError(f"{path}: tokens_file does not exist")
    unit, read = readers[suffix]
    return unit, read(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None


class CsvRecord(NamedTuple):
    """One record of a CSV text.

    Attributes:
        line: the number of its first line.
        raw: as it is written.
        cells: as they are read; none where they cannot be.
    """

    line: int
    raw: str
    cells: Sequence[str]
    is_broken: bool = False


class _Lines(Iterator[str]):
    """The lines of a text, for a reader that takes several for one record and may have to go back."""

    def __init__(self, text: str) -> None:
        self.all = io.StringIO(text, newline="").readlines()
        self.at = 0

    def __next__(self) -> str:
        if self.at == len(self.all):
            raise StopIteration
        self.at += 1
        return self.all[self.at - 1]


def csv_records(text: str) -> Iterator[CsvRecord]:
    """The records of a CSV text, the header first.

    A cell may hold line breaks, but those that hold tokens and keys do not. So a record with one there, and
    one that ends in no quotation mark or in more than that, began with a mark that belongs to nothing: it is
    its first line alone, and the lines after it are records of their own.
    """
    lines = _Lines(text)
    reader = _reader(lines)
    single: list[int] = []
    while (start := lines.at) < len(lines.all):
        is_broken = is_torn = False
        try:
            cells: Sequence[str] = next(reader)
        except csv.Error:  # a cell without an end
            is_torn = True
        else:
            if lines.at > start + 1 or lines.at == len(lines.all):
                is_torn = _is_torn(lines.all[start : lines.at], cells, single)
        if is_torn:
            lines.at, reader = start + 1, _reader(lines)
            cells, is_broken = _first_line(lines.all[start], single)
        if start == 0:
            single = [index for index, name in enumerate(cells) if name.strip() in READ_COLUMNS]
        raw = lines.all[start] if lines.at == start + 1 else "".join(lines.all[start : lines.at])
        yield CsvRecord(start + 1, raw, cells, is_broken)


def _reader(lines: Iterator[str] | Sequence[str], *, strict: bool = False) -> Iterator[list[str]]:
    # a blank before a quotation mark is no part of the cell, nor is the mark
    return csv.reader(lines, skipinitialspace=True, strict=strict)


def _is_torn(lines: Sequence[str], cells: Sequence[str], single: Sequence[int]) -> bool:
    """Whether the first of the lines, which are several or the last one, opens a cell that is none."""
    if len(lines) == 1:
        return _is_open(lines)
    if any(index < len(cells) and ("\n" in cells[index] or "\r" in cells[index]) for index in single):
        return True
    try:
        list(_reader(lines, strict=True))
    except csv.Error:
        return True
    return False


def _is_open(lines: Sequence[str]) -> bool:
    """Whether what comes after the lines belongs to their last cell."""
    return len(list(_reader([*lines, "\0"]))) == 1


def _first_line(line: str, single: Sequence[int]) -> tuple[Sequence[str], bool]:
    """The cells of a line that ends within one, and whether it is one that has to be whole."""
    try:
        [cells] = _reader([line])
    except csv.Error:
        return (), True
    is_broken = len(cells) - 1 <= max(single, default=len(cells))
    return ((), True) if is_broken else (cells, False)


def _csv_rows(path: Path) -> NumberedRows:
    records = csv_records(_text(path))
    names = _csv_header(path, next(records, None))
    # a row that ends before them may be anything; all other cells may be missing at its end
    needed = names.index("access_token") + 1 if names else 0
    for record in records:
        if record.is_broken:
            yield record.line, NOT_CLOSED
        elif "".join(record.cells).strip():
            yield record.line, _csv_row(names, record.cells, needed)


def _csv_row(names: Sequence[str], cells: Sequence[str], needed: int) -> dict[str, str] | BrokenRow:
    if len(cells) < needed or (len(cells) > len(names) and "".join(cells[len(names) :]).strip()):
        many = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
        return BrokenRow(f"has {many}, the first line has {len(names)}")
    # cells that are missing at the end are empty, so that every row has all columns
    return dict(zip_longest(names, cells[: len(names)], fillvalue=""))


def _csv_header(path: Path, record: CsvRecord | None) -> Sequence[str]:
    """The names of the columns.

    Raises:
        ConfigurationError: they are not those of tokens; says why where that can be told.
    """
    if record is None:
        return ()
    names = [name.strip() for name in record.cells]
    if "access_token" in names and not record.is_broken:
        return names
    place = f"{path}, line 1"
    if "\0" in record.raw:
        raise ConfigurationError(f"{path}: not UTF-8 text; save it as UTF-8")
    if record.raw.lower().startswith("sep="):
        raise ConfigurationError(f"{place}: remove this line, so that the first one names the columns")
    for separator, called in OTHER_SEPARATORS.items():
        if separator in record.raw and "access_token" in _split(record.raw, separator):
            raise ConfigurationError(f"{place}: the columns are separated by {called}; save it with commas")
    # the names found are not shown: a file without a header line has a token there
    raise ConfigurationError(
        f"{place}: no column access_token; the first line must name the columns {', '.join(COLUMNS)}"
    )


def _split(line: str, separator: str) -> Sequence[str]:
    return [name.strip(" \t\r\n\"'") for name in line.split(separator)]


def _json_lines(path: Path) -> NumberedRows:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = orjson.loads(line)
            except ValueError:
                row = BrokenRow("not a JSON object")
            if not _is_blank(row):
                yield number, row


def _is_blank(row: Any, besides: Container[str] = ()) -> bool:
    """Whether it is a row of nothing; one cell alone that is empty is a token that is missing."""
    if not isinstance(row, Mapping):
        return False
    values = [value for name, value in row.items() if name not in besides]
    return len(values) > 1 and all(
        is_missing(value) or (isinstance(value, str) and not value.strip()) for value in values
    )


def _parquet_rows(path: Path, labels: Container[str]) -> NumberedRows:
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        if "access_token" not in file.schema_arrow.names:
            raise ConfigurationError(f"{path}: no column access_token; expected {', '.join(COLUMNS)}")
        names = file.schema_arrow.names
        labelled = [name for name in names if name not in READ_COLUMNS and name.strip().lower() in labels]
        batches = file.iter_batches(columns=[*(name for name in READ_COLUMNS if name in names), *labelled])
        rows = enumerate((row for batch in batches for row in _batch_rows(batch)), start=1)
        yield from ((number, row) for number, row in rows if not _is_blank(row, labelled))
    except (pa.ArrowException, OSError):
        raise ConfigurationError(f"{path}: not a Parquet file") from None


def _batch_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    columns = [plain_values(column) for column in batch.columns]
    return [dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def plain_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values as Python has them; a time or a text that it has nothing for is `UNREADABLE`."""
    try:
        values: list[Any] = column.to_pylist()
    except (ArithmeticError, ValueError):
        values = [_plain(cell) for cell in column]
    return values


def _plain(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ArithmeticError, ValueError):
        return UNREADABLE
