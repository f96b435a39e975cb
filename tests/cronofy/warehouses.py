"""A DuckDB warehouse that is loaded through dlt from a loopback server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from dlt.extract import DltSource

from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.resources import sweep_resources
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import Sweep
from dlt_cronofy.warehouse.dlt_workarounds import catalog_duckdb
from dlt_cronofy.warehouse.duckdb_file import writing
from tests.cronofy.bodies import token
from tests.cronofy.clocks import ManualClock
from tests.cronofy.server import Server, answer

DATASET = "cronofy"

# what `cronofy_source` returns, of a sweep with a clock and settings of the test's own
swept_source = dlt.source(sweep_resources, name=SOURCE_NAME, section=SOURCE_NAME)


@dataclass
class Warehouse:
    """Loads and reads one DuckDB file."""

    directory: Path
    server: Server
    clock: ManualClock
    file: str = "cronofy.duckdb"
    runs: int = 0
    working_directory: int = 0
    keys: list[str] = field(default_factory=lambda: ["k1"])

    def pipeline(self) -> dlt.Pipeline:
        return dlt.pipeline(
            "cronofy_source_test",
            destination=catalog_duckdb(credentials=str(self.directory / self.file)),
            dataset_name=DATASET,
            pipelines_dir=str(self.directory / f"working-{self.working_directory}"),
        )

    def lose_working_directory(self) -> None:
        self.working_directory += 1

    def serves(self, key: str, **bodies: Any) -> None:
        """What the endpoints say for one token from now on."""
        for endpoint, body in bodies.items():
            self.server.on(endpoint, f"at-{key}", answer(200, body))

    def load(self, *tables: str, **options: Any) -> dict[str, int]:
        """One load of the selected tables; returns the calls it made, by endpoint.

        Args:
            tables: all, if none is named.
            options: of the settings.
        """
        self.runs += 1
        self.server.arrivals.clear()
        settings = replace(PollingSettings(base_url=self.server.url, max_attempts=1), **options)
        sweep = Sweep(settings, [token(key) for key in self.keys], clock=self.clock)
        source = swept_source(sweep)
        pipeline = self.pipeline()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dlt_cronofy.source.sweep.new_run_id", lambda _: f"run-{self.runs}")
            self.run(source.with_resources(*tables) if tables else source)
        assert not pipeline.has_pending_data
        return self.server.called()

    def run(self, source: DltSource) -> None:
        """Load a source as anybody would."""
        with writing(self.directory / self.file):
            self.pipeline().run(source)

    def execute(self, sql: str) -> None:
        """Change the warehouse by hand."""
        with self._connected(read_only=False) as connection:
            connection.execute(sql)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connected(read_only=True) as connection:
            return connection.execute(sql).fetchall()

    @contextmanager
    def _connected(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(str(self.directory / self.file), read_only=read_only) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"USE {Path(self.file).stem}.{DATASET}")
            yield connection

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Everything in a table but dlt's bookkeeping."""
        return self.query(f"SELECT COLUMNS(c -> c NOT LIKE '_dlt%') FROM {table} ORDER BY ALL")

    def counts(self, run_id: str | None = None) -> dict[str, int]:
        """Rows by table, of one run or of all."""
        condition = f" WHERE run_id = '{run_id}'" if run_id else ""
        names = [name for (name,) in self.query("SHOW TABLES") if not name.startswith("_dlt")]
        found = {name: self.query(f"SELECT count(*) FROM {name}{condition}")[0][0] for name in names}
        return {name: count for name, count in found.items() if count}

    def columns(self, table: str) -> dict[str, str]:
        return dict(self.query(f"SELECT column_name, column_type FROM (DESCRIBE {table})"))

    def state(self) -> SqlWarehouseState:
        return SqlWarehouseState(self.pipeline(), "cronofy")
