"""`python -m benchmarks`: prints one table a question, and all figures as JSON with `--json FILE`.

The rates mostly wait and the views are measured in CPU time, so these two run side by side.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import (
    economy,
    fixed,
    fleet,
    growth,
    memory,
    notified,
    outages,
    peers,
    planner,
    rates,
    throughput,
    views,
    year,
)

QUESTIONS = {
    "economy": economy,
    "fixed": fixed,
    "throughput": throughput,
    "outages": outages,
    "memory": memory,
    "growth": growth,
    "peers": peers,
    "planner": planner,
    "notified": notified,
    "fleet": fleet,
    "views": views,
    "rates": rates,
}
# takes longer than all others: asked by name
BY_NAME = {"year": year}
ALL = QUESTIONS | BY_NAME
WAITS, BESIDE = "rates", "views"
PIPED_WIDTH = 210

Rows = list[dict[str, Any]]


def main() -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", choices=[[], *ALL], help="default: all but year")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    # as wide as the tables where nobody looks at a terminal
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    figures = {}
    for name, rows, seconds in _measured(arguments.questions or tuple(QUESTIONS)):
        figures[name] = rows
        console.print(_table(name, rows, seconds))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def _measured(names: Sequence[str]) -> Iterator[tuple[str, Rows, float]]:
    """The figures and the seconds they took, question by question."""
    waiting: Future[Rows] | None = None
    with ProcessPoolExecutor(1, get_context("spawn")) as aside:
        for name in names:
            started = time.monotonic()
            if name == BESIDE and WAITS in names:
                waiting = aside.submit(ALL[WAITS].measure)
            beside = waiting if name == WAITS else None
            rows = beside.result() if beside is not None else ALL[name].measure()
            yield name, rows, time.monotonic() - started


def _table(name: str, rows: Rows, seconds: float) -> Table:
    title = (ALL[name].__doc__ or "").splitlines()[0]
    table = Table(title=f"{title} ({seconds:.0f} s)", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    return table


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
