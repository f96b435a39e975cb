"""Upkeep of the log and of PostgreSQL: old polls go, indexes and statistics are there."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from sources.cronofy.tables import (
    ACCOUNT,
    CALENDARS,
    COVERAGE,
    POLLS,
    PROFILE_CHANGES,
    PROFILES,
    TOKEN_STATUS,
    USERINFO,
)

from .replacement import named
from .warehouse_sql import Part, WarehouseSql, instant

# columns that planning, merges, views and healing look rows up by
INDEXED = (
    (POLLS.name, "polled_at"),
    (PROFILE_CHANGES.name, "account_id"),
    (COVERAGE.name, "account_id"),
    (TOKEN_STATUS.name, "account_id"),
    (TOKEN_STATUS.name, "token_key"),
    (USERINFO.name, "token_key"),
    (ACCOUNT.name, "token_key"),
    (PROFILES.name, "token_key"),
    (CALENDARS.name, "token_key"),
)
INDEXED_DIALECT = "postgres"


def drop_old_polls(client: SqlClientBase[Any], before: datetime, at_most_rows: int) -> int:
    """Delete the oldest polls, if they are older than that, and return how many.

    All polls of one instant go together, so that it may be a few more than asked for.

    Args:
        client: an open one, which may write.
        before: younger polls stay, as do those of that instant.
        at_most_rows: about how many may go at once.
    """
    sql = WarehouseSql(client)
    polled_at = exp.column("polled_at")
    old = named(sql.rows_of(POLLS.name, Part(polled_at < instant(before))), "old")
    oldest = exp.select(polled_at).from_(old).order_by("polled_at").limit(at_most_rows)
    ((newest,),) = sql.fetch(exp.select("max(polled_at)").from_(named(oldest, "oldest")))
    if newest is None:
        return 0
    doomed = polled_at <= instant(newest)
    polls = named(sql.rows_of(POLLS.name, Part(doomed)), "doomed")
    ((rows,),) = sql.fetch(exp.select("count(*)").from_(polls))
    sql.execute(exp.delete(sql.table(POLLS.name)).where(doomed))
    return int(rows)


def prepare_postgres(client: SqlClientBase[Any]) -> None:
    """Create the indexes that planning, merges and views use, where they are missing; PostgreSQL only."""
    sql = WarehouseSql(client)
    if sql.dialect != INDEXED_DIALECT:
        return
    for table, column in INDEXED:
        if column in sql.stored.get(table, {}):
            name = f"dlt_cronofy_{table}_{column}"
            client.execute_sql(
                f'CREATE INDEX IF NOT EXISTS "{name}" ON {sql.text(sql.table(table))} ("{column}")'
            )


def analyze(client: SqlClientBase[Any], tables: Iterable[str]) -> None:
    """Have PostgreSQL learn what is in tables; without that it plans joins badly. Nothing elsewhere."""
    sql = WarehouseSql(client)
    if sql.dialect != INDEXED_DIALECT:
        return
    for table in tables:
        if sql.has(table):
            client.execute_sql(f"ANALYZE {sql.text(sql.table(table))}")
