"""A real Airflow in a folder, its metadata in PostgreSQL; unless told otherwise `airflow standalone`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg

AIRFLOW = Path(sys.executable).parent / "airflow"
# on two busy cores
START_SECONDS, STOP_SECONDS = 180.0, 30.0
# how the executor's workers call themselves before the id of the task instance they watch over
WORKER = "airflow worker -- LocalExecutor: "
ENDED = frozenset({"success", "failed"})

DAG_FILE = """\
from datetime import timedelta

from dlt_cronofy.airflow.dag import cronofy_dag

cronofy_dag({dag_id!r}, None, retry_delay=timedelta(seconds=2), **{job!r})
"""

T = TypeVar("T")


@dataclass(frozen=True)
class TaskInstance:
    """A task instance, as the metadata database has it."""

    id: str
    task: str
    map_index: int
    state: str | None
    tries: int


@dataclass
class Cluster:
    """Airflow's processes, from `start` to `stop`.

    Attributes:
        home: AIRFLOW_HOME.
        metadata: SQLAlchemy's URL of the metadata database, without a driver.
        extra: what is in the environment of all processes beside Airflow's own settings.
        executor: which of Airflow's runs the tasks.
        commands: what is started.
    """

    home: Path
    metadata: str
    extra: Mapping[str, str] = field(default_factory=dict)
    executor: str = "LocalExecutor"
    commands: Sequence[Sequence[str]] = (("standalone",),)
    _environment: dict[str, str] = field(default_factory=dict)
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def write_dag(self, dag_id: str, **job: Any) -> None:
        """A DAG file, as people write it."""
        folder = self.home / "dags"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dag_id}.py").write_text(DAG_FILE.format(dag_id=dag_id, job=job), encoding="utf-8")

    def start(self) -> None:
        """Start everything; the DAG files must be there."""
        self._environment = self._settings()
        self.run("db", "migrate")
        self.run("dags", "reserialize")
        for command in self.commands:
            self.start_process(*command)

    def start_process(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """One of Airflow's processes, in a group of its own; its output goes to a file in `home`."""
        log = self.home / f"{'-'.join(arguments[:2])}-{len(self._processes)}.out"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(AIRFLOW), *arguments],
                cwd=self.home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End what was started, and only that."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, *arguments: str) -> str:
        """One command of Airflow's, to its end."""
        finished = subprocess.run(
            [str(AIRFLOW), *arguments],
            cwd=self.home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert finished.returncode == 0, f"airflow {' '.join(arguments)}: {finished.stdout}{finished.stderr}"
        return finished.stdout

    def trigger(self, dag_id: str, run: str) -> None:
        """Have a DAG run."""
        self.run("dags", "unpause", "--yes", dag_id)
        self.run("dags", "trigger", dag_id, "--run-id", run)

    def wait_for_end(self, run: str, seconds: float) -> str:
        """Wait until a DAG run has ended; its state."""
        query = "SELECT state FROM dag_run WHERE run_id = %s"
        return wait_for(
            lambda: next((str(state) for (state,) in self.query(query, run) if state in ENDED), None),
            seconds,
            f"the end of {run}",
            lambda: str(self.instances(run)),
        )

    def instances(self, run: str) -> list[TaskInstance]:
        """The task instances of a DAG run."""
        query = (
            "SELECT CAST(id AS TEXT), task_id, map_index, state, try_number FROM task_instance"
            " WHERE run_id = %s ORDER BY task_id, map_index"
        )
        return [TaskInstance(*row) for row in self.query(query, run)]

    def worker_of(self, instance: TaskInstance) -> psutil.Process | None:
        """The executor's worker that watches over a task instance; the task is its child."""
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or ()).strip() == WORKER + instance.id:
                found: psutil.Process = process
                return found
        return None

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the metadata database."""
        with psycopg.connect(self.metadata) as connection:
            return connection.execute(sql.encode(), values or None).fetchall()

    def metadata_texts(self) -> Iterator[tuple[str, str]]:
        """Every row of every table of the metadata database as text, with the name of its table."""
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        for (table,) in self.query(tables):
            for (row,) in self.query(f'SELECT CAST(t AS TEXT) FROM "{table}" t'):
                yield table, row

    def _settings(self) -> dict[str, str]:
        api, logs, triggerer_logs = (str(port) for port in free_ports(3))
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PATH": f"{AIRFLOW.parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__CORE__EXECUTOR": self.executor,
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.metadata.replace("://", "+psycopg2://", 1),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": api,
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of this test's, long enough for what signs with it",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": logs,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": triggerer_logs,
            # a worker that was killed is missed soon
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            **self.extra,
        }


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster from its start to its stop."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def wait_for(look: Callable[[], T | None], seconds: float, what: str, why: Callable[[], str] = str) -> T:
    """What is looked for, as soon as it is there.

    Raises:
        AssertionError: it did not come in that time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come within {seconds:g} s: {why()}")


def free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
