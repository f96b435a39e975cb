"""From when on all polls are kept."""

from datetime import datetime, timedelta

from .warehouse_sql import WarehouseSql

MICROSECOND = timedelta(microseconds=1)


def find_horizon(sql: WarehouseSql) -> datetime | None:
    """The time from which on all polls are kept, where older ones were deleted; None where none were."""
    rows = sql.fetch(sql.query("horizon"))
    if not rows:
        return None
    polled_at: datetime = rows[0][0]
    is_left = bool(rows[0][1])
    return polled_at if is_left else polled_at + MICROSECOND
