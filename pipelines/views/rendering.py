"""The views' queries in the dialects of the warehouses.

The `.sql` files beside this module are DuckDB SQL restricted to what travels. Rendering qualifies every table
with the dataset, so that a view answers on any connection, and writes `hold` in as a constant.
"""

from collections.abc import Callable, Mapping
from functools import cache

import sqlglot
from sqlglot import exp

from .headers import source

SOURCE_DIALECT = "duckdb"
_BINARY_TEXT_ORDER = {"bigquery", "databricks", "redshift", "snowflake"}
# DuckDB binds the bare names in a view to the view's own schema. Qualified ones would break in a file that is
# attached under another name, and are ambiguous in one that is named like its schema.
_BOUND_TO_OWN_SCHEMA = {"duckdb"}

Templates = Mapping[str, str]
"""By dialect, an expression over the columns x and y."""

# epoch(x - y): the seconds between two instants, exact to the microsecond. In DuckDB the difference of two
# instants is days and hours of the session's time zone, where a day may have 23 of them.
_SECONDS_BETWEEN: Templates = {
    "bigquery": "TIMESTAMP_DIFF(x, y, MICROSECOND) / 1000000",
    "databricks": "(UNIX_MICROS(x) - UNIX_MICROS(y)) / CAST(1000000 AS DOUBLE)",
    "duckdb": "ROUND(EPOCH(x) - EPOCH(y), 6)",
    "postgres": "CAST(EXTRACT(EPOCH FROM x - y) AS DOUBLE PRECISION)",
    "redshift": "DATEDIFF(MICROSECOND, y AT TIME ZONE 'UTC', x AT TIME ZONE 'UTC')"
    " / CAST(1000000 AS DOUBLE PRECISION)",
    "snowflake": "DATEDIFF(MICROSECOND, y, x) / CAST(1000000 AS DOUBLE)",
}
# CAST(x AT TIME ZONE 'UTC' AS DATE): the UTC day of an instant
_UTC_DAY: Templates = {
    "bigquery": "EXTRACT(DATE FROM x AT TIME ZONE 'UTC')",
    "databricks": "DATE_FROM_UNIX_DATE(CAST(FLOOR(UNIX_SECONDS(x) / 86400) AS INT))",
}
# CAST(x AS TIMESTAMP) AT TIME ZONE 'UTC': the instant at which a UTC day begins
_UTC_MIDNIGHT: Templates = {
    "bigquery": "TIMESTAMP(x, 'UTC')",
    "databricks": "TIMESTAMP_SECONDS(UNIX_DATE(x) * CAST(86400 AS BIGINT))",
    "snowflake": "TO_TIMESTAMP_TZ(DATE_PART(EPOCH_SECOND, x))",
}


def duration(hold_seconds: float) -> exp.Interval:
    """SQL for a length of time, in whole seconds or else in microseconds.

    Raises:
        ValueError: it is not positive.
    """
    if hold_seconds <= 0:
        raise ValueError("hold_seconds must be positive")
    if hold_seconds == round(hold_seconds):
        return interval(str(round(hold_seconds)), "SECOND")
    return interval(str(round(hold_seconds * 1_000_000)), "MICROSECOND")


def interval(number: str, unit: str) -> exp.Interval:
    """SQL for so many of a unit of time."""
    return exp.Interval(this=exp.Literal.string(number), unit=exp.var(unit))


@cache
def render(view: str, dialect: str, hold_seconds: float, dataset: str) -> str:
    """The view's query in a destination's dialect, its tables qualified with the dataset.

    Args:
        view: One of `VIEWS`.
        dialect: A sqlglot dialect, such as `duckdb` or `postgres`.
        hold_seconds: How long one sample is trusted.
        dataset: The schema of the tables as that dialect writes it, quoted and qualified as need be.
    """
    return translate(view, dialect, duration(hold_seconds), _qualifier(dialect, dataset))


def translate(view: str, dialect: str, hold: exp.Expr, name: Callable[[exp.Table], None]) -> str:
    """The view's query in a dialect, with its tables named as the caller likes.

    Args:
        view: One of `VIEWS`.
        dialect: A sqlglot dialect, such as `duckdb` or `postgres`.
        hold: What stands for `hold`: an interval.
        name: Changes a table or view that the query reads, each time it is read.
    """
    query: exp.Expr = sqlglot.parse_one(source(view), dialect=SOURCE_DIALECT)
    query = query.transform(lambda node: hold.copy() if isinstance(node, exp.Placeholder) else node)
    return _in_dialect(query, dialect, name)


def translate_query(sql: str, dialect: str, dataset: str) -> str:
    """Any query on tables and views, written as the sources are, for a destination.

    Args:
        sql: One query in DuckDB SQL restricted to what travels, its tables by their bare names.
        dialect: As for `render`.
        dataset: As for `render`.
    """
    return _in_dialect(sqlglot.parse_one(sql, dialect=SOURCE_DIALECT), dialect, _qualifier(dialect, dataset))


def restricted(view: str, relation: str, condition: str) -> str:
    """The view's query over a part of what it reads, in the dialect of the sources.

    Args:
        view: One of `VIEWS`.
        relation: A table or view that it reads.
        condition: SQL that holds for the rows of it that count.
    """
    query: exp.Expr = sqlglot.parse_one(source(view), dialect=SOURCE_DIALECT)
    part = exp.select("*").from_(relation).where(condition, dialect=SOURCE_DIALECT)
    found = [table for table in query.find_all(exp.Table) if table.name == relation]
    if not found:
        raise ValueError(f"{view} does not read {relation}")
    for table in found:
        table.replace(part.subquery(table.alias_or_name))
    return query.sql(dialect=SOURCE_DIALECT, comments=False)


def tables_read(query: exp.Expr) -> list[exp.Table]:
    """The tables and views a query reads, each as often as it does."""
    ctes = {cte.alias for cte in query.find_all(exp.CTE)}
    return [table for table in query.find_all(exp.Table) if table.name not in ctes]


def _in_dialect(query: exp.Expr, dialect: str, name: Callable[[exp.Table], None]) -> str:
    for table in tables_read(query):
        name(table)
    for step in (_order_as_bytes, _leave_nulls_alone, _list_within_group, _measure_time):
        query = query.transform(step, dialect)
    return query.sql(dialect=dialect, pretty=True, comments=False)


def _qualifier(dialect: str, dataset: str) -> Callable[[exp.Table], None]:
    schema = exp.to_table(dataset, dialect=dialect)

    def qualify(table: exp.Table) -> None:
        if dialect in _BOUND_TO_OWN_SCHEMA:
            return
        table.set("db", schema.this.copy())
        table.set("catalog", schema.args["db"].copy() if schema.args.get("db") else None)

    return qualify


def _order_as_bytes(node: exp.Expr, dialect: str) -> exp.Expr:
    """Text is ordered by its bytes: some warehouses must be asked to, the others know nothing else."""
    if isinstance(node, exp.Collate) and dialect in _BINARY_TEXT_ORDER:
        text: exp.Expr = node.this
        return text
    return node


def _leave_nulls_alone(node: exp.Expr, dialect: str) -> exp.Expr:
    """No view orders by a null that matters, and not every dialect can say where nulls go."""
    if isinstance(node, exp.Ordered):
        ordering = sqlglot.Dialect.get_or_raise(dialect).NULL_ORDERING
        first = "nulls_are_large" if node.args.get("desc") else "nulls_are_small"
        node.set("nulls_first", ordering == first)
    return node


def _list_within_group(node: exp.Expr, dialect: str) -> exp.Expr:
    """Redshift wants the order of a list behind it; sqlglot writes it inside."""
    if dialect == "redshift" and isinstance(node, exp.GroupConcat) and isinstance(node.this, exp.Order):
        order = node.this
        listed = exp.GroupConcat(this=order.this.copy(), separator=node.args["separator"].copy())
        return exp.WithinGroup(this=listed, expression=exp.Order(expressions=order.expressions))
    return node


def _measure_time(node: exp.Expr, dialect: str) -> exp.Expr:
    match node:
        case exp.TimeToUnix(this=exp.Sub(this=later, expression=earlier)):
            return _filled(_SECONDS_BETWEEN, dialect, node, later, earlier)
        case exp.Cast(this=exp.AtTimeZone(this=instant), to=kind) if kind.is_type("date"):
            return _filled(_UTC_DAY, dialect, node, instant)
        case exp.AtTimeZone(this=exp.Cast(this=day)):
            return _filled(_UTC_MIDNIGHT, dialect, node, day)
    return node


def _filled(templates: Templates, dialect: str, node: exp.Expr, *arguments: exp.Expr) -> exp.Expr:
    """The dialect's expression with its arguments put in, or the node where there is none."""
    if dialect not in templates:
        return node
    values = dict(zip("xy", arguments, strict=False))

    def fill(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column) and part.name in values:
            value = values[part.name].copy()
            return exp.paren(value) if isinstance(value, exp.Binary) else value
        return part

    filled: exp.Expr = sqlglot.parse_one(templates[dialect], dialect=dialect).transform(fill)
    return exp.paren(filled) if isinstance(filled, exp.Binary) and node.parent else filled
