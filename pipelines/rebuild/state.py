"""The state of the warehouse as a load finds it, and the row of `runs` that it writes itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from sources.cronofy.tables import LOAD_ID, RUNS, TABLES, Table

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
    newest = exp.select("max(last_polled_at)").from_(sql.rows_of(RUNS.name).subquery("runs"))
    ((found,),) = sql.fetch(newest)
    return found if isinstance(found, datetime) else None


def write_run(client: SqlClientBase[Any], run: Mapping[str, Any]) -> None:
    """Write what is known of a run into its row of `runs`.

    Args:
        client: an open one, which may write.
        run: values by column, `run_id` among them; other columns of a row that is there stay.
    """
    sql = WarehouseSql(client)
    names = [name for name in run if name != "run_id" and name in sql.stored[RUNS.name]]
    table, run_id = sql.text(sql.table(RUNS.name)), run["run_id"]
    columns = {name: sql.text(sql.column(RUNS.name, name)) for name in ("run_id", LOAD_ID, *names)}
    with sql.transaction():
        is_there = f"SELECT COUNT(*) FROM {table} WHERE {columns['run_id']} = %s"  # noqa: S608 - our own names
        found = client.execute_sql(is_there, run_id)
        if not found or not found[0][0]:
            insert = f"INSERT INTO {table} ({columns['run_id']}, {columns[LOAD_ID]}) VALUES (%s, %s)"  # noqa: S608
            client.execute_sql(insert, run_id, NO_LOAD)
        if names:
            values = ", ".join(f"{columns[name]} = %s" for name in names)
            update = f"UPDATE {table} SET {values} WHERE {columns['run_id']} = %s"  # noqa: S608 - our own names
            client.execute_sql(update, *(run[name] for name in names), run_id)
