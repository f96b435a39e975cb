"""A world that changes, and warehouses it is loaded into: in one process, and in shards.

Whatever happens to a warehouse in a test, its evidence is what its polls say in the end.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild import Difference, differences
from dlt_cronofy.sandbox import MovableClock, SandboxServer, build_world, serve
from dlt_cronofy.sandbox import World as SandboxWorld
from dlt_cronofy.sandbox.world import write_token_file
from dlt_cronofy.shards.exchange_directory import ExchangeDirectory
from dlt_cronofy.shards.loading import ShardedResult
from dlt_cronofy.shards.saved_plan import shard_of
from dlt_cronofy.shards.shard_output import outputs_of
from dlt_cronofy.shards.stages import Stages
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store, stored_tokens
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.dataset import refresh_views, sql_client
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.place import RACY, STAMPS, TABLES, StandingClock

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
SHARDS = 3
UNLIKE = STAMPS | {"run_id"}
ALWAYS = LoadOptions(every=timedelta(0), refresh_views=False)


@dataclass
class Yard:
    """A warehouse in a folder of its own, and both ways to load the sandbox's tokens into it."""

    folder: Path
    sandbox: MovableClock
    settings: PollingSettings
    tokens_file: Path
    hosts: int = 0
    handoff: ExchangeDirectory = field(init=False)

    def __post_init__(self) -> None:
        self.handoff = ExchangeDirectory.at(str(self.folder / "handoff"))

    def load(self, options: LoadOptions = ALWAYS, without: Collection[int] = ()) -> LoadResult:
        """One load in one process; of shards that are left out, no token is polled."""
        store = open_store(tokens_file=str(self.tokens_file))
        tokens = stored_tokens(store, self.settings)
        polled = tokens.replaced(token for token in tokens if shard_of(token.key, SHARDS) not in without)
        clock = StandingClock(self.sandbox)
        return Load(self._pipeline("single"), self.settings, polled, options, clock).run()

    def machine(self, **injected: Any) -> Stages:
        """A machine that has never seen anything of this, and can do each stage."""
        self.hosts += 1
        place = self.folder / f"host{self.hosts}"
        return Stages(
            self.settings,
            open_store(tokens_file=str(self.tokens_file)),
            self.handoff,
            lambda: self._pipeline(place.name),
            place,
            **{"clock": StandingClock(self.sandbox)} | injected,
        )

    def plan(self, options: LoadOptions = ALWAYS) -> tuple[str, list[int]]:
        """Plan a run; its name and its shards."""
        plan = self.machine().plan(options, SHARDS)
        return plan.run_id, plan.shards

    def poll(self, run_id: str, *shards: int) -> None:
        """Poll shards, each on a machine of its own."""
        for shard in shards:
            self.machine().poll(run_id, shard)

    def load_in_shards(self, options: LoadOptions = ALWAYS) -> ShardedResult:
        """All stages, each on another machine."""
        run_id, shards = self.plan(options)
        self.poll(run_id, *shards)
        result = self.machine().load(run_id)
        self.machine().views()
        return result

    def hold_back(self, run_id: str, *shards: int) -> Callable[[], None]:
        """Take the outputs of shards out of the exchange directory; what is returned delivers them."""
        held = self.folder / "held back"
        held.mkdir(exist_ok=True)
        folder = self.folder / "handoff" / run_id
        names = [each.name for each in outputs_of(self.handoff, run_id) if each.shard in shards]
        assert len(names) == len(shards)
        for name in names:
            (folder / name).rename(held / name)

        def deliver() -> None:
            folder.mkdir(exist_ok=True)
            for name in names:
                (held / name).rename(folder / name)

        return deliver

    def rows(self, relation: str, *unimportant: str) -> list[str]:
        """What a table or view holds, in an order that depends on the rows alone."""
        left_out = UNLIKE | RACY.get(relation, set()) | set(unimportant)
        with self._connection() as connection:
            cursor = connection.execute(f'SELECT * FROM "{relation}"')
            names = sorted((name, index) for index, (name, *_) in enumerate(cursor.description or ()))
            kept = [(name, index) for name, index in names if name not in left_out]
            return sorted(repr({name: row[index] for name, index in kept}) for row in cursor.fetchall())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query over the tables and views."""
        with self._connection() as connection:
            return connection.execute(sql).fetchall()

    def execute(self, statements: str) -> None:
        """Change what is there."""
        with self._connection(read_only=False) as connection:
            connection.execute(statements)

    @contextmanager
    def _connection(self, *, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(str(self.database), read_only=read_only) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f'USE "{self.database.stem}".cronofy')
            yield connection

    def tables(self) -> dict[str, list[str]]:
        """All tables."""
        return {table: self.rows(table) for table in TABLES}

    def views(self) -> dict[str, list[str]]:
        """All views, made anew; not the one that counts runs by their names."""
        refresh_views(self._pipeline("reader"), self.settings.hold.total_seconds())
        return {view: self.rows(view) for view in PUBLIC_VIEWS if view != "poll_coverage"}

    def differences(self) -> list[Difference]:
        """In what the evidence is not what the polls say."""
        if not self.database.exists():
            return []
        with sql_client(self._pipeline("checker")) as client:
            return differences(client, self.settings.hold)

    @property
    def database(self) -> Path:
        """The warehouse."""
        return self.folder / "warehouse.duckdb"

    def _pipeline(self, place: str) -> Any:
        return open_pipeline("duckdb", credentials=str(self.database), pipelines_dir=self.folder / place)


@dataclass
class World:
    """The sandbox, its clock, and yards that call it."""

    sandbox: SandboxWorld
    clock: MovableClock
    server: SandboxServer
    folder: Path
    yards: list[Yard] = field(default_factory=list)

    def yard(self, name: str, *, one_token_each: bool = False, **settings: Any) -> Yard:
        """A new warehouse; tokens of one account would take turns."""
        folder = self.folder / name
        folder.mkdir()
        tokens = {token.account_id if one_token_each else token.key: token for token in self.sandbox.tokens}
        write_token_file(folder / "tokens.csv", list(tokens.values()))
        limits = {"requests_per_second": 1e6, "requests_per_minute": 1e6} | settings
        polling = PollingSettings(base_url=self.server.base_url, **limits)
        self.yards.append(Yard(folder, self.clock, polling, folder / "tokens.csv"))
        return self.yards[-1]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Thirty accounts over two weeks; some have two tokens, some fail."""
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    sandbox = build_world(accounts=30, seed=5, start=START, days=14)
    clock = MovableClock(START)
    with serve(sandbox, clock=clock) as server:
        world = World(sandbox, clock, server, tmp_path)
        yield world
        for yard in world.yards:
            assert yard.differences() == []
