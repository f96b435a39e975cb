"""The terminal: results on stdout, logs and progress on stderr."""

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlt_cronofy.formatting import duration

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger("dlt_cronofy")

# exit statuses; usage errors are 2 as well
LOADED, LOAD_FAILED, BAD_CONFIGURATION = 0, 1, 2
LOG_EVERY_SECONDS = 10.0
# a width for tables that are piped: wide enough not to break rows
PIPED_WIDTH = 120

Advance = Callable[[int], None]


def result_console() -> "Console":
    """Where results go. Piped output is plain and wide, or as wide as COLUMNS says."""
    from rich.console import Console

    is_piped = not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit()
    return Console(highlight=False, width=PIPED_WIDTH if is_piped else None)


def set_up_logging(*, verbose: bool) -> None:
    """Log lines of this program to stderr; dlt has its own logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


@dataclass
class Pace:
    """How far long work is, and how long the rest takes."""

    per_minute: float | None = None  # units that a rate limit allows
    total: int = 0  # units to do, 0 while unknown
    done: int = 0
    started: float = 0.0  # on the monotonic clock, in seconds

    def seconds_left(self) -> float | None:
        """At the pace so far, but not sooner than the rate limit allows; None while that is not known."""
        left = self.total - self.done
        elapsed = time.monotonic() - self.started
        estimates = [left * elapsed / self.done] if self.done else []
        if self.per_minute:
            estimates.append(left * 60 / self.per_minute)
        return max(estimates, default=None) if self.total else None

    def __str__(self) -> str:
        seconds = self.seconds_left()
        if not seconds:
            return ""
        return f"about {duration(seconds) if seconds >= 60 else f'{math.ceil(seconds)} s'} left"


@contextmanager
def progress(
    description: str, unit: str, per_minute: float | None = None
) -> Iterator[tuple[Advance, Advance]]:
    """Show how far long work is: a bar on a terminal, a log line now and then elsewhere.

    Yields:
        `set_total` and `set_done`, each taking a number of units, of which a rate limit allows `per_minute`.
    """
    pace = Pace(per_minute, started=time.monotonic())
    is_terminal = sys.stderr.isatty()
    with _bar(description, unit) if is_terminal else nullcontext(_log_lines(description, unit)) as show:

        def set_total(total: int) -> None:
            pace.total = total
            show(pace)

        def set_done(done: int) -> None:
            pace.done = done
            show(pace)

        yield set_total, set_done


@contextmanager
def _bar(description: str, unit: str) -> Iterator[Callable[[Pace], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    left = TextColumn(f"{unit} {{task.fields[left]}}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), left)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None, left="")
        yield lambda pace: bar.update(task, total=pace.total or None, completed=pace.done, left=str(pace))


def _log_lines(description: str, unit: str) -> Callable[[Pace], None]:
    last = time.monotonic()

    def show(pace: Pace) -> None:
        nonlocal last
        if not pace.done:
            if (pace.seconds_left() or 0) > LOG_EVERY_SECONDS:
                logger.info("%s: %s %s, %s", description, f"{pace.total:,}", unit, pace)
        elif time.monotonic() - last >= LOG_EVERY_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s of %s %s, %s", description, f"{pace.done:,}", f"{pace.total:,}", unit, pace)

    return show
