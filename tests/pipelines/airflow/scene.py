"""What the test and the campaign on Airflow load: a sandbox, two warehouses to compare, an Airflow."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.rows import dict_row
from pyarrow import parquet

from dlt_cronofy.sandbox import Limits, MovableClock, SandboxServer, SandboxToken, build_world, serve
from dlt_cronofy.sandbox.world import write_token_file
from dlt_cronofy.shards.exchange_directory import ExchangeDirectory
from dlt_cronofy.shards.shard_output import ShardOutput, outputs_of
from tests.pipelines.airflow.cluster import Cluster
from tests.postgres import postgres_server

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
    "_dlt_id", "_dlt_load_id", "run_id", "poll_id", "change_id", "server_request_id",
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
        command = [sys.executable, "-m", "dlt_cronofy", "load", "--every", "0s", "--json"]
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

    def sets(self, run: str) -> list[ShardOutput]:
        """What was finished in a DAG run and lies in the handoff still."""
        query = "SELECT value #>> '{}' FROM xcom WHERE run_id = %s AND key = 'load_run'"
        ((load_run,),) = self.cluster.query(query, run)
        return outputs_of(ExchangeDirectory.at(str(self.folder / "handoff")), load_run)

    def finished(self, run: str) -> set[int]:
        """The shards of a DAG run that are finished and not loaded yet."""
        return {each.shard for each in self.sets(run)}

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


@contextmanager
def prepared_scene(
    folder: Path,
    number: int,
    shared_in: str,
    *,
    days: float = 14,
    limits: Limits = Limits(PER_SECOND, PER_MINUTE),  # noqa: B008 - it cannot be changed
) -> Iterator[Scene]:
    """The scene, with everything running but Airflow.

    Args:
        folder: for all files.
        number: of tokens.
        shared_in: where all processes that load keep the limits together.
        days: how long the world goes on.
        limits: of the sandbox, and what is configured.
    """
    project = folder / "project"
    (project / ".dlt").mkdir(parents=True)
    world = build_world(accounts=number, seed=11, start=START, days=days)
    tokens = world.tokens[:number]
    assert len(tokens) == number
    with ExitStack() as stack:
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
requests_per_second = {limits.per_second}
requests_per_minute = {limits.per_minute}
""",
            encoding="utf-8",
        )
        (project / ".dlt" / "secrets.toml").write_text(
            f"""
[sources.cronofy]
requests_shared_in = "{shared_in}"

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
        yield Scene(tokens, sandbox, cluster, folder, warehouse, environment)


def text_of(path: Path) -> str:
    """What is in a file; Parquet compresses."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return f"{table.to_pylist()}{table.schema.metadata}"
    return path.read_text(encoding="utf-8", errors="replace")
