"""Overtaken packages: polls that were to be loaded before newer ones, and were not.

A load that was killed leaves packages, and another load may poll the same accounts before these are loaded:
on another machine, or with another working folder. What they say is older than what is known by then, and
what they compared it with as well. So their polls are logged, and tell nothing else.
"""

from collections.abc import Iterator
from pathlib import Path

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from sources.cronofy import SOURCE_NAME
from sources.cronofy.history.knowledge import WarehouseKnowledge
from sources.cronofy.tables import LOAD_ID, POLLS

from .steps import extract
from .working_folders import EXTRACTED, NORMALIZED


def pending_polls(pipeline: dlt.Pipeline) -> pa.Table | None:
    """The rows of `polls` in packages that wait to be loaded; None where there are none."""
    found = list(_tables(Path(pipeline.working_dir)))
    return pa.concat_tables(found, promote_options="default") if found else None


def are_overtaken(pipeline: dlt.Pipeline, polls: pa.Table) -> bool:
    """Whether the evidence of one of their accounts or tokens is newer than these polls, by another run."""
    knowledge = WarehouseKnowledge(pipeline, SOURCE_NAME)
    first = pc.min(polls.column("polled_at")).as_py()
    runs = set(polls.column("run_id").to_pylist())
    with knowledge.connected():
        spans = knowledge.newest_spans(_values(polls, "account_id")).values()
        statuses = knowledge.statuses(_values(polls, "token_key")).values()
    newer = [row for row in spans if row["last_sample_at"] > first]
    newer += [row for row in statuses if row["last_polled_at"] is not None and row["last_polled_at"] > first]
    return any(row["run_id"] not in runs for row in newer)


def log_as_late(pipeline: dlt.Pipeline, polls: pa.Table) -> None:
    """Make one package of the polls alone, in the place of all that wait."""
    pipeline.abort_packages()
    late = polls.select([name for name in polls.schema.names if name not in ("is_late", LOAD_ID)])
    late = late.append_column(pa.field("is_late", pa.bool_()), pa.array([True] * late.num_rows, pa.bool_()))
    extract(pipeline, [{POLLS.name: late}], POLLS.name)


def _tables(working_dir: Path) -> Iterator[pa.Table]:
    for stage in (EXTRACTED, NORMALIZED):
        for file in sorted((working_dir / stage).glob(f"*/*/{POLLS.name}.*.parquet")):
            yield parquet.read_table(file)


def _values(polls: pa.Table, column: str) -> list[str]:
    return sorted({value for value in polls.column(column).to_pylist() if value is not None})
