"""The steps of a load: plan → poll → load, and between them nothing but data.

One process takes them in one go (`load.py`); an orchestrator gives each to any free worker (`shards/`).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dlt
from dlt.common.schema import Schema

from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.clock import Clock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.arrow import Framer
from dlt_cronofy.source.history.capture import KnownRows
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.planning.change_rates import WINDOW, Hazards
from dlt_cronofy.source.planning.plan import (
    HAZARD,
    OLDEST,
    ORDERS,
    EarlyPolls,
    LastPoll,
    order_by,
    plan_polls,
)
from dlt_cronofy.source.records import Poll, PollTask
from dlt_cronofy.source.resources import Frames, prepared_source, schema_framer
from dlt_cronofy.source.settings import DEFAULT_ENDPOINTS, PollingSettings
from dlt_cronofy.source.sweep import BATCH_POLLS, Recording
from dlt_cronofy.source.tables import CONTENT, POLLS, TABLES, Row, tables_with
from dlt_cronofy.source.tokens.store_changes import StoreChanges
from dlt_cronofy.source.tokens.token import StoredTokens, Token, UnusableRow
from dlt_cronofy.warehouse.dataset import writer
from dlt_cronofy.warehouse.dlt_workarounds import forget_trace
from dlt_cronofy.warehouse.locks import take_folder

from .gc_tuning import rare_collection
from .statistics import RunStatistics

if TYPE_CHECKING:
    from dlt_cronofy.source.api.poll_stream import PollStream
    from dlt_cronofy.source.api.token_refresh import Refresher

    from .maintenance import Upkeep

logger = logging.getLogger("dlt_cronofy")

# a package and the polls that wait for the next one are what a killed run loses
MIN_PACKAGE_POLLS, MAX_PACKAGE_POLLS = 250, 4_000
MAX_PACKAGE_BYTES = 32 * 1024 * 1024

# the next batch, in the order of `polled_at`, of polls under way or of what was kept of them; an empty one
# where the next takes long; None at the end
Take = Callable[[], list[Poll] | None]


@dataclass(frozen=True)
class LoadOptions:
    """What the command line says of one load."""

    every: timedelta = timedelta(hours=1)
    endpoints: Sequence[str] = DEFAULT_ENDPOINTS
    order: str = OLDEST
    max_requests: int | None = None
    max_duration: timedelta | None = None
    refresh_views: bool = True
    sync: bool = True
    confirm_left: bool = False
    only: Collection[str] | None = None  # keys of tokens or ids of accounts: these, due or not
    spread: timedelta | None = None  # use only the rate that takes so long


@dataclass(frozen=True)
class Plan:
    """What one run polls, in that order."""

    tasks: Sequence[PollTask]
    tokens: int  # of the store that can be used
    # tokens of which rows are missing that their digests speak for
    unsupported: set[str] = field(default_factory=set)
    recent_requests: Sequence[datetime] = ()  # answers to earlier runs that the server may still count
    unusable: Sequence[UnusableRow] = ()
    not_connected: int = 0  # users of the store without any token

    @property
    def calls(self) -> int:
        """What the tasks take, retries and token refreshes aside."""
        return sum(len(task.endpoints) for task in self.tasks)

    @property
    def due(self) -> int:
        """Tokens to be polled."""
        return len(self.tasks)

    @property
    def fallback_tokens(self) -> int:
        """Tokens that are polled only where another one of their account is refused."""
        return sum(len(task.fallback_tokens) for task in self.tasks)


def make_plan(
    pipeline: dlt.Pipeline,
    tokens: Sequence[Token],
    options: LoadOptions,
    now: datetime,
    notified: Mapping[str, datetime] | None = None,
) -> Plan:
    """The first step: ask the warehouse which tokens are due.

    `notified` is when the application was last notified, by token_key or account_id.

    Raises:
        ConfigurationError: `--only` names what nobody knows.
    """
    state = SqlWarehouseState(pipeline, SOURCE_NAME)
    with state.connected():
        state.check_access()
        hazards = learned_hazards(options.order, state, now)
        unsupported = state.unsupported_digests(set(TABLES))
        last_polls = state.last_polls()
        recent = state.requests_since(now - timedelta(minutes=1))
    early = early_polls(tokens, last_polls, options, notified)
    tasks = plan_polls(tokens, last_polls, now, options.endpoints, options.every, order_by(hazards), early)
    stored = StoredTokens.of(tokens)
    return Plan(tasks, len(tokens), unsupported, recent, stored.unusable, len(stored.not_connected))


def early_polls(
    tokens: Sequence[Token],
    last_polls: Mapping[str, LastPoll],
    options: LoadOptions,
    notified: Mapping[str, datetime] | None,
) -> EarlyPolls:
    """What makes tokens due before their time.

    Raises:
        ConfigurationError: `--only` names a token or account that neither the store nor the warehouse has.
    """
    early = EarlyPolls(frozenset(options.only or ()), notified or {})
    if unknown := early.unknown_names(tokens, last_polls):
        raise ConfigurationError(
            f"--only {','.join(unknown)}: no token of the store has that key, nor an account of that id"
        )
    return early


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
    """The second step: the polls of some tasks, while they are made, and what they took."""

    settings: PollingSettings
    tasks: Sequence[PollTask]
    clock: Clock
    quota: RunQuota = field(default_factory=RunQuota)
    recent_requests: Sequence[datetime] = ()  # as in the plan
    refresher: "Refresher | None" = None  # without it access tokens are not refreshed
    on_poll: Callable[[Poll], None] = lambda _: None
    requests: int = 0
    stopped_by: str | None = None  # what ended the polling early
    lost_refresh_tokens: Sequence[str] = ()  # keys of tokens whose refresh could not be brought to its end

    @contextmanager
    def stream(self) -> Iterator["PollStream"]:
        """The polls, batch by batch, from now on."""
        from dlt_cronofy.source.api.poll_stream import PollStream

        policy = RequestPolicy(self.settings, self.clock, (task.token for task in self.tasks), self.quota)
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


@dataclass
class Loading:
    """The third step: what polls show, captured and loaded package by package.

    Attributes:
        run: the columns of the row of `runs` that polls do not tell.
        changes: what has changed in the token store.
        package_polls: about so many polls are one package.
        unsupported: as in the plan.
        stop_polling: called when a package cannot be loaded: what was polled by then is kept as packages,
            which the next load begins with. None where the polls are kept elsewhere.
    """

    upkeep: "Upkeep"
    statistics: RunStatistics
    run: Row
    changes: StoreChanges
    package_polls: int
    unsupported: set[str] = field(default_factory=set)
    stop_polling: Callable[[], None] | None = None

    @property
    def pipeline(self) -> dlt.Pipeline:
        """What the polls are loaded into."""
        return self.upkeep.pipeline

    def load_all(self, take: Take) -> None:
        """Load until nothing more comes.

        Raises:
            PipelineStepFailed, DestinationException: dlt could not normalize or load; what was polled stays
                pending and is loaded first next time.
        """
        take_folder(self.pipeline)
        while polls := self._take_package(take):
            known = KnownRows(unsupported=self.unsupported)
            recording = self.upkeep.recording(self.run, known, self.statistics.counts)
            is_extracted = False
            try:
                # What the warehouse knows is read within the turn to write: other loads may have changed it.
                with self.upkeep.alone(), writer(self.pipeline, more_to_come=True):
                    self.upkeep.open_run(self.run, self.changes)
                    self._extract(polls, recording)
                    is_extracted = True
                    self._load_package()
            except Exception:
                self._keep_rest([] if is_extracted else polls, take, recording)
                raise

    def _load_package(self) -> None:
        load_package(self.pipeline)

    def _take_package(self, take: Take) -> list[Poll]:
        polls: list[Poll] = []
        size = 0
        while len(polls) < self.package_polls and size < MAX_PACKAGE_BYTES:
            batch = take()
            # an empty one: only slow polls are left, and this package is not to wait for them
            if batch is None or (polls and not batch):
                break
            polls += batch
            size += sum(poll.body_bytes for poll in batch)
        return polls

    def _keep_rest(self, polls: list[Poll], take: Take, recording: Recording) -> None:
        """Extract what was polled by now, compared with what waits to be loaded as well.

        The evidence that goes along may be old when these packages are loaded: it is healed then.
        """
        if self.stop_polling is None:
            return
        self.stop_polling()
        try:
            while polls or (polls := self._take_package(take)):
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
        described = tables_with(self.upkeep.settings.token_labels)
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


def load_package(pipeline: dlt.Pipeline) -> None:
    """Load what was extracted."""
    pipeline.normalize()
    pipeline.load()
    forget_trace(pipeline)


def package_polls(requests_per_minute: float) -> int:
    """How many polls are loaded together: about a minute of polling, within bounds."""
    return int(min(MAX_PACKAGE_POLLS, max(MIN_PACKAGE_POLLS, requests_per_minute)))
