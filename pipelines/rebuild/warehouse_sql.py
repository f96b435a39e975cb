"""The SQL of this package for one warehouse: its dialect, its tables with all our columns, temporary ones.

The `.sql` files are DuckDB SQL restricted to what travels. A table in them is read with all columns that
`TABLES` names: one that the warehouse does not have yet is null, and a table that is missing is empty. So the
same text reads a warehouse of any earlier release.
"""

# ruff: noqa: S608 - names are our own or come from the warehouse's catalog, values are literals of the dialect

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlglot
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from dlt_cronofy.source.tables import LOAD_ID, TABLES

DUCKDB = "duckdb"

# earlier than any poll: the horizon where all polls are there
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

# where temporary tables are; those of other warehouses are beside ours, some of them tables like any other
TEMPORARY_SCHEMAS = {DUCKDB: "temp.", "postgres": "pg_temp.", "redshift": ""}
WITHOUT_TEMPORARY_TABLES = {"bigquery", "databricks"}
BINARY_TEXT_ORDER = {"bigquery", "databricks", "redshift", "snowflake"}

SQL_TYPES = {
    "string": "TEXT",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "double": "DOUBLE",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}

# seconds from x to y
SECONDS_BETWEEN = {
    "bigquery": "TIMESTAMP_DIFF(y, x, MICROSECOND) / 1000000",
    "databricks": "TIMESTAMPDIFF(MICROSECOND, x, y) / 1000000",
    DUCKDB: "DATE_DIFF('microsecond', x, y) / 1000000",
    "postgres": "CAST(EXTRACT(EPOCH FROM y - x) AS DOUBLE PRECISION)",
    "redshift": "DATEDIFF(MICROSECOND, x, y) / 1000000.0",
    "snowflake": "TIMESTAMPDIFF(MICROSECOND, x, y) / 1000000",
}

# the names of a table's columns as the warehouse spells them, by names in small letters
Columns = Mapping[str, str]


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
        stored: the columns of those of our tables that are there.
    """

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self.client = client
        self.dialect = str(client.capabilities.sqlglot_dialect or DUCKDB)
        self.stored = self._stored_columns()

    def query(
        self,
        name: str,
        part: Part = ALL,
        hold: timedelta = timedelta(0),
        horizon: datetime | None = None,
    ) -> str:
        """The query of a file beside this module over a part of the tables.

        Args:
            name: its name without `.sql`.
            part: the rows it looks at.
            hold: how long one sample is trusted.
            horizon: from when on all polls are kept; None where none was ever deleted.
        """
        template = _translated(name, self.dialect)
        values = {
            "hold": interval(hold, self.dialect),
            "horizon": self.instant(horizon or BEGINNING),
            "beginning": self.instant(BEGINNING),
        } | {f"rows_of_{table}": f"({self._rows(table, part)})" for table in template.tables}
        return template.filled(values)

    def columns_of(self, name: str) -> list[str]:
        """The columns that the query of a file returns."""
        return _translated(name, self.dialect).columns

    def rows_of(self, table: str, part: Part = ALL) -> str:
        """The rows of one of `TABLES` that a part has, with all its columns."""
        return f"SELECT {self._our_columns(table)} {self._from(self.table(table), table, part)}"

    def kept_rows(self, table: str, part: Part = ALL) -> str:
        """The same of an evidence table, with the columns that it has, and one for each key."""
        key = ", ".join(TABLES[table].key)
        columns = ", ".join(self.columns(table))
        # a load that was killed may have written a row twice
        numbered = f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY run_id) AS copy_number"
        rows = f"{numbered} {self._from(self.table(table), table, part)}"
        return f"SELECT {columns} FROM ({rows}) AS numbered WHERE copy_number = 1"

    def table(self, name: str) -> str:
        """The name of a table of the dataset in SQL."""
        return str(self.client.make_qualified_table_name(name))

    def columns(self, table: str) -> list[str]:
        """The columns that a table has, as SQL writes them."""
        return [self.column(table, name) for name in self.stored[table]]

    def column(self, table: str, name: str) -> str:
        """One column of a table, as SQL writes it."""
        return str(self.client.capabilities.escape_identifier(self.stored[table][name]))

    def text(self, value: str) -> str:
        """A text as SQL writes it."""
        return exp.Literal.string(value).sql(dialect=self.dialect)

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

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, times in UTC."""
        with self.client.execute_query(query) as cursor:
            return [tuple(map(_in_utc, row)) for row in cursor.fetchall()]

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
        if self.dialect != "postgres":
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

    def create_missing(self, tables: Sequence[str]) -> None:
        """Create tables as a load does, where they are missing."""
        missing = [name for name in tables if name not in self.stored]
        for name in missing:
            columns = ", ".join(f"{column} {kind}" for column, kind in _column_types(name, self.dialect))
            self.execute(f"CREATE TABLE {self.table(name)} ({columns})")
        if missing:
            self.stored = self._stored_columns()

    def _rows(self, table: str, part: Part) -> str:
        is_evidence = table in KEPT_ONCE and table in self.stored
        return self.kept_rows(table, part) if is_evidence else self.rows_of(table, part)

    def _our_columns(self, table: str) -> str:
        stored = self.stored.get(table, {})
        return ", ".join(
            name if name in stored else f"CAST(NULL AS {kind.removesuffix(' NOT NULL')}) AS {name}"
            for name, kind in _column_types(table, self.dialect)
            if name != LOAD_ID
        )

    def _from(self, relation: str, table: str, part: Part) -> str:
        return f"FROM {relation} WHERE {part.of(table)}" if table in self.stored else "LIMIT 0"

    def _stored_columns(self) -> dict[str, dict[str, str]]:
        """The columns of our tables, as the warehouse spells them, by names in small letters."""
        client = self.client
        # BigQuery and others have their own
        listed = client._qualify_info_schema_table_name("COLUMNS")  # noqa: SLF001
        schema = client.make_qualified_table_name_path(None, quote=False)[-1]
        here = " AND table_catalog = current_database()" if self.dialect == DUCKDB else ""
        sql = f"SELECT table_name, column_name FROM {listed} WHERE table_schema = %s{here}"
        found: dict[str, dict[str, str]] = {}
        with client.execute_query(sql, schema) as cursor:
            for table, column in cursor.fetchall():
                if table.lower() in TABLES:
                    found.setdefault(table.lower(), {})[column.lower()] = column
        return found


KEPT_ONCE = {"coverage", "runs", "token_status"}


@dataclass(frozen=True)
class Template:
    """A query in a dialect, with gaps for what differs from one time to another.

    Attributes:
        text: the query; a gap is a name between two signs that occur nowhere else.
        tables: the tables that it reads; the gap for the rows of one is `rows_of_<table>`.
        columns: the columns that it returns.
    """

    text: str
    tables: Sequence[str]
    columns: list[str]

    def filled(self, values: Mapping[str, str]) -> str:
        """The query with its gaps filled."""
        text = self.text
        for name, value in values.items():
            text = text.replace(_gap(name), value)
        return text


@cache
def _translated(name: str, dialect: str) -> Template:
    source = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    query = sqlglot.parse_one(source, dialect=DUCKDB)
    assert isinstance(query, exp.Query)
    ctes = {cte.alias for cte in query.find_all(exp.CTE)}
    tables = [table for table in query.find_all(exp.Table) if table.name not in ctes]
    names = sorted({table.name for table in tables})
    for table in tables:
        gap = exp.to_identifier(_gap(f"rows_of_{table.name}"))
        table.replace(exp.Table(this=gap, alias=exp.TableAlias(this=exp.to_identifier(table.alias_or_name))))
    translated = query.transform(_translate, dialect)
    return Template(translated.sql(dialect=dialect, comments=False), names, query.named_selects)


def _translate(node: exp.Expr, dialect: str) -> exp.Expr:
    if isinstance(node, exp.Placeholder):
        return exp.column(exp.to_identifier(_gap(node.name)))
    if isinstance(node, exp.Collate) and dialect in BINARY_TEXT_ORDER:
        plain: exp.Expr = node.this
        return plain
    if isinstance(node, exp.Anonymous) and node.name.lower() == "seconds_between":
        return _seconds_between(dialect, *node.expressions)
    if isinstance(node, exp.Ordered):
        return _without_place_of_nulls(node, dialect)
    return node


def _gap(name: str) -> str:
    return f"gap_{name}_gap"


def _seconds_between(dialect: str, earlier: exp.Expr, later: exp.Expr) -> exp.Expr:
    values = {"x": earlier, "y": later}
    call: exp.Expr = sqlglot.parse_one(SECONDS_BETWEEN[dialect], dialect=dialect)
    for column in list(call.find_all(exp.Column)):
        column.replace(exp.paren(values[column.name].copy()))
    return call


def _without_place_of_nulls(node: exp.Ordered, dialect: str) -> exp.Ordered:
    """Nothing is ordered by a null that matters, and not every dialect can say where nulls go."""
    ordering = sqlglot.Dialect.get_or_raise(dialect).NULL_ORDERING
    small, large = ordering == "nulls_are_small", ordering == "nulls_are_large"
    node.set("nulls_first", large if node.args.get("desc") else small)
    return node


def interval(length: timedelta, dialect: str) -> str:
    """A length of time as SQL writes it, in whole seconds where it can be."""
    microseconds = length // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    number, unit = (microseconds, "MICROSECOND") if rest else (seconds, "SECOND")
    return exp.Interval(this=exp.Literal.string(str(number)), unit=exp.var(unit)).sql(dialect=dialect)


@cache
def _column_types(table: str, dialect: str) -> list[tuple[str, str]]:
    """The columns that a load gives a table, and what SQL says of each."""
    columns = [(each.name, str(each.type), each.required) for each in TABLES[table].columns]
    return [
        (
            name,
            f"{exp.DataType.build(SQL_TYPES[kind]).sql(dialect=dialect)}{' NOT NULL' if required else ''}",
        )
        for name, kind, required in (*columns, (LOAD_ID, "string", True))
    ]


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value
