"""What the commands share: options, how errors end them, how facts are printed."""

import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from .console import BAD_CONFIGURATION

logger = logging.getLogger("dlt_cronofy")

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
    from dlt_cronofy.source.durations import parse_duration

    return parse_duration(text)


def _since(text: str) -> "datetime | timedelta":
    from dlt_cronofy.report.command import parse_since

    return parse_since(text)


DURATION = Parsed("age", _duration)  # 30m, 1h, 7d
SINCE = Parsed("age or time", _since)  # 7d, 2026-01-31


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
                help="Skip tokens that were polled successfully within this time.",
            ),
            click.option(
                "--endpoints",
                default="userinfo,account",
                show_default=True,
                help="Endpoints to read: userinfo, account (at most once a day per token), profiles.",
            ),
            click.option(
                "--order",
                type=click.Choice(["oldest", "hazard"]),
                default="oldest",
                show_default=True,
                help="Poll first the oldest evidence, or the accounts that most likely changed.",
            ),
            click.option(
                "--max-requests", type=click.IntRange(min=1), help="Send at most this many requests."
            ),
        )
    ):
        command = option(command)
    return command


def reports_errors(command: Callable[P, T]) -> Callable[P, T]:
    """One clear line for an error that a person can fix, and its exit status."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        from dlt_cronofy.source.errors import ConfigurationError

        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            logger.error("%s", error)
            sys.exit(BAD_CONFIGURATION)
        except _explained_errors() as error:
            from .errors import explain

            logger.debug("the whole error", exc_info=True)
            status, message = explain(error)
            logger.error("%s", message)
            sys.exit(status)

    return wrapped


def _explained_errors() -> tuple[type[Exception], ...]:
    from dlt_cronofy.warehouse.locks import WarehouseBusy

    from .errors import explained_errors

    return WarehouseBusy, *explained_errors()


def print_facts(facts: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Facts as JSON, or the lines that say them to a person."""
    for line in [json.dumps(facts, indent=2)] if as_json else lines:
        click.echo(line)


def as_json_value(value: Any) -> Any:
    """A value that JSON has no form for: ISO 8601 for instants, a number for decimals."""
    return value.isoformat() if hasattr(value, "isoformat") else float(value)
