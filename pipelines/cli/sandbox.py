"""`dlt-cronofy sandbox`."""

import logging
from pathlib import Path
from typing import Any

import click

from .options import (
    reports_errors,
)

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Serve a local Cronofy to try things on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one."
)
@click.option(
    "--accounts",
    type=click.IntRange(1, 1_000_000),
    default=150,
    show_default=True,
    help="Simulated accounts.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same population.")
@click.option(
    "--tokens",
    type=click.Path(dir_okay=False, path_type=Path),
    default="sandbox_tokens.csv",
    show_default=True,
    help="Token file to write (.csv, .jsonl or .parquet).",
)
@click.option(
    "--per-second",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Requests a second before 429.",
)
@click.option(
    "--per-minute",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Requests a minute before 429.",
)
@click.option("--no-limits", is_flag=True, help="Never answer 429.")
@click.option("--retry-after", is_flag=True, help="Send Retry-After with each 429.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[:PROBABILITY]",
    help="Misbehave, e.g. reset:0.02; may be repeated.",
)
@reports_errors
def sandbox(**options: Any) -> None:
    """Serve the local Cronofy sandbox and write its token file."""
    from dlt_cronofy.sandbox.command import serve_sandbox

    serve_sandbox(**options)
