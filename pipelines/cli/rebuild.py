"""`dlt-cronofy rebuild`."""

import sys
from collections.abc import Iterable
from typing import Any

import click

from .console import LOAD_FAILED
from .options import destination_options, json_option, print_json


@click.command(short_help="Recompute the evidence tables from polls, or compare them.")
@click.option("--check", is_flag=True, help="Only compare; print each difference.")
@json_option("the rows written, or all differences,")
@destination_options
def rebuild(check: bool, as_json: bool, destination: str | None, dataset: str | None) -> None:
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
        _show(rows, rebuilt_lines(rows), as_json=as_json)
        return
    found = check_evidence(pipeline, settings.hold)
    _show({"differences": [each.as_dict() for each in found]}, check_lines(found), as_json=as_json)
    if found:
        sys.exit(LOAD_FAILED)


def _show(facts: Any, lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(lines))
