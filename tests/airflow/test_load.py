"""The DAG on a real Airflow: 20,000 tokens in 8 shards into PostgreSQL, just as one process loads them.

Run by `make airflow-test`, in the environment that has Airflow. `TOKENS` in the environment makes it smaller.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row
from pyarrow import parquet

from pipelines.sandbox import Limits, MovableClock, SandboxServer, SandboxToken, build_world, serve
from pipelines.sandbox.token_files import write_token_file
from pipelines.shards.handoff import Handoff
from pipelines.shards.sealed_set import sets_of
from tests.airflow.cluster import Cluster, TaskInstance, running, wait_for
from tests.views.server import postgres_server

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1500)]

TOKENS = int(os.environ.get("TOKENS", "20000"))
SHARDS = 8
# far above Cronofy's, or it would take an hour; binding all the same
PER_SECOND, PER_MINUTE = 600, 36_000
RUN_SECONDS = 900.0
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
DAG = "cronofy"
SINGLE, SHARDED = "single", "sharded"

TABLES = ("userinfo", "account", "profiles", "calendars", "polls", "profile_changes")
# names, and what depends on when a call was made or how long it took
IDS_AND_TIMES = {
    "_dlt_id", "_dlt_load_id", "run_id", "poll_id", "change_id",
    "requested_at", "polled_at", "observed_at", "previous_poll_at", "removed_at", "latency_ms",
}  # fmt: skip
SHARED = {"polls", "profile_changes"}
SECRET_LENGTH = 32
WORD = re.compile(rf"[A-Za-z0-9_-]{{{SECRET_LENGTH},}}")
PASSWORD = "the_password_of_the_warehouse_32"


@dataclass
class Scene:
    """The sandbox that is loaded, the two warehouses, and Airflow."""

    tokens: Sequence[SandboxToken]
    sandbox: SandboxServer
    cluster: Cluster
    folder: Path
    warehouse: str
    environment: dict[str, str]

    def pass_time(self, passed: timedelta) -> None:
        """Move the world on."""
        clock = self.sandbox.clock
        assert clock is not None
        clock.move_to(START + passed)

    @cached_property
    def secrets(self) -> set[str]:
        """All tokens, of both kinds, and the password."""
        both = (text for token in self.tokens for text in (token.access_token, token.refresh_token))
        found = {text for text in both if text} | {PASSWORD}
        assert {len(text) for text in found} == {SECRET_LENGTH}
        return found

    def shows_secret(self, text: str) -> bool:
        """Whether any of them is in a text, whatever stands around it."""
        return any(
            word[start : start + SECRET_LENGTH] in self.secrets
            for word in WORD.findall(text)
            for start in range(len(word) - SECRET_LENGTH + 1)
        )

    def load_in_one_process(self) -> dict[str, Any]:
        """`dlt-cronofy load`, as a person runs it."""
        command = [sys.executable, "-m", "pipelines", "load", "--every", "0s", "--json"]
        finished = subprocess.run(
            [*command, "--destination", "postgres", "--dataset", SINGLE],
            cwd=self.folder / "project",
            env={"PATH": os.environ["PATH"], **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        summary: dict[str, Any] = json.loads(finished.stdout)
        return summary

    def rows(self, dataset: str, table: str) -> list[str]:
        """All rows of a table, but for ids and times, in an order that depends on them alone."""
        rows = self.query(f'SELECT * FROM "{dataset}"."{table}"')
        if table in SHARED:
            # tokens of one account take turns by the time of their last poll
            several = {account for account, keys in self.keys_of(dataset).items() if len(keys) > 1}
            rows = [
                row | {"token_key": "one of them"} if row["account_id"] in several else row for row in rows
            ]
        return sorted(repr([row[name] for name in sorted(row.keys() - IDS_AND_TIMES)]) for row in rows)

    def keys_of(self, dataset: str) -> dict[str, set[str]]:
        """The tokens of each account."""
        keys: dict[str, set[str]] = {}
        for row in self.query(f'SELECT account_id, token_key FROM "{dataset}".userinfo'):
            keys.setdefault(row["account_id"], set()).add(row["token_key"])
        return keys

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the warehouse."""
        with psycopg.connect(self.warehouse, row_factory=dict_row) as connection:
            return connection.execute(sql.encode()).fetchall()

    def sealed(self, run: str) -> set[int]:
        """The shards of a DAG run that are sealed and not loaded yet."""
        query = "SELECT value #>> '{}' FROM xcom WHERE run_id = %s AND key = 'load_run'"
        ((load_run,),) = self.cluster.query(query, run)
        return {each.shard for each in sets_of(Handoff.at(str(self.folder / "handoff")), load_run)}

    def differences(self) -> dict[str, tuple[int, int]]:
        """Tables that are not the same in both warehouses, with their rows in one and not in the other."""
        found = {}
        for table in TABLES:
            single, sharded = Counter(self.rows(SINGLE, table)), Counter(self.rows(SHARDED, table))
            assert single, f"{table} is empty"
            if single != sharded:
                found[table] = ((single - sharded).total(), (sharded - single).total())
        return found


def _tcp(uri: str, database: str) -> str:
    """The server's URI with a host and a password, which dlt asks for and the socket does not need."""
    (socket_directory,) = parse_qs(urlsplit(uri).query)["host"]
    return f"postgresql://postgres:{PASSWORD}@localhost:5432/{database}?host={socket_directory}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("airflow")
    project = folder / "project"
    (project / ".dlt").mkdir(parents=True)
    world = build_world(accounts=TOKENS, seed=11, start=START, days=14)
    tokens = world.tokens[:TOKENS]
    assert len(tokens) == TOKENS
    with ExitStack() as stack:
        limits = Limits(PER_SECOND, PER_MINUTE)
        sandbox = stack.enter_context(serve(world, clock=MovableClock(START), limits=limits))
        uri = stack.enter_context(postgres_server())
        with psycopg.connect(uri, autocommit=True) as connection:
            for database in ("metadata", "warehouse"):
                connection.execute(f"CREATE DATABASE {database}".encode())
        warehouse = _tcp(uri, "warehouse")
        write_token_file(project / "tokens.csv", tokens)
        (project / ".dlt" / "config.toml").write_text(
            f"""
[sources.cronofy]
tokens_file = "tokens.csv"
base_url = "{sandbox.base_url}"
handoff = "{folder / "handoff"}"
requests_per_second = {PER_SECOND}
requests_per_minute = {PER_MINUTE}
requests_shared_in = "{folder / "requests.sqlite"}"
""",
            encoding="utf-8",
        )
        (project / ".dlt" / "secrets.toml").write_text(
            f"""
[sources.cronofy]
requests_shared_in = "{folder / "requests.sqlite"}"

[destination.postgres]
credentials = "{warehouse}"
""",
            encoding="utf-8",
        )
        environment = {"DLT_DATA_DIR": str(folder / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"}
        cluster = Cluster(folder / "home", _tcp(uri, "metadata"), environment)
        cluster.write_dag(
            DAG,
            project_dir=str(project),
            destination="postgres",
            dataset=SHARDED,
            shards=SHARDS,
            every="0s",
        )
        stack.enter_context(running(cluster))
        yield Scene(tokens, sandbox, cluster, folder, warehouse, environment)


@pytest.fixture(scope="module")
def first_run(scene: Scene) -> Scene:
    """A load of everything for the first time, both ways."""
    scene.load_in_one_process()
    scene.cluster.trigger(DAG, "first")
    assert scene.cluster.wait_for_end("first", RUN_SECONDS) == "success"
    return scene


@pytest.fixture(scope="module")
def second_run(first_run: Scene) -> list[TaskInstance]:
    """After a day in which the world changed, both ways; two workers are killed in the middle of a shard.

    One with its task, one without: that task goes on, though nobody waits for it, while its shard is
    polled again.
    """
    scene, cluster = first_run, first_run.cluster
    scene.pass_time(timedelta(days=1))
    scene.load_in_one_process()
    before = scene.sandbox.app.traffic.total
    cluster.trigger(DAG, "second")
    wait_for(
        lambda: True if scene.sandbox.app.traffic.total >= before + TOKENS // 20 else None,
        RUN_SECONDS, "polling", lambda: str(cluster.instances("second")),
    )  # fmt: skip
    polling = [each for each in cluster.instances("second") if (each.task, each.state) == ("poll", "running")]
    killed = polling[:2]
    for instance, with_task in zip(killed, (True, False), strict=True):
        worker = cluster.worker_of(instance)
        assert worker is not None
        for process in [worker, *(worker.children() if with_task else [])]:
            process.kill()
    through = scene.sealed("second") & {instance.map_index for instance in killed}
    assert not through, "killed too late"
    assert cluster.wait_for_end("second", RUN_SECONDS) == "success"
    return killed


def test_the_warehouse_is_that_of_one_process(first_run: Scene) -> None:
    assert first_run.differences() == {}


def test_killed_workers_lose_nothing_and_double_nothing(
    first_run: Scene, second_run: list[TaskInstance]
) -> None:
    tries = {
        each.map_index: each.tries for each in first_run.cluster.instances("second") if each.task == "poll"
    }
    assert all(tries[instance.map_index] > 1 for instance in second_run)
    assert first_run.differences() == {}


@pytest.mark.usefixtures("second_run")
def test_the_limits_hold_at_the_server(first_run: Scene) -> None:
    traffic = first_run.sandbox.app.traffic
    assert not any("429" in answers for answers in traffic.counts().values())
    assert traffic.peak(1.0) <= PER_SECOND
    assert traffic.peak(60.0) <= PER_MINUTE


@pytest.mark.usefixtures("second_run")
def test_no_secret_is_in_the_metadata_database(first_run: Scene) -> None:
    tables = set()
    for table, text in first_run.cluster.metadata_texts():
        tables.add(table)
        assert not first_run.shows_secret(text), table
    assert {"xcom", "task_instance", "rendered_task_instance_fields", "log"} <= tables


@pytest.mark.usefixtures("second_run")
@pytest.mark.parametrize("folder", ["home", "handoff", "dlt"])
def test_no_secret_is_in_a_file(first_run: Scene, folder: str) -> None:
    """Logs of tasks and processes; the plan and the sealed sets; dlt's working files."""
    files = [path for path in (first_run.folder / folder).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not first_run.shows_secret(text_of(path)), path


@pytest.mark.usefixtures("second_run")
def test_xcom_holds_numbers_of_shards_and_names(first_run: Scene) -> None:
    pushed: dict[tuple[str, str], str] = {}
    for task, key, value in first_run.cluster.query("SELECT task_id, key, CAST(value AS TEXT) FROM xcom"):
        pushed.setdefault((task, key), value)
    assert set(pushed) >= {("plan", "return_value"), ("plan", "load_run"), ("load", "return_value")}
    assert json.loads(pushed["plan", "return_value"]) == list(range(SHARDS))
    assert max(map(len, pushed.values())) < 4000


def text_of(path: Path) -> str:
    """What is in a file; Parquet compresses."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return f"{table.to_pylist()}{table.schema.metadata}"
    return path.read_text(encoding="utf-8", errors="replace")
