"""The views' queries as each warehouse writes them.

The `.sql` files beside this module are SQL that every warehouse reads, but for three things: the idioms
below, the names of tables and views, and `$hold`, the time for which one sample is trusted. They are put
into the text, so that a warehouse and a dbt project get the query as it stands in the file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import sqlglot
from sqlglot import ErrorLevel, exp

from .headers import query
from .names import TABLES, VIEWS

SOURCE_DIALECT = "duckdb"
# DuckDB binds the bare names in a view to the view's own schema. Qualified ones would break in a file that is
# attached under another name, and are ambiguous in one that is named like its schema.
_BOUND_TO_OWN_SCHEMA = {"duckdb"}

_RELATION = re.compile(rf"\b(FROM|JOIN) ({'|'.join((*TABLES, *VIEWS))})\b")
# a column or a call with columns
VALUE = r"[\w.]+(?:\([^()]*\))?"


@dataclass(frozen=True)
class Idiom:
    """What not every warehouse writes as DuckDB does.

    Attributes:
        name: of the dbt macro that writes it.
        pattern: how the views write it; its groups are the arguments.
        default: how PostgreSQL writes it, and the others if not said otherwise.
        others: how other warehouses do, by dialect.
        arguments: their order in the macro.
    """

    name: str
    pattern: str
    default: str
    others: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    def template(self, dialect: str) -> str:
        """How a dialect writes it, with the arguments in braces."""
        return self.others.get(dialect, self.default)


IDIOMS = (
    Idiom(
        "type_double",
        r"\bDOUBLE\b",
        "DOUBLE PRECISION",
        {"bigquery": "FLOAT64", "databricks": "DOUBLE"},
    ),
    # decimals add up to the same in any order, as floating-point numbers do not
    Idiom("type_decimal", r"\bDECIMAL\(18, 6\)", "DECIMAL(18, 6)", {"bigquery": "NUMERIC"}),
    Idiom(
        "quoted",
        r'"(?P<name>[a-z]+)"',
        '"{name}"',
        {"bigquery": "`{name}`", "databricks": "`{name}`"},
        ("name",),
    ),
    # a day of an interval is in Databricks one of the session's time zone, which may have 23 hours
    *(
        Idiom(
            f"plus_{unit}s",
            rf"(?P<instant>{VALUE}) (?P<sign>[+-]) INTERVAL '(?P<number>\d+) {unit}'",
            f"{{instant}} {{sign}} INTERVAL '{{number}} {unit}'",
            {
                "bigquery": f"{{instant}} {{sign}} INTERVAL {{number}} {unit}",
                "databricks": "TIMESTAMP_MICROS(UNIX_MICROS({instant}) {sign}"
                f" CAST({{number}} AS BIGINT) * {microseconds})",
            },
            ("instant", "sign", "number"),
        )
        for unit, microseconds in (("hour", 3_600_000_000), ("second", 1_000_000), ("microsecond", 1))
    ),
    # exact to the microsecond. In DuckDB the difference of two instants is days and hours of the session's
    # time zone, where a day may have 23 of them.
    Idiom(
        "seconds_between",
        rf"epoch\((?P<later>{VALUE}) - (?P<earlier>{VALUE})\)",
        "CAST(EXTRACT(EPOCH FROM {later} - {earlier}) AS DOUBLE PRECISION)",
        {
            "bigquery": "(TIMESTAMP_DIFF({later}, {earlier}, MICROSECOND) / 1000000)",
            "databricks": "((UNIX_MICROS({later}) - UNIX_MICROS({earlier})) / CAST(1000000 AS DOUBLE))",
            "duckdb": "ROUND(EPOCH({later}) - EPOCH({earlier}), 6)",
            "redshift": "(DATEDIFF(MICROSECOND, {earlier} AT TIME ZONE 'UTC', {later} AT TIME ZONE 'UTC')"
            " / CAST(1000000 AS DOUBLE PRECISION))",
            "snowflake": "(DATEDIFF(MICROSECOND, {earlier}, {later}) / CAST(1000000 AS DOUBLE PRECISION))",
        },
        ("earlier", "later"),
    ),
    Idiom(
        "utc_date",
        rf"CAST\((?P<instant>{VALUE}) AT TIME ZONE 'UTC' AS DATE\)",
        "CAST({instant} AT TIME ZONE 'UTC' AS DATE)",
        {
            "bigquery": "DATE({instant}, 'UTC')",
            "databricks": "DATE_FROM_UNIX_DATE(CAST(FLOOR(UNIX_SECONDS({instant}) / 86400) AS INT))",
            "snowflake": "CAST(CONVERT_TIMEZONE('UTC', {instant}) AS DATE)",
        },
        ("instant",),
    ),
    Idiom(
        "utc_midnight",
        r"CAST\((?P<day>[\w +]+) AS TIMESTAMP\) AT TIME ZONE 'UTC'",
        "CAST({day} AS TIMESTAMP) AT TIME ZONE 'UTC'",
        {
            "bigquery": "TIMESTAMP({day}, 'UTC')",
            "databricks": "TIMESTAMP_SECONDS(UNIX_DATE({day}) * CAST(86400 AS BIGINT))",
            "snowflake": "TO_TIMESTAMP_TZ(DATE_PART(EPOCH_SECOND, {day}))",
        },
        ("day",),
    ),
    Idiom(
        "utc_hour",
        rf"date_trunc\('hour', (?P<instant>{VALUE}) AT TIME ZONE 'UTC'\) AT TIME ZONE 'UTC'",
        "DATE_TRUNC('hour', {instant} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'",
        {
            "bigquery": "TIMESTAMP_TRUNC({instant}, HOUR)",
            "databricks": "TIMESTAMP_SECONDS(CAST(FLOOR(UNIX_SECONDS({instant}) / 3600) * 3600 AS BIGINT))",
            "snowflake": "TO_TIMESTAMP_TZ(FLOOR(DATE_PART(EPOCH_SECOND, {instant}) / 3600) * 3600)",
        },
        ("instant",),
    ),
    Idiom(
        "month_start",
        rf"CAST\(date_trunc\('month', (?P<day>{VALUE})\) AS DATE\)",
        "CAST(DATE_TRUNC('month', {day}) AS DATE)",
        {"bigquery": "DATE_TRUNC({day}, MONTH)"},
        ("day",),
    ),
    Idiom(
        "sorted_list",
        r"string_agg\((?P<text>\w+), ',' ORDER BY (?P=text) COLLATE \"C\"\)",
        "STRING_AGG({text}, ',' ORDER BY {text} COLLATE \"C\")",
        {
            "bigquery": "STRING_AGG({text}, ',' ORDER BY {text})",
            "databricks": "ARRAY_JOIN(ARRAY_SORT(COLLECT_LIST({text})), ',')",
            "redshift": "LISTAGG({text}, ',') WITHIN GROUP (ORDER BY {text})",
            "snowflake": "LISTAGG({text}, ',') WITHIN GROUP (ORDER BY {text})",
        },
        ("text",),
    ),
    # text in the order of its bytes: the others know no other
    Idiom(
        "bytewise",
        r"(?<= )COLLATE \"C\"",
        'COLLATE "C"',
        dict.fromkeys(("bigquery", "databricks", "redshift", "snowflake"), ""),
    ),
)
"""In this order: none finds itself in what one before it wrote."""


def render(view: str, dialect: str, hold_seconds: float, dataset: str) -> str:
    """The view's query in a dialect, its tables qualified with the dataset as that dialect writes it."""
    sql = query(view).replace("$hold", duration(hold_seconds))
    return in_dialect(sql, dialect, lambda name: _qualified(name, dialect, dataset))


def in_dialect(sql: str, dialect: str, relation: Callable[[str], str] = str) -> str:
    """A query as the views are written, as a dialect writes it."""
    return rewrite(sql, relation, lambda idiom, found: idiom.template(dialect).format(**found))


def rewrite(
    sql: str, relation: Callable[[str], str], idiom: Callable[[Idiom, Mapping[str, str]], str]
) -> str:
    """A query as the views are written, with other words for its relations and its idioms."""
    sql = _RELATION.sub(lambda found: f"{found[1]} {relation(found[2])}", sql)
    for each in IDIOMS:
        sql = re.sub(each.pattern, lambda found, each=each: idiom(each, found.groupdict()), sql)  # type: ignore[misc]
    return sql


def duration(hold_seconds: float) -> str:
    """SQL for a length of time, in whole seconds or else in microseconds."""
    if hold_seconds <= 0:
        raise ValueError("hold_seconds must be positive")
    if hold_seconds == round(hold_seconds):
        return f"INTERVAL '{round(hold_seconds)} second'"
    return f"INTERVAL '{round(hold_seconds * 1_000_000)} microsecond'"


def translate_query(sql: str, dialect: str, dataset: str) -> str:
    """A query on tables and views, in DuckDB's SQL and by their bare names, for a destination."""
    tree = sqlglot.parse_one(sql, dialect=SOURCE_DIALECT)
    for table in tree.find_all(exp.Table):
        if table.name in (*TABLES, *VIEWS):
            qualified = exp.to_table(_qualified(table.name, dialect, dataset), dialect=dialect)
            table.set("db", qualified.args.get("db"))
            table.set("catalog", qualified.args.get("catalog"))
    # where a window cannot say where nulls go: nothing is ordered by a null that matters
    return tree.sql(dialect=dialect, comments=False, unsupported_level=ErrorLevel.IGNORE)


def restricted(view: str, relation: str, condition: str) -> str:
    """The view's query, in DuckDB's SQL, over those rows of a relation for which a condition holds."""
    part = f"(SELECT * FROM {relation} WHERE {condition}) AS {relation}"  # noqa: S608 - our own names
    found = query(view)
    if f"FROM {relation}\n" not in found:
        raise ValueError(f"{view} does not read {relation}")
    return found.replace(f"FROM {relation}\n", f"FROM {part}\n")


def _qualified(name: str, dialect: str, dataset: str) -> str:
    return name if dialect in _BOUND_TO_OWN_SCHEMA else f"{dataset}.{name}"
