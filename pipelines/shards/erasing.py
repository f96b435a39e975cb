"""Erasing from the handoff: plans and outputs that wait there are written anew without a person."""

from functools import partial
from typing import IO

import pyarrow as pa
from pyarrow import parquet

from dlt_cronofy.erase.person import Person
from dlt_cronofy.erase.working_files import without_person

from .exchange_directory import ExchangeDirectory


def erase_from_handoff(handoff: ExchangeDirectory, person: Person) -> tuple[list[str], list[str]]:
    """Remove a person's tasks and polls from all files that wait.

    Returns:
        The files that were written anew or removed, and those that cannot be read.
    """
    rewritten: list[str] = []
    unreadable: list[str] = []
    for run_id in handoff.runs():
        # of whom they are cannot be told
        rewritten += [f"{run_id}/{name}" for name in handoff.remove_unfinished(run_id)]
        for name in handoff.names(run_id):
            if not name.endswith(".parquet"):
                continue
            try:
                with handoff.open(run_id, name) as file:
                    table = parquet.read_table(file)
                    metadata = parquet.ParquetFile(file).metadata.metadata
            except (pa.ArrowException, OSError):
                unreadable.append(f"{run_id}/{name}")
                continue
            kept = without_person(table, person)
            if kept is not None:
                # what a set took stands beside its schema
                kept = kept.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
                handoff.write(run_id, partial(str, name), partial(_write, kept))
                rewritten.append(f"{run_id}/{name}")
    return rewritten, unreadable


def _write(table: pa.Table, file: IO[bytes]) -> None:
    parquet.write_table(table, file)
