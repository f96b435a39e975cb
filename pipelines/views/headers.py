"""What the sources of the views say of themselves: the comment that heads each, taken apart."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from dlt_cronofy.source.tables import POLLS, PROFILE_CHANGES, PROFILES, TOKEN_STATUS

_OF_TABLES = {
    column.name: column.meaning
    for table in (POLLS, PROFILES, TOKEN_STATUS, PROFILE_CHANGES)
    for column in table.columns
}

COLUMN_MEANINGS: Mapping[str, str] = {
    **{
        name: _OF_TABLES[name]
        for name in (
            "account_id",
            "application",
            "attempts",
            "customer",
            "data_center",
            "endpoint",
            "has_token",
            "http_status",
            "latency_ms",
            "left_at",
            "message",
            "poll_id",
            "profile_id",
            "profile_name",
            "profile_type",
            "provider_name",
            "provider_protocol",
            "provider_service",
            "refreshes",
            "server_request_id",
            "token_key",
        )
    },
    "account_type": "what the account is: account, service_account, application_calendar, …",
    "calendar_connected": "calendar profiles that are connected",
    "calendar_disconnected": "calendar profiles that are disconnected",
    "calendar_unknown": "calendar profiles whose state is unknown",
    "conferencing_connected": "conferencing profiles that are connected",
    "conferencing_disconnected": "conferencing profiles that are disconnected",
    "conferencing_unknown": "conferencing profiles whose state is unknown",
    "connected": "profiles that are connected",
    "connected_seconds": "seconds connected",
    "day": "UTC day",
    "disconnected": "profiles that are disconnected",
    "disconnected_seconds": "seconds disconnected",
    "email": "newest known address of the account, from userinfo and account",
    "email_domain": "what follows the at sign in email, in lower case; null where there is none",
    "failed": "polls with another outcome than ok and skipped",
    "name": "newest known name of the account's holder",
    "ok": "polls with outcome ok",
    "provider": "provider_service, or provider_name where there is none, or unknown; never null",
    "removed_seconds": "seconds removed",
    "run_id": "the load",
    "skipped": "polls with outcome skipped",
    "token_keys": "the account's tokens in the store, sorted, separated by commas; its former ones if it left",
    "unknown": "profiles whose state is unknown",
    "unknown_seconds": "seconds of which nothing is known",
}
"""What headers need not explain, by column."""

# how a meaning in a header begins that adds to the usual one
_ADDITIONS = ("or ", "of all ", "null ")
_NAME = re.compile(r"(\w+)(?: \((.*)\))?")


@dataclass(frozen=True)
class Header:
    """The comment that heads a view, taken apart; a column that it does not explain has an empty text."""

    grain: str
    definition: str
    columns: Mapping[str, str]

    @property
    def description(self) -> str:
        """Grain and definition."""
        return f"{self.grain[0].upper()}{self.grain[1:]} {self.definition}".strip()


@cache
def source(view: str) -> str:
    """The view's source text, header comment included."""
    return (Path(__file__).parent / f"{view}.sql").read_text(encoding="utf-8")


def header(view: str) -> str:
    """The comment that heads a view's source: its grain, its definition and its columns."""
    lines = takewhile(lambda line: line.startswith("--"), source(view).splitlines())
    return "\n".join(line.removeprefix("--").removeprefix(" ") for line in lines)


def query(view: str) -> str:
    """The view's source without the comment that heads it."""
    return re.sub(r"\A(--.*\n)+", "", source(view))


@cache
def read_header(view: str) -> Header:
    """Grain, definition and columns of a view as its header has them.

    Raises:
        ValueError: a line of the columns is no list of columns.
    """
    described, _, columns = header(view).partition("\n\n")
    grain, *definition = described.removeprefix(f"{view}: ").splitlines()
    return Header(grain, " ".join(definition), dict(_column_entries(columns)))


def column_meaning(view: str, column: str) -> str:
    """What a column of a view means: what the header says, with what goes without saying there.

    Raises:
        ValueError: neither the header nor `COLUMN_MEANINGS` explains it.
    """
    in_header = read_header(view).columns[column]
    if in_header and not in_header.startswith(_ADDITIONS):
        return in_header
    if column not in COLUMN_MEANINGS:
        raise ValueError(f"{column} of {view} has no meaning")
    return "; ".join(filter(None, (COLUMN_MEANINGS[column], in_header)))


def _column_entries(text: str) -> Iterator[tuple[str, str]]:
    """Column and meaning, from lines `a, b: meaning`, `a, b (meaning)` or `a = b + c`."""
    for line in re.sub(r"\n\s+", " ", text).splitlines():
        head, _, meaning = line.partition(": ")
        total, _, parts = head.partition(" = ")
        if parts:
            yield total, parts
            yield from ((part, "") for part in parts.split(" + "))
            continue
        for name in head.split(", "):
            if (found := _NAME.fullmatch(name)) is None:
                raise ValueError(f"not a list of columns: {head}")
            yield found[1], meaning or found[2] or ""
