"""Parts: what one query works out at a time.

DuckDB keeps the windows and groups of a query in memory, so that a log of tens of millions of polls is
worked out part by part, each for a range of accounts, tokens or runs. PostgreSQL puts them on disk, and
reads the log once.
"""

# ruff: noqa: S608 - names are our own, values are literals of the dialect

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from .warehouse_sql import ALL, DUCKDB, Part, WarehouseSql

POLLS_PER_PART = 1_000_000
IN_PARTS = {DUCKDB}


@dataclass(frozen=True)
class Scope:
    """The accounts and tokens whose evidence is worked out, where it is not that of all.

    Attributes:
        accounts: account_ids whose rows of `coverage` are replaced.
        tokens: token_keys whose rows of `token_status` are replaced.
    """

    accounts: Collection[str] = ()
    tokens: Collection[str] = ()


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
    bounds = sql.fetch(_bounds(sql.rows_of("polls", only), key, polls_per_part))
    after: str | None = None
    for number, (last, first_at, last_at) in enumerate(bounds, 1):
        until = last if number < len(bounds) else None
        times = (first_at, last_at) if key == "run_id" and first_at is not None else None
        yield _part(sql, key, (after, until), only, times)
        after = last
    if not bounds:
        yield only


def _bounds(polls: str, key: str, polls_per_part: int) -> str:
    """The last key of each part, and between which times its polls are, in the order of the keys."""
    return f"""
        WITH counted AS (
            SELECT {key}, count(*) AS polls, min(polled_at) AS first_at, max(polled_at) AS last_at
            FROM ({polls}) AS polls
            WHERE {key} IS NOT NULL
            GROUP BY {key}
        ),
        added AS (
            SELECT
                {key},
                first_at,
                last_at,
                sum(polls) OVER (ORDER BY {key} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total
            FROM counted
        )
        SELECT max({key}) AS last_key, min(first_at) AS first_at, max(last_at) AS last_at
        FROM added
        GROUP BY floor(total / {polls_per_part})
        ORDER BY last_key
    """


def _part(
    sql: WarehouseSql,
    key: str,
    bounds: tuple[str | None, str | None],
    only: Part,
    times: tuple[datetime, datetime] | None,
) -> Part:
    after, until = bounds
    conditions = [only.condition]
    if after is not None:
        conditions.append(f"{key} > {sql.text(after)}")
    if until is not None:
        conditions.append(f"{key} <= {sql.text(until)}")
    by_table = dict(only.by_table)
    if times is not None:
        # so that the warehouse looks at no other blocks of the log
        within = f"polled_at BETWEEN {sql.instant(times[0])} AND {sql.instant(times[1])}"
        by_table["polls"] = f"{by_table.get('polls', '1 = 1')} AND {within}"
    return Part(" AND ".join(conditions), by_table)
