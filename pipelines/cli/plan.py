"""`dlt-cronofy plan`."""

import json
import logging
from datetime import timedelta

import click

from .console import result_console
from .options import (
    as_json_value,
    destination_options,
    plan_options,
    reports_errors,
)

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Show what a load would do; call nothing.")
@plan_options
@click.option(
    "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Places of the order to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@destination_options
@reports_errors
def plan(
    every: timedelta,
    endpoints: str,
    order: str,
    max_requests: int | None,
    limit: int,
    as_json: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Show what a load with these options would poll, in what order, and how long that takes.

    Calls nothing and loads nothing. Exit status: 0 planned, 1 the warehouse cannot be read, 2 bad
    configuration or usage.
    """
    from dlt_cronofy.configuration import configured_store, read_settings
    from dlt_cronofy.load.preview import preview_load, print_preview
    from dlt_cronofy.load.steps import LoadOptions
    from dlt_cronofy.source.clock import SystemClock
    from dlt_cronofy.source.settings import check_endpoints
    from dlt_cronofy.source.tokens.store import stored_tokens
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    options = LoadOptions(
        every=every,
        endpoints=check_endpoints(endpoints.split(",")),
        order=order,
        max_requests=max_requests,
    )
    configuration, settings = read_settings()
    tokens = stored_tokens(configured_store(configuration), settings)
    pipeline = open_pipeline(destination, dataset)
    preview = preview_load(pipeline, settings, tokens, options, SystemClock().now(), limit)
    if as_json:
        click.echo(json.dumps(preview.as_dict(), default=as_json_value, indent=2))
    else:
        print_preview(result_console(), preview)
