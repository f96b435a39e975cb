"""The demo: weeks of simulated history through the real load, the real sandbox and a real DuckDB file."""

import asyncio
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dlt

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.report.health import Health, read_health
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.warehouse.dataset import refresh_views, sql_client, writer
from dlt_cronofy.warehouse.pipeline import DEFAULT_FILE, open_pipeline

from . import MovableClock, SandboxServer, build_world, serve

# A Monday, not today: the same seed gives the same history on any day.
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
# what the demo owns in its directory and may replace
MARKER = ".dlt-cronofy-demo"
DATABASE, TOKENS, WORKING_FILES, REPORT = DEFAULT_FILE, "tokens.csv", "pipelines", "health.html"
# simulated minutes by which a load is early or late
JITTER_MINUTES = 40
# The story of the unseen: Cronofy answers 503 for half a day, and the scheduler is down for two.
API_TROUBLE_DAY, SCHEDULER_DOWN_DAYS = 16, (24, 26)


class DemoClock(SystemClock):
    """The sandbox's clock: a load takes no simulated time, on a slow machine either; nor does waiting."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__()
        self._clock = clock
        self._waited_seconds = 0.0

    def read(self) -> datetime:
        """The simulated time."""
        return self._clock.now()

    def monotonic(self) -> float:
        """Seconds, those included that were not really waited."""
        return super().monotonic() + self._waited_seconds

    async def sleep(self, seconds: float) -> None:
        """Let the others work, and the time pass; those who wait together wait once."""
        until = self.monotonic() + seconds
        await asyncio.sleep(0)
        self._waited_seconds += max(0.0, until - self.monotonic())


@dataclass
class DemoResult:
    """What was played and what it looks like now."""

    loads: int
    polls: int
    requests: int
    days: int
    database: Path
    health: Health


@dataclass(frozen=True)
class Demo:
    """The plan of a demo."""

    days: int
    accounts: int
    seed: int
    loads_per_day: int
    directory: Path

    @property
    def loads(self) -> int:
        """Number of loads it plays."""
        return len(list(self._schedule()))

    def play(self, on_progress: Callable[[int], None] = lambda _: None) -> DemoResult:
        """Play all loads; replaces the files of an earlier demo in the same directory."""
        self._clear()
        world = build_world(accounts=self.accounts, seed=self.seed, start=START, days=self.days + 1)
        pipeline = self.open_pipeline()
        results: list[LoadResult] = []
        # one open file and one checkpoint for all of it
        with serve(world) as server, writer(pipeline):
            for at in self._schedule():
                server.clock.move_to(at)
                results.append(self._load(pipeline, server, at, first=not results))
                on_progress(len(results))
            refresh_views(pipeline, PollingSettings().hold.total_seconds())
        with sql_client(pipeline) as client:
            health = read_health(client)
        polls, requests = sum(each.polls for each in results), sum(each.requests for each in results)
        return DemoResult(len(results), polls, requests, self.days, self.directory / DATABASE, health)

    def open_pipeline(self) -> dlt.Pipeline:
        """The pipeline that loads into the demo's own file."""
        return open_pipeline(
            "duckdb",
            credentials=str(self.directory / DATABASE),
            pipelines_dir=self.directory / WORKING_FILES,
        )

    def _load(
        self, pipeline: dlt.Pipeline, server: SandboxServer, at: datetime, *, first: bool
    ) -> LoadResult:
        server.faults.clear()
        # no limits on the sandbox, none kept here: weeks are to pass in a minute
        settings = PollingSettings(
            base_url=server.base_url, requests_per_second=1e6, requests_per_minute=1e6, max_attempts=2
        )
        if (at - START).days == API_TROUBLE_DAY and at.hour < 12:
            server.faults.add("status", status=503)
            # one poll after the other: which tokens fail before the load gives up is the same each time
            settings = replace(settings, max_open=1)
        # some people leave the application meanwhile
        file = server.world.write_tokens(self.directory / TOKENS, at)
        tokens = open_store(tokens_file=str(file)).read()
        # nobody else loads into this file, and the views are wanted at the end only
        options = LoadOptions(refresh_views=False, sync=first)
        return Load(pipeline, settings, tokens, options, DemoClock(server.clock)).run()

    def _clear(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        marker = self.directory / MARKER
        if any(self.directory.iterdir()) and not marker.exists():
            raise ConfigurationError(
                f"--directory {self.directory}: holds files that are not a demo's; name another one"
            )
        marker.touch()
        shutil.rmtree(self.directory / WORKING_FILES, ignore_errors=True)
        for name in (DATABASE, f"{DATABASE}.wal", TOKENS, REPORT):
            (self.directory / name).unlink(missing_ok=True)

    def _schedule(self) -> Iterator[datetime]:
        """When loads start: regularly, give or take, but for the days the scheduler was down."""
        dice = random.Random(self.seed)  # noqa: S311 - a story, not a secret
        step = timedelta(days=1) / self.loads_per_day
        for number in range(self.days * self.loads_per_day):
            at = START + number * step + timedelta(minutes=dice.uniform(0, JITTER_MINUTES))
            if not SCHEDULER_DOWN_DAYS[0] <= (at - START).days < SCHEDULER_DOWN_DAYS[1]:
                yield at
