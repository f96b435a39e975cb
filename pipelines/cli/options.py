"""What the commands share: options, and how they print for machines."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


class Parsed(click.ParamType[T]):
    """An option's text, read by a function that raises ValueError where it cannot."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """What the text says, or a usage error."""
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


def _endpoints(text: str) -> tuple[str, ...]:
    from dlt_cronofy.source.settings import check_endpoints

    return check_endpoints(text.split(","))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("name at least one token or account")
    return names


DURATION = Parsed("age", _duration)  # 30m, 1h, 7d
SINCE = Parsed("age or time", _since)  # 7d, 2026-01-31
NAMES = Parsed("key,…", _names)  # user_1,acc_2
ENDPOINTS = Parsed("text", _endpoints)  # userinfo,account


def combined(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one, in the order in which the help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# of every command that touches the warehouse
destination_options = combined(
    click.option("--destination", help="dlt's name of the destination.  [default: configured, else duckdb]"),
    click.option("--dataset", help="Dataset (schema) of the tables.  [default: cronofy]"),
)
# which tokens are polled and which of them first: keywords of `LoadOptions`
plan_options = combined(
    click.option(
        "--every",
        type=DURATION,
        default="1h",
        show_default=True,
        help="Skip tokens that were polled successfully within this time.",
    ),
    click.option(
        "--endpoints",
        type=ENDPOINTS,
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
        "--only", type=NAMES, help="Poll these tokens or accounts and no others, whether they are due or not."
    ),
    click.option(
        "--spread",
        type=DURATION,
        help="Use only the rate at which the load takes this long, if that is lower.",
    ),
    click.option("--max-requests", type=click.IntRange(min=1), help="Send at most this many requests."),
)


def json_option(what: str) -> Callable[[Command], Command]:
    """`--json`, which prints what a command has found for machines."""
    return combined(click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON."))


def print_json(facts: Any) -> None:
    """Facts on stdout; instants as ISO 8601, decimals as numbers."""
    click.echo(json.dumps(facts, default=_as_json, indent=2))


def _as_json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else float(value)
