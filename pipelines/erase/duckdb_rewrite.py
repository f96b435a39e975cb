"""A DuckDB file written anew without some rows.

DuckDB leaves the text of deleted rows in free blocks of its file until it needs them for something else. So
nothing is deleted: what stays is copied into a new file, which takes the place of the old one in one step.
Until then the old file is untouched, and locked against writers.
"""

# ruff: noqa: S608 - names are quoted and come from the warehouse's own catalog, values are parameters

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dlt_cronofy.source.files import is_mount, sync
from dlt_cronofy.warehouse.duckdb_file import (
    WRITE_WAIT_SECONDS,
    checkpoint,
    log_of,
    quoted,
    replace_database,
)

FRESH = "erasing_fresh"
# beside the file, so that it is on the same file system; what a killed run left is written over
SUFFIX = ".erasing"

# schema and name of a table
TableName = tuple[str, str]
# an SQL condition and its parameters
Condition = tuple[str, list[str]]

# what there is in a file besides rows: all of it must be in the copy too
CONTENTS = {
    "schemas": "SELECT schema_name, comment FROM duckdb_schemas() WHERE database_name = ? AND NOT internal",
    "types": "SELECT schema_name, type_name, labels, comment FROM duckdb_types()"
    " WHERE database_name = ? AND NOT internal",
    "tables": "SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE database_name = ?",
    "columns": "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns()"
    " WHERE database_name = ? AND NOT internal",
    "views": "SELECT schema_name, view_name, sql, comment FROM duckdb_views()"
    " WHERE database_name = ? AND NOT internal",
    "indexes": "SELECT schema_name, index_name, sql, comment FROM duckdb_indexes() WHERE database_name = ?",
    "sequences": "SELECT schema_name, sequence_name, sql, last_value, comment FROM duckdb_sequences()"
    " WHERE database_name = ?",
    "macros": "SELECT schema_name, function_name, parameters, macro_definition, comment"
    " FROM duckdb_functions() WHERE database_name = ? AND NOT internal",
}


class CannotCopyError(Exception):
    """Something in the file cannot be copied into another one; names what, quotes no row."""


@dataclass(frozen=True)
class _Files:
    """The old file, open for reading and called `catalog`, beside the new one, which is called `FRESH`."""

    connection: duckdb.DuckDBPyConnection
    catalog: str

    def rows(self, sql: str, *parameters: str) -> list[tuple[object, ...]]:
        return self.connection.execute(sql, parameters).fetchall()

    def name(self, catalog: str, table: TableName) -> str:
        return ".".join(quoted(part) for part in (catalog, *table))


def rewrite_without(path: Path, doomed: Mapping[TableName, Condition]) -> None:
    """Replace a DuckDB file by one without the rows that meet the conditions.

    A kill at any instant leaves the complete old file or the complete new one. Its permissions stay.

    Args:
        path: the file; nothing in this process may have it open.
        doomed: by table, which rows go; every other table is copied whole.

    Raises:
        DatabaseTransientException: another process has the file open for writing, or it cannot be read.
        CannotCopyError: the file holds something that DuckDB cannot copy. The old file is untouched.
        OSError: the folder cannot be written. The old file is untouched.
    """
    path = path.resolve()
    if is_mount(path):
        raise CannotCopyError("it is a mount of its own, which no copy can replace")
    fresh = path.with_name(path.name + SUFFIX)
    _remove(fresh)
    try:
        _merge_log(path)
        with _opened(path, fresh) as files:
            _copy(files, doomed)
            files.connection.execute(f"CHECKPOINT {FRESH}")
            files.connection.execute(f"DETACH {FRESH}")
            # the old file stays locked until the new one is in its place
            if log_of(fresh).exists() or log_of(path).exists():
                raise CannotCopyError("write-ahead log")
            sync(fresh)
            replace_database(fresh, path)
    except duckdb.IOException as error:
        from dlt.destinations.exceptions import DatabaseTransientException

        raise DatabaseTransientException(error) from error
    except duckdb.Error as error:
        # its message may quote a row
        raise CannotCopyError(type(error).__name__) from None
    finally:
        _remove(fresh)


def _merge_log(path: Path) -> None:
    """Bring what is only in the write-ahead log into the file: a log must not outlive its file."""
    if not checkpoint(path, wait_seconds=WRITE_WAIT_SECONDS):
        raise CannotCopyError("write-ahead log")


@contextlib.contextmanager
def _opened(path: Path, fresh: Path) -> Iterator[_Files]:
    with contextlib.closing(duckdb.connect(str(path), read_only=True)) as connection:
        ((catalog,),) = connection.execute("SELECT current_database()").fetchall()
        files = _Files(connection, catalog)
        ((version,),) = files.rows(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = ?", catalog
        )
        ((block_size,),) = files.rows(
            "SELECT block_size FROM pragma_database_size() WHERE database_name = ?", catalog
        )
        # the same format, so that whoever could read the file still can
        options = [f"STORAGE_VERSION {literal(str(version).rstrip('+'))}"] if version else []
        options += ["READ_WRITE", f"BLOCK_SIZE {block_size}"]
        connection.execute(f"ATTACH {literal(str(fresh))} AS {FRESH} ({', '.join(options)})")
        yield files


def _copy(files: _Files, doomed: Mapping[TableName, Condition]) -> None:
    files.connection.execute(f"COPY FROM DATABASE {quoted(files.catalog)} TO {FRESH} (SCHEMA)")
    for what, sql in CONTENTS.items():
        if sorted(map(str, files.rows(sql, files.catalog))) != sorted(map(str, files.rows(sql, FRESH))):
            raise CannotCopyError(what)
    for table in _ordered(files):
        _copy_rows(files, table, doomed.get(table, ("FALSE", [])))


def _copy_rows(files: _Files, table: TableName, doomed: Condition) -> None:
    """Copy the rows of one table that stay, and make sure that all of them arrived."""
    old, new = files.name(files.catalog, table), files.name(FRESH, table)
    columns = ", ".join(_stored_columns(files, table))
    condition, parameters = doomed
    files.connection.execute(
        f"INSERT INTO {new} ({columns}) SELECT {columns} FROM {old} WHERE ({condition}) IS NOT TRUE",
        parameters,
    )
    ((stay,),) = files.rows(f"SELECT COUNT(*) FROM {old} WHERE ({condition}) IS NOT TRUE", *parameters)
    ((arrived,),) = files.rows(f"SELECT COUNT(*) FROM {new}")
    if stay != arrived:
        raise CannotCopyError("rows")


def _stored_columns(files: _Files, table: TableName) -> list[str]:
    """All columns but the generated ones, which are those whose expression `DESCRIBE` keeps to itself."""
    defaults = {row[0]: row[4] for row in files.rows(f"DESCRIBE {files.name(files.catalog, table)}")}
    columns = files.rows(
        "SELECT column_name, column_default FROM duckdb_columns()"
        " WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index",
        files.catalog,
        *table,
    )
    return [quoted(str(name)) for name, default in columns if default is None or defaults[name] is not None]


def _ordered(files: _Files) -> Iterator[TableName]:
    """All tables, each after those its foreign keys refer to."""
    waiting: dict[TableName, set[TableName]] = {
        (str(schema), str(table)): set()
        for schema, table in files.rows(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY table_oid",
            files.catalog,
        )
    }
    for schema, table, other in files.rows(
        "SELECT schema_name, table_name, referenced_table FROM duckdb_constraints()"
        " WHERE database_name = ? AND constraint_type = 'FOREIGN KEY' AND referenced_table <> table_name",
        files.catalog,
    ):
        waiting[str(schema), str(table)].add((str(schema), str(other)))
    while waiting:
        # DuckDB has no circles of foreign keys: a table can only refer to one that is there already
        ready = next(table for table, others in waiting.items() if not others & waiting.keys())
        del waiting[ready]
        yield ready


def _remove(fresh: Path) -> None:
    for path in (fresh, log_of(fresh)):
        path.unlink(missing_ok=True)


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
