"""The terminal: results on stdout, logs and progress on stderr."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger("dlt_cronofy")

PROGRAM = "dlt-cronofy"
# exit statuses; usage errors are 2 as well
LOADED, LOAD_FAILED, BAD_CONFIGURATION = 0, 1, 2
LOG_EVERY_SECONDS = 10.0
# a width for tables that are piped: wide enough not to break rows
PIPED_WIDTH = 120


def program() -> str:
    """How this program was called, so that a command we print can be run."""
    called = Path(sys.argv[0])
    if called.name != PROGRAM or shutil.which(PROGRAM) == str(called):
        return PROGRAM
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


def result_console() -> Console:
    """Where results go. Piped output is plain and wide."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def set_up_logging(*, verbose: bool) -> None:
    """Log lines of this program to stderr; dlt has its own logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


Advance = Callable[[int], None]


@contextmanager
def progress(description: str, unit: str) -> Iterator[tuple[Advance, Advance]]:
    """Show how far long work is: a bar on a terminal, a log line now and then elsewhere.

    Yields:
        `set_total` and `set_done`, each taking a number of units.
    """
    if sys.stderr.isatty():
        yield from _bar(description, unit)
    else:
        yield from _lines(description, unit)


def _bar(description: str, unit: str) -> Iterator[tuple[Advance, Advance]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield (
            lambda total: bar.update(task, total=total),
            lambda done: bar.update(task, completed=done),
        )


def _lines(description: str, unit: str) -> Iterator[tuple[Advance, Advance]]:
    totals = [0]
    last = [time.monotonic()]

    def set_total(total: int) -> None:
        totals[0] = total

    def set_done(done: int) -> None:
        if time.monotonic() - last[0] >= LOG_EVERY_SECONDS:
            last[0] = time.monotonic()
            logger.info("%s: %d of %d %s", description, done, totals[0], unit)

    yield set_total, set_done
