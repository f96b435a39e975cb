"""The state of the warehouse as a load finds it, and the row of `runs` that it writes itself."""

# ruff: noqa: S608 - our own names, values are parameters

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import LOAD_ID, RUNS, TABLES, Table

from .replacement import NO_LOAD
from .warehouse_sql import WarehouseSql


def incomplete_tables(client: SqlClientBase[Any], tables: Mapping[str, Table]) -> frozenset[str]:
    """Those of the tables that are missing, or lack one of their columns."""
    stored = WarehouseSql(client).stored
    return frozenset(
        name for name, table in tables.items() if not stored.get(name, {}).keys() >= set(table.schema.names)
    )


def create_missing(client: SqlClientBase[Any]) -> None:
    """Create the tables that are missing, as a load does."""
    WarehouseSql(client).create_missing(list(TABLES))


def newest_poll_at(client: SqlClientBase[Any]) -> datetime | None:
    """When the newest poll was that is no late one: the `as_of` of the views, UTC."""
    sql = WarehouseSql(client)
    ((found,),) = sql.fetch(f"SELECT max(last_polled_at) FROM ({sql.rows_of(RUNS.name)}) AS runs")
    return found if isinstance(found, datetime) else None


def reopen_runs(client: SqlClientBase[Any], run_ids: Collection[str]) -> None:
    """Have runs that were killed count as unfinished again: more of what they wrote is about to arrive.

    Args:
        client: an open one, which may write.
        run_ids: those that came to their end, or have no row, stay as they are.
    """
    sql = WarehouseSql(client)
    if RUNS.name not in sql.stored:
        return
    names = ("stopped_by", "finished_at", "run_id")
    stopped_by, finished_at, run_id = (sql.column(RUNS.name, name) for name in names)
    for each in sorted(run_ids):
        client.execute_sql(
            f"UPDATE {sql.table(RUNS.name)} SET {stopped_by} = NULL"
            f" WHERE {run_id} = %s AND {finished_at} IS NULL",
            each,
        )


def write_run(client: SqlClientBase[Any], run: Mapping[str, Any]) -> None:
    """Write what is known of a run into its row of `runs`.

    Args:
        client: an open one, which may write.
        run: values by column, `run_id` among them; other columns of a row that is there stay.
    """
    sql = WarehouseSql(client)
    names = [name for name in run if name != "run_id" and name in sql.stored[RUNS.name]]
    table, run_id = sql.table(RUNS.name), run["run_id"]
    columns = {name: sql.column(RUNS.name, name) for name in ("run_id", LOAD_ID, *names)}
    its_row = f"WHERE {columns['run_id']} = %s"
    with sql.transaction():
        found = client.execute_sql(f"SELECT COUNT(*) FROM {table} {its_row}", run_id)
        if not found or not found[0][0]:
            both = f"{columns['run_id']}, {columns[LOAD_ID]}"
            client.execute_sql(f"INSERT INTO {table} ({both}) VALUES (%s, %s)", run_id, NO_LOAD)
        if names:
            values = ", ".join(f"{columns[name]} = %s" for name in names)
            client.execute_sql(
                f"UPDATE {table} SET {values} {its_row}", *(run[name] for name in names), run_id
            )
