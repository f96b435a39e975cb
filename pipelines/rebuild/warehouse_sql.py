"""The SQL of this package for one warehouse: its dialect, its tables with all our columns, temporary ones.

The `.sql` files are written as the views are (`views/rendering.py`). A table in them is read with all
columns that `TABLES` names: one that the warehouse does not have yet is null, and a table that is missing is
empty. So the same text reads a warehouse of any earlier release.
"""

# ruff: noqa: S608 - names are our own or come from the warehouse's catalog, values are literals of the dialect

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import sqlglot
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from dlt_cronofy.source.tables import COVERAGE, LOAD_ID, RUNS, TABLES, TOKEN_STATUS
from dlt_cronofy.views.rendering import SOURCE_DIALECT, duration, in_dialect
from dlt_cronofy.warehouse.dataset import in_utc

DUCKDB, POSTGRES = "duckdb", "postgres"

# whose rows a part of an evidence table is
PART_KEYS = {COVERAGE.name: "account_id", TOKEN_STATUS.name: "token_key", RUNS.name: "run_id"}
# what stands for dlt's load in rows that no load wrote
NO_LOAD = "rebuild"
# earlier than any poll: the horizon where all polls are there
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

# where temporary tables are; those of other warehouses are beside ours, some of them tables like any other
TEMPORARY_SCHEMAS = {DUCKDB: "temp.", POSTGRES: "pg_temp.", "redshift": ""}
WITHOUT_TEMPORARY_TABLES = {"bigquery", "databricks"}
# these would keep the rows of a step that is read twice; the others always read again
KEEPS_STEPS = {DUCKDB, POSTGRES}

# in DuckDB
SQL_TYPES = {
    "text": "TEXT",
    "bigint": "BIGINT",
    "bool": "BOOLEAN",
    "double": "DOUBLE",
    "timestamp": "TIMESTAMPTZ",
}


@dataclass(frozen=True)
class Part:
    """The rows that a query looks at: those of some keys, and in some tables those of some time.

    Attributes:
        condition: SQL that holds for a row of any table that the query reads.
        by_table: what holds besides for the rows of a table.
    """

    condition: str = "1 = 1"
    by_table: Mapping[str, str] = field(default_factory=dict)

    def of(self, table: str) -> str:
        """The condition for rows of a table."""
        return f"{self.condition} AND {self.by_table.get(table, '1 = 1')}"


ALL = Part()


class WarehouseSql:
    """Renders and runs SQL on an open dlt client.

    Attributes:
        dialect: the warehouse's, as sqlglot names it.
    """

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self.client = client
        self.dialect = str(client.capabilities.sqlglot_dialect or DUCKDB)

    def query(
        self,
        name: str,
        part: Part = ALL,
        hold: timedelta = timedelta(days=1),
        horizon: datetime | None = None,
        instead: Mapping[str, str] | None = None,
    ) -> str:
        """The query of a file beside this module over a part of the tables.

        Args:
            name: of the file.
            part: the rows that it looks at.
            hold: see the setting.
            horizon: the time from which on all polls are kept; None where none was ever deleted.
            instead: queries that stand for tables, by the tables' names.
        """
        steps = in_dialect(_text(name).replace("$hold", duration(hold.total_seconds())), self.dialect)
        for gap, value in (("$horizon", horizon or BEGINNING), ("$beginning", BEGINNING)):
            steps = steps.replace(gap, self.instant(value))
        keeping = "NOT MATERIALIZED " if self.dialect in KEEPS_STEPS else ""
        sources = {table: self._rows(table, part) for table in tables_of(name)} | dict(instead or {})
        tables = (f"{table} AS {keeping}({rows})" for table, rows in sources.items())
        return f"WITH {', '.join(tables)}, {steps.removeprefix('WITH ')}"

    def rows_of(self, table: str, part: Part = ALL) -> str:
        """The rows of one of `TABLES` that a part has, with all its columns."""
        stored = self.stored.get(table, {})
        columns = ", ".join(
            name if name in stored else f"CAST(NULL AS {kind}) AS {name}"
            for name, kind, _ in _columns(table, self.dialect)
            if name != LOAD_ID
        )
        return f"SELECT {columns} {self._from(table, part)}"

    def kept_rows(self, table: str, part: Part = ALL) -> str:
        """The same of an evidence table, with the columns that it has, and one row for each key."""
        # a load that was killed may have written a row twice
        key = ", ".join(TABLES[table].key)
        numbered = f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY run_id) AS copy_number"
        columns = ", ".join(self.columns(table))
        return (
            f"SELECT {columns} FROM ({numbered} {self._from(table, part)}) AS numbered WHERE copy_number = 1"
        )

    def table(self, name: str) -> str:
        """The name of a table of the dataset in SQL."""
        return str(self.client.make_qualified_table_name(name))

    def columns(self, table: str) -> list[str]:
        """The columns that a table has, as SQL writes them."""
        return [self.column(table, name) for name in self.stored[table]]

    def column(self, table: str, name: str) -> str:
        """One column of a table, as SQL writes it."""
        return str(self.client.capabilities.escape_identifier(self.stored[table][name]))

    def instant(self, moment: datetime) -> str:
        """A time as SQL writes it."""
        written = exp.Literal.string(moment.astimezone(UTC).isoformat(" ", "microseconds"))
        return exp.cast(written, "TIMESTAMPTZ").sql(dialect=self.dialect)

    def execute(self, statement: str, *parameters: Any) -> None:
        """Run one statement."""
        self.client.execute_sql(statement, *parameters)

    def insert(self, table: str, columns: Sequence[str], query: str) -> None:
        """Append the rows of a query."""
        self.execute(f"INSERT INTO {table} ({', '.join(columns)}) {query}")

    def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, times in UTC."""
        with self.client.execute_query(query, *parameters) as cursor:
            return [tuple(map(in_utc, row)) for row in cursor.fetchall()]

    def has(self, table: str, condition: str = "1 = 1") -> bool:
        """Whether a table has a row of which the condition holds."""
        rows = self.rows_of(table, Part(condition))
        return bool(self.fetch(f"SELECT 1 AS found FROM ({rows}) AS found_rows LIMIT 1"))

    @contextmanager
    def temporary_table(self, name: str, like: str) -> Iterator[str]:
        """An empty table with the columns of a query, until the end; yields its name in SQL."""
        name = f"_rebuild_{name}"
        if self.dialect in TEMPORARY_SCHEMAS:
            table, created = f"{TEMPORARY_SCHEMAS[self.dialect]}{name}", name
        else:
            table = created = self.table(name)
        kind = "TABLE" if self.dialect in WITHOUT_TEMPORARY_TABLES else "TEMPORARY TABLE"
        self.execute(f"DROP TABLE IF EXISTS {table}")
        self.execute(f"CREATE {kind} {created} AS SELECT * FROM ({like}) AS shape WHERE 1 = 0")
        try:
            yield table
        finally:
            # a session that was lost has taken it along, and what ended it is the error to report
            with suppress(DatabaseException):
                self.execute(f"DROP TABLE IF EXISTS {table}")

    @contextmanager
    def without_nested_loops(self) -> Iterator[None]:
        """Have PostgreSQL join by hashing or sorting.

        It knows nothing of what stands in temporary tables and steps of a query, takes them for small, and
        would compare each row with each: minutes instead of a second.
        """
        if self.dialect != POSTGRES:
            yield
            return
        self.execute("SET enable_nestloop = off")
        try:
            yield
        finally:
            # a session that was lost has no settings, and what ended it is the error to report
            with suppress(DatabaseException):
                self.execute("RESET enable_nestloop")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, where the warehouse has transactions."""
        if self.client.capabilities.supports_transactions:
            with self.client.begin_transaction():
                yield
        else:
            yield

    def create_missing(self, tables: Iterable[str]) -> None:
        """Create tables and columns as a load does, where they are missing."""
        missing = [statement for name in tables for statement in self._completions(name)]
        for statement in missing:
            self.execute(statement)
        if missing:
            del self.stored  # read again

    def _completions(self, name: str) -> Iterator[str]:
        columns = _columns(name, self.dialect)
        if name not in self.stored:
            yield f"CREATE TABLE {self.table(name)} ({', '.join(map(' '.join, columns))})"
            return
        for column, kind, _ in columns:
            if column not in self.stored[name]:
                yield f"ALTER TABLE {self.table(name)} ADD COLUMN {column} {kind}"

    def _rows(self, table: str, part: Part) -> str:
        is_evidence = table in PART_KEYS and table in self.stored
        return self.kept_rows(table, part) if is_evidence else self.rows_of(table, part)

    def _from(self, table: str, part: Part) -> str:
        return f"FROM {self.table(table)} WHERE {part.of(table)}" if table in self.stored else "LIMIT 0"

    @cached_property
    def stored(self) -> dict[str, dict[str, str]]:
        """Columns of our tables that are there, as the warehouse spells them, by names in lower case."""
        client = self.client
        # BigQuery and others have their own
        listed = client._qualify_info_schema_table_name("COLUMNS")  # noqa: SLF001
        schema = client.make_qualified_table_name_path(None, quote=False)[-1]
        here = " AND table_catalog = current_database()" if self.dialect == DUCKDB else ""
        sql = f"SELECT table_name, column_name FROM {listed} WHERE table_schema = %s{here}"
        found: dict[str, dict[str, str]] = {}
        for table, column in self.fetch(sql, schema):
            if table.lower() in TABLES:
                found.setdefault(table.lower(), {})[column.lower()] = column
        return found


@cache
def _text(name: str) -> str:
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"^ *--.*\n", "", text, flags=re.MULTILINE)


@cache
def tables_of(name: str) -> list[str]:
    """The tables that the query of a file reads."""
    return sorted(set(re.findall(rf"\b(?:FROM|JOIN) ({'|'.join(TABLES)})\b", _text(name))))


@cache
def columns_of(name: str) -> list[str]:
    """The columns that the query of a file returns."""
    text = re.sub(r"\$\w+", "x", _text(name))
    query = sqlglot.parse_one(text, dialect=SOURCE_DIALECT)
    assert isinstance(query, exp.Query)
    return query.named_selects


@cache
def _columns(table: str, dialect: str) -> list[tuple[str, str, str]]:
    """The columns that a load gives a table: name, type, and whether it may be null."""
    columns = [(each.name, each.type, each.required) for each in TABLES[table].columns]
    return [
        (name, _type(kind, dialect), "NOT NULL" if required else "")
        for name, kind, required in (*columns, (LOAD_ID, "text", True))
    ]


def _type(kind: str, dialect: str) -> str:
    name = SQL_TYPES[kind]
    return name if dialect == DUCKDB else exp.DataType.build(name).sql(dialect=dialect)
