"""Overtaken packages: rows that were to be loaded before newer ones, and were not.

A load that was killed leaves packages, and another load may poll the same accounts before these are loaded:
on another machine, or with another working folder. What they say is older than what is known by then, and
what they compared it with as well. So their polls are logged, and tell nothing else.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.tables import CONTENT, LOAD_ID, POLLS, TABLES, Table
from dlt_cronofy.warehouse.working_folders import EXTRACTED, NORMALIZED

from .steps import extract

# what warehouses load that take no Parquet, as dlt's writer makes it: a text is quoted, and null is not
PARQUET, CSV = ".parquet", ".csv"

# when the rows of a table were seen
SEEN_AT = {POLLS.name: "polled_at"} | {table.name: "observed_at" for table in CONTENT}


class PendingRows:
    """The rows in packages that wait to be loaded."""

    def __init__(self, pipeline: dlt.Pipeline) -> None:
        self._pipeline = pipeline
        self._state = SqlWarehouseState(pipeline, SOURCE_NAME)
        self._frames = list(_frames(Path(pipeline.working_dir)))  # of our tables, each with its name

    @property
    def run_ids(self) -> set[str]:
        """The runs they are of."""
        columns = [frame["run_id"] for _, frame in self._frames if "run_id" in frame.schema.names]
        return {run_id for column in columns for run_id in pc.unique(column).to_pylist()} - {None}

    def are_overtaken(self) -> bool:
        """Whether another run has newer evidence of one of their accounts or tokens."""
        accounts, tokens = self._first_seen("account_id"), self._first_seen("token_key")
        with self._state.connected():
            spans = self._state.newest_spans(sorted(accounts)).values()
            statuses = self._state.statuses(sorted(tokens)).values()
        newer = {row["run_id"] for row in spans if row["last_sample_at"] > accounts[row["account_id"]]}
        polled = (row for row in statuses if row["last_polled_at"] is not None)
        newer |= {row["run_id"] for row in polled if row["last_polled_at"] > tokens[row["token_key"]]}
        return not newer <= self.run_ids

    def log_as_late(self) -> None:
        """Make one package of their polls alone, in the place of all that wait."""
        found = [frame for name, frame in self._frames if name == POLLS.name]
        self._pipeline.abort_packages()
        if not found:
            return
        polls = self._without_loaded(pa.concat_tables(found, promote_options="default"))
        polls = polls.drop_columns([name for name in ("is_late", LOAD_ID) if name in polls.schema.names])
        late = polls.append_column("is_late", pa.array([True] * polls.num_rows, pa.bool_()))
        extract(self._pipeline, [{POLLS.name: late}], POLLS.name)

    def _first_seen(self, key: str) -> dict[str, datetime]:
        """When each account or token was seen first."""
        first: dict[str, datetime] = {}
        for name, frame in self._frames:
            if name in SEEN_AT:
                columns = (frame.column(each).to_pylist() for each in (key, SEEN_AT[name]))
                for value, seen_at in zip(*columns, strict=True):
                    if value is not None and seen_at is not None:
                        first[value] = min(first.get(value, seen_at), seen_at)
        return first

    def _without_loaded(self, polls: pa.Table) -> pa.Table:
        """The polls that are not in the warehouse yet: the kill may have come just after."""
        first = pc.min(polls.column("polled_at")).as_py()
        with self._state.connected():
            loaded = {
                (run_id, *key)
                for run_id in pc.unique(polls.column("run_id")).to_pylist()
                for key in self._state.outcomes_of(run_id, first)
            }
        keys = zip(*(polls[name].to_pylist() for name in ("run_id", "token_key", "endpoint")), strict=True)
        return polls.filter(pa.array([key not in loaded for key in keys], pa.bool_()))


def _frames(working_dir: Path) -> Iterator[tuple[str, pa.Table]]:
    for stage in (EXTRACTED, NORMALIZED):
        for file in sorted((working_dir / stage).glob("*/*_jobs/*")):
            table = TABLES.get(file.name.partition(".")[0])
            if table is None:
                continue
            # what cannot be read cannot be loaded either, which says so
            with suppress(pa.ArrowException, OSError):
                if file.suffix == PARQUET:
                    yield table.name, parquet.read_table(file)
                elif CSV in file.suffixes:
                    yield table.name, _read_csv(file, table)


def _read_csv(file: Path, table: Table) -> pa.Table:
    types = {field.name: field.type for field in table.schema}
    return csv.read_csv(
        file,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
