"""Time, injected: wall clock for stamps, monotonic clock for waiting."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)
# clocks of machines differ, but not by that much: a time further ahead is of one that is wrong
MOST_AHEAD = timedelta(hours=1)


class SystemClock:
    """The machine's clock, held strictly increasing so that no two polls share an instant."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def read(self) -> datetime:
        """The wall clock as it stands; a simulation overrides this."""
        return datetime.now(UTC)

    def now(self) -> datetime:
        """The present in UTC, at least a microsecond after the last one given."""
        # a wall clock that steps back (NTP, a moved VM) must not put an answer before its predecessor
        found = self.read()
        self._last = found if found > self._last else self._last + MICROSECOND
        return self._last

    def monotonic(self) -> float:
        """Seconds on a clock that never steps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of `monotonic`."""
        await asyncio.sleep(seconds)


# any other clock, of a test or a simulation, is derived from it
Clock = SystemClock
