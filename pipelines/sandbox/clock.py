"""The clock of the sandbox, and that demos and tests move."""

import threading
import time
from datetime import UTC, datetime, timedelta


class MovableClock:
    """A thread-safe clock that stands still, or runs with real time since it was last moved.

    Args:
        start: the first time it shows; must carry a time zone.
        running: whether it goes on with real time (True) or stands still until moved (False).

    Example:
        >>> clock = MovableClock(datetime(2025, 3, 1, tzinfo=UTC))
        >>> clock.advance(timedelta(hours=6))
        datetime.datetime(2025, 3, 1, 6, 0, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, start: datetime, *, running: bool = False) -> None:
        self._lock = threading.Lock()
        self._running = running
        self._shown = _in_utc(start)
        self._moved_at_seconds = time.monotonic()

    def __call__(self) -> datetime:
        """Returns what `now` returns, so that a clock can stand in for a `now` function."""
        return self.now()

    def __repr__(self) -> str:
        return f"MovableClock({self.now().isoformat()}, running={self._running})"

    @property
    def running(self) -> bool:
        """Whether the clock goes on with real time."""
        return self._running

    def now(self) -> datetime:
        """Returns the time shown, in UTC."""
        with self._lock:
            return self._read()

    def move_to(self, instant: datetime) -> datetime:
        """Sets the clock, backwards too, and returns the time it now shows.

        Raises:
            ValueError: `instant` carries no time zone.
        """
        instant = _in_utc(instant)
        with self._lock:
            return self._set(instant)

    def advance(self, step: timedelta) -> datetime:
        """Moves the clock by `step` and returns the time it now shows."""
        with self._lock:
            return self._set(self._read() + step)

    def _read(self) -> datetime:
        if not self._running:
            return self._shown
        return self._shown + timedelta(seconds=time.monotonic() - self._moved_at_seconds)

    def _set(self, instant: datetime) -> datetime:
        self._shown = instant
        self._moved_at_seconds = time.monotonic()
        return instant


def _in_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"the time {instant.isoformat()} needs a time zone")
    return instant.astimezone(UTC)
