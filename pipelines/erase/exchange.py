"""Erasing from the exchange directory: saved plans and shard outputs that wait there."""

from functools import partial
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from dlt_cronofy.shards.exchange_directory import ExchangeDirectory, possible_exchange

from .person import Person
from .summary import Erased
from .working_files import UnreadableError, read_parquet, without_person


def erase_from_exchange(person: Person, result: Erased) -> None:
    """Remove a person's tasks and polls from all files that wait, where loads are in shards."""
    handoff = possible_exchange()
    if handoff is None:
        return
    for run_id in handoff.runs():
        # a file that is not whole may hold anybody
        changed = handoff.remove_unfinished(run_id)
        for name in handoff.names(run_id):
            try:
                if name.endswith(".parquet") and _rewrite(handoff, run_id, name, person):
                    changed.append(name)
            except UnreadableError:
                result.problems.append(f"{handoff.root}/{run_id}/{name} cannot be read; remove it")
        result.files_rewritten += [f"{handoff.root}/{run_id}/{name}" for name in changed]


def _rewrite(handoff: ExchangeDirectory, run_id: str, name: str, person: Person) -> bool:
    """Whether a file held the person, and does no more."""
    with handoff.open(run_id, name) as file:
        kept = without_person(read_parquet(file), person)
    if kept is None:
        return False
    handoff.write(run_id, partial(str, name), partial(_write, kept))
    return True


def _write(table: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(table, file)
