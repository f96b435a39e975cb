"""The warehouse: the dlt pipeline that loads it, and the SQL that reads it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dlt
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.destinations.sql_client import SqlClientBase

from sources.cronofy.errors import ConfigurationError

from .duckdb_destination import catalog_duckdb
from .views import VIEWS, create_views

PIPELINE_NAME = "cronofy"
DEFAULT_DESTINATION = "duckdb"
DEFAULT_DATASET = "cronofy"

Row = dict[str, Any]


def open_pipeline(
    destination: str | None = None,
    dataset: str | None = None,
    credentials: str | None = None,
    pipelines_dir: Path | None = None,
) -> dlt.Pipeline:
    """The dlt pipeline of that destination, brought up to date with what the destination knows.

    Args:
        destination: dlt's name of it; from dlt's configuration, else duckdb.
        dataset: the schema to load into.
        credentials: overrides the configured ones, as for the demo's own file.
        pipelines_dir: dlt's working files; dlt's default where None.

    Raises:
        ConfigurationError: dlt knows no such destination.
    """
    _configure_dlt()
    name = destination or configured_destination()
    try:
        target = Destination.from_reference(name)
    except UnknownDestinationModule:
        raise ConfigurationError(f"--destination {name}: dlt knows no such destination") from None
    if type(target) is dlt.destinations.duckdb:
        options: dict[str, Any] = {"credentials": credentials} if credentials else {}
        if target.destination_name != DEFAULT_DESTINATION:
            # dlt names the file after a destination that is named, else after the pipeline
            options["destination_name"] = target.destination_name
        own: Destination[Any, Any] = catalog_duckdb(**options)
        target = own
    place: dict[str, Any] = {"pipelines_dir": str(pipelines_dir)} if pipelines_dir else {}
    pipeline: dlt.Pipeline = dlt.pipeline(
        PIPELINE_NAME, destination=target, dataset_name=dataset or DEFAULT_DATASET, **place
    )
    return pipeline


def configured_destination() -> str:
    """Dlt's `destination_type` where one is configured, else duckdb."""
    configured: str | None = dlt.config.get("destination_type")
    return configured or DEFAULT_DESTINATION


def _configure_dlt() -> None:
    """Defaults of ours for dlt, which its own configuration overrides."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    if dlt.config.get("load.delete_completed_jobs") is None:
        # loaded packages hold what people's tables hold; they are not kept on disk
        dlt.config["load.delete_completed_jobs"] = True


@contextmanager
def sql_client(pipeline: dlt.Pipeline) -> Iterator[SqlClientBase[Any]]:
    """An open SQL client on the dataset of the pipeline."""
    with pipeline.sql_client() as client:
        yield client


def query_rows(client: SqlClientBase[Any], sql: str, *parameters: Any) -> list[Row]:
    """Rows of a query as dictionaries."""
    with client.execute_query(sql, *parameters) as cursor:
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def refresh_views(pipeline: dlt.Pipeline, hold_seconds: float) -> Sequence[str]:
    """Create or replace the SQL views beside the tables; returns their names."""
    with sql_client(pipeline) as client:
        execute: Callable[[str], Any] = client.execute_sql
        dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        create_views(execute, dialect, client.fully_qualified_dataset_name(), hold_seconds)
    return VIEWS


def location(pipeline: dlt.Pipeline) -> str:
    """Where the data is, for people: the DuckDB file, else the destination's name. Never credentials."""
    destination = pipeline.destination
    if isinstance(destination, dlt.destinations.duckdb):
        with sql_client(pipeline) as client:
            path = Path(str(client.credentials.database))
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return str(destination.destination_name) if destination else DEFAULT_DESTINATION
