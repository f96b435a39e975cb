"""Upkeep of the log and of PostgreSQL: old polls go, indexes and statistics are there."""

# ruff: noqa: S608 - names are our own, values are literals of the dialect

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import (
    ACCOUNT,
    CALENDARS,
    COVERAGE,
    POLLS,
    PROFILE_CHANGES,
    PROFILES,
    TOKEN_STATUS,
    USERINFO,
)

from .warehouse_sql import Part, WarehouseSql

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
    old = sql.rows_of(POLLS.name, Part(f"polled_at < {sql.instant(before)}"))
    oldest = f"SELECT polled_at FROM ({old}) AS old ORDER BY polled_at LIMIT {at_most_rows}"
    ((newest,),) = sql.fetch(f"SELECT max(polled_at) FROM ({oldest}) AS oldest")
    if newest is None:
        return 0
    doomed = f"polled_at <= {sql.instant(newest)}"
    ((rows,),) = sql.fetch(f"SELECT count(*) FROM ({sql.rows_of(POLLS.name, Part(doomed))}) AS doomed")
    sql.execute(f"DELETE FROM {sql.table(POLLS.name)} WHERE {doomed}")
    return int(rows)


def lacks_indexes(client: SqlClientBase[Any]) -> bool:
    """Whether PostgreSQL lacks one of the indexes that `prepare_postgres` makes."""
    sql = WarehouseSql(client)
    if sql.dialect != INDEXED_DIALECT:
        return False
    names = [_index_name(table, column) for table, column in INDEXED]
    marks = ", ".join(["%s"] * len(names))
    listed = f"SELECT COUNT(*) FROM pg_indexes WHERE schemaname = %s AND indexname IN ({marks})"
    schema = client.make_qualified_table_name_path(None, quote=False)[-1]
    with client.execute_query(listed, schema, *names) as cursor:
        ((found,),) = cursor.fetchall()
    return bool(found < len(names))


def prepare_postgres(client: SqlClientBase[Any]) -> None:
    """Create the indexes that planning, merges and views use, where they are missing; PostgreSQL only."""
    sql = WarehouseSql(client)
    if sql.dialect != INDEXED_DIALECT:
        return
    for table, column in INDEXED:
        if column in sql.stored.get(table, {}):
            sql.execute(
                f"CREATE INDEX IF NOT EXISTS {_index_name(table, column)} ON {sql.table(table)} ({column})"
            )


def _index_name(table: str, column: str) -> str:
    return f"dlt_cronofy_{table}_{column}"


def analyze(client: SqlClientBase[Any], tables: Iterable[str]) -> None:
    """Have PostgreSQL learn what is in tables; without that it plans joins badly. Nothing elsewhere."""
    sql = WarehouseSql(client)
    if sql.dialect != INDEXED_DIALECT:
        return
    for table in tables:
        if table in sql.stored:
            sql.execute(f"ANALYZE {sql.table(table)}")
