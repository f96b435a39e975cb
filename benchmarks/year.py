"""What a year of hourly polls costs beside a week of them: the same tokens, 52 times as many polls.

Two DuckDB warehouses of 20,000 tokens are polled hourly for a week and for 52 weeks (hourly.py). The first
rows say how many rows each has that costs may grow with: changes, intervals of profiles, and gaps. Commands
are whole processes, in turn on the one and the other; of views all rows and columns are computed. The ratio
of both CPU times is the figure: `poll_log` and `rebuild` read all polls, daily views have rows by the day.
Peaks are in MB.

The year takes 12 GB of disk, and the load as much again; `CRONOFY_BENCHMARK_SCALE=0.01` takes a hundredth.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import duckdb

from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.pipeline import DEFAULT_DATASET, DEFAULT_FILE

from .commands import COMMAND, LOAD, TOKEN_FILE, Cost, environment, run
from .hourly import bounds, live_through
from .server import serving, write_tokens
from .views import computes_everything

SCALE = float(os.environ.get("CRONOFY_BENCHMARK_SCALE", "1"))
TOKENS = round(SCALE * 20_000)
WEEKS = {"week": 1, "year": 52}
# the arguments and how often they are run
COMMANDS = {
    "load, nothing due": ((*LOAD, "--every", "1d"), 3),
    "load, all polled and unchanged": ((*LOAD, "--every", "0s"), 3),
    "status": ((*COMMAND, "status", "--json"), 3),
    "report": ((*COMMAND, "report"), 1),
    "rebuild --check": ((*COMMAND, "rebuild", "--check"), 1),
    "rebuild": ((*COMMAND, "rebuild"), 1),
}
COUNTS = {
    "polls": "SELECT count(*) FROM polls",
    "changes": "SELECT count(*) FROM profile_changes",
    "intervals": "SELECT count(*) FROM profile_intervals",
    "gaps": "SELECT count(*) - count(DISTINCT (account_id, profile_type)) FROM coverage",
}

P = ParamSpec("P")
T = TypeVar("T")
# what was measured → its rows, if any, and what it took
Measured = dict[str, tuple[int | None, Cost | None]]


def measure() -> list[dict[str, Any]]:
    """One row a count, command and view: both warehouses' rows, seconds and peaks, and the ratios."""
    with serving() as (url, _), tempfile.TemporaryDirectory() as directory:
        places = {name: Path(directory, name) for name in WEEKS}
        for name, place in places.items():
            place.mkdir()
            _make(url, place, WEEKS[name])
        return compare(url, places)


def compare(url: str, places: dict[str, Path]) -> list[dict[str, Any]]:
    """The rows of `measure`, of warehouses that are there."""
    found = {name: _aside(_counts, place / DEFAULT_FILE) for name, place in places.items()}
    for command, (arguments, rounds) in COMMANDS.items():
        costs: dict[str, list[Cost]] = {name: [] for name in places}
        for _round in range(rounds):
            for name, place in places.items():
                costs[name].append(run(arguments, str(place), environment(url, str(place))))
        for name in places:
            found[name][command] = (None, _median(costs[name]))
    for name, place in places.items():
        found[name] |= _aside(_views, place / DEFAULT_FILE)
    return [_row(what, found) for what in found["week"]]


def _make(url: str, place: Path, weeks: int) -> None:
    write_tokens(place / TOKEN_FILE, TOKENS)
    run(LOAD, str(place), environment(url, str(place)))
    _aside(live_through, place / DEFAULT_FILE, TOKENS, weeks)


def _aside(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What it returns, from a process of its own: commands begin with the memory of this one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()


def _median(costs: list[Cost]) -> Cost:
    return Cost(*map(statistics.median, zip(*map(astuple, costs), strict=True)))


def _counts(file: Path) -> Measured:
    with _opened(file) as connection:
        rows: Measured = {
            name: (connection.execute(query).fetchall()[0][0], None) for name, query in COUNTS.items()
        }
    return rows | {"file, MB": (file.stat().st_size // 1_000_000, None)}


def _views(file: Path) -> Measured:
    """Every public view."""
    with _opened(file) as connection:
        return {f"view {name}": _view(connection, name) for name in PUBLIC_VIEWS}


def _view(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[int, Cost]:
    query = computes_everything(connection, name)
    cpu, started = time.process_time(), time.monotonic()
    ((rows, *_),) = connection.execute(query).fetchall()
    cost = Cost(time.process_time() - cpu, time.monotonic() - started, 0)
    return rows, cost


def _opened(file: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(file), read_only=True, config=bounds(file))
    connection.execute(f"SET enable_progress_bar = false; USE {DEFAULT_DATASET}")
    return connection


def _row(what: str, found: dict[str, Measured]) -> dict[str, Any]:
    (few, short), (many, long) = (found[name][what] for name in ("week", "year"))
    return {
        "what": what,
        "rows, week": few,
        "rows, year": many,
        "ratio of rows": many / few if few and many else None,
        "CPU s, week": short and short.cpu_seconds,
        "CPU s, year": long and long.cpu_seconds,
        "ratio of CPU": long.cpu_seconds / short.cpu_seconds if short and long else None,
        "s, week": short and short.seconds,
        "s, year": long and long.seconds,
        "peak, week": round(short.peak_megabytes) if short and short.peak_megabytes else None,
        "peak, year": round(long.peak_megabytes) if long and long.peak_megabytes else None,
    }
