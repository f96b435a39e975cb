"""`dlt-cronofy check`."""

import json
import logging
import sys

import click

from .console import LOAD_FAILED, LOADED
from .options import (
    destination_options,
    reports_errors,
)

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Validate configuration and tokens; load nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@destination_options
@reports_errors
def check(as_json: bool, destination: str | None, dataset: str | None) -> None:  # noqa: FBT001
    """Validate configuration, token store and warehouse, with at most three calls per data center.

    Loads and refreshes nothing. Exit status: 0 all is well, 1 a row of the token store cannot be used, a data
    center did not accept its tokens, refreshed tokens could not be written back, or the warehouse cannot be
    reached, 2 bad configuration.
    """
    from dlt_cronofy.alerts.outage_alerts import configured_alerts
    from dlt_cronofy.configuration import configured_store, read_settings
    from dlt_cronofy.source.tokens.store import stored_tokens
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    from .checks import (
        check_calls,
        check_handoff,
        check_lines,
        check_store,
        check_warehouse,
        checks_as_dict,
        rows_as_dict,
        store_lines,
    )

    configuration, settings = read_settings()
    configured_alerts()
    store = configured_store(configuration)
    tokens = stored_tokens(store, settings)
    pipeline = open_pipeline(destination, dataset)
    if not as_json:
        for line in store_lines(tokens):
            click.echo(line)
    unwritable = check_store(settings, store, tokens)
    checked = check_calls(settings, tokens, unwritable)
    if not as_json:
        for line in check_lines(checked):
            click.echo(line)
    warehouse, handoff = check_warehouse(pipeline), check_handoff()
    if as_json:
        found = rows_as_dict(tokens) | {"data_centers": checks_as_dict(checked), "warehouse": warehouse}
        found |= ({"not_written_back": unwritable} if unwritable else {}) | (
            {"handoff": handoff} if handoff else {}
        )
        click.echo(json.dumps(found, indent=2))
    else:
        if unwritable:
            click.echo(unwritable)
        click.echo(warehouse)
        if handoff is not None:
            click.echo(handoff)
    is_well = unwritable is None and not tokens.unusable and all(each.is_well for each in checked)
    sys.exit(LOADED if is_well else LOAD_FAILED)
