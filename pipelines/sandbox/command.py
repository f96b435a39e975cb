"""`dlt-cronofy sandbox`: serve the local Cronofy sandbox in the foreground."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from dlt_cronofy.formatting import program
from dlt_cronofy.source.errors import ConfigurationError

from . import Limits, MovableClock, build_world, serve
from .faults import Fault, Faults

# the world has a past already when the sandbox starts, and goes on for as long again and more
PAST_DAYS, FUTURE_DAYS = 30, 60


def serve_sandbox(
    port: int,
    accounts: int,
    seed: int,
    tokens: Path,
    per_second: int,
    per_minute: int,
    no_limits: bool,  # noqa: FBT001
    retry_after: bool,  # noqa: FBT001
    faults: tuple[str, ...],
) -> None:
    """Write the token file, say how to load from here, and serve until interrupted.

    Raises:
        ConfigurationError: a fault, the token file's name or the port cannot be used.
    """
    if tokens.suffix not in (".csv", ".jsonl", ".parquet"):
        raise ConfigurationError(f"--tokens {tokens}: must end in .csv, .jsonl or .parquet")
    now = datetime.now(UTC)
    start = (now - timedelta(days=PAST_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    world = build_world(accounts=accounts, seed=seed, start=start, days=PAST_DAYS + FUTURE_DAYS)
    try:
        world.write_tokens(tokens)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--tokens {tokens}: {error}") from None

    server = serve(
        world,
        clock=MovableClock(now, running=True),
        port=port,
        limits=None if no_limits else Limits(per_second, per_minute, retry_after=retry_after),
        fault_seed=seed,
    )
    for text in faults:
        _add_fault(server.faults, text)

    def announce(base_url: str) -> None:
        click.echo(f"Serving {accounts} simulated accounts ({len(world.tokens)} tokens) at {base_url}")
        click.echo(f"Tokens: {tokens}")
        click.echo("In another terminal:")
        click.echo(f"  export SOURCES__CRONOFY__BASE_URL={base_url} SOURCES__CRONOFY__TOKENS_FILE={tokens}")
        click.echo("  export DESTINATION__DUCKDB__CREDENTIALS=sandbox.duckdb")
        click.echo(f"  {program()} load")
        click.echo("Ctrl-C stops it.")

    try:
        server.run_forever(announce)
    except OSError as error:
        raise ConfigurationError(f"--port {port}: {error.strerror}") from None


def _add_fault(faults: Faults, text: str) -> None:
    kind, _, probability = text.partition(":")
    try:
        faults.add(Fault.parse({"kind": kind, "probability": float(probability or 1)}))
    except ValueError as error:
        raise ConfigurationError(f"--fault {text}: {error}") from None
