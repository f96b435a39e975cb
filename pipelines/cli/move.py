"""`dlt-cronofy move`."""

import sys

import click

from .console import LOAD_FAILED, progress
from .options import destination_options, json_option, print_json


@click.command(short_help="Copy the history into another warehouse, where loads go on.")
@click.option("--to", required=True, help="dlt's name of the other destination, such as postgres or duckdb.")
@json_option("what was copied")
@destination_options
def move(to: str, as_json: bool, destination: str | None, dataset: str | None) -> None:
    """Copy the whole history into the same dataset of another warehouse, and compare it there.

    Run it again after an interruption: it adds what is missing, and nothing twice. The old warehouse stays as
    it is. Exit status: 0 all is there and `rebuild --check` finds no difference, 1 a load is running, a
    warehouse cannot be read or written, or there is a difference, 2 bad configuration or usage, or the other
    dataset holds another history.
    """
    from dlt_cronofy.configuration import read_settings
    from dlt_cronofy.moving import move_history, moved_lines
    from dlt_cronofy.rebuild.command import check_lines
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    _, settings = read_settings()
    old = open_pipeline(destination, dataset)
    with progress("copying", "rows") as (_, on_rows):
        moved = move_history(old, to, settings.hold, on_rows=on_rows)
    if as_json:
        print_json(moved.as_dict())
    else:
        for line in moved_lines(old, moved):
            click.echo(line)
        for line in check_lines(moved.differences):
            click.echo(f"rebuild --check there: {line}")
        if not moved.differences:
            click.echo(f'Loads go on there: set destination_type = "{to}" in .dlt/config.toml')
    if moved.differences:
        sys.exit(LOAD_FAILED)
