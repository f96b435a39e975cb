"""Commands in processes of their own that write to one warehouse, and what is there afterwards."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import psycopg2  # type: ignore[import-untyped]

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild import Difference, differences
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import in_data_centers
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.locks import _lock_key
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.place import Place
from tests.campaign.killed_load import read_packages, unusual_command
from tests.postgres import credentials, postgres_server

SECONDS = 60
WAITS = "another load is writing to {}; waiting for it"
# what differs between two loads of the same answers: names drawn at random, and times
VARIES = {"_dlt_id", "_dlt_load_id", "run_id", "poll_id", "change_id", "latency_ms"}
VARIES |= {"observed_at", "previous_poll_at", "requested_at", "polled_at"}


@dataclass
class Command:
    """`dlt-cronofy` in a process of its own, and what it says meanwhile."""

    process: "subprocess.Popen[bytes]"
    log: Path
    notes: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + SECONDS
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def end(self, seconds: float = SECONDS) -> int:
        return self.process.wait(seconds)

    def kill_in_package(self, number: int) -> None:
        """Kill it while it extracts or loads that one of its packages, counted from 1."""
        deadline = time.monotonic() + 5 * SECONDS
        while not self.notes.exists() or len(read_packages(self.notes)) < number:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.5))
        self.process.kill()


@dataclass
class Commands:
    """Starts commands; those that are left are killed."""

    started: list[Command] = field(default_factory=list)

    def start(
        self, place: Place, arguments: Sequence[str], package_polls: int = 250, **environment: str
    ) -> Command:
        log = place.directory / f"command{len(self.started)}.log"
        notes = log.with_suffix(".notes")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*unusual_command(notes, package_polls), *arguments],
                cwd=place.directory,
                env=place.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.started.append(Command(process, log, notes))
        return self.started[-1]

    def kill(self) -> None:
        for command in self.started:
            command.process.kill()
            command.process.wait(SECONDS)


@contextmanager
def commands() -> Iterator[Commands]:
    started = Commands()
    try:
        yield started
    finally:
        started.kill()


@dataclass(frozen=True)
class Postgres:
    """A real server, and what its plain driver reads there."""

    credentials: str

    def pipeline(self, place: Place, dataset: str) -> dlt.Pipeline:
        folder = place.data_dir / "pipelines"
        return open_pipeline("postgres", dataset, credentials=self.credentials, pipelines_dir=folder)

    def database(self, name: str) -> str:
        """Credentials of a new database."""
        with closing(psycopg2.connect(self.credentials)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f'CREATE DATABASE "{name}"')
        return self.credentials.replace("/postgres?", f"/{name}?")

    def start(
        self,
        commands: Commands,
        place: Place,
        arguments: Sequence[str],
        dataset: str,
        package_polls: int = 250,
    ) -> Command:
        """Start a command on one of the server's datasets."""
        whole = (*arguments, "--destination", "postgres", "--dataset", dataset)
        return commands.start(
            place, whole, package_polls, DESTINATION__POSTGRES__CREDENTIALS=self.credentials
        )

    def load(self, place: Place, dataset: str, *, refresh_views: bool = False) -> LoadResult:
        """One load of everything in the place's token store, in this process."""
        settings = PollingSettings(
            base_url=place.base_url, requests_per_second=1e6, requests_per_minute=1e6, max_attempts=1
        )
        tokens = in_data_centers(open_store(tokens_file=str(place.tokens_file)).read(), settings.data_center)
        options = LoadOptions(every=timedelta(0), refresh_views=refresh_views)
        return Load(self.pipeline(place, dataset), settings, tokens, options).run()

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.credentials)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def differences(self, dataset: str) -> list[Difference]:
        """In what the evidence is not what the polls say."""
        pipeline = open_pipeline("postgres", dataset, credentials=self.credentials)
        with sql_client(pipeline) as client:
            return differences(client, PollingSettings().hold)

    def end_session(self, session: int) -> None:
        assert self.query("SELECT pg_terminate_backend(%s, 10000)", session) == [(True,)]

    def holders(self, dataset: str) -> list[int]:
        """The sessions that have the turn."""
        key = "(classid::bigint << 32) | objid::bigint"
        sql = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND {key} = %s"
        return [pid for (pid,) in self.query(sql, _lock_key(dataset))]

    @contextmanager
    def turn_taken(self, dataset: str) -> Iterator[int]:
        """Keep the turn, as another load does; the session that has it."""
        with closing(psycopg2.connect(self.credentials)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT pg_try_advisory_lock(%s), pg_backend_pid()", (_lock_key(dataset),))
            ((is_taken, session),) = cursor.fetchall()
            assert is_taken
            yield session

    def content(self, dataset: str, table: str) -> Counter[str]:
        """What the rows of a table say, and how many say the same."""
        return Counter(repr(_comparable(row)) for row in self._rows(dataset, table))

    def keys(self, dataset: str, table: str) -> list[tuple[Any, ...]]:
        """The primary keys that occur in a table, each as often as it does."""
        return [tuple(row[name] for name in TABLES[table].key) for row in self._rows(dataset, table)]

    def runs(self, dataset: str) -> Sequence[str]:
        """The runs whose polls the packages brought, package by package."""
        rows = self.query(
            f"SELECT MIN(run_id) FROM {dataset}.polls JOIN {dataset}._dlt_loads ON load_id = _dlt_load_id"
            " GROUP BY load_id, inserted_at ORDER BY inserted_at"
        )
        return [run for (run,) in rows]

    def _rows(self, dataset: str, table: str) -> list[dict[str, Any]]:
        return [row for (row,) in self.query(f"SELECT to_jsonb(t) FROM {dataset}.{table} t")]


@contextmanager
def postgres_for_writers() -> Iterator[Postgres]:
    with postgres_server() as uri:
        yield Postgres(credentials(uri))


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in sorted(row.items()) if name not in VARIES}
    return kept | ({"removed_at": kept["removed_at"] is None} if "removed_at" in kept else {})
