"""`python -m tests.pipelines.airflow.campaign`: kill Celery workers in mid-shard and compare.

A real Airflow with CeleryExecutor: its broker is Redis, and so is the place where all workers keep the rate
limits together. Each round the world moves on by a day, one process loads it into one dataset, the DAG into
another. While it polls, one of the two workers is killed, in turn:

whole     with all its processes;
parent    without its tasks: those go on, though nobody waits for them, and deliver while their shards are
          polled again;
late      as before, and its tasks are stopped as well. One goes on once its shard was polled again, before
          the load or in it, the other only after the load.

Then another worker takes its place. After the last round one more load, with nobody killed, takes in what
came late.

Exit status: 0 if at least one worker was killed and nothing was lost, duplicated, wrong or shown, else 1.
Where there is no time for another round, it ends early.
"""

import argparse
import base64
import binascii
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import redis

from dlt_cronofy.sandbox import Limits
from tests.peaks import peak
from tests.pipelines.airflow.cluster import Cluster, free_ports, running, wait_for
from tests.pipelines.airflow.scene import DAG, RUN_SECONDS, Scene, prepared_scene, text_of

ROOT = Path(__file__).parents[3]
KINDS = ("whole", "parent", "late")
WORKERS = ("one", "two")
CONCURRENCY = 2
# a round makes four calls a token: a bit more than a minute's worth, so that both limits bind
PER_SECOND, PER_MINUTE_AND_TOKEN = 600, 3
# how a task calls itself, before the id of its task instance
TASK = "airflow worker -- "
# Redis hands out again what a killed worker had taken and not ended, after that long
VISIBILITY_SECONDS = 60
KILL_SECONDS, ZOMBIE_SECONDS, REDIS_SECONDS = 10.0, 180.0, 10.0
# of the time a round took, which the next must have left
ROUND_ROOM = 1.3

HEXADECIMAL = re.compile(r"\\+x((?:[0-9a-f]{2}){16,})")
BASE64 = re.compile(r"[A-Za-z0-9+/]{32,}={0,2}")


class Stopped(BaseException):
    """By a signal, or because time is up; no `except Exception` on the way holds it up."""


@dataclass
class Worker:
    """One of Celery's workers, by its name in this campaign."""

    name: str
    number: int
    process: psutil.Process

    def tree(self) -> list[psutil.Process]:
        """Its processes: Celery's, below them Airflow's supervisors, and below these the tasks."""
        return [self.process, *self.process.children(recursive=True)]

    def tasks(self) -> dict[str, psutil.Process]:
        """The processes of its tasks, by the id of their task instance."""
        titles = {process: _title(process) for process in self.tree()}
        return {
            title.removeprefix(TASK): process for process, title in titles.items() if title.startswith(TASK)
        }


@dataclass
class Round:
    """What became of one round.

    Attributes:
        kind: how the worker was killed.
        worker: which one.
        killed: the shards it was polling.
        too_late: the shards it had just finished.
        tries: of each shard.
        sets: the names of all outputs that were seen in the handoff, by shard.
        resumed: shards whose stopped task went on, and when.
        faults: what is not as it should be.
    """

    kind: str = "no"
    worker: str = ""
    killed: list[int] = field(default_factory=list)
    too_late: list[int] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)
    sets: dict[int, set[str]] = field(default_factory=dict)
    resumed: dict[int, str] = field(default_factory=dict)
    differences: dict[str, tuple[int, int]] = field(default_factory=dict)
    late: int = 0
    peaks: tuple[int, int] = (0, 0)
    refused: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        """All of it."""
        shards = ", ".join(
            f"{shard} (tries {self.tries.get(shard, 0)}, sets {len(self.sets.get(shard, ()))}"
            f"{', went on ' + self.resumed[shard] if shard in self.resumed else ''})"
            for shard in self.killed
        )
        if self.too_late:
            shards += f", too late for {self.too_late}"
        others = Counter(tries for shard, tries in self.tries.items() if shard not in self.killed)
        return "; ".join(
            [
                f"{self.kind:6} kill of worker {self.worker} in shards {shards}"
                if shards
                else "nobody killed",
                "other shards: "
                + ", ".join(f"{number} in {tries}" for tries, number in sorted(others.items())),
                f"differences {self.differences or 'none'}",
                f"peaks {self.peaks[0]}/s {self.peaks[1]}/min, {self.refused} refused",
                f"{self.late} sets left for the next load",
                f"{self.seconds:.0f} s",
            ]
        )


@dataclass
class Campaign:
    """Airflow with its workers, from the first load to the last."""

    scene: Scene
    redis: str
    limits: Limits
    workers: dict[str, Worker] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        """Airflow."""
        return self.scene.cluster

    def start_worker(self, name: str) -> None:
        """Have a worker of that name, and with a name of its own for Celery."""
        number = self.workers[name].number + 1 if name in self.workers else 1
        process = self.cluster.start_process(
            "celery", "worker", "--celery-hostname", f"{name}-{number}@%h",
            "--concurrency", str(CONCURRENCY), "--skip-serve-logs",
        )  # fmt: skip
        self.workers[name] = Worker(name, number, psutil.Process(process.pid))

    def play(self, number: int, kind: str | None, name: str = "") -> Round:
        """One round; without a kind nobody is killed."""
        began = time.monotonic()
        played = Round(kind or "no", name)
        run = f"round-{number}"
        self.scene.pass_time(timedelta(days=number))
        self.scene.load_in_one_process()
        before = self.scene.sandbox.app.traffic.total
        self.cluster.trigger(DAG, run)
        zombies: dict[int, psutil.Process] = {}
        if kind is not None:
            worker = self.workers[name]
            if tasks := self._wait_for_polling(worker, run, before):
                zombies = self._kill(worker, tasks, run, played)
                self.start_worker(name)
        self._wait_for_end(run, zombies, played)
        self._check(run, played)
        played.seconds = time.monotonic() - began
        return played

    def left_behind(self) -> int:
        """How many outputs lie in the handoff."""
        return sum(len(self.scene.sets(run)) for run in self._runs())

    def _wait_for_polling(self, worker: Worker, run: str, before: int) -> dict[int, psutil.Process]:
        """The tasks of a worker by shard, as soon as all of them are polling; none where that never was."""
        some = before + len(self.scene.tokens) // 10

        def look() -> dict[int, psutil.Process] | None:
            if self.scene.sandbox.app.traffic.total < some:
                return None
            shards = {each.id: each.map_index for each in self.cluster.instances(run) if each.task == "poll"}
            found = {
                shards[instance]: process
                for instance, process in worker.tasks().items()
                if instance in shards and self._writes(process)
            }
            return found if len(found) == CONCURRENCY or self._ended(run) else None

        return wait_for(look, RUN_SECONDS, "polling", lambda: str(self.cluster.instances(run)))

    def _writes(self, process: psutil.Process) -> bool:
        """Whether a task has a set under way, and so calls Cronofy."""
        with suppress(psutil.Error):
            handoff = self.scene.folder / "handoff"
            return any(Path(each.path).is_relative_to(handoff) for each in process.open_files())
        return False

    def _kill(
        self, worker: Worker, tasks: Mapping[int, psutil.Process], run: str, played: Round
    ) -> dict[int, psutil.Process]:
        """Kill it; its tasks that live on, by shard."""
        spared = {} if played.kind == "whole" else dict(tasks)
        doomed = [process for process in worker.tree() if process not in spared.values()]
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if played.kind == "late":
            # not before: the kernel ends what is stopped when nobody is left who could have it go on
            wait_for(lambda: None if any(map(_lives, doomed)) else True, KILL_SECONDS, "the worker's end")
            for process in spared.values():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
        # a task has a moment to live on between its set and its end
        played.too_late = sorted(self.scene.finished(run) & set(tasks))
        played.killed = sorted(set(tasks) - set(played.too_late))
        if not any(run in text for _, text in redis_texts(f"{self.redis}/0")):
            played.faults.append("no message about this run was seen in Redis, so the search proves nothing")
        self._search_redis(played)
        return spared

    def _wait_for_end(self, run: str, zombies: Mapping[int, psutil.Process], played: Round) -> None:
        """Until the DAG run and all that outlived the killed worker have ended."""
        stopped = dict(zombies) if played.kind == "late" else {}
        first = min(played.killed, default=None)

        def resume(shard: int, when: str) -> None:
            process = stopped.pop(shard)
            if _lives(process):
                process.resume()
                played.resumed[shard] = when
            elif shard in played.killed:
                played.faults.append(f"the task of shard {shard} was gone before it could go on")

        def look() -> str | None:
            if self._planned(run):
                self._note_sets(run, played)
            if first in stopped and first in played.sets:
                resume(first, "before the load")
            return self._ended(run)

        state = wait_for(look, RUN_SECONDS, f"the end of {run}", lambda: str(self.cluster.instances(run)))
        if state != "success":
            played.faults.append(f"the DAG run ended as {state}: {self.cluster.instances(run)}")
        for shard in list(stopped):
            resume(shard, "after the load")
        wait_for(
            lambda: None if any(map(_lives, zombies.values())) else True,
            ZOMBIE_SECONDS, "the end of the tasks that outlived their worker", lambda: str(zombies),
        )  # fmt: skip
        self._note_sets(run, played)

    def _check(self, run: str, played: Round) -> None:
        instances = self.cluster.instances(run)
        played.tries = {each.map_index: each.tries for each in instances if each.task == "poll"}
        for shard in played.killed:
            if played.tries[shard] < 2:
                played.faults.append(f"shard {shard} was not polled again")
        query = "SELECT CAST(value AS TEXT) FROM xcom WHERE run_id = %s AND task_id = 'load' AND key = %s"
        for (value,) in self.cluster.query(query, run, "return_value"):
            summary = json.loads(value)
            for what in ("undelivered_shards", "stopped_by"):
                if summary[what]:
                    played.faults.append(f"{what}: {summary[what]}")
        played.differences = self.scene.differences()
        if played.differences:
            played.faults.append("the datasets are not the same: rows in one, rows in the other, by table")
        played.late = self.left_behind()
        traffic = self.scene.sandbox.app.traffic
        played.peaks = (peak(traffic.arrivals, 1.0), peak(traffic.arrivals, 60.0))
        played.refused = sum(answers.get("429", 0) for answers in traffic.counts().values())
        if played.peaks[0] > self.limits.per_second or played.peaks[1] > self.limits.per_minute:
            played.faults.append("more calls than the limits allow")
        if played.refused:
            played.faults.append("the server refused calls: 429")
        self._search(played)

    def _search(self, played: Round) -> None:
        """Look for tokens and the password in all that Airflow, Celery and the workers keep."""
        shown = {
            f"table {table} of the metadata"
            for table, text in self.cluster.metadata_texts()
            if self._shows_secret(text)
        }
        for place in ("home", "handoff", "dlt"):
            for path in (self.scene.folder / place).rglob("*"):
                # working files go while one looks
                with suppress(FileNotFoundError):
                    if path.is_file() and self._shows_secret(text_of(path)):
                        shown.add(str(path))
        played.faults += [f"a secret is in {each}" for each in sorted(shown)]
        self._search_redis(played)

    def _search_redis(self, played: Round) -> None:
        for database in (0, 1):
            for key, text in redis_texts(f"{self.redis}/{database}"):
                if self._shows_secret(f"{key} {text}"):
                    played.faults.append(f"a secret is in Redis, database {database}, key {key}")

    def _shows_secret(self, text: str) -> bool:
        return any(self.scene.shows_secret(each) for each in readings(text))

    def _note_sets(self, run: str, played: Round) -> None:
        for each in self.scene.sets(run):
            played.sets.setdefault(each.shard, set()).add(each.name)

    def _ended(self, run: str) -> str | None:
        """How a DAG run ended, once it has."""
        query = "SELECT state FROM dag_run WHERE run_id = %s AND state IN ('success', 'failed')"
        return next((str(state) for (state,) in self.cluster.query(query, run)), None)

    def _planned(self, run: str) -> bool:
        return run in self._runs()

    def _runs(self) -> list[str]:
        return [run for (run,) in self.cluster.query("SELECT run_id FROM xcom WHERE key = 'load_run'")]


def readings(text: str) -> Iterator[str]:
    """A text, and what is packed in it: messages of Celery's are base64, its results bytes in hexadecimal."""
    yield text
    for found in HEXADECIMAL.findall(text):
        yield bytes.fromhex(found).decode("utf-8", "replace")
    for found in BASE64.findall(text):
        word = found.rstrip("=")
        with suppress(binascii.Error):
            yield base64.b64decode(word[: len(word) - (len(word) % 4 == 1)] + "==").decode("utf-8", "replace")


def redis_texts(url: str) -> Iterator[tuple[str, str]]:
    """Every key of a Redis database, with what it holds and what is packed in that."""
    client: Any = redis.Redis.from_url(url)
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    with client:
        for key in client.scan_iter():
            kind = client.type(key)
            if kind != b"none":  # gone since
                for reading in readings(repr(read[kind](key))):
                    yield key.decode("utf-8", "replace"), reading


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis of this program's own, without a database; it keeps nothing on disk."""
    found = subprocess.run([str(ROOT / ".ci" / "redis")], check=True, capture_output=True, text=True)
    libraries = [str(each) for each in ROOT.glob(".redis/files/usr/lib/*-linux-gnu")]
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="redis") as folder, ExitStack() as stack:
        process = subprocess.Popen(
            [found.stdout.strip(), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder,
             "--save", "", "--appendonly", "no"],
            env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": os.pathsep.join(libraries)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(process.kill)
        client: Any = redis.Redis(port=port)

        def answers() -> bool | None:
            with suppress(redis.ConnectionError):
                return bool(client.ping())
            return None

        with client:
            wait_for(answers, REDIS_SECONDS, "Redis")
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def campaign(folder: Path, tokens: int, rounds: int) -> Iterator[Campaign]:
    """Everything that is needed, started; and stopped, with what outlived its worker."""
    with ExitStack() as stack:
        url = stack.enter_context(redis_server())
        limits = Limits(PER_SECOND, PER_MINUTE_AND_TOKEN * tokens)
        scene = stack.enter_context(
            prepared_scene(folder, tokens, f"{url}/1", days=rounds + 3.0, limits=limits)
        )
        cluster = scene.cluster
        cluster.executor = "CeleryExecutor"
        cluster.commands = [("api-server",), ("scheduler",), ("dag-processor",)]
        cluster.extra = {
            **cluster.extra,
            "AIRFLOW__CELERY__BROKER_URL": f"{url}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": "db+" + cluster.metadata.replace("://", "+psycopg2://", 1),
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS),
        }
        stack.callback(kill_all_in, folder)
        stack.enter_context(running(cluster))
        played = Campaign(scene, url, limits)
        for name in WORKERS:
            played.start_worker(name)
        yield played


def kill_all_in(folder: Path) -> None:
    """Kill what works in a folder of ours: tasks that outlived their worker, stopped ones as well."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(folder):
                process.kill()


def main() -> None:
    """Play the campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.pipelines.airflow.campaign", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=6, help="with a kill each (default: 6)")
    parser.add_argument("--seconds-at-most", type=float, default=2400.0, help="default: 2400")
    parser.add_argument("--tokens", type=int, default=4000, help="default: 4000")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _stop)
    ends = time.monotonic() + arguments.seconds_at_most
    signal.setitimer(signal.ITIMER_REAL, arguments.seconds_at_most)
    folder = Path(tempfile.mkdtemp(prefix="airflow-campaign-")).resolve()
    rounds: list[Round] = []
    broken = ""
    try:
        with campaign(folder, arguments.tokens, arguments.rounds) as played:
            _play(played, arguments.rounds, ends, rounds)
            # what is left is to stop everything
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Stopped as stopped:
        broken = f"stopped by {stopped}"
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told below, beside what was found
        broken = f"broke off: {error or type(error).__name__}"
    killed = [each for each in rounds if each.killed]
    faults = [fault for each in rounds for fault in each.faults]
    if broken:
        _say(broken)
    if len(killed) < arguments.rounds:
        _say(f"{len(killed)} of {arguments.rounds} workers killed: no time, or shards too short")
    _say(_summary(killed, faults))
    is_fine = bool(killed) and not faults and not broken
    if is_fine:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"logs and files are kept in {folder}")
    sys.exit(not is_fine)


def _play(played: Campaign, rounds: int, ends: float, into: list[Round]) -> None:
    """All rounds, as long as there is time."""
    longest = 0.0
    for number in range(rounds + 1):
        if longest * ROUND_ROOM * 2 > ends - time.monotonic():
            break
        kind, worker = (KINDS[number % len(KINDS) - 1], WORKERS[number % len(WORKERS) - 1])
        into.append(played.play(number, kind if number else None, worker))
        _tell(number, into[-1])
        longest = max(longest, into[-1].seconds)
    into.append(played.play(number + 1, None))
    if into[-1].late:
        into[-1].faults.append("outputs were left behind")
    _tell(number + 1, into[-1])


def _summary(killed: list[Round], faults: list[str]) -> str:
    shards = [len(each.sets.get(shard, ())) for each in killed for shard in each.killed]
    kinds = Counter(each.kind for each in killed)
    return (
        f"{len(killed)} workers killed ({', '.join(f'{kinds[kind]} {kind}' for kind in KINDS)}),"
        f" {len(shards)} shards in the middle, {sum(sets > 1 for sets in shards)} of them delivered twice;"
        f" {len(faults)} faults"
    )


def _tell(number: int, played: Round) -> None:
    _say(f"round {number}: {played.line()}")
    for fault in played.faults:
        _say(f"    {fault}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)  # stopping takes its time, and must come to its end
    raise Stopped(signal.Signals(number).name)


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


if __name__ == "__main__":
    main()
