"""The steps of a load: plan → poll → load, and between them nothing but data.

One process takes them in one go (`load.py`); an orchestrator gives each to any free worker (`shards/`).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import dlt
from dlt.common.schema import Schema

from dlt_cronofy.source import SOURCE_NAME, Frames, prepared_source, schema_framer
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.clock import Clock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.arrow import Framer
from dlt_cronofy.source.history.capture import KnownRows
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.planning.change_rates import WINDOW, Hazards
from dlt_cronofy.source.planning.plan import HAZARD, OLDEST, ORDERS, order_by, plan_polls
from dlt_cronofy.source.records import Poll, PollTask
from dlt_cronofy.source.settings import DEFAULT_ENDPOINTS, PollingSettings
from dlt_cronofy.source.sweep import BATCH_POLLS, Recording
from dlt_cronofy.source.tables import CONTENT, POLLS, TABLES, Row, tables_with
from dlt_cronofy.source.tokens.token import StoredTokens, Token, UnusableRow
from dlt_cronofy.warehouse.dataset import writer
from dlt_cronofy.warehouse.locks import take_folder

from .gc_tuning import rare_collection
from .statistics import RunStatistics

if TYPE_CHECKING:
    from dlt_cronofy.source.api.poll_stream import PollStream
    from dlt_cronofy.source.api.token_refresh import Refresher

logger = logging.getLogger("dlt_cronofy")

# a package and the polls that wait for the next one are what a killed run loses
MIN_PACKAGE_POLLS, MAX_PACKAGE_POLLS = 250, 2_500
MAX_PACKAGE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class LoadOptions:
    """What the command line says of one load."""

    every: timedelta = timedelta(hours=1)
    endpoints: Sequence[str] = DEFAULT_ENDPOINTS
    order: str = OLDEST
    max_requests: int | None = None
    max_duration: timedelta | None = None
    max_failure_ratio: float = 0.5
    refresh_views: bool = True
    sync: bool = True
    confirm_left: bool = False


@dataclass(frozen=True)
class Plan:
    """What one run polls, in that order.

    Attributes:
        tokens: how many of the store can be used.
        unsupported: tokens of which rows are missing that their digests speak for.
        unusable: rows of the store that cannot.
        not_connected: users of the store without any token.
        recent_requests: when requests of earlier runs were answered that the server may still count.
    """

    tasks: Sequence[PollTask]
    tokens: int
    unsupported: set[str] = field(default_factory=set)
    recent_requests: Sequence[datetime] = ()
    unusable: Sequence[UnusableRow] = ()
    not_connected: int = 0

    @property
    def due(self) -> int:
        """Tokens to be polled."""
        return len(self.tasks)

    @property
    def fallback_tokens(self) -> int:
        """Tokens that are polled only where another one of their account is refused."""
        return sum(len(task.fallback_tokens) for task in self.tasks)

    @property
    def fresh(self) -> int:
        """Tokens whose account was read recently enough."""
        return self.tokens - len(self.tasks) - self.fallback_tokens


def make_plan(pipeline: dlt.Pipeline, tokens: Sequence[Token], options: LoadOptions, now: datetime) -> Plan:
    """The first step: ask the warehouse which tokens are due."""
    state = SqlWarehouseState(pipeline, SOURCE_NAME)
    with state.connected():
        state.check_access()
        hazards = learned_hazards(options.order, state, now)
        unsupported = state.unsupported_digests(set(TABLES))
        last_polls = state.last_polls()
        recent = state.requests_since(now - timedelta(minutes=1))
    tasks = plan_polls(tokens, last_polls, now, options.endpoints, options.every, order_by(hazards))
    stored = StoredTokens.of(tokens)
    return Plan(tasks, len(tokens), unsupported, recent, stored.unusable, len(stored.not_connected))


def learned_hazards(order: str, state: SqlWarehouseState, now: datetime) -> Hazards | None:
    """What the warehouse teaches of hazards; None where the order needs none, and nothing is read then.

    Raises:
        ConfigurationError: there is no such order.
    """
    if order not in ORDERS:
        raise ConfigurationError(f"--order {order}: choose from {', '.join(ORDERS)}")
    return Hazards(state.change_histories(now - WINDOW)) if order == HAZARD else None


@dataclass
class Polling:
    """The second step: the polls of some tasks, while they are made, and what they took.

    Attributes:
        recent_requests: when earlier requests were answered that the server may still count.
        refresher: where refreshed tokens are written back; None where access tokens are not refreshed.
        requests: how many were sent.
        stopped_by: what ended the polling early.
        lost_refresh_tokens: keys of tokens whose refresh could not be brought to its end.
    """

    settings: PollingSettings
    tasks: Sequence[PollTask]
    clock: Clock
    quota: RunQuota = field(default_factory=RunQuota)
    recent_requests: Sequence[datetime] = ()
    refresher: "Refresher | None" = None
    on_poll: Callable[[Poll], None] = lambda _: None
    requests: int = 0
    stopped_by: str | None = None
    lost_refresh_tokens: Sequence[str] = ()

    @contextmanager
    def stream(self) -> Iterator["PollStream"]:
        """The polls, batch by batch, from now on."""
        from dlt_cronofy.source.api.poll_stream import PollStream

        tokens = (task.token for task in self.tasks)
        policy = RequestPolicy(self.settings, self.clock, tokens, self.quota)
        now = self.clock.now()
        policy.rate_limiter.remember(sorted((now - at).total_seconds() for at in self.recent_requests))
        batch_polls = min(package_polls(self.settings.requests_per_minute), BATCH_POLLS)
        stream = PollStream(
            self.settings, policy, self.clock, self.tasks, batch_polls, self.on_poll, self.refresher
        )
        try:
            with rare_collection(), stream:
                yield stream
        finally:
            self.requests = policy.rate_limiter.requests
            self.stopped_by = self.quota.exhausted_by(self.clock.monotonic())
            policy.close()
            if self.refresher is not None:
                try:
                    self.refresher.finish()
                finally:
                    self.lost_refresh_tokens = self.refresher.lost


class PolledBatches(Protocol):
    """Polls batch by batch, in the order of `polled_at`: a stream under way, or what was kept of one."""

    def take(self) -> list[Poll] | None:
        """The next batch; None when there is none."""
        ...


@dataclass
class Loading:
    """The third step: what polls show, captured and loaded into a pipeline package by package.

    Attributes:
        run: the columns of the row of `runs` that polls do not tell.
        package_polls: about so many polls are one package.
        unsupported: tokens of which rows are missing that their digests speak for.
        open_run: called in each turn to write, before any row of the run is written.
        alone: entered while rows are written, to keep other writers out.
        stop_polling: called when a package cannot be loaded: what was polled by then is kept as packages,
            which the next load begins with. None where the polls are kept elsewhere.
    """

    pipeline: dlt.Pipeline
    settings: PollingSettings
    clock: Clock
    statistics: RunStatistics
    run: Row
    package_polls: int
    unsupported: set[str] = field(default_factory=set)
    open_run: Callable[[], None] = lambda: None
    alone: Callable[[], AbstractContextManager[object]] = nullcontext
    stop_polling: Callable[[], None] | None = None

    def load_all(self, polled: PolledBatches) -> None:
        """Load until nothing more comes.

        Raises:
            PipelineStepFailed, DestinationException: dlt could not normalize or load; what was polled stays
                pending and is loaded first next time.
        """
        take_folder(self.pipeline)
        while polls := self._take_package(polled):
            recording = self._recording()
            is_extracted = False
            try:
                # What the warehouse knows is read within the turn to write: other loads may have changed it.
                with self.alone(), writer(self.pipeline, more_to_come=True):
                    self.open_run()
                    self._extract(polls, recording)
                    is_extracted = True
                    self._load_package()
            except Exception:
                self._keep_rest([] if is_extracted else polls, polled, recording)
                raise

    def _load_package(self) -> None:
        self.pipeline.normalize()
        self.pipeline.load()

    def _take_package(self, polled: PolledBatches) -> list[Poll]:
        polls: list[Poll] = []
        size = 0
        while len(polls) < self.package_polls and size < MAX_PACKAGE_BYTES:
            batch = polled.take()
            if batch is None:
                break
            polls += batch
            size += sum(poll.body_bytes for poll in batch)
        return polls

    def _recording(self) -> Recording:
        return Recording(
            self.settings,
            SqlWarehouseState(self.pipeline, SOURCE_NAME),
            self.run,
            TABLES,
            self.clock,
            KnownRows(unsupported=self.unsupported),
            self.statistics.counts,
        )

    def _keep_rest(self, polls: list[Poll], polled: PolledBatches, recording: Recording) -> None:
        """Extract what was polled by now, compared with what waits to be loaded as well.

        The evidence that goes along may be old when these packages are loaded: it is healed then.
        """
        if self.stop_polling is None:
            return
        self.stop_polling()
        try:
            while polls or (polls := self._take_package(polled)):
                self._extract(polls, recording)
                polls = []
        except Exception:
            # the failure that led here is the one to report
            logger.warning("some of what was polled is not kept and is polled again")
            logger.debug("the error", exc_info=True)

    def _extract(self, polls: Sequence[Poll], recording: Recording) -> None:
        """Make two packages, to be loaded in this order: what is new, then the polls with their evidence.

        So a poll in the warehouse says that all it showed is there too, whenever a kill comes and whatever
        becomes of the working directory. A kill between the tables of the second package leaves evidence that
        does not fit the polls; the run has no `finished_at` then, and the next load heals it.
        """
        framer = pipeline_framer(self.pipeline)
        described = tables_with(self.settings.token_labels)
        content: list[Frames] = []
        poll_rows: list[Row] = []
        with recording.state.connected():
            for start in range(0, len(polls), BATCH_POLLS):
                rows = recording.capture(polls[start : start + BATCH_POLLS])
                self.statistics.add_rows(rows)
                poll_rows += rows.pop(POLLS.name)
                changed = {name: table_rows for name, table_rows in rows.items() if table_rows}
                content += [framer.frames(changed, described)] if changed else []
        if content:
            extract(self.pipeline, content, *(table.name for table in CONTENT))
        evidence = {POLLS.name: poll_rows} | recording.evidence_rows()
        extract(self.pipeline, [framer.frames(evidence, described)], POLLS.name)


def pipeline_framer(pipeline: dlt.Pipeline) -> Framer:
    """What makes Arrow tables of rows with the columns that the pipeline knows."""
    known = pipeline.schemas[SOURCE_NAME] if SOURCE_NAME in pipeline.schemas else Schema(SOURCE_NAME)
    return schema_framer(known)


def extract(pipeline: dlt.Pipeline, frames: Iterable[Frames], *resources: str) -> None:
    """Make a package of rows."""
    pipeline.extract(prepared_source(frames).with_resources(*resources))


def package_polls(requests_per_minute: float) -> int:
    """How many polls are loaded together: about a minute of polling, within bounds."""
    return int(min(MAX_PACKAGE_POLLS, max(MIN_PACKAGE_POLLS, requests_per_minute)))
