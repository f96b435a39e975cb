"""The scheduled load: plan → poll → load, batch by batch, then the views."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.resolve import resolve_configuration

from sources.cronofy import SOURCE_NAME, cronofy_source
from sources.cronofy.calls.answers import Outcome
from sources.cronofy.calls.budget import Allowance
from sources.cronofy.calls.conduct import Conduct
from sources.cronofy.calls.polling import Poll, PollTask
from sources.cronofy.clock import Clock, SystemClock
from sources.cronofy.errors import ConfigurationError
from sources.cronofy.hazard import WINDOW, Hazards
from sources.cronofy.history.capture import poll_row
from sources.cronofy.history.knowledge import Row, WarehouseKnowledge
from sources.cronofy.plan import HAZARD, OLDEST, ORDERS, order_by, plan_polls
from sources.cronofy.settings import (
    ACCOUNT,
    CONFIG_SECTIONS,
    DEFAULT_ENDPOINTS,
    CronofyConfiguration,
    PollingSettings,
    revealed,
)
from sources.cronofy.stores import TokenStore, open_store
from sources.cronofy.sweep import BATCH_POLLS, RecordedPolls, Rows, Sweep, new_run_id
from sources.cronofy.tables import POLLS, PROFILE_CHANGES, TABLES
from sources.cronofy.tokens import Token

from .checkpoint import checkpoint
from .collection import rare_collection
from .pending import Settled, error_chain, forget_loaded, settle_pending
from .warehouse import duckdb_file, held_open, location, refresh_views

if TYPE_CHECKING:
    from sources.cronofy.calls.feed import Feed
    from sources.cronofy.calls.refresh import Refresher

    from .alerts import Alerts

logger = logging.getLogger("dlt_cronofy")

# a container is given 30 s between SIGTERM and SIGKILL; loading what was polled takes some of them
STOP_GRACE_SECONDS = 5.0
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


@dataclass
class LoadResult:
    """What one load did; the keys of `load --json`.

    Attributes:
        due: tokens to be polled.
        stand_ins: tokens that were polled only where another one of their account was refused.
        fresh: tokens whose account was read less than `every` ago.
        alerted: newly opened outages somebody was told of; None where alerts are off.
    """

    run_id: str
    tokens: int
    due: int
    fresh: int
    stand_ins: int = 0
    destination: str = ""
    dataset: str = ""
    polled_tokens: int = 0
    failed_tokens: int = 0
    skipped_tokens: int = 0
    requests: int = 0
    polls: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    finished_packages: list[str] = field(default_factory=list)
    quarantined_packages: list[str] = field(default_factory=list)
    lost_refresh_tokens: list[str] = field(default_factory=list)
    alerted: int | None = None
    stopped_by: str | None = None
    seconds: float = 0.0

    @property
    def failure_ratio(self) -> float:
        """Tokens that failed or were skipped, as a share of those polled, skipped or fresh.

        Fresh tokens, whose account was read less than `every` ago, count: otherwise a run shortly after
        another, in which only the tokens that always fail are due, would look like an outage.
        """
        unread = self.failed_tokens + self.skipped_tokens
        return unread / self.wanted_tokens if self.wanted_tokens else 0.0

    @property
    def wanted_tokens(self) -> int:
        """Tokens polled, skipped because of an outage, fresh, or not needed beside one of their account."""
        return self.polled_tokens + self.skipped_tokens + self.fresh + self.stand_ins

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"failure_ratio": round(self.failure_ratio, 4)}


class Tally:
    """Counts what the sweeps of one load see and write."""

    def __init__(self, run_id: str, on_progress: Callable[[int], None]) -> None:
        self._run_id = run_id
        self._on_progress = on_progress
        self._poll_rows: list[Row] = []
        self._seen: dict[str, bool] = {}
        self._skipped: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def add_poll(self, poll: Poll) -> None:
        """Count one poll; `/v1/account` is no evidence of a token's health beside another endpoint."""
        self.outcomes[poll.answer.outcome.value] += 1
        ok = poll.answer.outcome is Outcome.OK
        if poll.answer.outcome is not Outcome.SKIPPED:
            self._skipped.discard(poll.token.key)
            if poll.endpoint != ACCOUNT or poll.token.key not in self._seen:
                self._seen[poll.token.key] = ok
        elif poll.token.key not in self._seen:
            self._skipped.add(poll.token.key)
        self._on_progress(len(self._seen) + self.skipped_tokens)

    def add_captured(self, polls: list[Poll]) -> None:
        """Polls whose content is part of the present package: they go with it."""
        self._poll_rows += [poll_row(poll, self._run_id) for poll in polls]

    def take_poll_rows(self) -> list[Row]:
        """The rows of the polls captured since the last call."""
        rows, self._poll_rows = self._poll_rows, []
        self.rows[POLLS.name] += len(rows)
        return rows

    def add_rows(self, rows: Rows) -> None:
        """Count the rows one batch writes."""
        for table, table_rows in rows.items():
            self.rows[table] += len(table_rows)
        self.changes.update(row["kind"] for row in rows.get(PROFILE_CHANGES.name, ()))

    @property
    def polled_tokens(self) -> int:
        """Tokens with at least one poll."""
        return len(self._seen)

    @property
    def skipped_tokens(self) -> int:
        """Tokens that were to be polled and were not asked for anything."""
        return len(self._skipped)

    @property
    def failed_tokens(self) -> int:
        """Tokens whose poll failed."""
        return sum(not ok for ok in self._seen.values())


def read_settings() -> tuple[CronofyConfiguration, PollingSettings]:
    """The configured section `sources.cronofy`, checked.

    Raises:
        ConfigurationError: a value is missing, of the wrong type or out of range.
    """
    try:
        configuration = resolve_configuration(CronofyConfiguration(), sections=CONFIG_SECTIONS)
    except (ConfigurationException, ValueError) as error:
        message = str(error).strip().splitlines()[0]
        raise ConfigurationError(
            f"[{'.'.join(CONFIG_SECTIONS)}] cannot be read: {message}{_place(error)}"
        ) from None
    return configuration, PollingSettings.of(configuration)


def _place(error: BaseException) -> str:
    """Where a TOML file breaks off, without the text there, which may be a secret."""
    for cause in error_chain(error):
        line, column = getattr(cause, "line", None), getattr(cause, "col", None)
        if isinstance(line, int) and isinstance(column, int):
            return f" line {line}, column {column}"
    return ""


def configured_store(configuration: CronofyConfiguration) -> TokenStore:
    """The configured token store.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    # an empty environment variable sets nothing
    return open_store(
        configuration.tokens or None,
        configuration.tokens_file or None,
        configuration.tokens_query or None,
        revealed(configuration.tokens_database),
        configuration.tokens_update or None,
    )


def learned_hazards(order: str, knowledge: WarehouseKnowledge, now: datetime) -> Hazards | None:
    """What the warehouse teaches of hazards; None where the order needs none, and nothing is read then.

    Raises:
        ConfigurationError: there is no such order.
    """
    if order not in ORDERS:
        raise ConfigurationError(f"--order {order}: choose from {', '.join(ORDERS)}")
    return Hazards(knowledge.change_histories(now - WINDOW)) if order == HAZARD else None


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
    store: TokenStore | None = None
    """where refreshed tokens are written back; without it nothing is refreshed"""
    alerts: "Alerts | None" = None
    """who is told of newly opened outages, which the views tell"""
    allowance: Allowance = field(init=False)

    def __post_init__(self) -> None:
        self.allowance = Allowance(self.options.max_requests)
        self._recent_requests: list[datetime] = []

    def stop(self, reason: str) -> None:
        """Send no further request and load what was polled; may be called from another thread."""
        self.allowance.stop(reason, abandon_at=self.clock.monotonic() + STOP_GRACE_SECONDS)

    def run(self) -> LoadResult:
        """Plan, poll, load and refresh the views.

        Raises:
            PipelineStepFailed: dlt could not normalize or load; what was polled stays pending and is
                loaded first next time.
        """
        started = time.monotonic()
        # dlt keeps the active pipeline by thread
        self.pipeline.activate()
        settled = settle_pending(self.pipeline)
        # the warehouse says what the schema is, to a fresh working directory and after another machine
        if self.options.sync:
            self.pipeline.sync_destination()
        tasks = self._plan()
        self.on_plan(len(tasks))
        result = LoadResult(
            run_id=new_run_id(self.clock),
            tokens=len(self.tokens),
            due=len(tasks),
            stand_ins=(stand_ins := sum(len(task.stand_ins) for task in tasks)),
            fresh=len(self.tokens) - len(tasks) - stand_ins,
        )
        tally = Tally(result.run_id, self.on_progress)
        self._sweep(tasks, tally, result)
        if self.options.refresh_views and self.pipeline.schemas:
            refresh_views(self.pipeline, self.settings.hold.total_seconds(), anew=False)
            self._checkpoint()
        forget_loaded(self.pipeline)
        self._conclude(result, tally, settled, time.monotonic() - started)
        if self.alerts is not None:
            news = result.polls or settled.finished
            result.alerted = (
                self.alerts.send_opened(self.pipeline, result.run_id, settled.finished) if news else 0
            )
        return result

    def _plan(self) -> list[PollTask]:
        knowledge = WarehouseKnowledge(self.pipeline, SOURCE_NAME)
        now = self.clock.now()
        with knowledge.connected():
            hazards = learned_hazards(self.options.order, knowledge, now)
            evidence = knowledge.evidence()
            # the server still counts what was sent in the last minute
            self._recent_requests = knowledge.requests_since(now - timedelta(minutes=1))
        order = order_by(hazards)
        return plan_polls(self.tokens, evidence, now, self.options.endpoints, self.options.every, order)

    def _sweep(self, tasks: Sequence[PollTask], tally: Tally, result: LoadResult) -> None:
        """Poll all tasks, and load what was polled package by package meanwhile."""
        if not tasks:
            return
        from sources.cronofy.calls.feed import Feed

        conduct = self._conduct(tasks)
        size = package_polls(self.settings.requests_per_minute)
        try:
            with (
                rare_collection(),
                Feed(
                    self.settings, conduct, self.clock, tasks, min(size, BATCH_POLLS), tally.add_poll
                ) as feed,
            ):
                while feed.has_more():
                    self._load_package(feed, size, tally, result.run_id)
        finally:
            result.requests = conduct.budget.requests
            result.stopped_by = self.allowance.exhausted_by(self.clock.monotonic())
            conduct.close()
            if conduct.refresher is not None:
                result.lost_refresh_tokens = conduct.refresher.lost

    def _load_package(self, feed: "Feed", size: int, tally: Tally, run_id: str) -> None:
        sweep = Sweep(
            self.settings,
            clock=self.clock,
            feed=feed,
            polls=size,
            run_id=run_id,
            on_captured=tally.add_captured,
            on_batch=tally.add_rows,
        )
        # Two packages, loaded in this order: a poll in the warehouse says that all it showed is there
        # too, whenever a kill comes and whatever becomes of the working directory.
        source = cronofy_source(sweep=sweep, endpoints=self.options.endpoints)
        self.pipeline.extract(source.with_resources(*CONTENT))
        polls = RecordedPolls(tally.take_poll_rows())
        self.pipeline.extract(cronofy_source(sweep=polls).with_resources(POLLS.name))
        with held_open(self.pipeline):
            self.pipeline.normalize()
            self.pipeline.load()
        self._checkpoint()

    def _checkpoint(self) -> None:
        file = duckdb_file(self.pipeline)
        if file is not None:
            checkpoint(file)

    def _conduct(self, tasks: Sequence[PollTask]) -> Conduct:
        if self.options.max_duration is not None:
            self.allowance.deadline = self.clock.monotonic() + self.options.max_duration.total_seconds()
        conduct = Conduct.of(
            self.settings, self.clock, (task.token for task in tasks), self.allowance, self._refresher()
        )
        now = self.clock.now()
        conduct.budget.remember(sorted((now - at).total_seconds() for at in self._recent_requests))
        return conduct

    def _refresher(self) -> "Refresher | None":
        if self.store is None:
            return None
        from sources.cronofy.calls.refresh import open_refresher

        return open_refresher(
            self.settings, self.store, self.tokens, Path(self.pipeline.pipelines_dir), self.clock
        )

    def _conclude(self, result: LoadResult, tally: Tally, settled: Settled, seconds: float) -> None:
        result.destination = location(self.pipeline)
        result.dataset = self.pipeline.dataset_name or ""
        result.polled_tokens = tally.polled_tokens
        result.failed_tokens = tally.failed_tokens
        result.skipped_tokens = tally.skipped_tokens
        result.polls = tally.outcomes.total()
        result.outcomes = dict(tally.outcomes.most_common())
        result.changes = dict(tally.changes.most_common())
        result.rows = {table: count for table, count in tally.rows.items() if count}
        result.finished_packages = settled.finished
        result.quarantined_packages = settled.quarantined
        result.seconds = round(seconds, 2)
        if result.due <= result.polled_tokens + result.skipped_tokens:
            result.stopped_by = None


def package_polls(requests_per_minute: float) -> int:
    """How many polls are loaded together: about a minute of polling, within bounds."""
    return int(min(MAX_PACKAGE_POLLS, max(MIN_PACKAGE_POLLS, requests_per_minute)))
