"""`dlt-cronofy check`."""

import sys

import click

from .console import LOAD_FAILED, LOADED
from .options import destination_options, json_option, print_json


@click.command(short_help="Validate configuration and tokens; load nothing.")
@json_option("what was found")
@destination_options
def check(as_json: bool, destination: str | None, dataset: str | None) -> None:
    """Validate all that a load depends on, with at most three calls per data center.

    Loads and refreshes nothing. Exit status: 0 all is well, 1 a row of the token store cannot be used, a data
    center did not accept its tokens or the application, refreshed tokens could not be written back, or the
    warehouse cannot be reached or written, 2 bad configuration.
    """
    from dlt_cronofy.configuration import open_both

    from .checks import Findings

    pipeline, settings, store, tokens = open_both(destination, dataset)
    found = Findings(settings, store, tokens, pipeline)
    # line by line: each part may take a while, or fail
    for line in found.lines():
        if not as_json:
            click.echo(line)
    if as_json:
        print_json(found.as_dict())
    sys.exit(LOADED if found.is_well else LOAD_FAILED)
