"""Destinations: which ones can keep the history."""

from typing import Any

import dlt
from dlt.common.schema.typing import TTableSchema
from dlt.destinations.sql_client import WithSqlClient

from .errors import ConfigurationError

STRATEGY = "delete-insert"


def check_destination(pipeline: dlt.Pipeline) -> None:
    """Make sure that the pipeline's destination replaces rows by key and answers SQL.

    Elsewhere dlt appends every row in every run, and what is known of a profile cannot be read: no change
    would ever be noticed.

    Raises:
        ConfigurationError: it cannot.
    """
    destination: Any = pipeline.destination
    if destination is None:
        return  # dlt itself says so
    capabilities = destination.capabilities()
    strategies = capabilities.supported_merge_strategies or ()
    if capabilities.merge_strategies_selector is not None:
        # some can with one table format only
        table: TTableSchema = {"table_format": capabilities.preferred_table_format or "native"}
        strategies = capabilities.merge_strategies_selector(strategies, table_schema=table)
    if STRATEGY not in strategies or not issubclass(destination.client_class, WithSqlClient):
        raise ConfigurationError(
            f"destination {destination.destination_name} cannot keep the history: it does not replace rows by"
            " key (merge strategy delete-insert), or SQL cannot read it; duckdb and postgres will do"
        )
