"""The clock of the sandbox, and that demos and tests move."""

import time
from datetime import UTC, datetime, timedelta


class MovableClock:
    """A clock that stands still, or is `running` since it was last moved, by any thread.

    Running, it is `speed` times as fast as real time.

    Example:
        >>> clock = MovableClock(datetime(2025, 3, 1, tzinfo=UTC))
        >>> clock.advance(timedelta(hours=6))
        datetime.datetime(2025, 3, 1, 6, 0, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, start: datetime, *, running: bool = False, speed: float = 1.0) -> None:
        self.running = running
        self.speed = speed
        self.move_to(start)

    def now(self) -> datetime:
        """Returns the time shown, in UTC."""
        instant, moved_at_seconds = self._moved
        if not self.running:
            return instant
        return instant + timedelta(seconds=self.speed * (time.monotonic() - moved_at_seconds))

    def move_to(self, instant: datetime) -> datetime:
        """Sets the clock, backwards too, and returns what it now shows; a time needs a zone."""
        if instant.tzinfo is None:
            raise ValueError(f"the time {instant.isoformat()} needs a time zone")
        shown = instant.astimezone(UTC)
        # one assignment, so that a reader in another thread never sees half of it
        self._moved = (shown, time.monotonic())
        return shown

    def advance(self, step: timedelta) -> datetime:
        """Moves the clock by `step` and returns the time it now shows."""
        return self.move_to(self.now() + step)
