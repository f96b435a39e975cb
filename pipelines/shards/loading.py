"""The third stage of a load in shards: what the shards handed in, merged by time and loaded."""

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain

import dlt

from dlt_cronofy import rebuild
from dlt_cronofy.load.gc_tuning import rare_collection
from dlt_cronofy.load.maintenance import Upkeep
from dlt_cronofy.load.statistics import LoadResult, RunStatistics
from dlt_cronofy.load.steps import MAX_PACKAGE_POLLS, Loading
from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.clock import MOST_AHEAD, Clock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.records import Outcome, Poll, skipped
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import run_row
from dlt_cronofy.source.tables import TABLES, Row
from dlt_cronofy.source.tokens.store_changes import NO_CHANGES, StoreChanges
from dlt_cronofy.warehouse.dataset import writer
from dlt_cronofy.warehouse.pipeline import location

from .exchange_directory import ExchangeDirectory
from .saved_plan import SavedPlan, SavedTask, read_plan
from .shard_output import (
    Manifest,
    ManifestEntry,
    MergedReader,
    Outcomes,
    ShardOutput,
    choose,
    merged_polls,
    outputs_of,
    read_manifest,
    write_manifest,
)

logger = logging.getLogger("dlt_cronofy")

# what a run left behind is kept for shards that come late, and then given up
GIVEN_UP_AFTER = timedelta(days=7)
RUN_ID, RUN_ID_STAMP = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"), 16
NOT_DELIVERED = "not called: its shard was not delivered"


@dataclass
class ShardedResult(LoadResult):
    """What one load in shards did.

    Attributes:
        shards: how many had anything to do.
        undelivered_shards: those of which nothing came: their polls are `skipped`.
        late_runs: earlier runs of which something came after they had been loaded, and is loaded now.
    """

    shards: int = 0
    undelivered_shards: list[int] = field(default_factory=list)
    late_runs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ShardLoader:
    """Loads runs from the exchange directory, while nobody else writes."""

    exchange: ExchangeDirectory
    settings: PollingSettings
    clock: Clock
    pipeline: dlt.Pipeline
    upkeep: Upkeep

    def load_late_runs(self, run_id: str) -> list[ShardedResult]:
        """Load what came of earlier runs since they were loaded, and give up those that are too old.

        Later ones are left alone: their polls come after those of this one.
        """
        found = []
        for other in self._earlier_runs(run_id):
            is_given_up = self.clock.now() - started_at(other) > GIVEN_UP_AFTER
            # most have been loaded, and their plans are long
            if not is_given_up and not outputs_of(self.exchange, other):
                continue
            try:
                plan = read_plan(self.exchange, other)
                found.append(self.load_run(plan, is_late=True, more_may_come=not is_given_up))
            except ConfigurationError as error:
                # of another version, say: no reason to load nothing of the present run
                logger.error("run %s stays where it is: %s", other, error)
            if is_given_up:
                self.exchange.remove(other)
        return [result for result in found if result.rows]

    def _earlier_runs(self, run_id: str) -> Iterator[str]:
        for other in self.exchange.runs():
            if RUN_ID.fullmatch(other) and other != run_id and started_at(other) <= started_at(run_id):
                yield other

    def load_run(
        self,
        plan: SavedPlan,
        changes: StoreChanges = NO_CHANGES,
        *,
        is_late: bool = False,
        more_may_come: bool = False,
    ) -> ShardedResult:
        """Load what was handed in of one run, and what has changed in the token store.

        What is older than polls of a later run that are loaded is logged, and changes nothing else.
        Where more may come, shards of which nothing came get no skipped polls.

        Raises:
            ConfigurationError: an output cannot be read; of a late run it is left where it is.
        """
        outputs = outputs_of(self.exchange, plan.run_id)
        manifest = read_manifest(self.exchange, plan.run_id)
        chosen = choose(outputs, manifest)
        taken = _entries(chosen, is_late=is_late)
        manifest |= taken
        if taken:
            write_manifest(self.exchange, plan.run_id, manifest)
        result = ShardedResult(
            plan.run_id,
            plan.tokens,
            plan.due,
            fresh=plan.tokens - plan.due - plan.fallback_tokens,
            fallback_tokens=plan.fallback_tokens,
            not_connected=plan.not_connected,
            unusable_rows=plan.unusable_rows,
            shards=len(plan.shards),
        )
        if taken or not more_may_come:
            _summarize(taken if is_late else manifest, result)
            if plan.is_cut_short:
                result.stopped_by = result.stopped_by or "max_requests"
            readable = [each for each in chosen if each.shard in taken]
            tasks = {} if more_may_come else _missing_tasks(plan, manifest)
            self._load_outputs(plan, readable, tasks, changes, result, is_late=is_late)
        for each in outputs:
            if each.shard in manifest:
                each.remove()
        return result

    def _load_outputs(
        self,
        plan: SavedPlan,
        outputs: Sequence[ShardOutput],
        undelivered: dict[int, Sequence[SavedTask]],
        changes: StoreChanges,
        result: ShardedResult,
        *,
        is_late: bool,
    ) -> None:
        """Load outputs, and skipped polls for what was not delivered, and have the run's row say so."""
        statistics = RunStatistics()
        state = SqlWarehouseState(self.pipeline, SOURCE_NAME)
        began = started_at(plan.run_id)
        with state.connected():
            known = state.run(plan.run_id)
            loaded = state.outcomes_of(plan.run_id, began - MOST_AHEAD)
            unsupported = state.unsupported_digests(set(TABLES))
        if known is not None:
            statistics.counts.oldest_evidence_at = known["oldest_evidence_at"]
            statistics.counts.oldest_age_seconds = known["oldest_evidence_age_seconds"]
        run = run_row(plan.run_id, began) | {"tokens": plan.tokens, "due": plan.due}
        loading = Loading(self.upkeep, statistics, run, changes, MAX_PACKAGE_POLLS, unsupported)
        never_called = self._skipped_polls(undelivered, loaded, result)
        with merged_polls(outputs, loaded) as polls, rare_collection():
            merged = MergedReader(chain(polls, never_called))
            loading.load_all(merged.take)
        self._work_out_replaced(merged.taken & loaded.keys())
        # loaded by an earlier attempt, or by the load of a later run
        for (token_key, endpoint), outcome in loaded.items():
            if (token_key, endpoint) not in merged.taken:
                statistics.add_outcome(token_key, endpoint, Outcome(outcome))
        result.destination, result.dataset = location(self.pipeline), self.pipeline.dataset_name or ""
        statistics.summarize(result)
        stopped_by = result.stopped_by
        if is_late and known is not None and known["stopped_by"] != rebuild.KILLED:
            stopped_by = known["stopped_by"]
        self._close(run | {"finished_at": self.clock.now(), "stopped_by": stopped_by}, changes, statistics)

    def _skipped_polls(
        self, undelivered: dict[int, Sequence[SavedTask]], loaded: Outcomes, result: ShardedResult
    ) -> Iterator[Poll]:
        """Skipped polls for the tasks of shards of which nothing came and nothing is loaded."""
        known = {token_key for token_key, _ in loaded}
        missing: list[SavedTask] = []
        for shard, tasks in undelivered.items():
            lost = [task for task in tasks if not any(each.token_key in known for each in task)]
            if lost:
                logger.warning("run %s: nothing came of shard %d, %d tokens", result.run_id, shard, len(lost))
                result.undelivered_shards.append(shard)
                missing += lost
        return (skipped_poll(task, NOT_DELIVERED, self.clock.now()) for task in missing)

    def _work_out_replaced(self, replaced: Collection[tuple[str, str]]) -> None:
        """Where a late poll takes the place of a skipped one, nothing says any more what the token reads."""
        state = SqlWarehouseState(self.pipeline, SOURCE_NAME)
        statuses = state.statuses(sorted({token_key for token_key, _ in replaced}))
        unread = [key for key, status in statuses.items() if status["last_polled_at"] is None]
        if unread:
            with self.upkeep.alone(), writer(self.pipeline):
                self.upkeep.work_out_tokens(unread)

    def _close(self, run: Row, changes: StoreChanges, statistics: RunStatistics) -> None:
        with self.upkeep.alone(), writer(self.pipeline):
            if not statistics.rows:
                self.upkeep.open_run(run, changes)
            self.upkeep.close_run(run, statistics.rows.total())
            self.upkeep.finish_run(run)


def started_at(run_id: str) -> datetime:
    """When a run was planned, which its name says."""
    return datetime.strptime(run_id[:RUN_ID_STAMP], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def skipped_poll(task: SavedTask, why: str, now: datetime) -> Poll:
    """What is in `polls` for a task that nobody called for.

    Of the first endpoint only: that is called whatever comes of it. If the task's polls come late, one of
    them takes this one's place.
    """
    token = task[0]
    return Poll(
        token.token_key, token.data_center, token.endpoints[0], skipped(now, why), token.account_id, None
    )


def _entries(outputs: Sequence[ShardOutput], *, is_late: bool) -> Manifest:
    """What the manifest says of outputs to be loaded; a late one that is damaged is left out."""
    entries: Manifest = {}
    for each in outputs:
        try:
            entries[each.shard] = ManifestEntry(each.name, each.summary())
        except ConfigurationError as error:
            if not is_late:
                raise
            logger.error("%s", error)
    return entries


def _missing_tasks(plan: SavedPlan, manifest: Manifest) -> dict[int, Sequence[SavedTask]]:
    return {shard: plan.tasks[shard] for shard in sorted(plan.tasks.keys() - manifest.keys())}


def _summarize(entries: Manifest, result: ShardedResult) -> None:
    for entry in entries.values():
        result.requests += entry.summary.requests
        result.stopped_by = result.stopped_by or entry.summary.stopped_by
        result.lost_refresh_tokens += entry.summary.lost_refresh_tokens
