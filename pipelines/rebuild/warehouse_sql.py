"""The SQL of this package for one warehouse: its dialect, its tables with all our columns, temporary ones.

The `.sql` files are DuckDB SQL restricted to what travels. A table in them is read with all columns that
`TABLES` names: one that the warehouse does not have yet is null, and a table that is missing is empty. So the
same text reads a warehouse of any earlier release.
"""

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

from sources.cronofy.tables import LOAD_ID, TABLES

SOURCE_DIALECT = "duckdb"
DEFAULT_DIALECT = "duckdb"

# earlier than any poll: the horizon where all polls are there
BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)

# where a temporary table is found; the others find it beside the tables, some as a table like any other
TEMPORARY_SCHEMAS = {"duckdb": "temp", "postgres": "pg_temp", "redshift": None}
WITHOUT_TEMPORARY_TABLES = {"bigquery", "databricks"}
BINARY_TEXT_ORDER = {"bigquery", "databricks", "redshift", "snowflake"}

# a load that was killed may have written a row twice
KEPT_ONCE = {"coverage", "runs", "token_status"}

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
    "duckdb": "DATE_DIFF('microsecond', x, y) / 1000000",
    "postgres": "CAST(EXTRACT(EPOCH FROM y - x) AS DOUBLE PRECISION)",
    "redshift": "DATEDIFF(MICROSECOND, x, y) / 1000000.0",
    "snowflake": "TIMESTAMPDIFF(MICROSECOND, x, y) / 1000000",
}


@dataclass(frozen=True)
class Part:
    """The rows that a query looks at: those of some keys, and in some tables those of some time.

    Attributes:
        condition: what holds for a row of any table that the query reads; None for all rows.
        by_table: what holds besides for the rows of a table.
    """

    condition: exp.Expr | None = None
    by_table: Mapping[str, exp.Expr] = field(default_factory=dict)

    def of(self, table: str) -> list[exp.Expr]:
        """The conditions for rows of a table."""
        found = [self.condition, self.by_table.get(table)]
        return [each.copy() for each in found if each is not None]


ALL = Part()


class WarehouseSql:
    """Renders and runs SQL on an open dlt client."""

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self.client = client
        self.dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DIALECT)
        self.stored = self._stored_columns()

    def has(self, table: str) -> bool:
        """Whether the warehouse has the table."""
        return table in self.stored

    def query(
        self,
        name: str,
        part: Part = ALL,
        hold: timedelta = timedelta(0),
        horizon: datetime | None = None,
    ) -> exp.Query:
        """The query of a file beside this module over a part of the tables.

        Args:
            name: its name without `.sql`.
            part: the rows it looks at.
            hold: how long one sample is trusted.
            horizon: from when on all polls are kept; None where none was ever deleted.
        """
        values = {
            "hold": interval(hold),
            "horizon": instant(horizon or BEGINNING),
            "beginning": instant(BEGINNING),
        }
        query = _source(name).copy()
        ctes = {cte.alias for cte in query.find_all(exp.CTE)}
        for table in [each for each in query.find_all(exp.Table) if each.name not in ctes]:
            table.replace(self._read(table.name, part).subquery(table.alias_or_name))
        for placeholder in list(query.find_all(exp.Placeholder)):
            placeholder.replace(values[placeholder.name].copy())
        return query

    def _read(self, table: str, part: Part) -> exp.Select:
        is_evidence = table in KEPT_ONCE and self.has(table)
        return self.kept_rows(table, part) if is_evidence else self.rows_of(table, part)

    def rows_of(self, table: str, part: Part = ALL) -> exp.Select:
        """The rows of one of `TABLES` that a part has, with all its columns."""
        stored = self.stored.get(table, {})
        columns = [
            exp.column(name) if name in stored else _null(SQL_TYPES[str(kind)]).as_(name)
            for name, kind in ((each.name, each.type) for each in TABLES[table].columns)
        ]
        rows = exp.select(*columns)
        if not stored:
            return rows.limit(0)
        return rows.from_(self.table(table)).where(*part.of(table))

    def kept_rows(self, table: str, part: Part = ALL) -> exp.Select:
        """The rows of an evidence table with the columns it has, one for each key."""
        key = ", ".join(TABLES[table].key)
        numbered = exp.select(
            "*", f"row_number() OVER (PARTITION BY {key} ORDER BY run_id) AS copy_number"
        ).from_(self.table(table))
        columns = [exp.column(self.column(table, name)) for name in self.stored[table]]
        once = exp.select(*columns).from_(numbered.where(*part.of(table)).subquery("numbered"))
        return once.where("copy_number = 1")

    def table(self, name: str) -> exp.Table:
        """A table of the dataset."""
        return exp.to_table(self.client.make_qualified_table_name(name), dialect=self.dialect)

    def column(self, table: str, name: str) -> exp.Identifier:
        """A column of a table as the warehouse spells it."""
        return exp.to_identifier(self.stored[table][name], quoted=True)

    def temporary(self, name: str) -> exp.Table:
        """A table that goes at the end, whatever stands between."""
        if self.dialect in TEMPORARY_SCHEMAS:
            return exp.table_(f"_rebuild_{name}", db=TEMPORARY_SCHEMAS[self.dialect])
        return self.table(f"_rebuild_{name}")

    @contextmanager
    def temporary_table(self, name: str, like: exp.Query) -> Iterator[exp.Table]:
        """An empty table with the columns of a query, until the end."""
        table = self.temporary(name)
        kind = "" if self.dialect in WITHOUT_TEMPORARY_TABLES else "TEMPORARY "
        created = exp.table_(f"_rebuild_{name}") if self.dialect in TEMPORARY_SCHEMAS else table
        drop = f"DROP TABLE IF EXISTS {self.text(table)}"
        self.client.execute_sql(drop)
        empty = exp.select("*").from_(like.subquery("shape")).where("1 = 0")
        self.client.execute_sql(f"CREATE {kind}TABLE {self.text(created)} AS {self.text(empty)}")
        try:
            yield table
        finally:
            # a session that was lost has taken it along, and what ended it is the error to report
            with suppress(DatabaseException):
                self.client.execute_sql(drop)

    def execute(self, statement: exp.Expr) -> None:
        """Run one statement."""
        self.client.execute_sql(self.text(statement))

    def insert(self, table: exp.Table, columns: Sequence[exp.Identifier], query: exp.Expr) -> None:
        """Append the rows of a query."""
        names = ", ".join(self.text(column) for column in columns)
        self.client.execute_sql(f"INSERT INTO {self.text(table)} ({names}) {self.text(query)}")

    def fetch(self, query: exp.Expr) -> list[tuple[Any, ...]]:
        """The rows of a query, times in UTC."""
        with self.client.execute_query(self.text(query)) as cursor:
            return [tuple(map(_in_utc, row)) for row in cursor.fetchall()]

    def text(self, node: exp.Expr) -> str:
        """SQL in the warehouse's dialect."""
        translated: exp.Expr = node.transform(self._translate)
        return translated.sql(dialect=self.dialect, comments=False)

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
        missing = [name for name in tables if not self.has(name)]
        for name in missing:
            columns = [*_column_definitions(name), f"{LOAD_ID} TEXT NOT NULL"]
            create = sqlglot.parse_one(
                f"CREATE TABLE created ({', '.join(columns)})", dialect=SOURCE_DIALECT
            ).transform(lambda node, name=name: self.table(name) if isinstance(node, exp.Table) else node)
            self.execute(create)
        if missing:
            self.stored = self._stored_columns()

    def _translate(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Collate) and self.dialect in BINARY_TEXT_ORDER:
            plain: exp.Expr = node.this
            return plain
        if isinstance(node, exp.Anonymous) and node.name.lower() == "seconds_between":
            return _seconds_between(self.dialect, *node.expressions)
        if isinstance(node, exp.Ordered):
            return _without_place_of_nulls(node, self.dialect)
        return node

    def _stored_columns(self) -> dict[str, dict[str, str]]:
        """The columns of our tables, as the warehouse spells them, by names in small letters."""
        client = self.client
        listed = client._qualify_info_schema_table_name("COLUMNS")  # noqa: SLF001 - BigQuery and others have their own
        schema = client.make_qualified_table_name_path(None, quote=False)[-1]
        here = " AND table_catalog = current_database()" if self.dialect == "duckdb" else ""
        sql = f"SELECT table_name, column_name FROM {listed} WHERE table_schema = %s{here}"  # noqa: S608 - dlt's own name
        found: dict[str, dict[str, str]] = {}
        with client.execute_query(sql, schema) as cursor:
            for table, column in cursor.fetchall():
                if table.lower() in TABLES:
                    found.setdefault(table.lower(), {})[column.lower()] = column
        return found


def interval(length: timedelta) -> exp.Expr:
    """A length of time, whole seconds where it can be."""
    microseconds = length // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    number, unit = (microseconds, "MICROSECOND") if rest else (seconds, "SECOND")
    return exp.Interval(this=exp.Literal.string(str(number)), unit=exp.var(unit))


def instant(moment: datetime) -> exp.Expr:
    """A time as SQL writes it."""
    return exp.cast(exp.Literal.string(moment.astimezone(UTC).isoformat(" ", "microseconds")), "TIMESTAMPTZ")


@cache
def _source(name: str) -> exp.Query:
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    parsed = sqlglot.parse_one(text, dialect=SOURCE_DIALECT)
    assert isinstance(parsed, exp.Query)
    return parsed


def _null(sql_type: str) -> exp.Cast:
    return exp.cast(exp.null(), sql_type)


def _column_definitions(table: str) -> list[str]:
    return [
        f"{each.name} {SQL_TYPES[str(each.type)]}{' NOT NULL' if each.required else ''}"
        for each in TABLES[table].columns
    ]


def _seconds_between(dialect: str, earlier: exp.Expr, later: exp.Expr) -> exp.Expr:
    values = {"x": earlier, "y": later}
    call: exp.Expr = sqlglot.parse_one(SECONDS_BETWEEN[dialect], dialect=dialect)
    filled: exp.Expr = call.transform(
        lambda node: (
            values[node.name].copy() if isinstance(node, exp.Column) and node.name in values else node
        )
    )
    return filled


def _without_place_of_nulls(node: exp.Ordered, dialect: str) -> exp.Ordered:
    """Nothing is ordered by a null that matters, and not every dialect can say where nulls go."""
    ordering = sqlglot.Dialect.get_or_raise(dialect).NULL_ORDERING
    small, large = ordering == "nulls_are_small", ordering == "nulls_are_large"
    node.set("nulls_first", large if node.args.get("desc") else small)
    return node


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value
