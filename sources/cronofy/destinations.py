"""Destinations: which ones can keep the history."""

from collections.abc import Iterable
from typing import Any

import dlt
from dlt.common.destination import Destination
from dlt.destinations.sql_client import SqlClientBase

from .errors import ConfigurationError

OF_DLT = "dlt.destinations."

# dlt has more; these replace rows by key, and all SQL of ours is written in theirs
DESTINATIONS = (
    "duckdb",
    "motherduck",
    "ducklake",
    "postgres",
    "snowflake",
    "bigquery",
    "redshift",
    "databricks",
)
FILES = "filesystem"


def check_destination(pipeline: dlt.Pipeline) -> None:
    """Make sure that the pipeline's destination can keep the history, before anybody is called.

    Raises:
        ConfigurationError: it cannot.
    """
    # without a destination dlt itself says so
    if pipeline.destination is not None and not is_supported(pipeline.destination):
        name = pipeline.destination.destination_name
        raise ConfigurationError(
            f"destination {name} cannot keep the history: {what_to_choose(pipeline.destination)}"
        )


def is_supported(destination: Destination[Any, Any]) -> bool:
    """Whether it replaces rows by key, and our SQL is written in its dialect.

    Elsewhere dlt would append every row in every run, or what is known of a profile could not be read, and no
    change would ever be noticed.
    """
    kind = destination.destination_type
    return kind.startswith(OF_DLT) and kind.removeprefix(OF_DLT) in DESTINATIONS


def what_to_choose(destination: Destination[Any, Any] | None = None) -> str:
    """The destinations that are supported, for somebody who chose another one."""
    others = f"choose one of {', '.join(DESTINATIONS)}"
    if destination is not None and destination.destination_type == f"{OF_DLT}{FILES}":
        return f"{others}; ducklake keeps the tables as Parquet files in a folder or a bucket"
    return others


def written_names(client: SqlClientBase[Any], names: Iterable[str]) -> list[str]:
    """The columns of an answer as we write them: Snowflake answers in capitals."""
    in_capitals = client.capabilities.casefold_identifier is str.upper
    return [name.lower() if in_capitals else name for name in names]
