"""`python -m benchmarks`: prints one table a question, and all figures as JSON with `--json FILE`."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import economy, fixed, growth, memory, outages, peers, planner, rates, throughput, views

QUESTIONS = {
    "economy": economy,
    "fixed": fixed,
    "throughput": throughput,
    "outages": outages,
    "rates": rates,
    "memory": memory,
    "views": views,
    "growth": growth,
    "peers": peers,
    "planner": planner,
}

PIPED_WIDTH = 210


def main() -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", choices=[[], *QUESTIONS], help="default: all")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    # as wide as the tables where nobody looks at a terminal
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    figures = {}
    for name in arguments.questions or QUESTIONS:
        module = QUESTIONS[name]
        figures[name] = rows = module.measure()
        table = Table(title=(module.__doc__ or "").splitlines()[0], title_justify="left")
        for column in rows[0]:
            table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
        for row in rows:
            table.add_row(*(_shown(value) for value in row.values()))
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def _shown(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
