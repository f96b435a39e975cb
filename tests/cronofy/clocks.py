"""Clocks for tests: one that only sleeping moves, and an event loop whose time is simulated."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from dlt_cronofy.source.clock import SystemClock

T = TypeVar("T")

START = datetime(2025, 3, 1, 12, tzinfo=UTC)


class ManualClock(SystemClock):
    """Stands still but for sleeps, which take no time at all."""

    def __init__(self, start: datetime = START) -> None:
        super().__init__()
        self.start = start
        self.elapsed = 0.0
        self.sleeps: list[float] = []

    def read(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.elapsed += seconds
        await asyncio.sleep(0)

    def advance(self, **duration: float) -> None:
        """Move on by a duration in the words of `timedelta`."""
        self.elapsed += timedelta(**duration).total_seconds()


class _SimulatedSelector(selectors.SelectSelector):
    """Where a real selector would wait for the next timer, the loop's time jumps there."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.skipped += timeout
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting: its time is the sum of the waits it skipped."""

    def __init__(self) -> None:
        self.simulated = _SimulatedSelector()
        super().__init__(self.simulated)

    def time(self) -> float:
        return self.simulated.skipped


class LoopClock(SystemClock):
    """The time of the running event loop."""

    def read(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def simulate(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario without I/O in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(scenario)
