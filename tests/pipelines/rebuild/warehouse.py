"""A real dlt client over DuckDB or PostgreSQL, with the tables of a load and rows put in by hand."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2.extras  # type: ignore[import-untyped]
import pyarrow as pa
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.warehouse.dataset import sql_client, writer
from dlt_cronofy.warehouse.pipeline import open_pipeline

Row = dict[str, Any]

# neither session thinks in UTC, and nothing may depend on it
TIME_ZONES = {"duckdb": "America/St_Johns", "postgres": "Asia/Kolkata"}
EVIDENCE = ("token_status", "coverage", "runs")
TYPES = {
    "text": "text",
    "bigint": "bigint",
    "bool": "boolean",
    "double": "double precision",
    "timestamp": "timestamptz",
}


class Tables:
    """The tables of one dataset: rows in, rows out."""

    def __init__(self, client: SqlClientBase[Any], dialect: str) -> None:
        self.client = client
        self.dialect = dialect

    def create(self, labels: Sequence[str] = ()) -> None:
        """All tables, empty; `token_status` with label columns."""
        if self.client.has_dataset():
            self.client.drop_dataset()
        self.client.create_dataset()
        for table in TABLES:
            columns = [
                f"{each.name} {TYPES[each.type]}{' NOT NULL' if each.required else ''}"
                for each in TABLES[table].columns
            ]
            if table == "token_status":
                columns += [f'"{label}" text' for label in labels]
            columns.append("_dlt_load_id text NOT NULL")
            self.execute(f"CREATE TABLE {self.name(table)} ({', '.join(columns)})")

    def name(self, table: str) -> str:
        return self.client.make_qualified_table_name(table)

    def execute(self, statement: str, *parameters: Any) -> None:
        self.client.execute_sql(statement, *parameters)

    def fill(self, tables: dict[str, list[Row]]) -> None:
        """These rows, and none besides, in all tables."""
        for table in TABLES:
            self.execute(f"DELETE FROM {self.name(table)}")
            self.insert(table, tables.get(table, []))

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows; columns they leave out are null."""
        if not rows:
            return
        schema = TABLES[table].schema.append(pa.field("_dlt_load_id", pa.string()))
        complete = [{"_dlt_load_id": "1"} | row for row in rows]
        connection = self.client.native_connection
        if self.dialect == "duckdb":
            connection.register("batch", pa.Table.from_pylist(complete, schema=schema))
            connection.execute(f"INSERT INTO {self.name(table)} BY NAME SELECT * FROM batch")
            connection.unregister("batch")
            return
        values = [tuple(row.get(column) for column in schema.names) for row in complete]
        statement = f"INSERT INTO {self.name(table)} ({', '.join(schema.names)}) VALUES %s"
        with connection.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, statement, values, page_size=1000)

    def rows(self, table: str) -> list[Row]:
        """All rows of a table, times in UTC, in the order of the key."""
        with self.client.execute_query(f"SELECT * FROM {self.name(table)}") as cursor:
            names = [column[0] for column in cursor.description]
            found = [dict(zip(names, map(_in_utc, row), strict=True)) for row in cursor.fetchall()]
        return sorted(found, key=lambda row: str([row[name] for name in TABLES[table].key]))

    def evidence(self) -> dict[str, list[Row]]:
        """All rows of the evidence tables."""
        return {table: self.rows(table) for table in EVIDENCE}


@contextmanager
def open_tables(folder: Path, dialect: str, credentials: str) -> Iterator[Tables]:
    """A dataset of its own in a warehouse."""
    pipeline = open_pipeline(dialect, "evidence", credentials, folder / "pipelines")
    with writer(pipeline), sql_client(pipeline) as client:
        client.execute_sql(f"SET TimeZone = '{TIME_ZONES[dialect]}'")
        if dialect == "duckdb":
            # the tables are small: threads would wait for each other
            client.execute_sql("SET threads = 1")
        if dialect == "postgres":
            client.execute_sql("SET synchronous_commit = off")
            client.execute_sql("SET jit = off")
        tables = Tables(client, dialect)
        tables.create()
        yield tables


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
