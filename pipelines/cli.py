"""The command line: `dlt-cronofy`."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from sources.cronofy.durations import parse_duration
from sources.cronofy.errors import ConfigurationError

from .console import progress, result_console, set_up_logging

logger = logging.getLogger("dlt_cronofy")

LOADED, LOAD_FAILED, BAD_CONFIGURATION = 0, 1, 2

DUCKDB_LOCKED = re.compile(r'Could not set lock on file "([^"]+)": Conflicting lock is held in .*?(PID \d+)')

P = ParamSpec("P")
T = TypeVar("T")


class Duration(click.ParamType[timedelta]):
    """30m, 1h, 7d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """A timedelta, or a usage error."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dlt-cronofy")
@click.option("-v", "--verbose", is_flag=True, help="Log more, to stderr.")
def cli(verbose: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Which calendars are connected through Cronofy, which broke, when, for how long."""
    set_up_logging(verbose=verbose)


def main() -> None:
    """Entry point; exits with 0, 1 or 2 as the commands' help says."""
    cli(prog_name="dlt-cronofy")


def reports_errors(command: Callable[P, T]) -> Callable[P, T]:
    """One clear line for what a person can mend, and the exit status that goes with it."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            logger.error("%s", error)
            sys.exit(BAD_CONFIGURATION)
        except OSError as error:
            logger.error("%s: %s", error.filename or "cannot go on", error.strerror or error)
            sys.exit(LOAD_FAILED)
        except _dlt_error() as error:
            logger.debug("the whole error", exc_info=True)
            status, message = _explain(error)
            logger.error("%s", message)
            sys.exit(status)

    return wrapped


def _dlt_error() -> type[Exception]:
    from dlt.common.exceptions import DltException

    return DltException


def _explain(error: Exception) -> tuple[int, str]:
    """Exit status and one line for an error of dlt's."""
    from dlt.common.configuration.exceptions import ConfigurationException

    from .pending import error_chain

    chain = error_chain(error)
    for cause in chain:
        if isinstance(cause, ConfigurationException):
            return BAD_CONFIGURATION, f"{_first_line(cause)}; set it in .dlt/secrets.toml or .dlt/config.toml"
    message = _first_line(chain[-1])
    if locked := DUCKDB_LOCKED.search(message):
        return (
            LOAD_FAILED,
            f"{locked[1]} is open in another process ({locked[2]}); close it there and try again",
        )
    if "Ambiguous reference" in message:
        message = "write the table's name alone, without the dataset before it"
    return LOAD_FAILED, message


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def destination_options(command: Callable[P, T]) -> Callable[P, T]:
    """`--destination` and `--dataset`, the same for every command that touches the warehouse."""
    command = click.option("--dataset", help="Dataset (schema) of the tables.  [default: cronofy]")(command)
    return click.option(
        "--destination", help="dlt's name of the destination.  [default: configured, else duckdb]"
    )(command)


@cli.command()
@click.option(
    "--every",
    type=Duration(),
    default="1h",
    show_default=True,
    help="Skip tokens polled successfully more recently than that.",
)
@click.option(
    "--endpoints",
    default="userinfo,account",
    show_default=True,
    help="Endpoints to read: userinfo, account, profiles. account at most once a day per token.",
)
@click.option("--max-requests", type=click.IntRange(min=1), help="Send at most that many requests.")
@click.option("--max-duration", type=Duration(), help="Send no request after that long.")
@click.option(
    "--max-failure-ratio",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Exit with 1 when a larger share of the tokens failed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@destination_options
@reports_errors
def load(
    every: timedelta,
    endpoints: str,
    max_requests: int | None,
    max_duration: timedelta | None,
    max_failure_ratio: float,
    as_json: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Poll the tokens that are due, oldest evidence first, and load what is new.

    Exit status: 0 loaded (some tokens may have failed: that is data), 1 the load failed or more tokens
    failed than --max-failure-ratio allows, 2 bad configuration or usage.
    """
    from sources.cronofy.settings import check_endpoints

    from .load import Load, LoadOptions, read_settings, read_token_store
    from .summary import print_load
    from .warehouse import open_pipeline

    options = LoadOptions(
        every=every,
        endpoints=check_endpoints(endpoints.split(",")),
        max_requests=max_requests,
        max_duration=max_duration,
        max_failure_ratio=max_failure_ratio,
    )
    configuration, settings = read_settings()
    tokens = read_token_store(configuration, settings)
    pipeline = open_pipeline(destination, dataset)
    with one_at_a_time(Path(pipeline.pipelines_dir)), progress("polling", "tokens") as (set_total, set_done):
        result = Load(pipeline, settings, tokens, options, on_plan=set_total, on_progress=set_done).run()
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_load(result_console(), result)
    if result.failure_ratio > max_failure_ratio:
        logger.error(
            "%d of %d tokens failed, more than --max-failure-ratio %g allows",
            result.failed_tokens,
            result.polled_tokens + result.fresh,
            max_failure_ratio,
        )
        sys.exit(LOAD_FAILED)


@contextmanager
def one_at_a_time(pipelines_dir: Path) -> Iterator[None]:
    """Refuse to run two loads over one working directory: a slow sweep may still run when the next is due."""
    import fasteners

    from .warehouse import PIPELINE_NAME

    pipelines_dir.mkdir(parents=True, exist_ok=True)
    lock = fasteners.InterProcessLock(pipelines_dir / f".{PIPELINE_NAME}.lock")
    if not lock.acquire(blocking=False):
        logger.error("another load is running over %s; this one does nothing", pipelines_dir)
        sys.exit(LOAD_FAILED)
    try:
        yield
    finally:
        lock.release()


@cli.command()
@destination_options
@reports_errors
def views(destination: str | None, dataset: str | None) -> None:
    """Create or replace the SQL views on the destination."""
    from .load import read_settings
    from .warehouse import loaded_dataset, open_pipeline, refresh_views

    _, settings = read_settings()
    pipeline = open_pipeline(destination, dataset)
    with loaded_dataset(pipeline):
        pass
    for name in refresh_views(pipeline, settings.hold.total_seconds()):
        click.echo(name)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@destination_options
@reports_errors
def status(as_json: bool, destination: str | None, dataset: str | None) -> None:  # noqa: FBT001
    """Show who is disconnected, since when, and what could not be read."""
    from .health import read_health
    from .summary import print_status
    from .warehouse import loaded_dataset, open_pipeline

    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        health = read_health(client)
    if as_json:
        click.echo(json.dumps(health.as_dict(), default=_as_json, indent=2))
    else:
        print_status(result_console(), health)


def _as_json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else float(value)


@cli.command()
@click.option("--days", type=click.IntRange(2, 365), default=31, show_default=True, help="Simulated days.")
@click.option(
    "--accounts", type=click.IntRange(1, 5000), default=240, show_default=True, help="Simulated accounts."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same history.")
@click.option(
    "--loads-per-day",
    type=click.IntRange(1, 24),
    default=2,
    show_default=True,
    help="Loads per simulated day.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo",
    show_default=True,
    help="Where the demo puts its files.",
)
@reports_errors
def demo(days: int, accounts: int, seed: int, loads_per_day: int, directory: Path) -> None:
    """Play weeks of history against the built-in sandbox and show the health summary.

    Real HTTP, real loads, a real DuckDB file; only the clock is simulated.
    """
    from .demo import Demo
    from .summary import print_demo

    plan = Demo(days=days, accounts=accounts, seed=seed, loads_per_day=loads_per_day, directory=directory)
    with progress("playing", "loads") as (set_total, set_done):
        set_total(plan.loads)
        result = plan.play(set_done)
    print_demo(result_console(), result)


@cli.command()
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
    from .sandbox_command import serve_sandbox

    serve_sandbox(**options)


# a query may begin with a comment, which begins like an option
@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
@destination_options
@reports_errors
def query(sql: str, as_json: bool, destination: str | None, dataset: str | None) -> None:  # noqa: FBT001
    """Run one SQL query on the tables and views, wherever they are. It may read, nothing else."""
    from .summary import print_rows
    from .warehouse import check_query, loaded_dataset, open_pipeline, query_rows

    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        check_query(client, sql)
        rows = query_rows(client, sql)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=str))
    else:
        print_rows(result_console(), rows)


@cli.command()
@reports_errors
def check() -> None:
    """Validate the configuration and the token store, with at most one call per data center.

    Loads nothing. Exit status: 0 all is well, 1 a data center did not accept its token, 2 bad configuration.
    """
    from .check import check_calls, check_lines
    from .load import read_settings, read_token_store

    configuration, settings = read_settings()
    tokens = read_token_store(configuration, settings)
    click.echo(f"{len(tokens)} token{'' if len(tokens) == 1 else 's'}, each with a key of its own")
    checked = check_calls(settings, tokens)
    for line in check_lines(checked):
        click.echo(line)
    sys.exit(LOADED if all(answer.outcome == "ok" for _, _, answer in checked) else LOAD_FAILED)
