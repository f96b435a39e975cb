"""The stages of a load in shards: plan → poll → load → views, for any orchestrator to call.

Each may run on another machine, again after it was killed, and again while the one that was taken for dead
goes on. What passes from one to the next is the name of the run and the numbers of its shards.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dlt

from dlt_cronofy import rebuild
from dlt_cronofy.configuration import configured_store, read_settings
from dlt_cronofy.load.maintenance import Upkeep, make_evidence
from dlt_cronofy.load.pace import paced
from dlt_cronofy.load.pending import settle_pending
from dlt_cronofy.load.steps import LoadOptions, Polling, make_plan
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.limits.shared_rate_limiter import SETTING as SHARED_SETTING
from dlt_cronofy.source.api.limits.shared_rate_limiter import STOPPED_BY as SHARED_FAILED
from dlt_cronofy.source.clock import Clock, SystemClock
from dlt_cronofy.source.errors import ConfigurationError, UnreachableError
from dlt_cronofy.source.history.parse import read_poll
from dlt_cronofy.source.records import Poll
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import new_run_id
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.due_query import read_notified
from dlt_cronofy.source.tokens.store import stored_tokens
from dlt_cronofy.source.tokens.token import Token, log_unusable
from dlt_cronofy.warehouse.dataset import drop_staging, loaded_dataset, refresh_views, sql_client, writer
from dlt_cronofy.warehouse.dlt_workarounds import learn_columns
from dlt_cronofy.warehouse.locks import sole_writer, turn
from dlt_cronofy.warehouse.pipeline import open_pipeline, working_place

from .exchange_directory import ExchangeDirectory, configured_exchange
from .loading import ShardedResult, ShardLoader, skipped_poll
from .saved_plan import SavedPlan, read_plan, save_plan, tasks_with_tokens, write_plan
from .shard_output import ShardSummary, new_name, write_output

if TYPE_CHECKING:
    from dlt_cronofy.alerts.sending import Alerts
    from dlt_cronofy.source.api.token_refresh import Refresher

logger = logging.getLogger("dlt_cronofy")

DEFAULT_SHARDS = 8
# a load on the same machine that was taken for dead has that long to come to its end
PATIENCE_SECONDS = 600.0
GONE = "not called: the token store does not hold it any more"


@dataclass
class Stages:
    """All that the stages need of the world, injected.

    Attributes:
        exchange: where files pass from one machine to the next.
        open_pipeline: the dlt pipeline of the warehouse, with a working directory on this machine.
        working_dir: for what refreshing tokens notes down, where the token store has no place for it.
    """

    settings: PollingSettings
    store: TokenStore
    exchange: ExchangeDirectory
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
        from dlt_cronofy.alerts.sending import configured_alerts

        configuration, settings = read_settings()
        exchange = configured_exchange()
        # the directory is one application's; several of them may load into one dataset
        folder = working_place(destination, dataset, exchange.root) / "shards"
        return cls(
            settings,
            configured_store(configuration),
            exchange,
            lambda: open_pipeline(destination, dataset, pipelines_dir=folder),
            folder,
            alerts=configured_alerts(),
        )

    def plan(self, options: LoadOptions, shards: int = DEFAULT_SHARDS) -> SavedPlan:
        """Ask the warehouse which tokens are due, and save that. A plan made again is another run."""
        now = self.clock.now()
        tokens = stored_tokens(self.store, self.settings)
        log_unusable(tokens)
        pipeline = self.open_pipeline()
        self._make_evidence(pipeline)
        plan = make_plan(pipeline, tokens, options, now, read_notified(self.settings, now))
        deadline = now + options.max_duration if options.max_duration is not None else None
        run_id = new_run_id(self.clock)
        saved = save_plan(run_id, plan, shards, options.max_requests, deadline, options.spread)
        write_plan(self.exchange, saved)
        logger.info("run %s: %d of %d tokens in %d shards", run_id, plan.due, plan.tokens, len(saved.shards))
        return saved

    def _make_evidence(self, pipeline: dlt.Pipeline) -> None:
        """Have what a plan reads in a warehouse of an earlier release, which kept polls alone; once."""
        with sql_client(pipeline) as client:
            is_needed = rebuild.is_needed(client)
        if is_needed:
            with sole_writer(pipeline, PATIENCE_SECONDS), turn(pipeline), writer(pipeline):
                make_evidence(pipeline, self.settings.hold)

    def poll(self, run_id: str, shard: int) -> ShardSummary:
        """Poll the tokens of one shard and write its output. Broken off, it leaves nothing behind."""
        plan = read_plan(self.exchange, run_id, shard)
        tokens = stored_tokens(self.store, self.settings)
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

        def polls() -> Iterator[Sequence[Poll]]:
            with polling.stream() as stream:
                while (batch := stream.take()) is not None:
                    if batch:
                        # what is personal is protected before it is in any file
                        yield [read_poll(poll, settings.personal_data) for poll in batch]
            if polling.stopped_by == SHARED_FAILED:
                # the rest is not polled, and nothing else would say so
                raise UnreachableError(f"{SHARED_SETTING} failed while the shard was polled")
            yield [skipped_poll(task, GONE, self.clock.now()) for task in gone]

        def summarize() -> ShardSummary:
            return ShardSummary(polling.requests, polling.stopped_by, polling.lost_refresh_tokens)

        self.exchange.write(
            run_id,
            lambda: new_name(shard, self.clock.now()),
            lambda file: write_output(file, polls(), summarize),
        )
        logger.info("run %s, shard %d: %d tokens, %d requests", run_id, shard, len(tasks), polling.requests)
        return summarize()

    def load(self, run_id: str) -> ShardedResult:
        """Load what the shards of a run have handed in, and what came late of earlier ones.

        Run again, it adds what was not loaded yet, and nothing twice.

        Raises:
            WarehouseBusy: another load on this machine did not come to its end.
            ConfigurationError: the run was not planned here, or an output cannot be read.
            PipelineStepFailed: dlt could not normalize or load; the outputs stay.
        """
        started = time.monotonic()
        plan = read_plan(self.exchange, run_id)
        pipeline = self.open_pipeline()
        # the one that was taken for dead may still be at it
        with sole_writer(pipeline, PATIENCE_SECONDS), turn(pipeline) as still_mine, _emptied(pipeline):
            pipeline.activate()
            settled = settle_pending(pipeline)
            pipeline.sync_destination()
            learn_columns(pipeline)
            upkeep = Upkeep(pipeline, self.settings, self.clock, partial(_checked, still_mine))
            upkeep.prepare(settled.run_ids)
            loader = ShardLoader(self.exchange, self.settings, self.clock, pipeline, upkeep)
            late = loader.load_late_runs(run_id)
            changes = upkeep.store_changes(stored_tokens(self.store, self.settings), confirm_left=False)
            result = loader.load_run(plan, changes)
            drop_staging(pipeline)
        result.left_tokens, result.held_back_tokens = changes.left, changes.held_back
        result.late_runs = [each.run_id for each in late]
        lost = (key for each in (result, *late) for key in each.lost_refresh_tokens)
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
        """Make the views, and send what is news of these runs: how much, None where alerts are off."""
        pipeline = self.open_pipeline()
        with sole_writer(pipeline, PATIENCE_SECONDS), turn(pipeline), suppress(ConfigurationError):
            with loaded_dataset(pipeline):
                pass
            refresh_views(pipeline, self.settings.hold.total_seconds(), even_if_current=False)
        if self.alerts is None:
            return None
        return self.alerts.send_news(pipeline, run_ids[0], run_ids[1:]) if run_ids else 0

    def _limits(self, plan: SavedPlan, shard: int) -> tuple[PollingSettings, Sequence[datetime]]:
        """The settings for a shard: the limits are shared with the others, or it keeps a part of them."""
        settings = self.settings
        if settings.requests_shared_in is not None:
            return paced(settings, plan.calls, plan.spread), plan.recent_requests
        parts, recent_requests = plan.share_of(shard)
        settings = replace(
            settings,
            requests_per_second=settings.requests_per_second / parts,
            requests_per_minute=settings.requests_per_minute / parts,
        )
        # a part of the rate for all would be no whole number, and would take longer
        return paced(settings, plan.calls_of(shard), plan.spread), recent_requests

    def _deadline(self, plan: SavedPlan) -> float:
        if plan.deadline is None:
            return math.inf
        return self.clock.monotonic() + (plan.deadline - self.clock.now()).total_seconds()

    def _refresher(self, tokens: Sequence[Token]) -> "Refresher | None":
        from dlt_cronofy.source.api.token_refresh import open_refresher

        self.working_dir.mkdir(parents=True, exist_ok=True)
        return open_refresher(self.settings, self.store, tokens, self.working_dir, self.clock)


@contextmanager
def _emptied(pipeline: dlt.Pipeline) -> Iterator[None]:
    """An empty working directory, and an empty one afterwards.

    What a killed load left in it is in the exchange directory as well, and another machine may have loaded
    that.
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
