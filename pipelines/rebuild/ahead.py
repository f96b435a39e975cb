"""Times of a clock that was ahead: they count no more once the right time is known again."""

# ruff: noqa: S608 - our own names

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import POLLS, PROFILE_CHANGES

from .healing import heal
from .warehouse_sql import WarehouseSql


def void_after(client: SqlClientBase[Any], hold: timedelta, horizon: datetime) -> None:
    """Have polls after that instant tell nothing, remove the changes they showed, and heal the evidence.

    Args:
        client: an open one, which may write.
        hold: how long one sample is trusted.
        horizon: later times are of a clock that was ahead, UTC.
    """
    sql = WarehouseSql(client)
    ahead, changed_ahead = (f"{name} > {sql.instant(horizon)}" for name in ("polled_at", "observed_at"))
    runs = {*_runs(sql, POLLS.name, ahead), *_runs(sql, PROFILE_CHANGES.name, changed_ahead)}
    with sql.transaction():
        sql.execute(f"UPDATE {sql.table(POLLS.name)} SET is_late = TRUE WHERE {ahead}")
        sql.execute(f"DELETE FROM {sql.table(PROFILE_CHANGES.name)} WHERE {changed_ahead}")
    heal(client, hold, runs)


def _runs(sql: WarehouseSql, table: str, condition: str) -> Iterable[str]:
    rows = sql.fetch(f"SELECT DISTINCT run_id FROM {sql.table(table)} WHERE {condition}")
    return [run_id for (run_id,) in rows if run_id is not None]
