"""The stages of a load in shards: plan → poll → load → views, for any orchestrator to call.

Each may run on another machine, again after it was killed, and again while the one that was taken for dead
goes on. What passes from one to the next is the name of the run and the numbers of its shards.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

import dlt

from dlt_cronofy import rebuild
from dlt_cronofy.configuration import configured_store, read_settings
from dlt_cronofy.load.gc_tuning import rare_collection
from dlt_cronofy.load.maintenance import Upkeep, make_evidence
from dlt_cronofy.load.pending import settle_pending
from dlt_cronofy.load.statistics import LoadResult, RunStatistics
from dlt_cronofy.load.steps import MAX_PACKAGE_POLLS, Loading, LoadOptions, Polling, make_plan
from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.limits.shared_rate_limiter import SETTING as SHARED_SETTING
from dlt_cronofy.source.api.limits.shared_rate_limiter import STOPPED_BY as SHARED_FAILED
from dlt_cronofy.source.clock import Clock, SystemClock
from dlt_cronofy.source.errors import ConfigurationError, UnreachableError
from dlt_cronofy.source.history.parse import read_poll
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.records import Outcome, Poll
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import MOST_AHEAD, new_run_id, run_row
from dlt_cronofy.source.tables import TABLES, Row
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.store import stored_tokens
from dlt_cronofy.source.tokens.store_changes import NO_CHANGES, StoreChanges
from dlt_cronofy.source.tokens.token import StoredTokens, Token, log_unusable
from dlt_cronofy.warehouse.dataset import drop_staging, loaded_dataset, refresh_views, sql_client, writer
from dlt_cronofy.warehouse.dlt_workarounds import learn_columns
from dlt_cronofy.warehouse.locks import sole_writer, turn
from dlt_cronofy.warehouse.pipeline import location, open_pipeline, working_place

from .exchange_directory import ExchangeDirectory, configured_exchange
from .manifest import Manifest, readable
from .merged_reader import NOT_DELIVERED, MergedReader, merged_polls, missing_tasks, skipped_poll
from .saved_plan import SavedPlan, SavedTask, read_plan, save_plan, tasks_with_tokens, write_plan
from .shard_output import OutputWriter, ShardOutput, ShardSummary, at_hand, new_name, outputs_of

if TYPE_CHECKING:
    from dlt_cronofy.alerts.outage_alerts import Alerts
    from dlt_cronofy.source.api.token_refresh import Refresher

logger = logging.getLogger("dlt_cronofy")

DEFAULT_SHARDS = 8
# what a run left behind is kept for shards that come late, and then given up
GIVEN_UP_AFTER = timedelta(days=7)
# a load on the same machine that was taken for dead has that long to come to its end
PATIENCE_SECONDS = 600.0
RUN_ID, RUN_ID_STAMP = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}"), 16
GONE = "not called: the token store does not hold it any more"


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


@dataclass
class Stages:
    """All that the stages need of the world, injected.

    Attributes:
        handoff: where files pass from one machine to the next.
        open_pipeline: the dlt pipeline of the warehouse, with a working directory on this machine.
        working_dir: for what refreshing tokens notes down, where the token store has no place for it.
    """

    settings: PollingSettings
    store: TokenStore
    handoff: ExchangeDirectory
    open_pipeline: Callable[[], dlt.Pipeline]
    working_dir: Path
    clock: Clock = field(default_factory=SystemClock)
    alerts: "Alerts | None" = None

    @classmethod
    def configured(cls, destination: str | None = None, dataset: str | None = None) -> "Stages":
        """As dlt's configuration says on this machine.

        Raises:
            ConfigurationError: something is missing or cannot be used; says what to set and where.
        """
        from dlt_cronofy.alerts.outage_alerts import configured_alerts

        configuration, settings = read_settings()
        handoff = configured_exchange()
        # the handoff is one application's; several of them may load into one dataset
        place = working_place(destination, dataset, handoff.root) / "shards"
        return cls(
            settings,
            configured_store(configuration),
            handoff,
            lambda: open_pipeline(destination, dataset, pipelines_dir=place),
            place,
            alerts=configured_alerts(),
        )

    def plan(self, options: LoadOptions, shards: int = DEFAULT_SHARDS) -> SavedPlan:
        """Ask the warehouse which tokens are due, and freeze that. A plan made again is another run."""
        now = self.clock.now()
        tokens = self._tokens()
        log_unusable(tokens)
        pipeline = self.open_pipeline()
        self._learn_evidence(pipeline)
        plan = make_plan(pipeline, tokens, options, now)
        deadline = now + options.max_duration if options.max_duration is not None else None
        run_id = new_run_id(self.clock)
        frozen = save_plan(run_id, plan, shards, options.max_requests, deadline)
        write_plan(self.handoff, frozen)
        logger.info("run %s: %d of %d tokens in %d shards", run_id, plan.due, plan.tokens, len(frozen.shards))
        return frozen

    def _learn_evidence(self, pipeline: dlt.Pipeline) -> None:
        """Have what a plan reads in a warehouse of an earlier release, which kept polls alone; once."""
        with sql_client(pipeline) as client:
            is_needed = rebuild.is_needed(client)
        if is_needed:
            with sole_writer(pipeline, PATIENCE_SECONDS), turn(pipeline), writer(pipeline):
                make_evidence(pipeline, self.settings.hold)

    def poll(self, run_id: str, shard: int) -> ShardSummary:
        """Poll the tokens of one shard and seal what they said. Broken off, it leaves nothing behind."""
        plan = read_plan(self.handoff, run_id, shard)
        tokens = self._tokens()
        tasks, gone = tasks_with_tokens(plan.tasks.get(shard, ()), tokens)
        settings, recent_requests = self._limits(plan, shard)
        polling = Polling(
            settings,
            tasks,
            self.clock,
            RunQuota(plan.affordable(shard), self._deadline(plan)),
            recent_requests,
            self._refresher(tokens),
        )
        summary = ShardSummary()

        def seal(file: IO[bytes]) -> None:
            nonlocal summary
            with OutputWriter(file) as writer:
                with polling.stream() as stream:
                    while (polls := stream.take()) is not None:
                        # what is personal is protected before it is in any file
                        writer.add([read_poll(poll, settings.personal_data) for poll in polls])
                if polling.stopped_by == SHARED_FAILED:
                    # the rest is not polled, and nothing else would say so
                    raise UnreachableError(f"{SHARED_SETTING} failed while the shard was polled")
                writer.add(list(self.skipped(gone, GONE)))
                summary = ShardSummary(polling.requests, polling.stopped_by, polling.lost_refresh_tokens)
                writer.add_summary(summary)

        self.handoff.write(run_id, lambda: new_name(shard, self.clock.now()), seal)
        logger.info("run %s, shard %d: %d tokens, %d requests", run_id, shard, len(tasks), summary.requests)
        return summary

    def load(self, run_id: str) -> ShardedResult:
        """Load what the shards of a run have handed in, and what came late of earlier ones.

        Run again, it adds what was not loaded yet, and nothing twice.

        Raises:
            WarehouseBusy: another load on this machine did not come to its end.
            ConfigurationError: the run was not planned here, or an output cannot be read.
            PipelineStepFailed: dlt could not normalize or load; the outputs stay.
        """
        started = time.monotonic()
        plan = read_plan(self.handoff, run_id)
        pipeline = self.open_pipeline()
        # the one that was taken for dead may still be at it
        with sole_writer(pipeline, PATIENCE_SECONDS), turn(pipeline) as still_mine, _emptied(pipeline):
            pipeline.activate()
            settled = settle_pending(pipeline)
            pipeline.sync_destination()
            learn_columns(pipeline)
            upkeep = Upkeep(pipeline, self.settings, self.clock, partial(_checked, still_mine))
            upkeep.prepare(settled.run_ids)
            loader = _Loader(self, pipeline, upkeep)
            earlier = _earlier_runs(self.handoff, run_id)
            late = {other: loader.load_late(other) for other in earlier}
            changes = upkeep.store_changes(self._tokens(), confirm_left=False)
            result = loader.load_run(plan, changes)
            result.left_tokens, result.held_back_tokens = changes.left, changes.held_back
            drop_staging(pipeline)
        result.late_runs = [other for other, found in late.items() if found is not None]
        lost = [*result.lost_refresh_tokens, *(key for found in late.values() for key in found or ())]
        result.lost_refresh_tokens = list(dict.fromkeys(lost))
        result.seconds = round(time.monotonic() - started, 2)
        logger.info(
            "run %s: %d tokens polled, %d of them failed, %d skipped; rows written: %s",
            run_id,
            result.polled_tokens,
            result.failed_tokens,
            result.skipped_tokens,
            ", ".join(f"{table} {count}" for table, count in result.rows.items()) or "none",
        )
        return result

    def views(self, run_ids: Sequence[str] = ()) -> int | None:
        """Make the views, and tell of outages that opened in these runs; how many, None without alerts."""
        pipeline = self.open_pipeline()
        with sole_writer(pipeline, PATIENCE_SECONDS), turn(pipeline), suppress(ConfigurationError):
            with loaded_dataset(pipeline):
                pass
            refresh_views(pipeline, self.settings.hold.total_seconds(), even_if_current=False)
        if self.alerts is None:
            return None
        return sum(self.alerts.send_opened(pipeline, run_id, ()) for run_id in run_ids)

    def _tokens(self) -> StoredTokens:
        return stored_tokens(self.store, self.settings)

    def _limits(self, plan: SavedPlan, shard: int) -> tuple[PollingSettings, Sequence[datetime]]:
        """The settings for a shard: the limits are shared with the others, or it keeps a part of them."""
        if self.settings.requests_shared_in is not None:
            return self.settings, plan.recent_requests
        parts, recent_requests = plan.share_of(shard)
        settings = replace(
            self.settings,
            requests_per_second=self.settings.requests_per_second / parts,
            requests_per_minute=self.settings.requests_per_minute / parts,
        )
        return settings, recent_requests

    def _deadline(self, plan: SavedPlan) -> float:
        if plan.deadline is None:
            return math.inf
        return self.clock.monotonic() + (plan.deadline - self.clock.now()).total_seconds()

    def _refresher(self, tokens: Sequence[Token]) -> "Refresher | None":
        from dlt_cronofy.source.api.token_refresh import open_refresher

        self.working_dir.mkdir(parents=True, exist_ok=True)
        return open_refresher(self.settings, self.store, tokens, self.working_dir, self.clock)

    def skipped(self, tasks: Iterable[SavedTask], why: str) -> Iterator[Poll]:
        """What stands in `polls` for tasks that nobody called for."""
        for task in tasks:
            yield skipped_poll(task, why, self.clock.now())


@dataclass(frozen=True)
class _Loader:
    """The third stage's work, while nobody else writes."""

    stages: Stages
    pipeline: dlt.Pipeline
    upkeep: Upkeep

    def load_late(self, run_id: str) -> list[str] | None:
        """Load what came of an earlier run since it was loaded.

        Returns:
            Keys of the refresh tokens that were lost on the way; None where there was nothing to load.
        """
        handoff = self.stages.handoff
        is_given_up = self.stages.clock.now() - started_at(run_id) > GIVEN_UP_AFTER
        plan = SavedPlan(run_id)
        try:
            if is_given_up:
                # it may have been planned and never loaded
                plan = read_plan(handoff, run_id)
        except ConfigurationError as error:
            logger.warning("%s", error)
        found: list[str] | None = None
        try:
            result = self.load_run(plan, is_late=True)
            if result.rows:
                found = result.lost_refresh_tokens
        except ConfigurationError as error:
            # of another version, say: no reason to load nothing of the present run
            logger.error("run %s stays where it is: %s", run_id, error)
        if is_given_up:
            handoff.remove_run(run_id)
        return found

    def load_run(
        self, plan: SavedPlan, changes: StoreChanges = NO_CHANGES, *, is_late: bool = False
    ) -> ShardedResult:
        """Load what was handed in of one run, and what has changed in the token store.

        What is older than polls of a later run that are loaded is logged, and changes nothing else.

        Raises:
            ConfigurationError: a set cannot be read; of a late run it is left where it is.
        """
        handoff = self.stages.handoff
        sets = outputs_of(handoff, plan.run_id)
        manifest = Manifest.read(handoff, plan.run_id)
        chosen = manifest.choose(sets)
        if is_late:
            chosen, problems = readable(chosen)
            for problem in problems:
                logger.error("%s", problem)
        if chosen:
            manifest = manifest.take(chosen)
        statistics = RunStatistics(plan.run_id)
        run = self._run_row(plan, statistics, is_late=is_late)
        result = ShardedResult(
            plan.run_id, plan.tokens, plan.due, plan.fresh, plan.fallback_tokens, shards=len(plan.shards)
        )
        result.not_connected, result.unusable_rows = plan.not_connected, plan.unusable_rows
        if chosen or plan.tasks:
            with at_hand(chosen) as readable_here, rare_collection():
                self._load_polls(plan, run, changes, readable_here, manifest, statistics, result)
        manifest = manifest.confirm()
        # of an earlier run only what comes now is news
        shards = {each.shard for each in chosen} if is_late else manifest.by_shard.keys()
        _summarize([manifest.by_shard[shard].summary for shard in shards], plan, result)
        result.conclude(statistics, location(self.pipeline), self.pipeline.dataset_name or "")
        if chosen or plan.tasks or not is_late:
            stopped_by = result.stopped_by or run.get("stopped_by")
            run |= {"finished_at": self.stages.clock.now(), "stopped_by": stopped_by}
            with self.upkeep.alone(), writer(self.pipeline):
                if not statistics.rows:
                    self.upkeep.open_run(run, changes)
                self.upkeep.close_run(run, statistics.rows.total())
        for each in sets:
            if each.shard in manifest.loaded:
                each.remove()
        return result

    def _run_row(self, plan: SavedPlan, statistics: RunStatistics, *, is_late: bool) -> Row:
        """What the row of `runs` says from the start; of an earlier run what its load wrote."""
        run = run_row(plan.run_id, started_at(plan.run_id))
        state = SqlWarehouseState(self.pipeline, SOURCE_NAME)
        known = state.run(plan.run_id)
        if known is not None:
            statistics.counts.oldest_evidence_at = known["oldest_evidence_at"]
            statistics.counts.oldest_age_seconds = known["oldest_evidence_age_seconds"]
        if plan.tasks or not is_late:
            return run | {"tokens": plan.tokens, "due": plan.due}
        if known is None:
            return run
        stopped_by = None if known["stopped_by"] == rebuild.KILLED else known["stopped_by"]
        return run | {"tokens": known["tokens"], "due": known["due"], "stopped_by": stopped_by}

    def _load_polls(
        self,
        plan: SavedPlan,
        run: Row,
        changes: StoreChanges,
        chosen: Sequence[ShardOutput],
        manifest: Manifest,
        statistics: RunStatistics,
        result: ShardedResult,
    ) -> None:
        state = SqlWarehouseState(self.pipeline, SOURCE_NAME)
        with state.connected():
            loaded = state.outcomes_of(plan.run_id, run["started_at"] - MOST_AHEAD)
            unsupported = state.unsupported_digests(set(TABLES))
        missing = missing_tasks(plan, manifest.by_shard, loaded)
        result.undelivered_shards = list(missing)
        for shard, tasks in missing.items():
            logger.warning("run %s: nothing came of shard %d, %d tokens", plan.run_id, shard, len(tasks))
        never_called = (
            poll for tasks in missing.values() for poll in self.stages.skipped(tasks, NOT_DELIVERED)
        )
        merged = MergedReader(chain(merged_polls(chosen, loaded), never_called))
        Loading(
            self.pipeline,
            self.stages.settings,
            self.stages.clock,
            statistics,
            run,
            MAX_PACKAGE_POLLS,
            unsupported,
            partial(self.upkeep.open_run, run, changes),
            self.upkeep.alone,
        ).load_all(merged)
        self._work_out_replaced(merged.taken & loaded.keys())
        # loaded by an earlier attempt, or by the load of a later run
        for (token_key, endpoint), outcome in loaded.items():
            if (token_key, endpoint) not in merged.taken:
                statistics.add_outcome(token_key, endpoint, Outcome(outcome))

    def _work_out_replaced(self, replaced: Collection[tuple[str, str]]) -> None:
        """Where a late poll takes the place of a skipped one, nothing says any more what the token reads."""
        state = SqlWarehouseState(self.pipeline, SOURCE_NAME)
        statuses = state.statuses(sorted({token_key for token_key, _ in replaced}))
        unread = [key for key, status in statuses.items() if status["last_polled_at"] is None]
        if unread:
            with self.upkeep.alone(), writer(self.pipeline):
                self.upkeep.work_out_tokens(unread)


@contextmanager
def _emptied(pipeline: dlt.Pipeline) -> Iterator[None]:
    """An empty working directory, and an empty one afterwards.

    What a killed load left in it lies in the handoff as well, and another machine may have loaded that.
    """
    pipeline.drop()
    try:
        yield
    finally:
        pipeline.drop()


@contextmanager
def _checked(still_mine: Callable[[], None]) -> Iterator[None]:
    """The turn to write, which this load has had since it began; makes sure that it still has it."""
    still_mine()
    yield


def started_at(run_id: str) -> datetime:
    """When a run was planned, which its name says."""
    return datetime.strptime(run_id[:RUN_ID_STAMP], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _earlier_runs(handoff: ExchangeDirectory, run_id: str) -> list[str]:
    """The other runs that have a folder, but for later ones, whose polls come after those of this one."""
    return [
        other
        for other in handoff.runs()
        if RUN_ID.fullmatch(other) and other != run_id and started_at(other) <= started_at(run_id)
    ]


def _summarize(summaries: Iterable[ShardSummary], plan: SavedPlan, result: ShardedResult) -> None:
    for summary in summaries:
        result.requests += summary.requests
        result.stopped_by = result.stopped_by or summary.stopped_by
        result.lost_refresh_tokens += summary.lost_refresh_tokens
    if plan.is_cut_short:
        result.stopped_by = result.stopped_by or "max_requests"
