"""CSV token files: their rows, and the same text with other tokens in it."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import NamedTuple

from ..errors import ConfigurationError
from ..settings import TOKEN_COLUMNS
from .rows import NAMED_COLUMNS, Edits, NumberedRows, RowError

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class CsvRecord(NamedTuple):
    """One record of a CSV text.

    Attributes:
        line: the number of its first line.
        raw: as it is written.
        cells: as they are read; None where they cannot be.
    """

    line: int
    raw: str
    cells: Sequence[str] | None


def csv_records(text: str) -> Iterator[CsvRecord]:
    """The records of a CSV text, the header first.

    A cell may hold line breaks, but those that hold tokens and keys do not. So a record with one there, and
    one that ends in no quotation mark or in more than that, began with a mark that belongs to nothing: it is
    its first line alone, and the lines after it are records of their own.
    """
    lines = io.StringIO(text, newline="").readlines()
    single: Sequence[int] = ()
    at = 0
    while at < len(lines):
        cells, count = _record(lines, at, single)
        if at == 0:
            single = [index for index, name in enumerate(cells or ()) if name.strip() in TOKEN_COLUMNS]
        yield CsvRecord(at + 1, "".join(lines[at : at + count]), cells)
        at += count


def _record(lines: Sequence[str], at: int, single: Sequence[int]) -> tuple[Sequence[str] | None, int]:
    """The cells of the record that begins on this line, and how many lines it has."""
    try:
        # what comes after the line is a record of its own, unless the line ends within a cell
        first, *after = _reader((lines[at], "\0"))
    except csv.Error:  # a cell without an end
        return None, 1
    if after:
        return first, 1
    numbers = iter(range(at, len(lines)))
    with suppress(csv.Error):
        cells = next(_reader(map(lines.__getitem__, numbers), strict=True))
        if not any("\n" in cell or "\r" in cell for index, cell in enumerate(cells) if index in single):
            return cells, next(numbers, len(lines)) - at
    is_broken = len(first) - 1 <= max(single, default=len(first))
    return None if is_broken else [*first[:-1], first[-1].removesuffix("\0")], 1


def _reader(lines: Iterable[str], *, strict: bool = False) -> Iterator[list[str]]:
    # a blank before a quotation mark is no part of the cell, nor is the mark
    return csv.reader(lines, skipinitialspace=True, strict=strict)


def csv_rows(name: str, text: str) -> NumberedRows:
    """The rows of a file by the number of their line.

    Raises:
        ConfigurationError: the first line does not name the columns of tokens.
    """
    records = csv_records(text)
    header = next(records, None)
    if header is None:
        return
    names = _column_names(name, header)
    # a row that ends before them may be anything; all other cells may be missing at its end
    needed = names.index("access_token") + 1
    for record in records:
        if record.cells is None:
            yield record.line, RowError("a quotation mark is not closed")
        elif "".join(record.cells).strip():
            yield record.line, _row(names, record.cells, needed)


def _row(names: Sequence[str], cells: Sequence[str], needed: int) -> dict[str, str] | RowError:
    if len(cells) < needed or "".join(cells[len(names) :]).strip():
        many = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
        return RowError(f"has {many}, the first line has {len(names)}")
    # cells that are missing at the end are empty, so that every row has all columns
    return dict(zip_longest(names, cells[: len(names)], fillvalue=""))


def _column_names(name: str, header: CsvRecord) -> Sequence[str]:
    names = [cell.strip() for cell in header.cells or ()]
    if "access_token" in names:
        return names
    place, raw = f"{name}, line 1", header.raw
    if "\0" in raw:
        raise ConfigurationError(f"{name}: not UTF-8 text; save it as UTF-8")
    if raw.lower().startswith("sep="):
        raise ConfigurationError(f"{place}: remove this line, so that the first one names the columns")
    for separator, called in OTHER_SEPARATORS.items():
        if "access_token" in (each.strip(" \t\r\n\"'") for each in raw.split(separator)):
            raise ConfigurationError(f"{place}: the columns are separated by {called}; save it with commas")
    # the names found are not shown: a file without a header line has a token there
    raise ConfigurationError(
        f"{place}: no column access_token; the first line must name the columns {NAMED_COLUMNS}"
    )


def write_csv(text: str, edits: Edits) -> str:
    """The text with new values, by the line of the row; a record without any stays as it is written."""
    header, *records = csv_records(text)
    # of two columns of one name the last one is read
    at = {name.strip(): index for index, name in enumerate(header.cells or ())}
    new_column = None
    if "key" not in at and any("key" in values for values in edits.values()):
        new_column = at["key"] = len(header.cells or ())
    lines = [_edited(header, {} if new_column is None else {new_column: "key"}, new_column)]
    for record in records:
        cells = {at[name]: value or "" for name, value in edits.get(record.line, {}).items()}
        lines.append(_edited(record, cells, new_column))
    return "".join(lines)


def _edited(record: CsvRecord, edits: Mapping[int, str], new_column: int | None) -> str:
    """The record with some cells replaced, and perhaps a new column, whose cell is empty without an edit."""
    if not edits and (new_column is None or not record.cells):
        return record.raw
    cells = list(record.cells or ())
    if new_column is not None:
        cells += [""] * (new_column - len(cells))
        cells.insert(new_column, "")
    cells += [""] * (max(edits, default=0) + 1 - len(cells))
    for index, value in edits.items():
        cells[index] = value
    # a blank at the start of a cell is read only between quotation marks
    is_blank = any(cell.startswith(" ") for cell in cells)
    line = io.StringIO(newline="")
    csv.writer(line, quoting=csv.QUOTE_ALL if is_blank else csv.QUOTE_MINIMAL).writerow(cells)
    return line.getvalue().removesuffix("\r\n") + record.raw[len(record.raw.rstrip("\r\n")) :]
