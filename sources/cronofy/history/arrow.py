"""Frames: rows → Arrow tables, with a column for every field that has none yet. Pure.

A field nobody knew gets a column named after its path, typed by its first value: boolean, bigint,
double or text; objects and lists are JSON text. A later value of another type goes to a variant
column `<name>__v_<type>`, as dlt names them, so no load fails and nothing is dropped. A name that one
of our own columns has is prefixed with `api_`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import pyarrow as pa

from ..records import Fields
from ..tables import (
    ACCOUNT,
    BOOL,
    CALENDARS,
    INT,
    LOAD_ID,
    NUMBER,
    PROFILES,
    TEXT,
    TIME,
    USERINFO,
    Row,
    Table,
    arrow_type,
)
from ..texts import clean_text
from .capture import EXTRAS
from .parse import (
    ACCOUNT_TEXTS,
    CALENDAR_BOOLEANS,
    CALENDAR_TEXTS,
    PROFILE_BOOLEANS,
    PROFILE_TEXTS,
    USERINFO_TEXTS,
)

# a warehouse table has room for some hundreds of columns; a hostile body may have more fields
MAX_EXTRA_COLUMNS = 100
# where fields go that have no room or no usable name
OVERFLOW = "unmapped_fields"

INT64_RANGE = range(-(2**63), 2**63)

# The columns that are fields of the API itself: a wrongly typed value of one goes to its variant.
API_COLUMNS: dict[str, frozenset[str]] = {
    USERINFO.name: frozenset(USERINFO_TEXTS),
    ACCOUNT.name: frozenset(ACCOUNT_TEXTS),
    PROFILES.name: frozenset((*PROFILE_TEXTS, *PROFILE_BOOLEANS)),
    CALENDARS.name: frozenset((*CALENDAR_TEXTS, *CALENDAR_BOOLEANS)),
}

# column name → dlt data type, as the dlt schema knows a table
ColumnTypes = Mapping[str, str]
Normalize = Callable[[str], str]


def to_arrow(table: Table, rows: list[Row], known: ColumnTypes, normalize: Normalize) -> pa.Table:
    """Rows of one table as Arrow, without dlt's load id.

    Args:
        table: schema of the documented columns.
        rows: documented columns by name; fields without a column under `EXTRAS`.
        known: columns the destination table has already.
        normalize: the naming convention of the dlt schema.
    """
    # all columns at once from the dictionaries, which is quicker than column by column
    structs = pa.array(rows, pa.struct(list(table.schema)))
    arrays = structs.flatten()
    fields = list(table.schema)
    for name, (data_type, values) in _extra_columns(table, rows, known, normalize).items():
        fields.append(pa.field(name, arrow_type(data_type)))
        arrays.append(pa.array(values, arrow_type(data_type)))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def with_load_id(frame: pa.Table, load_id: str) -> pa.Table:
    """The frame with dlt's load id in every row."""
    field = pa.field(LOAD_ID, arrow_type(TEXT), nullable=False)
    return frame.append_column(field, pa.array([load_id] * frame.num_rows, field.type))


class Framer:
    """Makes Arrow tables of rows; a field that got a column once keeps it.

    dlt's schema learns of a column when a frame is written, which may be after the next one is made.
    """

    def __init__(self, columns: Callable[[str], ColumnTypes], normalize: Normalize) -> None:
        """Nothing was framed yet.

        Args:
            columns: the columns of a table that dlt's schema knows.
            normalize: the naming convention of the dlt schema.
        """
        self._columns = columns
        self._normalize = normalize
        self._known: dict[str, dict[str, str]] = {}

    def frames(self, rows: Mapping[str, list[Row]], tables: Mapping[str, Table]) -> dict[str, pa.Table]:
        """By table, as many as there are rows for; a table without rows is an empty frame."""
        return {name: self._frame(tables[name], table_rows) for name, table_rows in rows.items()}

    def _frame(self, table: Table, rows: list[Row]) -> pa.Table:
        known = self._known.setdefault(table.name, dict(self._columns(table.name)))
        frame = to_arrow(table, rows, known, self._normalize)
        self._known[table.name] = {field.name: dlt_type(field.type) for field in frame.schema} | known
        return frame


def _extra_columns(
    table: Table, rows: list[Row], known: ColumnTypes, normalize: Normalize
) -> dict[str, tuple[str, list[Any]]]:
    namer = ColumnNamer(table, known, normalize)
    documented = {*table.names, EXTRAS, LOAD_ID}
    columns: dict[str, tuple[str, list[Any]]] = {}
    for index, row in enumerate(rows):
        # columns of a known row that is written again have their names already
        carried = {name: row[name] for name in row.keys() - documented if row[name] is not None}
        extras = row.get(EXTRAS)
        if extras or carried:
            for name, data_type, value in namer.place(extras or {}, carried):
                columns.setdefault(name, (data_type, [None] * len(rows)))[1][index] = value
    return columns


class ColumnNamer:
    """Chooses the column of each field that has none, the same one in every load."""

    def __init__(self, table: Table, known: ColumnTypes, normalize: Normalize) -> None:
        self._documented = {column.name: column.type for column in table.columns}
        self._api = API_COLUMNS.get(table.name, frozenset())
        self._types = self._documented | dict(known)
        self._normalize = normalize
        self._room = MAX_EXTRA_COLUMNS - sum(
            name not in self._documented and name != LOAD_ID for name in known
        )

    def place(self, extras: Fields, carried: Fields) -> Iterable[tuple[str, str, Any]]:
        """Column, dlt type and storable value for each field of one row.

        Args:
            extras: fields of an answer, by path.
            carried: columns of a row that was read from the warehouse, by name.
        """
        overflow: Fields = orjson.loads(carried.get(OVERFLOW, "{}"))
        taken = set()
        named = [(self._column(path, value), path, value) for path, value in extras.items()]
        named += [
            (self._known(name, value), name, value) for name, value in carried.items() if name != OVERFLOW
        ]
        for name, path, raw in named:
            if name is None or name in taken:  # no room, or two fields whose names differ in case only
                overflow[path] = raw
            else:
                taken.add(name)
                yield name, *typed(raw)[1:]
        if overflow:
            yield OVERFLOW, *typed(overflow)[1:]

    def _column(self, path: str, value: Any) -> str | None:
        label, data_type, _ = typed(value)
        try:
            name = self._normalize(path)
            if name in self._api and label != self._documented[name]:
                name = self._normalize(f"{name}__v_{label}")
            elif name in self._documented or name.startswith("_dlt") or name == OVERFLOW:
                name = self._normalize(f"api_{path}")
            if self._types.get(name, data_type) != data_type:
                name = self._normalize(f"{name}__v_{label}")
        except ValueError:
            return None
        usable = name.strip("_") and name not in self._documented
        return name if usable and self._has_room(name, data_type) else None

    def _known(self, name: str, value: Any) -> str | None:
        return name if self._types.get(name) == typed(value)[1] else None

    def _has_room(self, name: str, data_type: str) -> bool:
        if name not in self._types:
            if self._room <= 0:
                return False
            self._room -= 1
            self._types[name] = data_type
        return self._types[name] == data_type


def typed(value: Any) -> tuple[str, str, Any]:
    """The name of a JSON value's type, the dlt type it is stored as, and the value as stored."""
    if isinstance(value, bool):
        return "bool", "bool", value
    if isinstance(value, int) and value in INT64_RANGE:
        return "bigint", "bigint", value
    if isinstance(value, float) and math.isfinite(value):
        return "double", "double", value
    if isinstance(value, str):
        return "text", "text", clean_text(value)
    return "json", "text", orjson.dumps(value, default=str).decode()


def dlt_type(kind: pa.DataType) -> str:
    """The dlt data type of an Arrow type that occurs here."""
    return next((name for name in (TEXT, BOOL, INT, NUMBER) if arrow_type(name) == kind), TIME)
