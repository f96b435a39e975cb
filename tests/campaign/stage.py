"""A stage: one warehouse with its working directory, loads into it, and what can be seen of both."""

import contextlib
import csv
import gzip
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import dlt
import duckdb
import psycopg2  # type: ignore[import-untyped]
import pyarrow.parquet

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild import Difference, differences
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.place import COMMAND, Place, Row
from tests.acceptance.server import Reply, Request, ScriptedServer
from tests.acceptance.world import World

from .killed_load import NO_INSTANT, read_packages, unusual_command

HOLD = timedelta(seconds=30)
SLOWEST_ANSWER = 0.4
LONGEST_LOAD = 120.0
CONTENT_TABLES = ("userinfo", "account", "profiles", "calendars", "profile_changes")
# where dlt has the packages that it has finished writing, below its working directory
SEALED = ("normalize/extracted", "load/normalized")
Log = list[tuple[Request, Reply]]
Poll = tuple[str, str]


@dataclass
class Attempt:
    """One load: when it ran, what the server answered it, and where the kill met it.

    Attributes:
        packages: the polls of each package, in the order in which they were captured. What was asked and is
            in none of them left no trace.
        pending: dlt's own packages of this load that were finished and not loaded, by their load ids.
        sealed: so many of `packages` had their content in those, with or without polls.
        lost: the working directory was lost while content waited in it.
        arrived: so many of `packages` have their polls in the warehouse.
        phase: None where it was faster than the kill.
    """

    started_at: datetime
    ended_at: datetime
    log: Log
    packages: Sequence[set[Poll]] = ()
    pending: frozenset[str] = frozenset()
    sealed: int = 0
    lost: bool = False
    arrived: int = 0
    phase: str | None = None
    run_ids: set[str] = field(default_factory=set)

    def polls(self) -> set[Poll]:
        """Token and endpoint of everything that was asked."""
        return {(request.token, request.endpoint) for request, _ in self.log}

    def answers(self, packages: int) -> Log:
        """What the server answered to the polls of so many packages."""
        polls = set().union(*self.packages[:packages])
        return [each for each in self.log if (each[0].token, each[0].endpoint) in polls]


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

    def run_killed(
        self, kill: float | str, duration: float, package_polls: int | None
    ) -> tuple[Attempt, float | None]:
        """The command, killed; its own duration where it was faster.

        Args:
            kill: after that share of the duration, or at the instant of that name.
            duration: of an undisturbed load.
            package_polls: polls of a package; None for the product's own size.
        """
        pending_before = self.pending()
        before = self._folders()
        started_at = datetime.now(UTC)
        at_instant = isinstance(kill, str)
        process = self._start(package_polls, kill if isinstance(kill, str) else NO_INSTANT)
        finished: float | None = None
        try:
            began = self._wait_until_it_works(process, may_be_killed=at_instant)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=LONGEST_LOAD if isinstance(kill, str) else kill * duration)
                finished = time.monotonic() - began
        finally:
            process.kill()
            process.wait(timeout=30)
        attempt = Attempt(started_at, datetime.now(UTC), self._take_log())
        attempt.packages = self._packages(attempt)
        if process.returncode == -signal.SIGKILL:
            attempt.phase = self._phase(attempt, pending_before, before)
            attempt.pending = frozenset(self.pending() - pending_before)
            attempt.sealed = self._sealed_packages(attempt)
            return attempt, None
        assert process.returncode == 0, self._said()
        return attempt, finished

    def run_command(self) -> tuple[Attempt, float]:
        """The command, undisturbed."""
        started_at = datetime.now(UTC)
        process = self._start(None)
        try:
            began = self._wait_until_it_works(process)
            assert process.wait(timeout=LONGEST_LOAD) == 0, self._said()
        finally:
            process.kill()
        duration = time.monotonic() - began
        attempt = Attempt(started_at, datetime.now(UTC), self._take_log())
        attempt.packages = self._packages(attempt)
        return attempt, duration

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
        tokens = open_store(tokens_file=str(self.place.tokens_file)).read()
        Load(self.pipeline(), settings, tokens, LoadOptions(every=every)).run()
        duration = time.monotonic() - began
        log = self._take_log()
        attempt = Attempt(started_at, datetime.now(UTC), log)
        attempt.packages = [attempt.polls()] if log else []
        return attempt, duration

    def pipeline(self) -> dlt.Pipeline:
        """The pipeline of this stage, in this process."""
        return open_pipeline(
            self.destination,
            self.dataset,
            credentials=str(self.place.database) if self.destination == "duckdb" else None,
            pipelines_dir=self.place.data_dir / "pipelines",
        )

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

    def differences(self) -> list[Difference]:
        """In what the evidence is not what the polls say."""
        with sql_client(self.pipeline()) as client:
            return differences(client, HOLD)

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
        files = (file for table, file in self._sealed_files(self.pending()) if table == "polls")
        return {poll_id for file in files for (poll_id,) in _values(file, "poll_id")}

    def lose_working_directory(self, killed: Iterable[Attempt]) -> None:
        """Lose dlt's files, and what of these loads waits in them."""
        for attempt in killed:
            waiting = {table for table, _ in self._sealed_files(attempt.pending)}
            attempt.lost = not waiting.isdisjoint(CONTENT_TABLES)
        self.place.forget()

    def pending(self) -> set[str]:
        """The packages that wait to be loaded."""
        folders = self._folders()
        return set().union(*(folders[folder] for folder in SEALED))

    def _folders(self) -> dict[str, set[str]]:
        return {
            folder: {each.name for each in self.place.data_dir.glob(f"**/{folder}/*") if each.is_dir()}
            for folder in (*SEALED, "load/new", "load/loaded")
        }

    def _sealed_files(self, packages: Collection[str]) -> Iterator[tuple[str, Path]]:
        """The tables and files of packages that dlt has finished writing."""
        for folder in SEALED:
            for file in self.place.data_dir.glob(f"**/{folder}/*/*_jobs/*"):
                if file.parts[-3] in packages:
                    yield file.name.split(".", 1)[0], file

    def _packages(self, attempt: Attempt) -> list[set[Poll]]:
        """The polls of each package of a load: noted, or all of them in one."""
        if self.notes.exists():
            return read_packages(self.notes)
        return [attempt.polls()] if attempt.log else []

    def _sealed_packages(self, attempt: Attempt) -> int:
        """How many packages of a load have rows in sealed files; polls are sealed after what they showed."""
        sealed: set[Poll] = set()
        for table, file in self._sealed_files(attempt.pending):
            if table == "polls":
                sealed |= _values(file, "token_key", "endpoint")
            elif table in CONTENT_TABLES:
                endpoint = "account" if table == "account" else "userinfo"
                sealed |= {(token_key, endpoint) for (token_key,) in _values(file, "token_key")}
        return max((n for n, polls in enumerate(attempt.packages, 1) if polls & sealed), default=0)

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
        # one for the polls and their evidence, and mostly one for what changed
        all_loaded = len(new["load/loaded"] - pending_before) >= len(attempt.packages)
        return "close" if all_loaded and set().union(*attempt.packages) == attempt.polls() else "poll"

    @property
    def notes(self) -> Path:
        """What the command notes of its packages where they are of another size, or it has a killer."""
        return self.place.directory / "packages.notes"

    def _start(self, package_polls: int | None, instant: str = NO_INSTANT) -> "subprocess.Popen[bytes]":
        command: Sequence[str] = [str(COMMAND)]
        if package_polls is not None or instant != NO_INSTANT:
            command = unusual_command(self.notes, package_polls or 0, instant)
        self.notes.unlink(missing_ok=True)
        for lock in self._locks():
            lock.unlink()
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

    def _locks(self) -> list[Path]:
        """Their appearance says that the command is through with its imports and begins to work."""
        below = ("pipelines", "pipelines/*", "pipelines/*/*")
        return [lock for folder in below for lock in self.place.data_dir.glob(f"{folder}/*.lock")]

    def _wait_until_it_works(
        self, process: "subprocess.Popen[bytes]", *, may_be_killed: bool = False
    ) -> float:
        deadline = time.monotonic() + LONGEST_LOAD
        while not self._locks():
            ended = process.poll()
            if may_be_killed and ended == -signal.SIGKILL:
                break
            assert ended is None, self._said()
            assert time.monotonic() < deadline, f"nothing is locked: {self._said()}"
            time.sleep(0.002)
        return time.monotonic()

    def _said(self) -> str:
        return (self.place.directory / "command.log").read_text()

    def _take_log(self) -> Log:
        """What was asked and answered; what a killed load had sent is waited for."""
        deadline = time.monotonic() + 10
        while self.server.connections:
            assert time.monotonic() < deadline, "connections stay open"
            time.sleep(0.002)
        log = list(self.server.log)
        self.server.log.clear()
        return log


def _values(file: Path, *columns: str) -> set[Any]:
    """Tuples of what a file of a package has in these columns."""
    if file.name.endswith(".parquet"):
        table = pyarrow.parquet.read_table(file, columns=list(columns))
        return {tuple(row.values()) for row in table.to_pylist()}
    if file.name.endswith(".csv.gz"):
        with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
            return {tuple(row[name] for name in columns) for row in csv.DictReader(text)}
    return set()  # the statement of a merge
