"""A place to run loads in: token store, warehouse and dlt's working files, all in one folder."""

import asyncio
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
from click.testing import CliRunner, Result

from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild import Difference, differences
from dlt_cronofy.sandbox import MovableClock
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import open_pipeline

COMMAND = Path(sys.executable).parent / "dlt-cronofy"
# the same, but it hardly waits for a DuckDB file that another process has open
HARDLY_WAITS = """
from dlt_cronofy.cli.main import main
from dlt_cronofy.warehouse import duckdb_file
duckdb_file.READ_WAIT_SECONDS = duckdb_file.WRITE_WAIT_SECONDS = 0.5
main()
"""
IMPATIENT_COMMAND = (sys.executable, "-c", HARDLY_WAITS)
TABLES = ("account", "calendars", "polls", "profile_changes", "profiles", "userinfo")

# what tells two loads of one instant apart: random names, and how long an answer took
STAMPS = {"_dlt_id", "_dlt_load_id", "poll_id", "latency_ms", "server_request_id"}
# the tokens of an account race for who sees a change first
RACY = {"profile_changes": {"token_key"}}

Row = dict[str, Any]


class KilledError(BaseException):
    """The process ends here."""


def killed(*arguments: Any, **keywords: Any) -> None:
    raise KilledError


class TestClock(SystemClock):
    """The machine's clock moved by `offset`, in which waiting costs no time."""

    __test__ = False

    def __init__(self, offset: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.offset = offset
        self._waited = 0.0

    def read(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def monotonic(self) -> float:
        return time.monotonic() + self._waited

    async def sleep(self, seconds: float) -> None:
        self._waited += max(0.0, seconds - 0.001)
        await asyncio.sleep(min(seconds, 0.001))


class StandingClock(SystemClock):
    """Shows the sandbox's time and nothing else, so that all polls of a load fall on one instant."""

    def __init__(self, sandbox: MovableClock) -> None:
        super().__init__()
        self._sandbox = sandbox

    def now(self) -> datetime:
        return self._sandbox.now()


@dataclass
class Place:
    """One person's folder: `tokens.csv`, `warehouse.duckdb` and dlt's working files below `data`."""

    directory: Path
    base_url: str
    clock: TestClock = field(default_factory=TestClock)
    database_name: str = "warehouse.duckdb"
    command: Sequence[str] = (str(COMMAND),)

    @property
    def database(self) -> Path:
        return self.directory / self.database_name

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def working_dir(self) -> Path:
        return self.data_dir / "pipelines" / "cronofy"

    @property
    def tokens_file(self) -> Path:
        return self.directory / "tokens.csv"

    def write_tokens(self, keys: Iterable[str], secrets: Mapping[str, str] | None = None) -> None:
        """Write the token store; a key is its own access token unless `secrets` says another."""
        with self.tokens_file.open("w", newline="", encoding="utf-8") as file:
            rows = ((key, (secrets or {}).get(key, key)) for key in keys)
            csv.writer(file).writerows([("key", "access_token"), *rows])

    def load(self, **chosen: Any) -> LoadResult:
        """One load through the real code in this process; without views unless asked for."""
        options: dict[str, Any] = {"every": timedelta(0), "refresh_views": False} | chosen
        settings = PollingSettings(
            base_url=self.base_url,
            requests_per_second=options.pop("requests_per_second", 1e6),
            requests_per_minute=options.pop("requests_per_minute", 1e6),
            max_attempts=options.pop("max_attempts", 2),
            timeout_seconds=5.0,
        )
        hooks = {name: options.pop(name) for name in ("on_plan", "on_progress") if name in options}
        tokens = open_store(tokens_file=str(self.tokens_file)).read()
        return Load(self.pipeline(), settings, tokens, LoadOptions(**options), self.clock, **hooks).run()

    def pipeline(self) -> dlt.Pipeline:
        """The pipeline of this place, in this process."""
        folder = self.data_dir / "pipelines"
        return open_pipeline("duckdb", credentials=str(self.database), pipelines_dir=folder)

    def differences(self) -> list[Difference]:
        """In what the evidence is not what the polls say."""
        with sql_client(self.pipeline()) as client:
            return differences(client, PollingSettings().hold)

    def forget(self) -> None:
        """Lose dlt's working files."""
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def environment(self, **extra: str) -> dict[str, str]:
        """The environment of a command: configuration as people set it, nothing from this machine."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "DLT_DATA_DIR": str(self.data_dir),
            "PIPELINES_DIR": str(self.working_dir.parent),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "PYTHONWARNINGS": "default",
            "SOURCES__CRONOFY__TOKENS_FILE": str(self.tokens_file),
            "SOURCES__CRONOFY__BASE_URL": self.base_url,
            "SOURCES__CRONOFY__REQUESTS_PER_SECOND": "100000",
            "SOURCES__CRONOFY__REQUESTS_PER_MINUTE": "100000",
            "SOURCES__CRONOFY__MAX_ATTEMPTS": "1",
            "DESTINATION__DUCKDB__CREDENTIALS": str(self.database),
        } | extra

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start `dlt-cronofy` in this folder, in a process of its own."""
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.directory,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `dlt-cronofy` in this folder, in a process of its own."""
        return run([*self.command, *arguments], self.directory, self.environment(**environment))

    def invoke(self, *arguments: str, **environment: str) -> Result:
        """Run `dlt-cronofy` as from this folder, in this process."""
        settings = self.environment(**environment)
        return CliRunner().invoke(cli, list(arguments), env=settings, catch_exceptions=False)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query over the warehouse, with the dataset's tables by their plain names."""
        return query(self.database, sql)

    def execute(self, sql: str) -> None:
        """Change the warehouse by hand."""
        with duckdb.connect(str(self.database)) as connection:
            connection.execute(f'USE "{self.database.stem}"."cronofy"')
            connection.execute(sql)

    def rows(self, table: str) -> list[Row]:
        """All rows of one table."""
        with closing(_open(self.database)) as connection:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def counts(self) -> dict[str, int]:
        """Rows of every table."""
        return {table: int(self.query(f"SELECT COUNT(*) FROM {table}")[0][0]) for table in TABLES}


def run(
    command: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, whatever that is."""
    return subprocess.run(
        command,
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def query(database: Path, sql: str, dataset: str = "cronofy") -> list[tuple[Any, ...]]:
    """Rows of a query, read by plain DuckDB."""
    with closing(_open(database, dataset)) as connection:
        return connection.execute(sql).fetchall()


def _open(database: Path, dataset: str = "cronofy") -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(database), read_only=True)
    connection.execute("SET TimeZone = 'UTC'")
    # the catalog may be named like the dataset, so the whole name is given
    connection.execute(f'USE "{database.stem}"."{dataset}"')
    return connection
