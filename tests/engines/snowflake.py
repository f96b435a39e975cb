"""A Snowflake on DuckDB: fakesnow, and what dlt asks of a Snowflake that it does not know.

Files are written into the tables instead of being put into a stage and copied, temporary tables are tables,
and comments are left out. All other statements are Snowflake's SQL, translated by fakesnow.
"""

import gzip
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest
import sqlglot

from dlt_cronofy import views
from dlt_cronofy.views import VIEWS
from tests.pipelines.views.warehouse import DATASET, RAW_TABLES, raw_schema

from .comparing import Rows, Tables, in_utc

CREDENTIALS = "snowflake://loader:secret@account/DLT_DATA?warehouse=small&role=loader"
# sessions are in UTC already
LEFT_OUT = [r"ALTER SESSION SET TIMEZONE", r"COMMENT ON "]
# fakesnow lacks it: seconds since 1970
TO_TIMESTAMP_TZ = "CREATE OR REPLACE MACRO {catalog}.main.to_timestamp_tz(seconds) AS to_timestamp(seconds)"
# as dlt has them in Snowflake
TYPES = {
    "string": "VARCHAR",
    "int64": "NUMBER(19,0)",
    "double": "FLOAT",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP_TZ(6)",
}


@contextmanager
def snowflake() -> Iterator[None]:
    """While it lasts, Snowflake's connector connects to one empty Snowflake in this process."""
    import fakesnow
    from dlt.destinations.impl.snowflake.snowflake import SnowflakeLoadJob
    from fakesnow import macros
    from fakesnow.cursor import FakeSnowflakeCursor

    execute, creation_sql = FakeSnowflakeCursor.execute, macros.creation_sql

    def execute_each(self: Any, command: str, params: Any = None, *_: Any, **options: Any) -> Any:
        options.pop("num_statements", None)
        for statement in _statements(command):
            execute(self, re.sub(r"^CREATE TEMP\w* TABLE", "CREATE TABLE", statement), params, **options)
        return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            macros,
            "creation_sql",
            lambda catalog: f"{creation_sql(catalog)}; {TO_TIMESTAMP_TZ.format(catalog=catalog)};",
        )
        patch.setattr(FakeSnowflakeCursor, "execute", execute_each)
        patch.setattr(
            FakeSnowflakeCursor,
            "fetch_arrow_batches",
            lambda self: iter([_whole_numbers(self._arrow_table)]),
            raising=False,
        )
        patch.setattr(SnowflakeLoadJob, "run", _write_file)
        # of each comment on a column
        patch.setattr(logging.getLogger("sqlglot"), "level", logging.ERROR)
        patch.setenv("DESTINATION__SNOWFLAKE__CREDENTIALS", CREDENTIALS)
        # one connection after the other
        patch.setenv("LOAD__WORKERS", "1")
        with fakesnow.patch(create_schema_on_connect=False, nop_regexes=LEFT_OUT):
            yield


def _statements(command: str) -> Iterator[str]:
    """The statements of a command, which fakesnow takes one by one."""
    start = 0
    for token in sqlglot.tokenize(command, dialect="snowflake") if ";" in command else ():
        if token.token_type == sqlglot.TokenType.SEMICOLON:
            yield command[start : token.start]
            start = token.end + 1
    if command[start:].strip():
        yield command[start:]


def _whole_numbers(table: pa.Table) -> pa.Table:
    """Decimals without a scale as integers, as Snowflake's own connector has them."""
    fields = [
        field.with_type(pa.int64()) if pa.types.is_decimal(field.type) and field.type.scale == 0 else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _write_file(self: Any) -> None:
    """Stands for PUT and COPY INTO, the options of which fakesnow does not read."""
    client, path = self._job_client.sql_client, Path(self._file_path)
    if path.suffix == ".parquet":
        rows = pq.read_table(path)
    else:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            rows = pyarrow.json.read_json(file)
    _insert(client.native_connection, client.make_qualified_table_name(self.load_table_name), rows)


def _insert(connection: Any, table: str, rows: pa.Table) -> None:
    duckdb = connection._duck_conn
    duckdb.register("rows", rows)
    duckdb.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows")
    duckdb.unregister("rows")


class SnowflakeWarehouse:
    """Raw tables and views in a Snowflake; it needs `snowflake`."""

    dialect = "snowflake"

    def __init__(self) -> None:
        from snowflake import connector

        self._connection = connector.connect(database="VIEWS", schema=DATASET)
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {DATASET}")
        for table in RAW_TABLES:
            columns = ", ".join(f"{field.name} {TYPES[str(field.type)]}" for field in raw_schema(table))
            self.execute(f"CREATE TABLE {DATASET}.{table} ({columns})")

    def execute(self, statement: str) -> None:
        """Run one statement."""
        self._connection.cursor().execute(statement)

    def fill(self, tables: Tables) -> None:
        """Put these rows in the place of all that are there."""
        for table in RAW_TABLES:
            self.execute(f"DELETE FROM {DATASET}.{table}")
            rows = pa.Table.from_pylist(tables.get(table, []), schema=raw_schema(table))
            _insert(self._connection, f"{DATASET}.{table}", rows)

    def results(self, hold: timedelta) -> dict[str, Rows]:
        """The rows of every view."""
        views.create_views(self.execute, self.dialect, DATASET, hold.total_seconds())
        return {view: self._rows(view) for view in VIEWS}

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _rows(self, view: str) -> Rows:
        cursor = self._connection.cursor().execute(f"SELECT * FROM {DATASET}.{view}")
        return [in_utc(row) for row in cursor.fetchall()]
