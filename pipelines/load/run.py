"""The scheduled load in one process: plan → poll → load, package by package, then the views."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dlt
from dlt.destinations.exceptions import DestinationConnectionError

from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.clock import Clock, SystemClock
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import new_run_id, run_row
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.due_query import read_notified
from dlt_cronofy.source.tokens.store_changes import StoreChanges
from dlt_cronofy.source.tokens.token import StoredTokens, Token, log_unusable
from dlt_cronofy.warehouse.dataset import held_open, refresh_views, writer
from dlt_cronofy.warehouse.dlt_workarounds import drop_loaded_records, learn_columns
from dlt_cronofy.warehouse.lake import extensions_loaded
from dlt_cronofy.warehouse.locks import sole_writer, turn
from dlt_cronofy.warehouse.pipeline import location

from .maintenance import Upkeep
from .pace import paced
from .pending import settle_pending
from .statistics import LoadResult, RunStatistics
from .steps import Loading, LoadOptions, Plan, Polling, make_plan, package_polls

if TYPE_CHECKING:
    from dlt_cronofy.alerts.sending import Alerts
    from dlt_cronofy.source.api.token_refresh import Refresher

logger = logging.getLogger("dlt_cronofy")

# a container is given 30 s between SIGTERM and SIGKILL; loading what was polled takes some of them
STOP_GRACE_SECONDS = 5.0


@dataclass
class Load:
    """One load into one pipeline; everything that touches the world is injected."""

    pipeline: dlt.Pipeline
    settings: PollingSettings
    tokens: Sequence[Token]
    options: LoadOptions = field(default_factory=LoadOptions)
    clock: Clock = field(default_factory=SystemClock)
    on_plan: Callable[[int], None] = lambda _: None
    on_progress: Callable[[int], None] = lambda _: None
    store: TokenStore | None = None  # where refreshed tokens are written back; without it none is refreshed
    alerts: "Alerts | None" = None  # where news go
    quota: RunQuota = field(init=False)
    result: LoadResult | None = field(init=False, default=None)  # so far, also if the load fails

    def __post_init__(self) -> None:
        self.quota = RunQuota(self.options.max_requests)

    def stop(self, reason: str) -> None:
        """Send no further request and load what was polled; may be called from another thread."""
        self.quota.stop(reason, abandon_at=self.clock.monotonic() + STOP_GRACE_SECONDS)

    def run(self) -> LoadResult:
        """Plan, poll, load and refresh the views.

        Raises:
            WarehouseBusy: another load is writing there.
            PipelineStepFailed: dlt could not normalize or load; what was polled stays pending and is
                loaded first next time.
        """
        with sole_writer(self.pipeline), extensions_loaded(self.pipeline):
            return self._run()

    def _run(self) -> LoadResult:
        started = time.monotonic()
        log_unusable(self.tokens)
        notified = read_notified(self.settings, self.clock.now())
        # dlt keeps the active pipeline by thread
        self.pipeline.activate()
        settled = settle_pending(self.pipeline, self._turn)
        upkeep = Upkeep(self.pipeline, self.settings, self.clock, self._turn)
        plan, store = self._plan(upkeep, settled.run_ids, notified)
        self.on_plan(plan.due)
        run_id = new_run_id(self.clock)
        run = run_row(run_id, self.clock.now()) | {"tokens": plan.tokens, "due": plan.due}
        statistics = RunStatistics(self.on_progress)
        self.result = result = LoadResult.of(run_id, plan, store)
        package = package_polls(self.settings.requests_per_minute)
        stop = partial(self.stop, "warehouse")
        loading = Loading(upkeep, statistics, run, store, package, plan.unsupported, stop)
        if plan.tasks:
            self._poll_and_load(plan, loading, result)
        result.finished_packages, result.quarantined_packages = settled.finished, settled.quarantined
        result.destination, result.dataset = location(self.pipeline), self.pipeline.dataset_name or ""
        statistics.summarize(result)
        run |= statistics.counts.row() | {"finished_at": self.clock.now(), "stopped_by": result.stopped_by}
        try:
            self._close(loading, result, settled.run_ids)
        except DestinationConnectionError:
            if plan.tasks:
                raise
            # somebody reads, and there was nothing to write but that
            logger.warning(
                "nothing was due; %s is open elsewhere, so runs lacks this load", result.destination
            )
        drop_loaded_records(self.pipeline)
        result.seconds = round(time.monotonic() - started, 2)
        return result

    def _plan(
        self, upkeep: Upkeep, settled_runs: Collection[str], notified: Mapping[str, datetime]
    ) -> tuple[Plan, StoreChanges]:
        """What to poll, and what has changed in the token store, once the warehouse is in order.

        The schema is learned once, where something will be written.
        """
        with held_open(self.pipeline):
            if not upkeep.look(settled_runs):
                plan, store = self._read_plan(upkeep, notified)
                if plan.tasks or store.changed:
                    self._learn_schema()
                return plan, store
        self._learn_schema()
        upkeep.prepare(settled_runs)
        with held_open(self.pipeline):
            return self._read_plan(upkeep, notified)

    def _read_plan(self, upkeep: Upkeep, notified: Mapping[str, datetime]) -> tuple[Plan, StoreChanges]:
        plan = make_plan(self.pipeline, self.tokens, self.options, self.clock.now(), notified)
        tokens = StoredTokens.of(self.tokens)
        return plan, upkeep.store_changes(tokens, confirm_left=self.options.confirm_left)

    def _learn_schema(self) -> None:
        """Learn the schema, as after a load of another machine."""
        if self.options.sync:
            with held_open(self.pipeline):
                self.pipeline.sync_destination()
                learn_columns(self.pipeline)

    def _close(self, loading: Loading, result: LoadResult, settled_runs: Collection[str]) -> None:
        """Count the run, refresh the views, send what is news, and then have the run finished.

        A load that is killed before that has not finished, and the next one sends its news. Where there was
        nothing to do, one row says so.
        """
        upkeep, run = loading.upkeep, loading.run
        is_idle = not (result.due or loading.changes.changed or self.alerts)
        with self._turn(), writer(self.pipeline, more_to_come=is_idle):
            if is_idle:
                upkeep.write_run(run)
            else:
                upkeep.open_run(run, loading.changes)
                upkeep.close_run(run, loading.statistics.rows.total())
            if self.options.refresh_views:
                refresh_views(self.pipeline, self.settings.hold.total_seconds(), even_if_current=False)
            if self.alerts is not None:
                result.alerted = self.alerts.send_news(self.pipeline, run["run_id"], settled_runs)
            if not is_idle:
                upkeep.finish_run(run)
        upkeep.give_back_room()

    def _poll_and_load(self, plan: Plan, loading: Loading, result: LoadResult) -> None:
        """Poll all tasks, and load what was polled package by package meanwhile."""
        if self.options.max_duration is not None:
            self.quota.deadline = self.clock.monotonic() + self.options.max_duration.total_seconds()
        calls = min(plan.calls, self.options.max_requests or plan.calls)
        polling = Polling(
            paced(self.settings, calls, self.options.spread),
            plan.tasks,
            self.clock,
            self.quota,
            plan.recent_requests,
            self._refresher(),
            loading.statistics.add_poll,
        )
        try:
            with polling.stream() as stream:
                loading.load_all(stream.take)
        finally:
            result.requests = polling.requests
            result.stopped_by = polling.stopped_by
            result.lost_refresh_tokens = list(polling.lost_refresh_tokens)

    def _turn(self) -> AbstractContextManager[object]:
        return turn(self.pipeline)

    def _refresher(self) -> "Refresher | None":
        if self.store is None:
            return None
        from dlt_cronofy.source.api.token_refresh import open_refresher

        place = Path(self.pipeline.pipelines_dir)
        return open_refresher(self.settings, self.store, self.tokens, place, self.clock)
