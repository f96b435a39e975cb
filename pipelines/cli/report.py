"""`dlt-cronofy report`."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from .options import SINCE, destination_options


@click.command(short_help="Write the health report, one HTML file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="health.html",
    show_default=True,
    help="The file. It replaces an earlier report, and shows what changed since that one.",
)
@click.option(
    "--since",
    type=SINCE,
    help="Show what changed since: 7d (before the newest poll), or 2026-01-31."
    "  [default: the last report, else 7d]",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the whole worklist there, too, as a table for spreadsheets.",
)
@click.option("--anonymous", is_flag=True, help="Leave out names, e-mail addresses and links.")
@destination_options
def report(
    output: Path,
    since: "datetime | timedelta | None",
    table: Path | None,
    anonymous: bool,
    destination: str | None,
    dataset: str | None,
) -> None:
    """Write the health report: one HTML file that opens offline.

    It shows who must do what, by customer, with a drafted mail; what changed, each provider's health, and
    what is unknown. It holds names, e-mail addresses and links, unless --anonymous is given. Exit status:
    0 written, 1 the warehouse cannot be read, 2 bad configuration or usage.
    """
    from dlt_cronofy.report.command import summary_line, write_report
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    pipeline = open_pipeline(destination, dataset)
    made = write_report(pipeline, output, since, anonymous=anonymous, table=table)
    click.echo(summary_line(made, output))
