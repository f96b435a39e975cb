"""What an erasure did, and its summary. It names the person as the command line did, in no other way."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dlt_cronofy.formatting import count, program

from .person import TOO_SHORT

ADDRESS = re.compile(r"[^\s@]@[^\s@]")


@dataclass
class Erased:
    """What one erasure did; the keys of `erase --json`.

    Attributes:
        rows: removed rows by table.
        staging_rows: removed rows that dlt had left on the way to the tables.
        packages_deleted: packages of dlt's that are in the warehouse, or that a kill left, everybody's.
        left_out: values that were not searched for, by the column they stood in, or why.
        found: tables and files that still hold one of the values.
        problems: what could not be done, in words for a person.
        notes: what is beyond this command, in words for a person.
        in_token_store: keys of the person's tokens that the token store holds; None where it is unknown.
        shared_accounts: how many accounts of the token stay, because they have another token.
    """

    account: str | None
    token: str | None
    destination: str = ""
    dataset: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    staging_rows: int = 0
    packages_deleted: int = 0
    files_deleted: list[str] = field(default_factory=list)
    files_rewritten: list[str] = field(default_factory=list)
    searched_bytes: int = 0
    searched_files: int = 0
    searched_rows: int = 0
    searched_values: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_token_store: list[str] | None = None
    shared_accounts: int = 0

    @property
    def subject(self) -> str:
        """Who was asked for, as the command line named them."""
        return subject(self.account, self.token)

    @property
    def is_known(self) -> bool:
        """Whether any table had a row of theirs."""
        return any(self.rows.values())

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the person is left that this command can reach."""
        return self.is_known and not self.found and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"complete": self.is_complete}


def subject(account: str | None, token: str | None) -> str:
    """One of the two, as the command line named it."""
    return f"account {account}" if account is not None else f"token {token}"


def shown(path: Path) -> str:
    """A path for people, as short as can be."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def erased_lines(result: Erased) -> Iterator[str]:
    """The summary, line by line."""
    where = f"{result.destination}, dataset {result.dataset}"
    if result.is_known:
        yield f"Erased {result.subject} from {where}"
        yield f"  rows      {' · '.join(f'{table} {number:,}' for table, number in result.rows.items())}"
    else:
        yield f"{result.subject} is in no table of {where}"
    if result.staging_rows:
        yield f"  staging   {count(result.staging_rows, 'row')}"
    if result.packages_deleted:
        yield f"  deleted   {count(result.packages_deleted, 'loaded or abandoned package')}"
    for verb, paths in (("rewritten", result.files_rewritten), ("deleted", result.files_deleted)):
        for path in paths:
            yield f"  {verb:<9} {path}"
    yield (
        f"searched {result.searched_bytes:,} bytes in {count(result.searched_files, 'file')} and"
        f" {count(result.searched_rows, 'row')} for {count(result.searched_values, 'value')}:"
        f" {len(result.found)} found"
    )
    shared = [f"{column} {number}" for column, number in result.left_out.items() if column != TOO_SHORT]
    short = result.left_out.get(TOO_SHORT, 0)
    if shared:
        number = sum(result.left_out.values()) - short
        yield f"shared with others, not searched: {count(number, 'value')} ({', '.join(shared)})"
    if short:
        yield f"too short to tell, not searched: {count(short, 'value')}"
    yield from (f"FOUND in   {place}" for place in result.found)
    yield from (f"PROBLEM    {problem}" for problem in result.problems)
    yield from (f"note: {note}" for note in result.notes)
    if result.is_known:
        yield from _advice(result)


def _advice(result: Erased) -> Iterator[str]:
    if result.shared_accounts:
        yield (
            f"{count(result.shared_accounts, 'account')} of this token stayed, with the rows of its other"
            f" tokens; {program()} erase --account ID removes a whole account"
        )
    if result.in_token_store is None:
        yield "The token store could not be read: a token that it still holds is read again by the next load"
    elif result.in_token_store:
        held = stored_tokens(result.in_token_store)
        yield f"The token store still holds {held}: remove them, or the next load will read this person again"
    else:
        yield "The token store holds no token of this person"
    yield "Recreate reports and notebook exports, and check your backups: this command does not reach them"


def stored_tokens(keys: list[str]) -> str:
    """The keys to remove from the token store; a key that is an e-mail address is counted, not shown."""
    listed = [key for key in keys if not ADDRESS.search(key)]
    hidden = len(keys) - len(listed)
    parts = [f"{'token' if len(listed) == 1 else 'tokens'} {', '.join(listed)}"] if listed else []
    if hidden:
        parts.append(f"{count(hidden, 'token')} whose key is an e-mail address")
    return " and ".join(parts)
