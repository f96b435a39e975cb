"""The stages of a load in shards: plan → poll → load → views, for any orchestrator to call.

Each may run on another machine, again after it was killed, and again while the one that was taken for dead
goes on. What passes from one to the next is the name of the run and the numbers of its shards.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

import dlt

from sources.cronofy import SOURCE_NAME
from sources.cronofy.calls.answers import Outcome
from sources.cronofy.calls.budget import Allowance
from sources.cronofy.calls.polling import Poll
from sources.cronofy.clock import Clock, SystemClock
from sources.cronofy.errors import ConfigurationError
from sources.cronofy.history.knowledge import WarehouseKnowledge
from sources.cronofy.settings import PollingSettings
from sources.cronofy.stores import TokenStore
from sources.cronofy.sweep import new_run_id
from sources.cronofy.tokens import Token, in_data_centers

from ..collection import rare_collection
from ..configuration import configured_store, read_settings
from ..pending import settle_pending
from ..steps import MAX_PACKAGE_POLLS, Loading, LoadOptions, Polling, checkpoint_file, make_plan
from ..tally import LoadResult, Tally
from ..warehouse import (
    drop_staging,
    loaded_dataset,
    location,
    open_pipeline,
    refresh_views,
    working_place,
)
from ..writers import sole_writer, turn
from .delivery import NOT_DELIVERED, Delivery, delivered_polls, skipped_poll, undelivered_tasks
from .frozen_plan import FrozenPlan, FrozenTask, freeze_plan, read_plan, thaw_tasks, write_plan
from .handoff import Handoff, configured_handoff
from .sealed_set import (
    SealedSet,
    SetWriter,
    ShardSummary,
    at_hand,
    first_of_each,
    new_name,
    sets_of,
)

if TYPE_CHECKING:
    from sources.cronofy.calls.refresh import Refresher

    from ..alerts import Alerts

logger = logging.getLogger("dlt_cronofy")

DEFAULT_SHARDS = 8
# what a run left behind is kept for shards that come late, and then given up
GIVEN_UP_AFTER = timedelta(days=7)
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
    handoff: Handoff
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
        from ..alerts import configured_alerts

        configuration, settings = read_settings()
        place = working_place(destination, dataset) / "shards"
        return cls(
            settings,
            configured_store(configuration),
            configured_handoff(),
            lambda: open_pipeline(destination, dataset, pipelines_dir=place),
            place,
            alerts=configured_alerts(),
        )

    def plan(self, options: LoadOptions, shards: int = DEFAULT_SHARDS) -> FrozenPlan:
        """Ask the warehouse which tokens are due, and freeze that. A plan made again is another run."""
        now = self.clock.now()
        plan = make_plan(self.open_pipeline(), self._tokens(), options, now)
        deadline = now + options.max_duration if options.max_duration is not None else None
        run_id = new_run_id(self.clock)
        frozen = freeze_plan(run_id, plan, shards, options.endpoints, options.max_requests, deadline)
        write_plan(self.handoff, frozen)
        logger.info("run %s: %d of %d tokens in %d shards", run_id, plan.due, plan.tokens, len(frozen.shards))
        return frozen

    def poll(self, run_id: str, shard: int) -> ShardSummary:
        """Poll the tokens of one shard and seal what they said. Broken off, it leaves nothing behind."""
        plan = read_plan(self.handoff, run_id, shard)
        tokens = self._tokens()
        tasks, gone = thaw_tasks(plan.tasks.get(shard, ()), tokens)
        settings, recent_requests = self._limits(plan, shard)
        polling = Polling(
            settings,
            tasks,
            self.clock,
            Allowance(deadline=self._deadline(plan)),
            recent_requests,
            self._refresher(tokens),
        )
        summary = ShardSummary()

        def seal(file: IO[bytes]) -> None:
            nonlocal summary
            with SetWriter(file) as writer:
                with polling.feed() as feed:
                    while (polls := feed.take()) is not None:
                        writer.add(polls)
                writer.add(list(self._skipped(gone, GONE)))
                summary = ShardSummary(polling.requests, polling.stopped_by, polling.lost_refresh_tokens)
                writer.add_summary(summary)

        self.handoff.write(run_id, lambda: new_name(shard, self.clock.now()), seal)
        logger.info("run %s, shard %d: %d tokens, %d requests", run_id, shard, len(tasks), summary.requests)
        return summary

    def load(self, run_id: str) -> ShardedResult:
        """Load what the shards of a run have handed in, and what came late of earlier ones.

        Run again, it adds what was not loaded yet, and nothing twice.

        Raises:
            WarehouseBusy: another load is writing there.
            ConfigurationError: the run was not planned here, or a sealed set cannot be read.
            PipelineStepFailed: dlt could not normalize or load; the sealed sets stay.
        """
        started = time.monotonic()
        plan = read_plan(self.handoff, run_id)
        pipeline = self.open_pipeline()
        with sole_writer(pipeline), turn(pipeline), _emptied(pipeline):
            pipeline.activate()
            settle_pending(pipeline)
            pipeline.sync_destination()
            late_runs = [other for other in self.handoff.runs() if self._load_late(pipeline, other, run_id)]
            result = self._load_run(pipeline, plan)
            drop_staging(pipeline)
        result.late_runs = late_runs
        result.seconds = round(time.monotonic() - started, 2)
        return result

    def views(self, run_ids: Sequence[str] = ()) -> int | None:
        """Make the views, and tell of outages that opened in these runs; how many, None without alerts."""
        pipeline = self.open_pipeline()
        with sole_writer(pipeline), turn(pipeline):
            with suppress(ConfigurationError), loaded_dataset(pipeline):
                refresh_views(pipeline, self.settings.hold.total_seconds(), anew=False)
            checkpoint_file(pipeline)
        if self.alerts is None:
            return None
        return sum(self.alerts.send_opened(pipeline, run_id, ()) for run_id in run_ids)

    def _load_late(self, pipeline: dlt.Pipeline, run_id: str, present: str) -> bool:
        """Load what came of another run since it was loaded; whether there was anything."""
        if run_id == present or RUN_ID.fullmatch(run_id) is None:
            return False
        planned_at = datetime.strptime(run_id[:RUN_ID_STAMP], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        is_given_up = self.clock.now() - planned_at > GIVEN_UP_AFTER
        plan = FrozenPlan(run_id, ())
        if is_given_up:
            # it may have been planned and never loaded
            with suppress(ConfigurationError):
                plan = read_plan(self.handoff, run_id)
        result = self._load_run(pipeline, plan)
        if is_given_up:
            self.handoff.remove_run(run_id)
        return bool(result.rows)

    def _load_run(self, pipeline: dlt.Pipeline, plan: FrozenPlan) -> ShardedResult:
        sets = sets_of(self.handoff, plan.run_id)
        chosen = first_of_each(sets)
        tally = Tally(plan.run_id)
        result = ShardedResult(
            plan.run_id, plan.tokens, plan.due, plan.fresh, plan.stand_ins, shards=len(plan.shards)
        )
        _summarize([each.summary() for each in chosen], result)
        if plan.is_cut_short:
            result.stopped_by = result.stopped_by or "max_requests"
        if sets or plan.tasks:
            with at_hand(chosen) as readable, rare_collection():
                self._load_polls(pipeline, plan, readable, tally, result)
        for each in sets:
            each.remove()
        result.conclude(tally, location(pipeline), pipeline.dataset_name or "")
        return result

    def _load_polls(
        self,
        pipeline: dlt.Pipeline,
        plan: FrozenPlan,
        chosen: Sequence[SealedSet],
        tally: Tally,
        result: ShardedResult,
    ) -> None:
        loaded, newest = self._known(pipeline, plan.run_id)
        missing = undelivered_tasks(plan, {each.shard for each in chosen}, loaded)
        result.undelivered_shards = list(missing)
        for shard, tasks in missing.items():
            logger.warning("run %s: nothing came of shard %d, %d tokens", plan.run_id, shard, len(tasks))
        never_called = (poll for tasks in missing.values() for poll in self._skipped(tasks, NOT_DELIVERED))
        delivery = Delivery(chain(delivered_polls(chosen, loaded), never_called), tally.add_poll)
        is_late = newest is not None and any(each.starts_before(newest) for each in chosen)
        Loading(
            pipeline,
            self.settings,
            self.clock,
            tally,
            MAX_PACKAGE_POLLS,
            late_until=newest if is_late else None,
        ).load_all(delivery)
        # loaded by an earlier attempt, or by the load of a later run
        for (token_key, endpoint), outcome in loaded.items():
            if (token_key, endpoint) not in delivery.taken:
                tally.add_outcome(token_key, endpoint, Outcome(outcome))

    def _known(
        self, pipeline: dlt.Pipeline, run_id: str
    ) -> tuple[Mapping[tuple[str, str], str], datetime | None]:
        knowledge = WarehouseKnowledge(pipeline, SOURCE_NAME)
        with knowledge.connected():
            return knowledge.outcomes_of(run_id), knowledge.newest_answer_at()

    def _tokens(self) -> list[Token]:
        return in_data_centers(self.store.read(), self.settings.data_center)

    def _limits(self, plan: FrozenPlan, shard: int) -> tuple[PollingSettings, Sequence[datetime]]:
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

    def _deadline(self, plan: FrozenPlan) -> float:
        if plan.deadline is None:
            return math.inf
        return self.clock.monotonic() + (plan.deadline - self.clock.now()).total_seconds()

    def _refresher(self, tokens: Sequence[Token]) -> "Refresher | None":
        from sources.cronofy.calls.refresh import open_refresher

        self.working_dir.mkdir(parents=True, exist_ok=True)
        return open_refresher(self.settings, self.store, tokens, self.working_dir, self.clock)

    def _skipped(self, tasks: Iterable[FrozenTask], why: str) -> Iterator[Poll]:
        for task in tasks:
            yield skipped_poll(task, why, self.clock.now())


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


def _summarize(summaries: Iterable[ShardSummary], result: ShardedResult) -> None:
    for summary in summaries:
        result.requests += summary.requests
        result.stopped_by = result.stopped_by or summary.stopped_by
        result.lost_refresh_tokens += summary.lost_refresh_tokens
