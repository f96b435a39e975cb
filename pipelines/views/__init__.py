"""The SQL views: one source text each, rendered for the destination's dialect.

The `.sql` files beside this module are DuckDB SQL restricted to what travels. Rendering qualifies every
table with the dataset, so that a view answers on any connection, and writes `hold` in as a constant. Views
whose names start with an underscore are steps towards the others and promise nothing to anybody.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import sqlglot
from sqlglot import exp

VIEWS: tuple[str, ...] = (
    "_newest_poll",
    "_samples",
    "_newest_samples",
    "_sample_buckets",
    "_sample_spans",
    "_state_runs",
    "_profile_names",
    "_intervals",
    "_outages",
    "_daily_states",
    "_attempts",
    "profile_intervals",
    "outages",
    "needs_relink",
    "connectivity_daily",
    "provider_daily",
    "provider_health",
    "account_health",
    "token_health",
    "time_to_relink",
    "flapping_profiles",
    "poll_coverage",
)
"""All views, each after those it reads."""

PUBLIC_VIEWS: tuple[str, ...] = tuple(view for view in VIEWS if not view.startswith("_"))
"""The views that people query."""

TABLES: tuple[str, ...] = ("userinfo", "account", "polls", "profile_changes")
"""The tables that the views read; all of them must exist before the views are created."""

MARKER = "_definitions"
"""A view that says what the others were made from: looking there takes less time than making them again."""

_SOURCE_DIALECT = "duckdb"
_LISTS_VIEWS = {"duckdb", "postgres"}
_BINARY_TEXT_ORDER = {"bigquery", "databricks", "redshift", "snowflake"}
# DuckDB binds the bare names in a view to the view's own schema. Qualified ones would break in a file that is
# attached under another name, and are ambiguous in one that is named like its schema.
_BOUND_TO_OWN_SCHEMA = {"duckdb"}
_COLUMNS_CANNOT_CHANGE = {"postgres", "redshift"}

# functions that sqlglot does not translate; `x` is the argument
_FUNCTIONS = {
    "epoch_us": {
        "bigquery": "UNIX_MICROS(x)",
        "databricks": "UNIX_MICROS(x)",
        "postgres": "CAST(EXTRACT(EPOCH FROM x) * 1000000 AS BIGINT)",
        "redshift": "DATEDIFF(MICROSECOND, CAST('1970-01-01' AS TIMESTAMP), x AT TIME ZONE 'UTC')",
        "snowflake": "DATE_PART(EPOCH_MICROSECOND, x)",
    },
    "make_timestamptz": {
        "bigquery": "TIMESTAMP_MICROS(x)",
        "databricks": "TIMESTAMP_MICROS(x)",
        "postgres": "CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) + x * INTERVAL '1 MICROSECOND'",
        "redshift": "CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) + x * INTERVAL '1 MICROSECOND'",
        "snowflake": "TO_TIMESTAMP_TZ(x, 6)",
    },
}


@cache
def source(view: str) -> str:
    """The view's source text, header comment included."""
    return (Path(__file__).parent / f"{view}.sql").read_text(encoding="utf-8")


def header(view: str) -> str:
    """The comment that heads a view's source: its grain, its definition and its columns."""
    lines = source(view).splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(line.removeprefix("--").removeprefix(" ") for line in lines[:end])


@cache
def render(view: str, dialect: str, hold_seconds: float, dataset: str) -> str:
    """The view's query in a destination's dialect, its tables qualified with the dataset.

    Args:
        view: One of `VIEWS`.
        dialect: A sqlglot dialect, such as `duckdb` or `postgres`.
        hold_seconds: How long one sample is trusted.
        dataset: The schema of the tables as that dialect writes it, quoted and qualified as need be.
    """
    if hold_seconds <= 0:
        raise ValueError("hold_seconds must be positive")
    hold_us = exp.Literal.number(round(hold_seconds * 1_000_000))
    return translate(view, dialect, hold_us, _qualifier(dialect, dataset))


def translate(view: str, dialect: str, hold_us: exp.Expr, name: Callable[[exp.Table], None]) -> str:
    """The view's query in a dialect, with its tables named as the caller likes.

    Args:
        view: One of `VIEWS`.
        dialect: A sqlglot dialect, such as `duckdb` or `postgres`.
        hold_us: What stands for `hold` in microseconds.
        name: Changes a table or view that the query reads, each time it is read.
    """
    query: exp.Expr = sqlglot.parse_one(source(view), dialect=_SOURCE_DIALECT)
    query = query.transform(lambda node: hold_us.copy() if isinstance(node, exp.Placeholder) else node)
    return _in_dialect(query, dialect, name)


def translate_query(sql: str, dialect: str, dataset: str) -> str:
    """Any query on tables and views, written as the sources are, for a destination.

    Args:
        sql: One query in DuckDB SQL restricted to what travels, its tables by their bare names.
        dialect: As for `render`.
        dataset: As for `render`.
    """
    return _in_dialect(sqlglot.parse_one(sql, dialect=_SOURCE_DIALECT), dialect, _qualifier(dialect, dataset))


def _in_dialect(query: exp.Expr, dialect: str, name: Callable[[exp.Table], None]) -> str:
    for table in _tables_read(query):
        name(table)
    query = query.transform(_translate, dialect)
    return query.sql(dialect=dialect, pretty=True, comments=False)


def _qualifier(dialect: str, dataset: str) -> Callable[[exp.Table], None]:
    schema = exp.to_table(dataset, dialect=dialect)

    def qualify(table: exp.Table) -> None:
        if dialect in _BOUND_TO_OWN_SCHEMA:
            return
        table.set("db", schema.this.copy())
        table.set("catalog", schema.args["db"].copy() if schema.args.get("db") else None)

    return qualify


def restricted(view: str, relation: str, condition: str) -> str:
    """The view's query over a part of what it reads, in the dialect of the sources.

    Args:
        view: One of `VIEWS`.
        relation: A table or view that it reads.
        condition: SQL that holds for the rows of it that count.
    """
    query: exp.Expr = sqlglot.parse_one(source(view), dialect=_SOURCE_DIALECT)
    part = exp.select("*").from_(relation).where(condition, dialect=_SOURCE_DIALECT)
    found = [table for table in query.find_all(exp.Table) if table.name == relation]
    if not found:
        raise ValueError(f"{view} does not read {relation}")
    for table in found:
        table.replace(part.subquery(table.alias_or_name))
    return query.sql(dialect=_SOURCE_DIALECT, comments=False)


def create_views(
    execute: Callable[[str], None], dialect: str, dataset: str, hold_seconds: float
) -> list[str]:
    """Create or replace all views in the dataset of the tables and return their names.

    PostgreSQL and Redshift do not replace a view whose columns changed. There all views are dropped and
    created anew once replacing fails, so `execute` must leave the connection usable after a failed statement.
    """
    statements = [_statement(view, dialect, hold_seconds, dataset) for view in VIEWS]
    # last: where it is, all the others are
    marker = _qualified(MARKER, dialect, dataset)
    digest = definitions_digest(dialect, dataset, hold_seconds)
    statements.append(f"CREATE OR REPLACE VIEW {marker} AS\nSELECT '{digest}' AS digest")
    try:
        for statement in statements:
            execute(statement)
    except Exception:
        if dialect not in _COLUMNS_CANNOT_CHANGE:
            raise
        for view in (MARKER, *reversed(VIEWS)):
            execute(f"DROP VIEW IF EXISTS {_qualified(view, dialect, dataset)}")
        for statement in statements:
            execute(statement)
    return list(VIEWS)


def are_current(
    fetch: Callable[[str], Sequence[Sequence[object]]],
    dialect: str,
    dataset: str,
    schema: str,
    hold_seconds: float,
) -> bool:
    """Whether all views are there and were made from these definitions; False where that cannot be told.

    Args:
        fetch: Rows of a query; its errors mean that something is missing.
        dialect: The destination's.
        dataset: As for `create_views`.
        schema: The plain name of the dataset.
        hold_seconds: How long one sample is trusted.
    """
    if dialect not in _LISTS_VIEWS:
        return False
    names = ", ".join(f"'{view}'" for view in VIEWS)
    listed = (
        "SELECT COUNT(*) FROM information_schema.tables"  # noqa: S608 - our own names
        f" WHERE table_schema = {exp.Literal.string(schema).sql(dialect)}"
        f" AND table_type = 'VIEW' AND table_name IN ({names})"
    )
    try:
        rows = fetch(f"SELECT digest, ({listed}) FROM {_qualified(MARKER, dialect, dataset)}")  # noqa: S608
    except Exception:  # noqa: BLE001 - whatever a driver says where there is no such view
        return False
    return [tuple(row) for row in rows] == [(definitions_digest(dialect, dataset, hold_seconds), len(VIEWS))]


def definitions_digest(dialect: str, dataset: str, hold_seconds: float) -> str:
    """A digest of all that the views' statements are made from, this module included."""
    made_from = (
        dialect,
        dataset,
        str(hold_seconds),
        str(vars(sqlglot).get("__version__")),
        *map(source, VIEWS),
    )
    digest = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=16)
    for part in made_from:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _statement(view: str, dialect: str, hold_seconds: float, dataset: str) -> str:
    query = render(view, dialect, hold_seconds, dataset)
    return f"CREATE OR REPLACE VIEW {_qualified(view, dialect, dataset)} AS\n{query}"


def _qualified(view: str, dialect: str, dataset: str) -> str:
    schema = exp.to_table(dataset, dialect=dialect)
    return exp.table_(view, db=schema.this, catalog=schema.args.get("db")).sql(dialect=dialect)


def _tables_read(query: exp.Expr) -> list[exp.Table]:
    ctes = {cte.alias for cte in query.find_all(exp.CTE)}
    tables = [table for table in query.find_all(exp.Table) if table.name not in ctes]
    if unknown := {table.name for table in tables} - {*VIEWS, *TABLES}:
        raise ValueError(f"unknown tables {', '.join(sorted(unknown))}")
    return tables


def _translate(node: exp.Expr, dialect: str) -> exp.Expr:
    if isinstance(node, exp.Collate) and dialect in _BINARY_TEXT_ORDER:
        text: exp.Expr = node.this
        return text
    if isinstance(node, exp.Ordered):
        return _leave_nulls_alone(node, dialect)
    if isinstance(node, exp.Anonymous) and dialect != _SOURCE_DIALECT:
        return _call(_FUNCTIONS[node.name.lower()][dialect], node.expressions[0], dialect)
    return node


def _leave_nulls_alone(node: exp.Ordered, dialect: str) -> exp.Ordered:
    """No view orders by a null that matters, and not every dialect can say where nulls go."""
    small_first = sqlglot.Dialect.get_or_raise(dialect).NULL_ORDERING == "nulls_are_small"
    large_first = sqlglot.Dialect.get_or_raise(dialect).NULL_ORDERING == "nulls_are_large"
    node.set("nulls_first", large_first if node.args.get("desc") else small_first)
    return node


def _call(template: str, argument: exp.Expr, dialect: str) -> exp.Expr:
    argument = exp.paren(argument) if isinstance(argument, exp.Binary) else argument
    call: exp.Expr = sqlglot.parse_one(template, dialect=dialect)
    filled: exp.Expr = call.transform(lambda part: argument.copy() if part == exp.column("x") else part)
    return filled
