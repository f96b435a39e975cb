"""`dlt-cronofy status`."""

import json
import logging

import click

from .console import result_console
from .options import (
    as_json_value,
    destination_options,
    reports_errors,
)

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Show who is disconnected and what is unknown.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@destination_options
@reports_errors
def status(as_json: bool, destination: str | None, dataset: str | None) -> None:  # noqa: FBT001
    """Show who is disconnected, since when, and what could not be read."""
    from dlt_cronofy.report.health import read_health
    from dlt_cronofy.warehouse.dataset import loaded_dataset
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    from .summary import print_status

    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        health = read_health(client)
    if as_json:
        click.echo(json.dumps(health.as_dict(), default=as_json_value, indent=2))
    else:
        print_status(result_console(), health)
