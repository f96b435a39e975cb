"""`python -m tests.campaign`: kill -9 loads, load again, and look what it cost.

Loads are killed once at every instant that has a name, then at random.


Exit status: 0 if nothing was lost, duplicated or wrong and all kills were made, else 1.
"""

import argparse
import multiprocessing
import secrets
import sys
import time
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

from rich.console import Console
from rich.table import Table

from .rounds import Findings
from .runner import play_destination

PHASES = ("plan", "poll", "normalize", "load", "close", "settle")
SHOWN_FAULTS = 12


def main() -> None:
    """Play the campaign on every destination side by side."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at random, per destination (default: 200)")
    parser.add_argument("--seed", type=int, help="plays the same kill plan again (default: drawn)")
    parser.add_argument("--destination", default="duckdb,postgres", help="default: duckdb,postgres")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after that long (default: 60)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"seed {seed}")
    findings = _play(arguments.destination.split(","), arguments.kills, seed, arguments.minutes, console)
    console.print(_table(findings))
    for destination, found in findings.items():
        if isinstance(found, str):
            console.print(f"{destination}: {found}", markup=False)
            continue
        if found.kills < arguments.kills:
            console.print(f"{destination}: ended early, after {found.kills} of {arguments.kills} kills")
        for line in [*found.lost, *found.duplicated, *found.wrong][:SHOWN_FAULTS]:
            console.print(f"{destination}: {line}", markup=False)
    sys.exit(
        any(
            isinstance(found, str) or found.faults or found.kills < arguments.kills
            for found in findings.values()
        )
    )


def _play(
    destinations: list[str], kills: int, seed: int, minutes: float, console: Console
) -> dict[str, Findings | str]:
    """The findings of each destination, or how it broke off."""
    context = multiprocessing.get_context("spawn")
    channel: Queue[Any] = context.Queue()
    processes = {
        destination: context.Process(
            target=play_destination, args=(destination, kills, seed, minutes, channel)
        )
        for destination in destinations
    }
    for process in processes.values():
        process.start()
    began = time.monotonic()
    findings: dict[str, Findings | str] = {}
    while len(findings) < len(processes):
        try:
            destination, news = channel.get(timeout=1)
        except Empty:
            for destination, process in processes.items():
                if process.exitcode is not None and channel.empty():
                    findings.setdefault(destination, f"ended with {process.exitcode}")
            continue
        if isinstance(news, tuple):
            (findings[destination],) = news
        else:
            console.print(f"{time.monotonic() - began:5.0f} s  {news}", markup=False)
    for process in processes.values():
        process.join()
    return {destination: findings[destination] for destination in destinations}


def _table(findings: "dict[str, Findings | str]") -> Table:
    table = Table(title="Killed loads", title_justify="left")
    table.add_column("")
    rows: dict[str, list[str]] = {}
    for destination, found in findings.items():
        table.add_column(destination, justify="right")
        shown = found if isinstance(found, Findings) else Findings()
        figures: dict[str, Any] = {
            "kills at random": shown.kills,
            "kills at named instants": shown.at_instants,
            **{f"  in {phase}": shown.phases[phase] for phase in PHASES},
            "finished before the kill": shown.too_late,
            "rounds": shown.rounds,
            "  that lost the working directory": shown.lost_directories,
            "comparisons of all views": shown.view_checks,
            "lost": len(shown.lost),
            "duplicated": len(shown.duplicated),
            "wrong": len(shown.wrong),
            "median recovery, seconds": f"{shown.recovery_seconds:.2f}",
        }
        for name, figure in figures.items():
            rows.setdefault(name, []).append(str(figure))
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


if __name__ == "__main__":
    main()
