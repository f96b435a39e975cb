"""`dlt-cronofy sandbox`: serve the local Cronofy sandbox in the foreground."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from dlt_cronofy.formatting import program
from dlt_cronofy.source.errors import ConfigurationError

from . import Limits, MovableClock, build_world, serve
from .faults import Fault, Faults
from .live import follow

# the world has a past already when the sandbox starts, and goes on for as long again and more
PAST_DAYS, FUTURE_DAYS = 30, 60
# `--live`: a simulated day a minute, for eight hours
LIVE_SPEED, LIVE_DAYS = 24 * 60, 8 * 60


def serve_sandbox(
    port: int,
    accounts: int,
    seed: int,
    tokens: Path,
    per_second: int,
    per_minute: int,
    no_limits: bool,  # noqa: FBT001
    retry_after: bool,  # noqa: FBT001
    live: bool,  # noqa: FBT001
    faults: tuple[str, ...],
) -> None:
    """Write the token file, say how to load from here, and serve until interrupted.

    `live` lets simulated time pass `LIVE_SPEED` times as fast, and says what breaks and heals meanwhile.

    Raises:
        ConfigurationError: a fault, the token file's name or the port cannot be used.
    """
    if tokens.suffix not in (".csv", ".jsonl", ".parquet"):
        raise ConfigurationError(f"--tokens {tokens}: must end in .csv, .jsonl or .parquet")
    now = datetime.now(UTC)
    start = (now - timedelta(days=PAST_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    days = PAST_DAYS + (LIVE_DAYS if live else FUTURE_DAYS)
    world = build_world(accounts=accounts, seed=seed, start=start, days=days)
    try:
        world.write_tokens(tokens, now)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--tokens {tokens}: {error}") from None

    clock = MovableClock(now, running=True, speed=LIVE_SPEED if live else 1)
    server = serve(
        world,
        clock=clock,
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
        click.echo(f"  {program()} load --every 1s" if live else f"  {program()} load")
        click.echo("Ctrl-C stops it.")
        if live:
            click.echo("A simulated day passes every minute. What breaks and heals:")

    stopped = threading.Event()
    if live:
        threading.Thread(target=follow, args=(world, clock, click.echo, stopped), daemon=True).start()
    try:
        server.run_forever(announce)
    except OSError as error:
        raise ConfigurationError(f"--port {port}: {error.strerror}") from None
    finally:
        stopped.set()


def _add_fault(faults: Faults, text: str) -> None:
    kind, _, probability = text.partition(":")
    try:
        faults.add(Fault.parse({"kind": kind, "probability": float(probability or 1)}))
    except ValueError as error:
        raise ConfigurationError(f"--fault {text}: {error}") from None
