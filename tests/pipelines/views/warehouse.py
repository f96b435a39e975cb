"""Raw tables and views in a database of either engine, behind one small interface."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import duckdb
import psycopg2  # type: ignore[import-untyped]
import psycopg2.extras  # type: ignore[import-untyped]
import pyarrow as pa

from dlt_cronofy import views
from dlt_cronofy.source.tables import TABLES
from tests.pipelines.views.evidence import HOLD, evidence

Row = dict[str, Any]

DATASET = "cronofy"
RAW_TABLES = views.TABLES
# neither session thinks in UTC, and no view may notice
DUCKDB_TIME_ZONE = "America/St_Johns"
POSTGRES_TIME_ZONE = "Asia/Kolkata"

_POSTGRES_TYPES = {
    # as dlt has it
    "string": "character varying",
    "int64": "bigint",
    "double": "double precision",
    "bool": "boolean",
    "timestamp[us, tz=UTC]": "timestamptz",
}


class Warehouse(Protocol):
    """What the tests ask of a database."""

    dialect: str

    def execute(self, statement: str) -> None:
        """Run one statement."""

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query, times in UTC."""

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows; columns they leave out are null."""

    def close(self) -> None:
        """Disconnect."""


class DuckDBWarehouse:
    """A DuckDB, in memory or in a file."""

    dialect = "duckdb"

    def __init__(self, database: str = ":memory:") -> None:
        self._connection = duckdb.connect(database, config={"threads": 1})
        self._connection.execute(f"SET TimeZone = '{DUCKDB_TIME_ZONE}'")

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [_in_utc(row) for row in self._connection.execute(sql).fetchall()]

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        batch = pa.Table.from_pylist(list(rows), schema=raw_schema(table))
        self._connection.register("batch", batch)
        self._connection.execute(f"INSERT INTO {DATASET}.{table} BY NAME SELECT * FROM batch")
        self._connection.unregister("batch")

    def close(self) -> None:
        self._connection.close()


class PostgresWarehouse:
    """A database on a running PostgreSQL server."""

    dialect = "postgres"

    def __init__(self, uri: str) -> None:
        self._connection = psycopg2.connect(uri)
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        # a handful of rows needs neither compilation nor a flush to disk
        for setting in (f"timezone = '{POSTGRES_TIME_ZONE}'", "jit = off", "synchronous_commit = off"):
            self._cursor.execute(f"SET {setting}")

    def execute(self, statement: str) -> None:
        self._cursor.execute(statement)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql)
        return [_in_utc(row) for row in self._cursor.fetchall()]

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        columns = raw_schema(table).names
        values = [tuple(row.get(column) for column in columns) for row in rows]
        statement = f"INSERT INTO {DATASET}.{table} ({', '.join(columns)}) VALUES %s"
        psycopg2.extras.execute_values(self._cursor, statement, values, page_size=1000)

    def close(self) -> None:
        self._connection.close()


def raw_schema(table: str) -> pa.Schema:
    """The columns of a raw table as a load leaves them."""
    return TABLES[table].schema.append(pa.field("_dlt_load_id", pa.string()))


def create_tables(warehouse: Warehouse) -> None:
    """Create the dataset anew with empty raw tables."""
    warehouse.execute(f"DROP SCHEMA IF EXISTS {DATASET} CASCADE")
    warehouse.execute(f"CREATE SCHEMA {DATASET}")
    for table in RAW_TABLES:
        columns = ", ".join(f"{field.name} {_POSTGRES_TYPES[str(field.type)]}" for field in raw_schema(table))
        warehouse.execute(f"CREATE TABLE {DATASET}.{table} ({columns})")


def create_views(warehouse: Warehouse, hold_seconds: float = 86_400) -> None:
    """Create or replace all views."""
    views.create_views(warehouse.execute, warehouse.dialect, DATASET, hold_seconds)


def fill(warehouse: Warehouse, tables: dict[str, list[Row]], hold: timedelta = HOLD) -> None:
    """Replace the contents of all raw tables, and put the evidence beside them that loads would have kept."""
    tables = {**evidence(tables, hold), **tables}
    for table in RAW_TABLES:
        warehouse.execute(f"DELETE FROM {DATASET}.{table}")
        if tables.get(table):
            warehouse.insert(table, tables[table])


def read(warehouse: Warehouse, view: str, columns: Iterable[str]) -> list[tuple[Any, ...]]:
    """Some columns of all rows of a view, in an order that depends on the rows alone."""
    rows = warehouse.query(f"SELECT {', '.join(columns)} FROM {DATASET}.{view}")
    return sorted(rows, key=repr)


def _in_utc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.astimezone(UTC) if isinstance(value, datetime) else value for value in row)
