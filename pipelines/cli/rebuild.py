"""`dlt-cronofy rebuild`."""

import logging
import sys

import click

from .console import LOAD_FAILED
from .options import (
    destination_options,
    print_facts,
    reports_errors,
)

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Recompute the evidence tables from polls, or compare them.")
@click.option("--check", is_flag=True, help="Only compare; print each difference.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows written, or all differences, as JSON.")
@destination_options
@reports_errors
def rebuild(
    check: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Recompute token_status, coverage and runs from polls and profile_changes.

    What is not in the polls stays as it is: labels, left_at, how runs ended. Use it to apply a changed `hold`
    to the past. Exit status: 0 written, or no difference, 1 a difference, or the warehouse cannot be
    read or written, 2 bad configuration or usage.
    """
    from dlt_cronofy.configuration import read_settings
    from dlt_cronofy.rebuild.command import check_evidence, check_lines, rebuild_evidence, rebuilt_lines
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    _, settings = read_settings()
    pipeline = open_pipeline(destination, dataset)
    if not check:
        rows = rebuild_evidence(pipeline, settings.hold)
        print_facts(rows, rebuilt_lines(rows), as_json=as_json)
        return
    found = check_evidence(pipeline, settings.hold)
    print_facts({"differences": [each.as_dict() for each in found]}, check_lines(found), as_json=as_json)
    if found:
        sys.exit(LOAD_FAILED)
