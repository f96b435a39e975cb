"""What a load asks of the warehouse, its row of `runs`, old polls, and the indexes of PostgreSQL."""

# ruff: noqa: S608 - names are our own, values are parameters or literals of the dialect

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import (
    ACCOUNT,
    CALENDARS,
    COVERAGE,
    LOAD_ID,
    POLLS,
    PROFILE_CHANGES,
    PROFILES,
    RUNS,
    TABLES,
    TOKEN_STATUS,
    USERINFO,
    Table,
)

from .warehouse_sql import NO_LOAD, POSTGRES, Part, WarehouseSql

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


def incomplete_tables(client: SqlClientBase[Any], tables: Mapping[str, Table]) -> frozenset[str]:
    """Those of the tables that are missing, or lack one of their columns."""
    stored = WarehouseSql(client).stored
    return frozenset(
        name for name, table in tables.items() if not stored.get(name, {}).keys() >= set(table.names)
    )


def create_missing(client: SqlClientBase[Any]) -> None:
    """Create the tables that are missing, as a load does."""
    WarehouseSql(client).create_missing(TABLES)


def newest_poll_at(client: SqlClientBase[Any]) -> datetime | None:
    """When the newest poll was that is no late one: the `as_of` of the views, UTC."""
    sql = WarehouseSql(client)
    ((found,),) = sql.fetch(f"SELECT max(last_polled_at) FROM ({sql.rows_of(RUNS.name)}) AS runs")
    return found if isinstance(found, datetime) else None


def reopen_runs(client: SqlClientBase[Any], run_ids: Collection[str]) -> None:
    """Have killed runs without an end count as unfinished: more of what they wrote is about to arrive."""
    sql = WarehouseSql(client)
    if RUNS.name in sql.stored and run_ids:
        marks = ", ".join(["%s"] * len(run_ids))
        killed = f"run_id IN ({marks}) AND finished_at IS NULL"
        sql.execute(f"UPDATE {sql.table(RUNS.name)} SET stopped_by = NULL WHERE {killed}", *sorted(run_ids))


def write_run(client: SqlClientBase[Any], run: Mapping[str, Any]) -> None:
    """Write these columns of a run into its row of `runs`; other columns of a row that is there stay."""
    sql = WarehouseSql(client)
    table, run_id = sql.table(RUNS.name), run["run_id"]
    names = [name for name in run if name != "run_id" and name in sql.stored[RUNS.name]]
    with sql.transaction():
        if not sql.fetch(f"SELECT run_id FROM {table} WHERE run_id = %s", run_id):
            sql.execute(f"INSERT INTO {table} (run_id, {LOAD_ID}) VALUES (%s, %s)", run_id, NO_LOAD)
        if names:
            values = ", ".join(f"{sql.column(RUNS.name, name)} = %s" for name in names)
            sql.execute(
                f"UPDATE {table} SET {values} WHERE run_id = %s", *(run[name] for name in names), run_id
            )


def drop_old_polls(client: SqlClientBase[Any], before: datetime, at_most_rows: int) -> int:
    """Delete about so many of the polls before an instant, oldest first; returns how many.

    All polls of one instant go together, so that it may be a few more than asked for.
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
    if sql.dialect != POSTGRES:
        return False
    names = [_index_name(table, column) for table, column in INDEXED]
    marks = ", ".join(["%s"] * len(names))
    listed = f"SELECT COUNT(*) FROM pg_indexes WHERE schemaname = %s AND indexname IN ({marks})"
    schema = client.make_qualified_table_name_path(None, quote=False)[-1]
    ((found,),) = sql.fetch(listed, schema, *names)
    return bool(found < len(names))


def prepare_postgres(client: SqlClientBase[Any]) -> None:
    """Create the indexes that planning, merges and views use, where they are missing; PostgreSQL only."""
    sql = WarehouseSql(client)
    for table, column in INDEXED if sql.dialect == POSTGRES else ():
        if column in sql.stored.get(table, {}):
            name = _index_name(table, column)
            sql.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {sql.table(table)} ({column})")


def analyze(client: SqlClientBase[Any], tables: Iterable[str]) -> None:
    """Have PostgreSQL learn what is in tables; without that it plans joins badly. Nothing elsewhere."""
    sql = WarehouseSql(client)
    for table in tables if sql.dialect == POSTGRES else ():
        if table in sql.stored:
            sql.execute(f"ANALYZE {sql.table(table)}")


def _index_name(table: str, column: str) -> str:
    return f"dlt_cronofy_{table}_{column}"
