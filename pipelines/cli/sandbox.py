"""`dlt-cronofy sandbox`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .options import Command, combined

EPILOG = """\
\b
Client credentials, to refresh tokens:
  client_id      sandbox-client
  client_secret  sandbox-secret

\b
Endpoints of its own, without a token; bodies are JSON:
  GET     /sandbox/clock                what time it is there
  POST    /sandbox/clock                {"advance_seconds": 86400} or {"now": "2026-03-01T06:00:00Z"}
  GET     /sandbox/faults               faults in force
  POST    /sandbox/faults               {"kind": "status", "status": 503, "count": 3}
  DELETE  /sandbox/faults               ends all faults
  POST    /sandbox/tokens/KEY/revoke    the user withdraws the authorization
  GET     /sandbox/requests             requests counted; DELETE counts from zero

\b
Faults: status, body, reset, truncated, html, wrong_shape, empty, redirect, hang, drip.
  Each may have probability, token_key, endpoint (userinfo, account, profiles, token, revoke), count,
  status, retry_after, body, seconds, url, partial.
"""


def _number(
    option: str, least: int, most: int | None, default: int, meaning: str
) -> Callable[[Command], Command]:
    kind = click.IntRange(least, most)
    return combined(click.option(option, type=kind, default=default, show_default=True, help=meaning))


@click.command(short_help="Serve a local Cronofy to try things on.", epilog=EPILOG)
@_number("--port", 0, 65535, 8765, "0 takes a free one.")
@_number("--accounts", 1, 1_000_000, 150, "Simulated accounts.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same population.")
@click.option(
    "--tokens",
    type=click.Path(dir_okay=False, path_type=Path),
    default="sandbox_tokens.csv",
    show_default=True,
    help="Token file to write (.csv, .jsonl or .parquet).",
)
@_number("--per-second", 1, None, 50, "Requests a second before 429.")
@_number("--per-minute", 1, None, 500, "Requests a minute before 429.")
@click.option("--no-limits", is_flag=True, help="Never answer 429.")
@click.option("--retry-after", is_flag=True, help="Send Retry-After with each 429.")
@click.option("--live", is_flag=True, help="Let a simulated day pass every minute, and print what happens.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[:PROBABILITY]",
    help="Misbehave, e.g. reset:0.02; may be repeated.",
)
def sandbox(**options: Any) -> None:
    """Serve the local Cronofy sandbox and write its token file."""
    from dlt_cronofy.sandbox.command import serve_sandbox

    serve_sandbox(**options)
