"""One contender as a process of its own, start to exit, and what it left in DuckDB."""

import os
import resource
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb

from .contenders import Command, Job

TIMEOUT_SECONDS = 300.0
SHOWN_LINES = 30


@dataclass(frozen=True)
class Run:
    """What one process cost, and how many rows of each table it left."""

    seconds: float
    cpu_seconds: float
    rows: "Counter[str]"


class ContenderError(Exception):
    """A contender did not do what it is measured for."""


def run(name: str, command: Command, job: Job) -> Run:
    """Run it to its end.

    Raises:
        ContenderError: it failed or took too long; the end of what it said is printed.
    """
    output, errors = job.folder / "stdout.txt", job.folder / "stderr.txt"
    before = _children_cpu_seconds()
    started = time.perf_counter()
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            command,
            cwd=job.folder,
            env=os.environ | job.variables(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        status = _wait(process)
    seconds = time.perf_counter() - started
    if status != 0:
        print(_end_of(output), _end_of(errors), sep="\n")
        ended = f"exit status {status}" if status is not None else f"no end after {TIMEOUT_SECONDS:.0f} s"
        raise ContenderError(f"{name}: {ended}")
    return Run(seconds, _children_cpu_seconds() - before, _rows(job.database))


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """The exit status; None for one that took too long, which is killed with all that it started."""
    try:
        return process.wait(TIMEOUT_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def _children_cpu_seconds() -> float:
    """Of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end_of(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-SHOWN_LINES:])


def _rows(database: Path) -> "Counter[str]":
    """Rows of each table, of those that are not the tool's own books."""
    rows: Counter[str] = Counter()
    with duckdb.connect(database, read_only=True) as connection:
        tables = connection.execute(
            "SELECT database_name, schema_name, table_name FROM duckdb_tables()"
            " WHERE NOT starts_with(table_name, '_') AND NOT ends_with(schema_name, '_staging')"
        ).fetchall()
        for place in tables:
            qualified = ".".join(f'"{name}"' for name in place)
            rows[place[-1]] += len(connection.table(qualified))
    return rows
