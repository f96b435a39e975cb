"""What `rebuild` does around the evidence: whose turn it is, and what it says."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import dlt
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.formatting import count
from dlt_cronofy.warehouse.dataset import loaded_dataset, read, sql_client, writer
from dlt_cronofy.warehouse.lake import is_lake
from dlt_cronofy.warehouse.locks import LOCKED_DIALECT, sole_writer, turn

from . import Difference, analyze, differences, rebuild
from .warehouse_sql import PART_KEYS

SHOWN_DIFFERENCES = 100


def rebuild_evidence(pipeline: dlt.Pipeline, hold: timedelta) -> dict[str, int]:
    """Put evidence that is worked out in the place of what is kept; returns how many rows each table has."""
    with loaded_dataset(pipeline):
        pass
    with sole_writer(pipeline), turn(pipeline), writer(pipeline), sql_client(pipeline) as client:
        rebuild(client, hold)
        analyze(client, PART_KEYS)
        return {table: _rows(client, table) for table in sorted(PART_KEYS)}


def check_evidence(pipeline: dlt.Pipeline, hold: timedelta) -> list[Difference]:
    """In what the evidence that is kept is not what polls and changes say; only reads."""
    with loaded_dataset(pipeline) as client, _between_packages(pipeline, client):
        return differences(client, hold)


def rebuilt_lines(rows: dict[str, int]) -> Iterator[str]:
    """How many rows each table has, line by line."""
    for table, number in rows.items():
        yield f"{table:<12}  {count(number, 'row')}"


def check_lines(found: Sequence[Difference]) -> Iterator[str]:
    """The first differences, one a line, and how many more there are."""
    for difference in found[:SHOWN_DIFFERENCES]:
        yield str(difference)
    if len(found) > SHOWN_DIFFERENCES:
        yield f"and {count(len(found) - SHOWN_DIFFERENCES, 'more difference')}; --json lists them"
    if not found:
        yield "no difference"


@contextmanager
def _between_packages(pipeline: dlt.Pipeline, client: SqlClientBase[Any]) -> Iterator[None]:
    """Have all queries see what was there between two packages, while other loads go on.

    A package brings polls in one transaction and their evidence in others. In the middle of it they differ.
    """
    is_postgres = str(client.capabilities.sqlglot_dialect) == LOCKED_DIALECT
    if not is_postgres and not is_lake(pipeline):
        yield  # a DuckDB file is not written to while it is read
        return
    with ExitStack() as transaction:
        with turn(pipeline):
            transaction.enter_context(client.begin_transaction())
            if is_postgres:
                client.execute_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            read(client, "SELECT 1 FROM {_dlt_loads} LIMIT 1")  # that is when it looks
        yield


def _rows(client: SqlClientBase[Any], table: str) -> int:
    return int(read(client, f"SELECT count(*) AS found FROM {{{table}}}")[0]["found"])  # noqa: S608 - our own
