"""`dlt-cronofy plan`."""

from typing import Any

import click

from .console import result_console
from .options import destination_options, json_option, plan_options, print_json


@click.command(short_help="Show what a load would do; call nothing.")
@plan_options
@click.option(
    "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Places of the order to show."
)
@json_option("the plan")
@destination_options
def plan(limit: int, as_json: bool, destination: str | None, dataset: str | None, **options: Any) -> None:
    """Show what a load with these options would poll, in what order, and how long that takes.

    Calls nothing and loads nothing. Exit status: 0 planned, 1 the warehouse cannot be read, 2 bad
    configuration or usage.
    """
    from dlt_cronofy.configuration import open_both
    from dlt_cronofy.load.preview import preview_load, print_preview
    from dlt_cronofy.load.steps import LoadOptions
    from dlt_cronofy.source.clock import SystemClock
    from dlt_cronofy.source.tokens.due_query import read_notified

    pipeline, settings, _, tokens = open_both(destination, dataset)
    now = SystemClock().now()
    notified = read_notified(settings, now)
    preview = preview_load(pipeline, settings, tokens, LoadOptions(**options), now, limit, notified)
    if as_json:
        print_json(preview.as_dict())
    else:
        print_preview(result_console(), preview)
