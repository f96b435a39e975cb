"""What an erasure did, for the terminal. Names the person as the command line did, and in no other way."""

from collections.abc import Iterator

from rich.console import Console

from dlt_cronofy.cli.console import program

from .erasure import Erased
from .person import TOO_SHORT, is_address


def print_erased(console: Console, result: Erased) -> None:
    """What was removed, what was searched, and what is left to do by hand."""
    for line in erased_lines(result):
        console.print(line, markup=False, soft_wrap=True)


def erased_lines(result: Erased) -> Iterator[str]:
    """The summary, line by line."""
    where = f"{result.destination}, dataset {result.dataset}"
    if result.is_known:
        yield f"Erased {result.subject} from {where}"
        yield f"  rows      {' · '.join(f'{table} {count:,}' for table, count in result.rows.items())}"
    else:
        yield f"{result.subject} is in no table of {where}"
    if result.staging_rows:
        yield f"  staging   emptied, {_count(result.staging_rows, 'row')}"
    if result.packages_deleted:
        yield f"  deleted   {_count(result.packages_deleted, 'loaded or abandoned package')}"
    for verb, paths in (("rewritten", result.files_rewritten), ("deleted", result.files_deleted)):
        for path in paths:
            yield f"  {verb:<9} {path}"
    yield (
        f"searched {result.searched_bytes:,} bytes in {_count(result.searched_files, 'file')} and"
        f" {_count(result.searched_rows, 'row')} for {_count(result.searched_values, 'value')}:"
        f" {len(result.found)} found"
    )
    yield from _not_searched(result)
    yield from (f"FOUND in   {place}" for place in result.found)
    yield from (f"PROBLEM    {problem}" for problem in result.problems)
    yield from (f"note: {note}" for note in result.notes)
    if result.is_known:
        yield from _advice(result)


def _not_searched(result: Erased) -> Iterator[str]:
    shared = {column: count for column, count in result.left_out.items() if column != TOO_SHORT}
    if shared:
        columns = ", ".join(f"{column} {count}" for column, count in shared.items())
        yield f"shared with others, not searched: {_count(sum(shared.values()), 'value')} ({columns})"
    if short := result.left_out.get(TOO_SHORT):
        yield f"too short to tell, not searched: {_count(short, 'value')}"


def _advice(result: Erased) -> Iterator[str]:
    if result.shared_accounts:
        yield (
            f"{_count(result.shared_accounts, 'account')} of this token stayed, with the rows of its other"
            f" tokens; {program()} erase --account ID removes a whole account"
        )
    if result.in_token_store is None:
        yield (
            "The token store could not be read: if it still holds a token of this person,"
            " the next load will read them again"
        )
    elif result.in_token_store:
        yield (
            f"The token store still holds {stored_tokens(result.in_token_store)}:"
            " remove them, or the next load will read this person again"
        )
    else:
        yield "The token store holds no token of this person"
    yield "Recreate reports and notebook exports, and check your backups: this command does not reach them"


def stored_tokens(keys: list[str]) -> str:
    """The keys to remove from the token store; a key that is an e-mail address is counted, not shown."""
    shown = [key for key in keys if not is_address(key)]
    hidden = len(keys) - len(shown)
    parts = [f"{'token' if len(shown) == 1 else 'tokens'} {', '.join(shown)}"] if shown else []
    if hidden:
        parts.append(f"{_count(hidden, 'token')} whose key is an e-mail address")
    return " and ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
