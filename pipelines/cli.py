"""The command line: `dlt-cronofy`."""

import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from .console import BAD_CONFIGURATION, LOAD_FAILED, LOADED, PROGRAM, progress, result_console, set_up_logging

logger = logging.getLogger("dlt_cronofy")

if TYPE_CHECKING:
    from .tally import LoadResult

P = ParamSpec("P")
T = TypeVar("T")


class Parsed(click.ParamType[T]):
    """An option's text, read by a function that raises ValueError where it cannot."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """What the text says, or a usage error."""
        if not isinstance(value, str):
            read: T = value
            return read
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _duration(text: str) -> timedelta:
    from sources.cronofy.durations import parse_duration

    return parse_duration(text)


def _since(text: str) -> "datetime | timedelta":
    from .report_command import parse_since

    return parse_since(text)


DURATION = Parsed("age", _duration)  # 30m, 1h, 7d
SINCE = Parsed("age or time", _since)  # 7d, 2026-01-31


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dlt-cronofy")
@click.option("-v", "--verbose", is_flag=True, help="Log more, to stderr.")
def cli(verbose: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Which calendars are connected through Cronofy, which broke, when, for how long."""
    set_up_logging(verbose=verbose)


def main() -> None:
    """Entry point; exits with 0, 1 or 2 as the commands' help says."""
    if sys.argv[1:2] == ["load"]:
        from .lean import do_without_pandas

        do_without_pandas()
    cli(prog_name="dlt-cronofy")


def reports_errors(command: Callable[P, T]) -> Callable[P, T]:
    """One clear line for what a person can mend, and the exit status that goes with it."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        from sources.cronofy.errors import ConfigurationError

        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            logger.error("%s", error)
            sys.exit(BAD_CONFIGURATION)
        except _explained_errors() as error:
            from .explanations import explain

            logger.debug("the whole error", exc_info=True)
            status, message = explain(error)
            logger.error("%s", message)
            sys.exit(status)

    return wrapped


def _explained_errors() -> tuple[type[Exception], ...]:
    from .explanations import explained_errors
    from .writers import WarehouseBusy

    return WarehouseBusy, *explained_errors()


def destination_options(command: Callable[P, T]) -> Callable[P, T]:
    """`--destination` and `--dataset`, the same for every command that touches the warehouse."""
    command = click.option("--dataset", help="Dataset (schema) of the tables.  [default: cronofy]")(command)
    return click.option(
        "--destination", help="dlt's name of the destination.  [default: configured, else duckdb]"
    )(command)


def plan_options(command: Callable[P, T]) -> Callable[P, T]:
    """What decides which tokens are polled and which of them first, the same for `load` and `plan`."""
    for option in reversed(
        (
            click.option(
                "--every",
                type=DURATION,
                default="1h",
                show_default=True,
                help="Skip tokens polled successfully more recently than that.",
            ),
            click.option(
                "--endpoints",
                default="userinfo,account",
                show_default=True,
                help="Endpoints to read: userinfo, account, profiles. account at most once a day per token.",
            ),
            click.option(
                "--order",
                type=click.Choice(["oldest", "hazard"]),
                default="oldest",
                show_default=True,
                help="First the oldest evidence, or the tokens whose profiles change often.",
            ),
            click.option(
                "--max-requests", type=click.IntRange(min=1), help="Send at most that many requests."
            ),
        )
    ):
        command = option(command)
    return command


@cli.command(short_help="Poll the tokens that are due and load what is new.")
@plan_options
@click.option("--max-duration", type=DURATION, help="Send no request after that long.")
@click.option(
    "--max-failure-ratio",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Exit with 1 when a larger share of the tokens failed.",
)
@click.option(
    "--confirm-left",
    is_flag=True,
    help="Accept that a fifth or more of the tokens have left the token store at once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@destination_options
@reports_errors
def load(
    every: timedelta,
    endpoints: str,
    order: str,
    max_requests: int | None,
    max_duration: timedelta | None,
    max_failure_ratio: float,
    confirm_left: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Poll the tokens that are due, by default oldest evidence first, and load what is new.

    Exit status: 0 loaded (some tokens may have failed: that is data), 1 the load failed or more tokens
    failed than --max-failure-ratio allows, 2 bad configuration or usage.
    """
    from sources.cronofy.settings import check_endpoints
    from sources.cronofy.stores import stored_tokens

    from .alerts import configured_alerts
    from .configuration import configured_store, read_settings
    from .load import Load, LoadOptions
    from .signals import run_interruptibly
    from .summary import print_load
    from .warehouse import open_pipeline

    options = LoadOptions(
        every=every,
        endpoints=check_endpoints(endpoints.split(",")),
        order=order,
        max_requests=max_requests,
        max_duration=max_duration,
        max_failure_ratio=max_failure_ratio,
        confirm_left=confirm_left,
    )
    configuration, settings = read_settings()
    store = configured_store(configuration)
    tokens = stored_tokens(store, settings)
    alerts = configured_alerts()
    pipeline = open_pipeline(destination, dataset)
    pace = min(settings.requests_per_minute, 60 * settings.requests_per_second)
    # one call a token is what a sweep takes; account comes on top once a day
    with progress("polling", "tokens", pace) as (set_total, set_done):
        work = Load(
            pipeline,
            settings,
            tokens,
            options,
            on_plan=set_total,
            on_progress=set_done,
            store=store,
            alerts=alerts,
        )
        try:
            result = run_interruptibly(work.run, work.stop)
        except Exception:
            _show_lost(work.result, as_json=as_json)
            raise
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_load(result_console(), result)
    if result.failure_ratio > max_failure_ratio:
        logger.error(
            "%d of %d tokens failed, more than --max-failure-ratio %g allows",
            result.failed_tokens + result.skipped_tokens,
            result.wanted_tokens,
            max_failure_ratio,
        )
        sys.exit(LOAD_FAILED)


def _show_lost(result: "LoadResult | None", *, as_json: bool) -> None:
    """What a load that failed has used up for good, in the form of its summary."""
    from .summary import print_lost

    if result is None or not result.lost_refresh_tokens:
        return
    if as_json:
        lost = {"run_id": result.run_id, "lost_refresh_tokens": result.lost_refresh_tokens}
        click.echo(json.dumps(lost, indent=2))
    else:
        print_lost(result_console(), result)


@cli.command(short_help="Show what a load would do; call nothing.")
@plan_options
@click.option(
    "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Places of the order to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@destination_options
@reports_errors
def plan(
    every: timedelta,
    endpoints: str,
    order: str,
    max_requests: int | None,
    limit: int,
    as_json: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Show what a load with these options would poll, in what order, and how long that takes.

    Calls nothing and loads nothing. Exit status: 0 planned, 1 the warehouse cannot be read, 2 bad
    configuration or usage.
    """
    from sources.cronofy.clock import SystemClock
    from sources.cronofy.settings import check_endpoints
    from sources.cronofy.stores import stored_tokens

    from .configuration import configured_store, read_settings
    from .load import LoadOptions
    from .plan_command import preview_load, print_preview
    from .warehouse import open_pipeline

    options = LoadOptions(
        every=every,
        endpoints=check_endpoints(endpoints.split(",")),
        order=order,
        max_requests=max_requests,
    )
    configuration, settings = read_settings()
    tokens = stored_tokens(configured_store(configuration), settings)
    pipeline = open_pipeline(destination, dataset)
    preview = preview_load(pipeline, settings, tokens, options, SystemClock().now(), limit)
    if as_json:
        click.echo(json.dumps(preview.as_dict(), default=_as_json, indent=2))
    else:
        print_preview(result_console(), preview)


@cli.command(short_help="Create or replace the SQL views.")
@destination_options
@reports_errors
def views(destination: str | None, dataset: str | None) -> None:
    """Create or replace the SQL views on the destination."""
    from .configuration import read_settings
    from .upkeep import make_evidence
    from .warehouse import loaded_dataset, open_pipeline, refresh_views, writer
    from .writers import turn

    _, settings = read_settings()
    pipeline = open_pipeline(destination, dataset)
    with loaded_dataset(pipeline):
        pass
    with turn(pipeline), writer(pipeline):
        make_evidence(pipeline, settings.hold)
        names = refresh_views(pipeline, settings.hold.total_seconds())
    for name in names:
        click.echo(name)


@cli.command(short_help="Work the evidence out from polls, or compare it.")
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
    """Work out token_status, coverage and runs from polls and profile_changes.

    What polls cannot tell stays as it is: labels, left_at, how runs ended. This is what applies a changed
    `hold` to the past. Exit status: 0 written, or no difference, 1 a difference, or the warehouse cannot be
    read or written, 2 bad configuration or usage.
    """
    from .configuration import read_settings
    from .rebuild_command import check_evidence, check_lines, rebuild_evidence, rebuilt_lines
    from .warehouse import open_pipeline

    _, settings = read_settings()
    pipeline = open_pipeline(destination, dataset)
    if not check:
        rows = rebuild_evidence(pipeline, settings.hold)
        _print(rows, rebuilt_lines(rows), as_json=as_json)
        return
    found = check_evidence(pipeline, settings.hold)
    _print({"differences": [each.as_dict() for each in found]}, check_lines(found), as_json=as_json)
    if found:
        sys.exit(LOAD_FAILED)


def _print(facts: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Facts as JSON, or the lines that say them to a person."""
    for line in [json.dumps(facts, indent=2)] if as_json else lines:
        click.echo(line)


@cli.command(short_help="Show who is disconnected and what is unknown.")
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


@cli.command(short_help="Write the health report, one HTML file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="health.html",
    show_default=True,
    help="The file. An earlier report in it is replaced, and the new one tells what changed since then.",
)
@click.option(
    "--since",
    type=SINCE,
    help="Tell what changed since then: 7d before the newest poll, or 2026-01-31."
    "  [default: the last report, else 7d]",
)
@click.option("--anonymous", is_flag=True, help="Leave out names, e-mail addresses and relink links.")
@destination_options
@reports_errors
def report(
    output: Path,
    since: "datetime | timedelta | None",
    anonymous: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Write the health report: one HTML file that opens offline.

    Who must relink, what changed, how the providers do, and what is unknown. It holds what the tables hold of
    people, with relink links; --anonymous leaves that out. Exit status: 0 written, 1 the warehouse cannot be
    read, 2 bad configuration or usage.
    """
    from .report_command import summary_line, write_report
    from .warehouse import open_pipeline

    made = write_report(open_pipeline(destination, dataset), output, since, anonymous=anonymous)
    click.echo(summary_line(made, output))


def _as_json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else float(value)


@cli.command(short_help="Play weeks of simulated history.")
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
    from .demo import REPORT, Demo
    from .report_command import write_report
    from .summary import print_demo

    plan = Demo(days=days, accounts=accounts, seed=seed, loads_per_day=loads_per_day, directory=directory)
    with progress("playing", "loads") as (set_total, set_done):
        set_total(plan.loads)
        result = plan.play(set_done)
    report = directory / REPORT
    write_report(plan.open_pipeline(), report, None, anonymous=False)
    print_demo(result_console(), result, report)


@cli.command(short_help="Serve a local Cronofy to try things on.")
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
@cli.command(context_settings={"ignore_unknown_options": True}, short_help="Run one SQL query; read only.")
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


@cli.command(short_help="Remove one person, and prove it.")
@click.option("--account", metavar="ID", help="The account_id of the person: with all its tokens.")
@click.option("--token", metavar="KEY", help="One token_key, and its account if that has no other token.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
@destination_options
@reports_errors
def erase(
    account: str | None,
    token: str | None,
    yes: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    destination: str | None,
    dataset: str | None,
) -> None:
    """Remove one person from every table and from the local working files, and prove it by searching.

    Exit status: 0 removed and nothing found afterwards, 1 in no table, or something is left, 2 bad
    configuration or usage.
    """
    from .erase import Erase
    from .erase_summary import print_erased
    from .warehouse import location, open_pipeline
    from .writers import sole_writer, turn

    if not (account or token) or (account and token):
        raise click.UsageError("say --account ID or --token KEY, one of them")
    pipeline = open_pipeline(destination, dataset)
    command = Erase(pipeline, account or None, token or None)
    _confirm(f"Remove {command.subject} from {location(pipeline)} for good?", yes=yes)
    with sole_writer(pipeline), turn(pipeline):
        result = command.run()
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_erased(result_console(), result)
    if not result.is_known:
        logger.error("%s is in no table", result.subject)
    elif not result.is_complete:
        logger.error("%s: something is left, see above", result.subject)
    sys.exit(LOADED if result.is_complete else LOAD_FAILED)


@cli.command(short_help="Print a script that completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    For bash: dlt-cronofy completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, PROGRAM, f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE").source())


def _confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal; ends the program unless the answer is yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        from sources.cronofy.errors import ConfigurationError

        raise ConfigurationError(f"{question} There is no terminal to ask on: add --yes")
    click.confirm(question, abort=True, err=True)


@cli.command(short_help="Validate configuration and tokens; load nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@destination_options
@reports_errors
def check(as_json: bool, destination: str | None, dataset: str | None) -> None:  # noqa: FBT001
    """Validate configuration, token store and warehouse, with at most three calls per data center.

    Loads and refreshes nothing. Exit status: 0 all is well, 1 a row of the token store cannot be used, a data
    center did not accept its tokens, refreshed tokens could not be written back, or the warehouse lets nobody
    in, 2 bad configuration.
    """
    from sources.cronofy.stores import stored_tokens

    from .alerts import configured_alerts
    from .check import (
        check_calls,
        check_handoff,
        check_lines,
        check_store,
        check_warehouse,
        checks_as_dict,
        rows_as_dict,
        store_lines,
    )
    from .configuration import configured_store, read_settings
    from .warehouse import open_pipeline

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
