"""Times of a clock that was ahead: they count no more once the right time is known again."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from sources.cronofy.tables import POLLS, PROFILE_CHANGES

from .healing import heal
from .warehouse_sql import WarehouseSql, instant


def void_after(client: SqlClientBase[Any], hold: timedelta, horizon: datetime) -> None:
    """Have polls after that instant tell nothing, remove the changes they showed, and heal the evidence.

    Args:
        client: an open one, which may write.
        hold: how long one sample is trusted.
        horizon: later times are of a clock that was ahead, UTC.
    """
    sql = WarehouseSql(client)
    ahead = exp.column("polled_at") > instant(horizon)
    changed_ahead = exp.column("observed_at") > instant(horizon)
    runs = {*_runs(sql, POLLS.name, ahead), *_runs(sql, PROFILE_CHANGES.name, changed_ahead)}
    with sql.transaction():
        sql.execute(exp.update(sql.table(POLLS.name), {"is_late": exp.true()}, where=ahead))
        sql.execute(exp.delete(sql.table(PROFILE_CHANGES.name)).where(changed_ahead))
    heal(client, hold, runs)


def _runs(sql: WarehouseSql, table: str, condition: exp.Expr) -> Iterable[str]:
    rows = sql.fetch(exp.select("run_id").distinct().from_(sql.table(table)).where(condition.copy()))
    return [run_id for (run_id,) in rows if run_id is not None]
