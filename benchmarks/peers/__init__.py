"""Tokens a second from Cronofy into DuckDB, beside other ways to load them in the same run.

Every contender is a fresh process, timed from start to exit: imports, calls and DuckDB. All read the same
file of tokens and ask the same loopback server, which answers at once and without limits. The peers load
userinfo, account and profiles, three calls a token; ours needs one, as userinfo says it all, and is also
shown with three. Each peer is written as its documentation has it and replaces what it loaded before. Where
its users choose, between a loop and threads say, what was faster with a tenth of the tokens is run. Those
that would take minutes load three tenths of the tokens. Only ours keeps history: polls and changes.

A ratio says how many times as many tokens ours loads, with one call or with three. CPU seconds are those of
the contender, not of the server; their ratios hold on a busy machine, those of wall time only on an idle one.
A run of ten tokens comes first; its seconds are what starting and stopping cost. The last row is what the
server itself can do. `CRONOFY_BENCHMARK_SCALE=0.1` makes it all ten times smaller, which favours who starts
fast.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from benchmarks.server import serving, write_tokens

from .contenders import Command, Contender, Job, contenders
from .runs import ContenderError, Run, run
from .server import PROFILES, IdentityAnswering, ceiling

SCALE = float(os.environ.get("CRONOFY_BENCHMARK_SCALE", "1"))
FEW_TOKENS = 10
TOKENS = max(10 * FEW_TOKENS, round(SCALE * 10_000))


def measure() -> list[dict[str, Any]]:
    """One row a contender: tokens a second, what they cost, and how many times as many ours loads."""
    chosen = contenders()
    IdentityAnswering.prepare(TOKENS)
    with serving(IdentityAnswering) as (url, answered), tempfile.TemporaryDirectory() as directory:
        most = ceiling(url, TOKENS)
        bench = Bench(url, answered, Path(directory))
        rows = [bench.row(contender) for contender in chosen]
    rows = _compared(rows)
    unknown = dict.fromkeys(rows[0], "")
    return [*rows, unknown | {"contender": "bare sockets", "calls a token": 1.0, "tokens/s": round(most)}]


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as many tokens ours, the first two rows, load in a second and in a CPU second."""
    ours = {"1 call": rows[0], "3 calls": rows[1]}
    return [
        row
        | {f"{name}, ratio": our["tokens/s"] / row["tokens/s"] for name, our in ours.items()}
        | {f"{name}, CPU ratio": our["tokens/CPU s"] / row["tokens/CPU s"] for name, our in ours.items()}
        for row in rows
    ]


@dataclass
class Bench:
    """The server everyone asks, and a folder for what they write."""

    url: str
    answered: "Synchronized[int]"
    directory: Path
    runs: int = 0

    def row(self, contender: Contender) -> dict[str, Any]:
        """What one contender manages, with the fastest of its variants."""
        variant = min(contender.variants, key=lambda name: self._trial_seconds(contender, name))
        command = contender.variants[variant]
        tokens = round(contender.share * TOKENS)
        started, _ = self._run(contender, command, FEW_TOKENS)
        found, calls = self._run(contender, command, tokens)
        return {
            "contender": f"{contender.name}, {variant}" if variant else contender.name,
            "tokens": tokens,
            "calls a token": calls / tokens,
            "rows": found.rows.total(),
            "start s": started.seconds,
            "seconds": found.seconds,
            "CPU seconds": found.cpu_seconds,
            "tokens/CPU s": round(tokens / found.cpu_seconds),
            "tokens/s": round(tokens / found.seconds),
        }

    def _trial_seconds(self, contender: Contender, variant: str) -> float:
        if len(contender.variants) == 1:
            return 0.0
        return self._run(contender, contender.variants[variant], round(contender.share * TOKENS / 10))[
            0
        ].seconds

    def _run(self, contender: Contender, command: Callable[[Job], Command], tokens: int) -> tuple[Run, int]:
        """A run that loaded everything, and its calls."""
        self.runs += 1
        folder = self.directory / str(self.runs)
        folder.mkdir()
        job = Job(self.url, write_tokens(folder / "tokens.csv", tokens), folder)
        before = self.answered.value
        found = run(contender.name, command(job), job)
        calls = self.answered.value - before
        _check(contender, found, tokens, calls)
        return found, calls


def _check(contender: Contender, found: Run, tokens: int, calls: int) -> None:
    """Every endpoint was asked for every token, and what it said is in DuckDB."""
    expected = {"userinfo": tokens}
    if contender.calls > 1:
        expected |= {"account": tokens, "profiles": PROFILES * tokens}
    expected |= {table: expected[table] - lost for table, lost in contender.loses.items()}
    loaded = {table: found.rows[table] for table in expected}
    if loaded != expected or calls != contender.calls * tokens:
        raise ContenderError(f"{contender.name}: {calls} calls, {loaded} rows instead of {expected}")
