"""Queries on the warehouse, answered as pandas frames."""

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dlt
import pandas as pd

from dlt_cronofy import views
from dlt_cronofy.source.destinations import written_names
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import DEFAULT_DESTINATION

if TYPE_CHECKING:
    Column = pd.Series[Any]

Read = Callable[[str], pd.DataFrame]
"""A query in DuckDB's SQL, its tables and views by their bare names → its rows, times in UTC."""


def frame_reader(pipeline: dlt.Pipeline) -> Read:
    """Reads through dlt's SQL access, whatever the destination.

    Args:
        pipeline: whose dataset it is; it must hold the views.

    Returns:
        A function that takes a query in DuckDB's SQL. Columns come back as they do from DuckDB: times as
        timestamps in UTC, days as midnights without a zone, numbers as numbers.
    """
    with sql_client(pipeline) as client:
        dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        schema = client.fully_qualified_dataset_name()

    def read(sql: str) -> pd.DataFrame:
        statement = views.translate_query(sql, dialect, schema)
        with sql_client(pipeline) as client, client.execute_query(statement) as cursor:
            frame = cursor.df()
            assert frame is not None
            frame.columns = written_names(client, frame.columns)
        # not `apply`, which leaves a frame without rows as it is
        return frame.assign(**{str(name): _as_from_duckdb(frame[name]) for name in frame.columns})

    return read


def _as_from_duckdb(column: "Column") -> "Column":
    """The same values whatever the driver made of them: no Decimal, no Python date, no session time zone."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    name = str(column.name)
    if name.endswith("_at") or name == "started_after":
        return pd.to_datetime(column, utc=True).astype("datetime64[us, UTC]")
    if name == "day":
        return pd.to_datetime(column).astype("datetime64[us]")
    if any(isinstance(value, Decimal) for value in column):
        return column.astype("float64")
    return column
