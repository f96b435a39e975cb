"""Parts: what one query works out at a time.

DuckDB keeps the windows and groups of a query in memory, so that a log of tens of millions of polls is
worked out part by part, each for a range of accounts, tokens or runs. PostgreSQL puts them on disk, and
reads the log once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlglot import exp

from .warehouse_sql import ALL, Part, WarehouseSql, instant

POLLS_PER_PART = 2_000_000
IN_PARTS = {"duckdb"}


@dataclass(frozen=True)
class Scope:
    """The accounts and tokens whose evidence is worked out, where it is not that of all.

    Attributes:
        accounts: account_ids whose rows of `coverage` are replaced.
        tokens: token_keys whose rows of `token_status` are replaced.
    """

    accounts: frozenset[str] | set[str] = frozenset()
    tokens: frozenset[str] | set[str] = frozenset()


def parts(sql: WarehouseSql, key: str, only: Part = ALL, polls_per_part: int | None = None) -> Iterator[Part]:
    """Parts that together are `only`, each of some values of the key with not many more polls than that.

    Args:
        sql: the warehouse.
        key: account_id, token_key or run_id.
        only: the rows that count.
        polls_per_part: how many; None for what suits the warehouse.
    """
    if polls_per_part is None:
        if sql.dialect not in IN_PARTS:
            yield only
            return
        polls_per_part = POLLS_PER_PART
    rows = sql.fetch(_bounds(sql, key, only, polls_per_part))
    previous: str | None = None
    for number, (last, first_at, last_at) in enumerate(rows):
        end = last if number < len(rows) - 1 else None
        yield _part(key, previous, end, only, (first_at, last_at) if key == "run_id" else None)
        previous = last
    if not rows:
        yield only


def _bounds(sql: WarehouseSql, key: str, only: Part, polls_per_part: int) -> exp.Select:
    """The last key of each part, and between which times its polls are, in the order of the keys."""
    counted = (
        exp.select(
            exp.column(key),
            "count(*) AS polls",
            "min(polled_at) AS first_at",
            "max(polled_at) AS last_at",
        )
        .from_(sql.rows_of("polls", only).subquery("polls"))
        .where(f"{key} IS NOT NULL")
        .group_by(key)
    )
    added = exp.select(
        exp.column(key),
        "first_at",
        "last_at",
        f"sum(polls) OVER (ORDER BY {key} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total",
    ).from_(counted.subquery("counted"))
    return (
        exp.select(f"max({key}) AS last_key", "min(first_at) AS first_at", "max(last_at) AS last_at")
        .from_(added.subquery("added"))
        .group_by(f"total - total % {polls_per_part}")
        .order_by("last_key")
    )


def _part(
    key: str, after: str | None, until: str | None, only: Part, times: tuple[datetime, datetime] | None
) -> Part:
    conditions: list[exp.Expr] = [only.condition] if only.condition is not None else []
    if after is not None:
        conditions.append(exp.column(key) > exp.Literal.string(after))
    if until is not None:
        conditions.append(exp.column(key) <= exp.Literal.string(until))
    by_table: dict[str, exp.Expr] = dict(only.by_table)
    if times is not None and None not in times:
        # so that the warehouse looks at no other blocks of the log
        within = exp.column("polled_at").between(instant(times[0]), instant(times[1]))
        by_table["polls"] = exp.and_(*(each for each in (by_table.get("polls"), within) if each is not None))
    return Part(exp.and_(*conditions) if conditions else None, by_table)


def one_of(key: str, values: exp.Query) -> exp.Expr:
    """That a column has one of the values that a query returns."""
    found: exp.Expr = exp.column(key).isin(query=values)
    return found


def any_row(sql: WarehouseSql, query: exp.Select) -> bool:
    """Whether a query returns a row."""
    rows: list[tuple[Any, ...]] = sql.fetch(query.limit(1))
    return bool(rows)
