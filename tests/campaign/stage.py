"""A stage: one warehouse with its working directory, loads into it, and what can be seen of both."""

import contextlib
import csv
import gzip
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import psycopg2  # type: ignore[import-untyped]
import pyarrow.parquet

from pipelines.load import Load, LoadOptions
from pipelines.warehouse import open_pipeline
from sources.cronofy.settings import PollingSettings
from sources.cronofy.tokens import read_tokens
from tests.acceptance.place import COMMAND, Place, Row
from tests.acceptance.server import Reply, Request, ScriptedServer
from tests.acceptance.world import World

HOLD = timedelta(seconds=30)
SLOWEST_ANSWER = 0.4
Log = list[tuple[Request, Reply]]
Poll = tuple[str, str]

# what the command would do with packages of another size, which no setting allows
IN_PACKAGES = (
    "import pipelines.steps as steps; steps.MIN_PACKAGE_POLLS = steps.MAX_PACKAGE_POLLS = {size};"
    "from pipelines.cli import main; main()"
)


@dataclass
class Attempt:
    """One load: when it ran, what the server answered it, and where the kill met it."""

    started_at: datetime
    ended_at: datetime
    log: Log
    package_polls: int | None = None
    phase: str | None = None
    run_ids: set[str] = field(default_factory=set)
    lost_working_directory: bool = False
    arrived: set[Poll] = field(default_factory=set)

    def polls(self) -> set[Poll]:
        """Token and endpoint of everything that was asked."""
        return {(request.token, request.endpoint) for request, _ in self.log}

    def batches(self) -> list[Log]:
        """The answers in parts that arrive together: all, or those that came and the rest."""
        if self.package_polls is None:
            return [self.log] if self.log else []
        parts: tuple[Log, Log] = ([], [])
        for request, reply in self.log:
            parts[(request.token, request.endpoint) not in self.arrived].append((request, reply))
        return [part for part in parts if part]


class Reader:
    """SQL over the warehouse without any code under test; times are UTC."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql)
        return [tuple(_in_utc(value) for value in row) for row in self._cursor.fetchall()]

    def rows(self, relation: str) -> list[Row]:
        rows = self.query(f'SELECT * FROM "{relation}"')
        names = [column[0] for column in self._cursor.description]
        return [dict(zip(names, row, strict=True)) for row in rows]


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@dataclass
class Stage:
    """One warehouse, the world that is loaded into it and the server between them."""

    place: Place
    destination: str
    dataset: str
    world: World
    server: ScriptedServer
    postgres_uri: str = ""
    postgres_credentials: str = ""

    def __post_init__(self) -> None:
        self.place.write_tokens(self.world.owners)
        dice = Random(self.dataset)
        self.server.script = lambda request: replace(
            self.world.answer_steadily(request), delay=dice.uniform(0, SLOWEST_ANSWER)
        )

    @property
    def lock(self) -> Path:
        """Its appearance says that the command is through with its imports and begins to work."""
        return self.place.data_dir / "pipelines" / ".cronofy.lock"

    def run_killed(
        self, share: float, duration: float, package_polls: int | None
    ) -> tuple[Attempt, float | None]:
        """The command, killed after that share of the duration; its own duration where it was faster."""
        pending_before = self.pending()
        before = self._folders()
        started_at = datetime.now(UTC)
        process = self._start(package_polls)
        began = self._wait_until_it_works(process)
        finished: float | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=share * duration)
            finished = time.monotonic() - began
        process.kill()
        process.wait(timeout=30)
        log = self._take_log()
        attempt = Attempt(started_at, datetime.now(UTC), log, package_polls)
        if process.returncode == -signal.SIGKILL:
            attempt.phase = self._phase(attempt, pending_before, before)
            return attempt, None
        assert process.returncode == 0, (self.place.directory / "command.log").read_text()
        return attempt, finished

    def run_command(self) -> tuple[Attempt, float]:
        """The command, undisturbed."""
        started_at = datetime.now(UTC)
        process = self._start(None)
        began = self._wait_until_it_works(process)
        assert process.wait(timeout=60) == 0, (self.place.directory / "command.log").read_text()
        duration = time.monotonic() - began
        return Attempt(started_at, datetime.now(UTC), self._take_log()), duration

    def run_here(self, every: timedelta) -> tuple[Attempt, float]:
        """A load through the same code in this process."""
        started_at, began = datetime.now(UTC), time.monotonic()
        settings = PollingSettings(
            base_url=self.place.base_url,
            requests_per_second=1e5,
            requests_per_minute=1e5,
            max_attempts=1,
            hold=HOLD,
        )
        pipeline = open_pipeline(
            self.destination,
            self.dataset,
            credentials=str(self.place.database) if self.destination == "duckdb" else None,
            pipelines_dir=self.place.data_dir / "pipelines",
        )
        tokens = read_tokens(tokens_file=str(self.place.tokens_file))
        Load(pipeline, settings, tokens, LoadOptions(every=every)).run()
        duration = time.monotonic() - began
        return Attempt(started_at, datetime.now(UTC), self._take_log()), duration

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Read the warehouse with its own plain driver."""
        if self.destination == "duckdb":
            database = str(self.place.database)
            with duckdb.connect(database, read_only=self.place.database.exists()) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute(f"SET search_path = '{self.dataset}'")
                yield Reader(connection)
            return
        connection = psycopg2.connect(self.postgres_uri)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f'SET search_path = "{self.dataset}"')
                yield Reader(cursor)
        finally:
            connection.close()

    def has_polls(self) -> bool:
        """Whether anything was ever loaded."""
        if self.destination == "duckdb" and not self.place.database.exists():
            return False
        with contextlib.closing(self._plain()) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT count(*) FROM information_schema.tables"
                f" WHERE table_schema = '{self.dataset}' AND table_name = 'polls'"
            )
            return bool(cursor.fetchall()[0][0])

    def _plain(self) -> Any:
        if self.destination == "duckdb":
            return duckdb.connect(str(self.place.database), read_only=True)
        return psycopg2.connect(self.postgres_uri)

    def sealed_polls(self) -> set[str]:
        """The keys of the polls in packages that dlt has finished writing."""
        found: set[str] = set()
        for folder in ("normalize/extracted", "load/normalized"):
            for file in (self.place.working_dir / folder).glob("*/*_jobs/polls.*"):
                found |= _poll_ids(file)
        return found

    def pending(self) -> set[str]:
        """The packages that wait to be loaded."""
        folders = self._folders()
        return folders["normalize/extracted"] | folders["load/normalized"]

    def _folders(self) -> dict[str, set[str]]:
        return {
            folder: {each.name for each in (self.place.working_dir / folder).glob("*") if each.is_dir()}
            for folder in ("normalize/extracted", "load/new", "load/normalized", "load/loaded")
        }

    def _phase(self, attempt: Attempt, pending_before: set[str], before: dict[str, set[str]]) -> str:
        """What the load was at when it was killed, as far as the working directory tells."""
        new = {name: folders - before[name] for name, folders in self._folders().items()}
        if pending_before & self.pending():
            return "settle"
        if new["load/normalized"]:
            return "load"
        if new["load/new"] or new["normalize/extracted"]:
            return "normalize"
        if not attempt.log:
            return "plan"
        polls = len(attempt.polls())
        packages = -(-polls // (attempt.package_polls or polls))
        # one for what changed, one for the polls
        return "views" if len(new["load/loaded"] - pending_before) == 2 * packages else "poll"

    def _start(self, package_polls: int | None) -> "subprocess.Popen[bytes]":
        command: Sequence[str] = [str(COMMAND)]
        if package_polls is not None:
            command = [sys.executable, "-c", IN_PACKAGES.format(size=package_polls)]
        self.lock.unlink(missing_ok=True)
        self.server.log.clear()
        with (self.place.directory / "command.log").open("wb") as output:
            return subprocess.Popen(
                [
                    *command,
                    "load",
                    "--every",
                    "0s",
                    "--max-failure-ratio",
                    "1",
                    "--destination",
                    self.destination,
                    "--dataset",
                    self.dataset,
                ],
                cwd=self.place.directory,
                env=self.place.environment(
                    SOURCES__CRONOFY__HOLD=f"{HOLD.total_seconds():g}s",
                    DESTINATION__POSTGRES__CREDENTIALS=self.postgres_credentials,
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _wait_until_it_works(self, process: "subprocess.Popen[bytes]") -> float:
        while not self.lock.exists():
            assert process.poll() is None, (self.place.directory / "command.log").read_text()
            time.sleep(0.002)
        return time.monotonic()

    def _take_log(self) -> Log:
        """What was asked and answered; what a killed load had sent is waited for."""
        deadline = time.monotonic() + 10
        while self.server.connections:
            assert time.monotonic() < deadline, "connections stay open"
            time.sleep(0.002)
        log = list(self.server.log)
        self.server.log.clear()
        return log


def _poll_ids(file: Path) -> set[str]:
    if file.name.endswith(".parquet"):
        column = pyarrow.parquet.read_table(file, columns=["poll_id"]).column("poll_id")
        return set(column.to_pylist())
    if file.name.endswith(".csv.gz"):
        with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
            return {row["poll_id"] for row in csv.DictReader(text)}
    return set()  # the statement of a merge
