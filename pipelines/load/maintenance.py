"""Upkeep: what a load puts in order around its polls.

Before: tables that are missing, evidence that a kill left behind or that an older release did not keep, and
what has changed in the token store. After: the row of `runs`, old polls, and what PostgreSQL knows of its
tables. A kill at any instant of it leaves nothing that the next load does not put right.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseException, DatabaseTransientException
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy import rebuild
from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.clock import MOST_AHEAD, Clock
from dlt_cronofy.source.history.capture import KnownRows
from dlt_cronofy.source.history.runs import RunCounts
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.resources import Frames
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import Recording
from dlt_cronofy.source.tables import CONTENT, POLLS, TABLES, TOKEN_STATUS, Row, tables_with
from dlt_cronofy.source.tokens.store_changes import StoreChanges
from dlt_cronofy.source.tokens.token import StoredTokens
from dlt_cronofy.warehouse.dataset import sql_client, writer
from dlt_cronofy.warehouse.dlt_workarounds import learn_columns
from dlt_cronofy.warehouse.duckdb_copy import CannotCopyError, rewrite_without
from dlt_cronofy.warehouse.duckdb_file import free_share
from dlt_cronofy.warehouse.lake import is_lake, tidy_if_due
from dlt_cronofy.warehouse.locks import take_folder
from dlt_cronofy.warehouse.pipeline import duckdb_file, location

from .steps import extract, load_package, pipeline_framer

logger = logging.getLogger("dlt_cronofy")

Client = SqlClientBase[Any]

MIGRATING = "working out the evidence that this release keeps from the polls so far; once"

# rows of `token_status` that are made at once
CHUNK_ROWS = 2_500
# after a load that wrote so many rows, PostgreSQL counts them
MANY_ROWS = 1_000
# so many old polls one load removes
OLD_POLLS_PER_LOAD = 500_000
# a DuckDB file of which so much holds nothing is rewritten
WASTED_SHARE = 0.5


@dataclass(frozen=True)
class Needed:
    """What has to be put in order before a load."""

    tables: frozenset[str] = frozenset()  # that are missing, or lack a column
    unfinished: tuple[str, ...] = ()  # runs that were killed, whose evidence may not fit their polls
    is_rebuilt: bool = False  # all evidence is worked out from the polls
    is_ahead: bool = False  # the newest poll is of a clock that was ahead
    lacks_indexes: bool = False  # of PostgreSQL

    def __bool__(self) -> bool:
        return self != Needed()


@dataclass
class Upkeep:
    """The upkeep of one warehouse by one load."""

    pipeline: dlt.Pipeline
    settings: PollingSettings
    clock: Clock
    alone: Callable[[], AbstractContextManager[object]]  # entered to write, and keeps other writers out
    _opened: set[str] = field(default_factory=set)

    def look(self, settled_runs: Collection[str] = ()) -> Needed:
        """What has to be put in order; mostly nothing. Settled runs had packages that a later one loaded."""
        with sql_client(self.pipeline) as client:
            return self._needed(client, settled_runs)

    def prepare(self, settled_runs: Collection[str] = ()) -> None:
        """Make what is missing, and heal the evidence of killed loads; where nothing is to do, do nothing."""
        if not self.look(settled_runs):
            return
        with self.alone(), writer(self.pipeline):
            # asked again: another load may have been faster
            with sql_client(self.pipeline) as client:
                needed = self._needed(client, settled_runs)
            if needed.tables:
                learn_columns(self.pipeline)
                self._make_tables(needed.tables)
            with sql_client(self.pipeline) as client:
                self._heal(client, needed)

    def _needed(self, client: Client, settled_runs: Collection[str]) -> Needed:
        tables = rebuild.incomplete_tables(client, tables_with(self.settings.token_labels))
        lacks_indexes = rebuild.lacks_indexes(client)
        if rebuild.is_needed(client):
            return Needed(tables, is_rebuilt=True, lacks_indexes=lacks_indexes)
        newest = rebuild.newest_poll_at(client)
        is_ahead = newest is not None and newest > self.clock.now() + MOST_AHEAD
        unfinished = {*settled_runs, *rebuild.unfinished_runs(client)}
        return Needed(tables, tuple(sorted(unfinished)), is_ahead=is_ahead, lacks_indexes=lacks_indexes)

    def _heal(self, client: Client, needed: Needed) -> None:
        hold = self.settings.hold
        if needed.is_rebuilt:
            logger.warning(MIGRATING)
            rebuild.rebuild(client, hold)
        if needed.unfinished:
            logger.warning("healing the evidence of %s", ", ".join(needed.unfinished))
            rebuild.heal(client, hold, needed.unfinished)
        if needed.is_ahead:
            logger.warning("polls of a clock that was more than an hour ahead count no more")
            rebuild.void_after(client, hold, self.clock.now() + MOST_AHEAD)
        if needed.tables or needed.lacks_indexes:
            try:
                rebuild.prepare_postgres(client)
            except DatabaseException as error:
                # the owner of the tables may; without indexes all is right, and slower
                logger.info("PostgreSQL gets no indexes: %s", str(error).strip().splitlines()[0])

    def _make_tables(self, names: Collection[str]) -> None:
        """Load no rows into these tables, so that they are there with all their columns."""
        take_folder(self.pipeline)
        described = tables_with(self.settings.token_labels)
        frames = pipeline_framer(self.pipeline).frames({name: [] for name in names}, described)
        extract(self.pipeline, [frames], *(table.name for table in CONTENT), POLLS.name)
        load_package(self.pipeline)

    def store_changes(self, tokens: StoredTokens, *, confirm_left: bool) -> StoreChanges:
        """What has changed in the token store since `token_status` was written."""
        recording = self.recording({"run_id": ""})
        with recording.state.connected():
            return recording.compare_store(tokens, confirm_left=confirm_left)

    def recording(
        self, run: Row, known: KnownRows | None = None, counts: RunCounts | None = None
    ) -> Recording:
        """What captures polls of a run for this warehouse."""
        state = SqlWarehouseState(self.pipeline, SOURCE_NAME)
        return Recording(
            self.settings, state, run, TABLES, self.clock, known or KnownRows(), counts or RunCounts()
        )

    def open_run(self, run: Row, changes: StoreChanges) -> None:
        """Say that a load is under way, and learn what others added; at the start of each turn to write.

        A run without `finished_at` was killed, and its evidence may not fit its polls. Another load may have
        taken this one for killed since its last turn, and nobody would heal it a second time. What has
        changed in the token store is written in the first turn.
        """
        if duckdb_file(self.pipeline) is None:  # nobody else has added any there meanwhile
            learn_columns(self.pipeline)
        self.write_run(run | {"finished_at": None, "stopped_by": None})
        if run["run_id"] in self._opened:
            return
        self._opened.add(run["run_id"])
        if changes.changed:
            extract(self.pipeline, self._store_frames(run, changes), POLLS.name)
            load_package(self.pipeline)
            # of very many tokens they take a lot of memory
            changes.changed.clear()

    def write_run(self, run: Row) -> None:
        """Write the columns of a run at once; within a turn to write."""
        with sql_client(self.pipeline) as client:
            rebuild.write_run(client, run)

    def _store_frames(self, run: Row, changes: StoreChanges) -> Iterator[Frames]:
        """The rows of `token_status` that change with the token store."""
        framer, described = pipeline_framer(self.pipeline), tables_with(self.settings.token_labels)
        for chunk in changes.chunks(CHUNK_ROWS):
            recording = self.recording(run)
            recording.set_store(chunk)
            yield framer.frames({TOKEN_STATUS.name: recording.evidence.changed_statuses()}, described)

    def work_out_tokens(self, token_keys: Collection[str]) -> None:
        """Work out again what is known of tokens of which polls were replaced; within a turn to write."""
        with sql_client(self.pipeline) as client:
            rebuild.rebuild(client, self.settings.hold, token_keys)

    def finish_run(self, run: Row) -> None:
        """Say that a load has ended: all it had to do is done; within a turn to write."""
        with sql_client(self.pipeline) as client:
            rebuild.write_run(client, {name: run[name] for name in ("run_id", "finished_at")})

    def close_run(self, run: Row, written_rows: int) -> None:
        """Count a load that is about to end, and leave the warehouse tidy; within a turn to write."""
        with sql_client(self.pipeline) as client:
            # counted as they are in the warehouse, and ended after that: a shard may come again, or late
            rebuild.write_run(client, run | {"finished_at": None})
            rebuild.recount_run(client, run["run_id"])
            if self.settings.keep_polls is not None:
                before = self.clock.now() - self.settings.keep_polls
                removed = rebuild.drop_old_polls(client, before, OLD_POLLS_PER_LOAD)
                if removed:
                    logger.info("removed %d polls from before %s", removed, f"{before:%Y-%m-%d %H:%M} UTC")
            if written_rows >= MANY_ROWS:
                rebuild.analyze(client, list(TABLES))

    def give_back_room(self) -> None:
        """Rewrite a DuckDB file once half of it holds nothing, after old polls were removed.

        Before that, new polls take the room of the old ones. In a DuckLake, merge files and remove old ones.
        """
        if is_lake(self.pipeline):
            with self.alone():
                tidy_if_due(self.pipeline)
            return
        file = duckdb_file(self.pipeline)
        if self.settings.keep_polls is None or file is None or free_share(file) < WASTED_SHARE:
            return
        before = file.stat().st_size
        try:
            rewrite_without(file, {})
        except (CannotCopyError, DatabaseTransientException) as error:
            logger.info("%s keeps the room of removed polls for now: %s", location(self.pipeline), error)
        else:
            megabytes = file.stat().st_size // 1_000_000, before // 1_000_000
            logger.info("rewrote %s: %d MB instead of %d", location(self.pipeline), *megabytes)


def make_evidence(pipeline: dlt.Pipeline, hold: timedelta) -> None:
    """Make the evidence of a warehouse that has none yet; within a turn to write."""
    with sql_client(pipeline) as client:
        if rebuild.incomplete_tables(client, TABLES):
            rebuild.create_missing(client)
        if rebuild.is_needed(client):
            logger.warning(MIGRATING)
            rebuild.rebuild(client, hold)
