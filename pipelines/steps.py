"""The steps of a load: plan → poll → load, and between them nothing but data.

One process takes them in one go (`load.py`); an orchestrator gives each to whoever is free (`shards/`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dlt

from sources.cronofy import SOURCE_NAME, prepared_source
from sources.cronofy.calls.budget import Allowance
from sources.cronofy.calls.conduct import Conduct
from sources.cronofy.calls.polling import Poll, PollTask
from sources.cronofy.clock import Clock
from sources.cronofy.errors import ConfigurationError
from sources.cronofy.hazard import WINDOW, Hazards
from sources.cronofy.history.knowledge import WarehouseKnowledge
from sources.cronofy.plan import HAZARD, OLDEST, ORDERS, order_by, plan_polls
from sources.cronofy.settings import DEFAULT_ENDPOINTS, PollingSettings
from sources.cronofy.sweep import BATCH_POLLS, PolledBatches, RecordedPolls, Sweep
from sources.cronofy.tables import POLLS, TABLES
from sources.cronofy.tokens import Token

from .checkpoint import checkpoint
from .collection import rare_collection
from .tally import Tally
from .warehouse import duckdb_file, held_open

if TYPE_CHECKING:
    from sources.cronofy.calls.feed import Feed
    from sources.cronofy.calls.refresh import Refresher

logger = logging.getLogger("dlt_cronofy")

CONTENT = tuple(name for name in TABLES if name != POLLS.name)
# a package and the polls that wait for the next one are what a killed run loses
MIN_PACKAGE_POLLS, MAX_PACKAGE_POLLS = 250, 10_000


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


@dataclass(frozen=True)
class Plan:
    """What one run polls, in that order.

    Attributes:
        tokens: how many there are in the store.
        recent_requests: when requests of earlier runs were answered that the server may still count.
    """

    tasks: Sequence[PollTask]
    tokens: int
    recent_requests: Sequence[datetime] = ()

    @property
    def due(self) -> int:
        """Tokens to be polled."""
        return len(self.tasks)

    @property
    def stand_ins(self) -> int:
        """Tokens that are polled only where another one of their account is refused."""
        return sum(len(task.stand_ins) for task in self.tasks)

    @property
    def fresh(self) -> int:
        """Tokens whose account was read recently enough."""
        return self.tokens - len(self.tasks) - self.stand_ins


def make_plan(pipeline: dlt.Pipeline, tokens: Sequence[Token], options: LoadOptions, now: datetime) -> Plan:
    """The first step: ask the warehouse which tokens are due."""
    knowledge = WarehouseKnowledge(pipeline, SOURCE_NAME)
    with knowledge.connected():
        hazards = learned_hazards(options.order, knowledge, now)
        evidence = knowledge.evidence()
        recent = knowledge.requests_since(now - timedelta(minutes=1))
    tasks = plan_polls(tokens, evidence, now, options.endpoints, options.every, order_by(hazards))
    return Plan(tasks, len(tokens), recent)


def learned_hazards(order: str, knowledge: WarehouseKnowledge, now: datetime) -> Hazards | None:
    """What the warehouse teaches of hazards; None where the order needs none, and nothing is read then.

    Raises:
        ConfigurationError: there is no such order.
    """
    if order not in ORDERS:
        raise ConfigurationError(f"--order {order}: choose from {', '.join(ORDERS)}")
    return Hazards(knowledge.change_histories(now - WINDOW)) if order == HAZARD else None


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
    allowance: Allowance = field(default_factory=Allowance)
    recent_requests: Sequence[datetime] = ()
    refresher: "Refresher | None" = None
    on_poll: Callable[[Poll], None] = lambda _: None
    requests: int = 0
    stopped_by: str | None = None
    lost_refresh_tokens: Sequence[str] = ()

    @contextmanager
    def feed(self) -> Iterator["Feed"]:
        """The polls, batch by batch, from now on."""
        from sources.cronofy.calls.feed import Feed

        tokens = (task.token for task in self.tasks)
        conduct = Conduct.of(self.settings, self.clock, tokens, self.allowance, self.refresher)
        now = self.clock.now()
        conduct.budget.remember(sorted((now - at).total_seconds() for at in self.recent_requests))
        batch_polls = min(package_polls(self.settings.requests_per_minute), BATCH_POLLS)
        feed = Feed(self.settings, conduct, self.clock, self.tasks, batch_polls, self.on_poll)
        try:
            with rare_collection(), feed:
                yield feed
        finally:
            self.requests = conduct.budget.requests
            self.stopped_by = self.allowance.exhausted_by(self.clock.monotonic())
            try:
                conduct.close()
            finally:
                if conduct.refresher is not None:
                    self.lost_refresh_tokens = conduct.refresher.lost


@dataclass
class Loading:
    """The third step: what polls show, captured and loaded into a pipeline package by package.

    Attributes:
        package_polls: about so many polls are one package.
        alone: entered while rows are written, to keep other writers out.
        late_until: polls up to that instant may be older than what the warehouse knows.
    """

    pipeline: dlt.Pipeline
    settings: PollingSettings
    clock: Clock
    tally: Tally
    package_polls: int
    alone: Callable[[], AbstractContextManager[object]] = nullcontext
    late_until: datetime | None = None

    def load_all(self, polled: PolledBatches) -> None:
        """Load until nothing more comes.

        Raises:
            PipelineStepFailed: dlt could not normalize or load; what was polled stays pending and is
                loaded first next time.
        """
        while polled.has_more():
            self._load_package(polled)

    def _load_package(self, polled: PolledBatches) -> None:
        sweep = Sweep(
            self.settings,
            clock=self.clock,
            feed=polled,
            # what a late sample tells again must be in the warehouse before the next one is put in
            polls=self.package_polls if self.late_until is None else 1,
            late_until=self.late_until,
            run_id=self.tally.run_id,
            on_captured=self.tally.add_captured,
            on_batch=self.tally.add_rows,
        )
        # Two packages, loaded in this order: a poll in the warehouse says that all it showed is there
        # too, whenever a kill comes and whatever becomes of the working directory.
        source = prepared_source(sweep)
        self.pipeline.extract(source.with_resources(*CONTENT))
        polls = RecordedPolls(self.tally.take_poll_rows())
        self.pipeline.extract(prepared_source(polls).with_resources(POLLS.name))
        with self.alone(), held_open(self.pipeline):
            self.pipeline.normalize()
            self.pipeline.load()
        checkpoint_file(self.pipeline)


def checkpoint_file(pipeline: dlt.Pipeline) -> None:
    """Make what was written to a DuckDB file durable in the file itself; nothing elsewhere."""
    file = duckdb_file(pipeline)
    if file is not None:
        checkpoint(file)


def package_polls(requests_per_minute: float) -> int:
    """How many polls are loaded together: about a minute of polling, within bounds."""
    return int(min(MAX_PACKAGE_POLLS, max(MIN_PACKAGE_POLLS, requests_per_minute)))
