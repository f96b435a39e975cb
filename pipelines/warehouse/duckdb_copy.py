"""A DuckDB file replaced by a copy without some rows.

DuckDB leaves the text of deleted rows in free blocks of its file until it needs them for something else. So
nothing is deleted: what stays is copied into a new file, which takes the place of the old one in one step.
Until then the old file is untouched, and locked against writers.
"""

# ruff: noqa: S608 - names are quoted and come from the warehouse's own catalog, values are parameters

from collections.abc import Iterable, Mapping
from contextlib import closing
from graphlib import TopologicalSorter
from pathlib import Path

import duckdb

from dlt_cronofy.source.files import is_mount, sync

from .duckdb_file import (
    ROWS_PER_GROUP,
    WRITE_WAIT_SECONDS,
    checkpoint,
    copy_of,
    literal,
    log_of,
    quoted,
    remove_database,
    replace_database,
)

# what the new file is called in SQL
COPY = "copy_of_the_warehouse"

# schema and name of a table; an SQL condition and its parameters
TableName = tuple[str, str]
Condition = tuple[str, list[str]]

# what there is in a file besides rows: all of it must be in the copy too
CONTENTS = {
    "schemas": "schema_name, comment",
    "types": "schema_name, type_name, labels, comment",
    "tables": "schema_name, table_name, sql, comment",
    "columns": "schema_name, table_name, column_name, data_type, comment",
    "views": "schema_name, view_name, sql, comment",
    "indexes": "schema_name, index_name, sql, comment",
    "sequences": "schema_name, sequence_name, sql, last_value, comment",
    "functions": "schema_name, function_name, parameters, macro_definition, comment",
}
# each table, and those its foreign keys refer to, which are of its schema; null where it has none
REFERENCES = """
    SELECT t.schema_name, t.table_name, c.referenced_table
    FROM duckdb_tables() t
    LEFT JOIN duckdb_constraints() c
        ON c.database_name = t.database_name AND c.table_oid = t.table_oid
            AND c.constraint_type = 'FOREIGN KEY' AND c.referenced_table <> t.table_name
    WHERE t.database_name = ?
"""
# all but generated ones, whose expression `DESCRIBE` leaves out
STORED_COLUMNS = """
    SELECT c.column_name FROM duckdb_columns() c JOIN (DESCRIBE {}) d USING (column_name)
    WHERE database_name = ? AND schema_name = ? AND table_name = ?
          AND (c.column_default IS NULL OR d."default" IS NOT NULL)
    ORDER BY c.column_index
"""


class CannotCopyError(Exception):
    """Something in the file cannot be copied into another one; names what, quotes no row."""


def rewrite_without(file: Path, doomed: Mapping[TableName, Condition]) -> None:
    """Replace a DuckDB file by a copy without the rows that meet the conditions.

    A kill at any instant leaves the complete old file or the complete new one. Its mode and owner stay.

    Nothing in this process may have it open. Tables that are not named are copied whole.

    Raises:
        DatabaseTransientException: another process has the file open for writing, or it cannot be read.
        CannotCopyError: the file holds something that DuckDB cannot copy. The old file is untouched.
        OSError: the folder cannot be written. The old file is untouched.
    """
    file = file.resolve()
    if is_mount(file):
        raise CannotCopyError("it is a mount of its own, which no copy can replace")
    copy = copy_of(file)
    remove_database(copy)
    try:
        # a log must not outlive its file
        if not checkpoint(file, wait_seconds=WRITE_WAIT_SECONDS):
            raise CannotCopyError("write-ahead log")
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            _copy(connection, copy, doomed)
            # the old file stays locked until the new one is in its place
            if log_of(copy).exists() or log_of(file).exists():
                raise CannotCopyError("write-ahead log")
            sync(copy)
            replace_database(copy, file)
    except duckdb.IOException as error:
        from dlt.destinations.exceptions import DatabaseTransientException

        raise DatabaseTransientException(error) from error
    except duckdb.Error as error:
        # its message may quote a row
        raise CannotCopyError(type(error).__name__) from None
    finally:
        remove_database(copy)


def _copy(connection: duckdb.DuckDBPyConnection, copy: Path, doomed: Mapping[TableName, Condition]) -> None:
    """Make the copy of the file that the connection reads."""
    ((catalog, version, block_size),) = connection.execute(
        "SELECT database_name, tags['storage_version'], block_size FROM duckdb_databases()"
        " JOIN pragma_database_size() USING (database_name) WHERE database_name = current_database()"
    ).fetchall()
    # the same format, so that what could read the file still can
    options = ["READ_WRITE", f"BLOCK_SIZE {block_size}", f"ROW_GROUP_SIZE {ROWS_PER_GROUP}"]
    options += [f"STORAGE_VERSION {literal(version.rstrip('+'))}"] if version else []
    connection.execute(f"ATTACH {literal(str(copy))} AS {COPY} ({', '.join(options)})")
    connection.execute(f"COPY FROM DATABASE {quoted(catalog)} TO {COPY} (SCHEMA)")
    for what, columns in CONTENTS.items():
        sql = f"SELECT {columns} FROM duckdb_{what}() WHERE database_name = ? ORDER BY ALL"
        old, new = (connection.execute(sql, [name]).fetchall() for name in (catalog, COPY))
        if old != new:
            raise CannotCopyError(what)
    for table in _referenced_first(connection):
        _copy_rows(connection, catalog, table, doomed.get(table, ("FALSE", [])))
    connection.execute(f"CHECKPOINT {COPY}")
    connection.execute(f"DETACH {COPY}")


def _referenced_first(connection: duckdb.DuckDBPyConnection) -> Iterable[TableName]:
    """The tables of the copy, each after those its foreign keys refer to."""
    references: dict[TableName, set[TableName]] = {}
    for schema, table, referenced in connection.execute(REFERENCES, [COPY]).fetchall():
        found = references.setdefault((schema, table), set())
        if referenced is not None:
            found.add((schema, referenced))
    return TopologicalSorter(references).static_order()


def _copy_rows(
    connection: duckdb.DuckDBPyConnection, catalog: str, table: TableName, doomed: Condition
) -> None:
    """Copy the rows of one table that stay, and make sure that all of them arrived."""
    old, new = (".".join(map(quoted, (name, *table))) for name in (catalog, COPY))
    stored = connection.execute(STORED_COLUMNS.format(old), [catalog, *table]).fetchall()
    columns = ", ".join(quoted(column) for (column,) in stored)
    condition, parameters = doomed
    rows = f"FROM {old} WHERE ({condition}) IS NOT TRUE"
    connection.execute(f"INSERT INTO {new} ({columns}) SELECT {columns} {rows}", parameters)
    ((stay,),) = connection.execute(f"SELECT COUNT(*) {rows}", parameters).fetchall()
    ((arrived,),) = connection.execute(f"SELECT COUNT(*) FROM {new}").fetchall()
    if stay != arrived:
        raise CannotCopyError("rows")
