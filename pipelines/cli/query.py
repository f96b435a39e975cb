"""`dlt-cronofy query`."""

import csv
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from .console import result_console
from .options import destination_options


# a query may begin with a comment, which begins like an option
@click.command(context_settings={"ignore_unknown_options": True}, short_help="Run one read-only SQL query.")
@click.argument("sql")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="A table for people, CSV with a header, or one JSON object a row.",
)
@click.option("--json", "shape", flag_value="json", help="The same as --format json.")
@destination_options
def query(sql: str, shape: str, destination: str | None, dataset: str | None) -> None:
    """Run one read-only SQL query on the tables and views, on any destination."""
    from dlt_cronofy.warehouse.dataset import check_query, loaded_dataset, query_columns
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    from .summary import print_rows

    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        check_query(client, sql)
        names, values = query_columns(client, sql)
    if shape == "csv":
        _print_csv(names, values)
        return
    rows = [dict(zip(names, row, strict=True)) for row in values]
    if shape == "json":
        for row in rows:
            click.echo(json.dumps(row, default=str))
    else:
        print_rows(result_console(), rows)


def _print_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Times as ISO 8601, nothing where there is no value."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_as_csv(value) for value in row] for row in rows)


def _as_csv(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return value.isoformat() if hasattr(value, "isoformat") else value
