"""`dlt-cronofy status`."""

import click

from .console import result_console
from .options import destination_options, json_option, print_json


@click.command(short_help="Show who is disconnected and what is unknown.")
@json_option("the figures")
@destination_options
def status(as_json: bool, destination: str | None, dataset: str | None) -> None:
    """Show who is disconnected, since when, and what could not be read."""
    from dlt_cronofy.report.health import read_health
    from dlt_cronofy.warehouse.dataset import loaded_dataset
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    from .summary import print_status

    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        health = read_health(client)
    if as_json:
        print_json(health.as_dict())
    else:
        print_status(result_console(), health)
