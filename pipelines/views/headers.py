"""What the sources of the views say of themselves, as comments that head them and in the warehouse."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from sqlglot import exp

from dlt_cronofy.source.tables import POLLS, PROFILE_CHANGES, PROFILES, TOKEN_STATUS

_OF_TABLES = {
    column.name: column.meaning
    for table in (POLLS, PROFILES, TOKEN_STATUS, PROFILE_CHANGES)
    for column in table.columns
}

COLUMN_MEANINGS: Mapping[str, str] = {
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
    "token_keys": "its tokens in the store, sorted, separated by commas; its former ones if it left",
    "unknown": "profiles whose state is unknown",
    "unknown_seconds": "seconds of which nothing is known",
}
"""What headers need not explain, by column, beside what the tables explain."""

# how a meaning in a header begins that adds to the usual one
_ADDITIONS = ("or ", "of all ", "null ")
_NAME = re.compile(r"(\w+)(?: \((.*)\))?")

# their comments stand in the statement that creates a view
_BESIDE_THE_QUERY = {"bigquery", "databricks"}


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
    """Grain, definition and columns of a view as its header has them; ValueError where one is no list."""
    described, _, columns = header(view).partition("\n\n")
    grain, *definition = described.removeprefix(f"{view}: ").splitlines()
    return Header(grain, " ".join(definition), dict(_column_entries(columns)))


def column_meaning(view: str, column: str) -> str:
    """What a column of a view means: what the header says, with what goes without saying there."""
    in_header = read_header(view).columns[column]
    if in_header and not in_header.startswith(_ADDITIONS):
        return in_header
    usual = COLUMN_MEANINGS.get(column) or _OF_TABLES.get(column)
    if usual is None:
        raise ValueError(f"{column} of {view} has no meaning")
    return "; ".join(filter(None, (usual, in_header)))


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


def view_statements(
    name: str, view: str, query: str, dialect: str, *, comments_on_columns: bool = True
) -> list[str]:
    """The statements that create or replace a view, called `name` in the warehouse, with its comments."""
    if view.startswith("_"):
        return [f"CREATE OR REPLACE VIEW {name} AS\n{query}"]
    if dialect in _BESIDE_THE_QUERY:
        return [f"CREATE OR REPLACE VIEW {name} {_clauses(view, dialect)} AS\n{query}"]
    comments = _comments(name, view, dialect) if comments_on_columns else [_comment(name, view, dialect)]
    return [f"CREATE OR REPLACE VIEW {name} AS\n{query}", *comments]


def _comment(name: str, view: str, dialect: str) -> str:
    """`COMMENT ON` for the view, with what its columns mean."""
    described = read_header(view)
    meanings = (f"{column}: {column_meaning(view, column)}" for column in described.columns)
    return f"COMMENT ON VIEW {name} IS {_text('; '.join((described.description, *meanings)), dialect)}"


def _comments(name: str, view: str, dialect: str) -> list[str]:
    """`COMMENT ON` for the view and each of its columns."""
    described = read_header(view)
    return [
        f"COMMENT ON VIEW {name} IS {_text(described.description, dialect)}",
        *(
            f"COMMENT ON COLUMN {name}.{_name(column, dialect)}"
            f" IS {_text(column_meaning(view, column), dialect)}"
            for column in described.columns
        ),
    ]


def _clauses(view: str, dialect: str) -> str:
    """The list of columns and what follows it, for warehouses that take comments nowhere else."""
    comment = "OPTIONS (description = {})" if dialect == "bigquery" else "COMMENT {}"
    described = read_header(view)
    columns = ", ".join(
        f"{_name(column, dialect)} {comment.format(_text(column_meaning(view, column), dialect))}"
        for column in described.columns
    )
    return f"({columns}) {comment.format(_text(described.description, dialect))}"


def _name(column: str, dialect: str) -> str:
    return exp.to_identifier(column, quoted=True).sql(dialect=dialect)


def _text(text: str, dialect: str) -> str:
    return exp.Literal.string(text).sql(dialect=dialect)
