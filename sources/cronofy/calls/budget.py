"""The call budget: what an application may spend, and what one run may spend of it.

Why not a rate-limiting library: the ones at hand count a call when it is *permitted*. The server counts
it when it *arrives*, and between the two lie connection set-up and queueing. A burst that was permitted
one window after the last can arrive within one window of it. Here a call occupies its window from the
moment it is permitted until one full period after its answer, so any window of the server's contains
only calls that were held at one instant, and there are never more of those than the limit.
`benchmarks/` shows both against a server that counts.
"""

import bisect
import logging
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

from ..clock import Clock

# how often a caller looks again when only answers still under way can free a slot
IN_FLIGHT_CHECK_SECONDS = 0.005
# longest pause after a 429 without Retry-After: the longest window the API counts in
MAX_PAUSE_SECONDS = 60.0
# how long a waiting caller may take to notice that its run was told to stop
LONGEST_SLEEP_SECONDS = 1.0
# shorter waits are the rhythm of the work, longer ones want a word
ANNOUNCED_WAIT_SECONDS = 5.0

logger = logging.getLogger("dlt_cronofy")


class Window:
    """At most `limit` calls in any `period_seconds`, as the server sees them."""

    def __init__(self, calls: float, period_seconds: float) -> None:
        # less than one call a period: one call in a period that is longer in proportion
        self.limit = max(1, math.floor(calls)) if math.isfinite(calls) else math.inf
        self.period_seconds = period_seconds * max(1.0, 1.0 / calls)
        self._in_flight = 0
        self._frees_at: deque[float] = deque()

    def wait_seconds(self, now: float) -> float:
        """Seconds until a slot may be free; 0 when one is free now."""
        while self._frees_at and self._frees_at[0] <= now:
            self._frees_at.popleft()
        if self._in_flight + len(self._frees_at) < self.limit:
            return 0.0
        if self._frees_at:
            return max(self._frees_at[0] - now, IN_FLIGHT_CHECK_SECONDS / 10)
        return IN_FLIGHT_CHECK_SECONDS

    def enter(self) -> None:
        """A call is permitted."""
        self._in_flight += 1

    def remember(self, answered_at: float) -> None:
        """A call of an earlier run still counts."""
        bisect.insort(self._frees_at, answered_at + self.period_seconds)

    def leave(self, now: float) -> None:
        """The call was answered (or given up): it stays counted for one more period."""
        self._in_flight -= 1
        self._frees_at.append(now + self.period_seconds)


class RequestBudget:
    """The two rate limits of one Cronofy application, shared by all calls of this process.

    Holds no asyncio primitive, so that one budget can serve the event loops of several dlt runs.
    """

    def __init__(self, clock: Clock, per_second: float, per_minute: float) -> None:
        self._clock = clock
        self._windows = (Window(per_second, 1.0), Window(per_minute, 60.0))
        self._paused_until = -math.inf
        self._pause_began = -math.inf
        self._refusals = 0
        self._announced_until = -math.inf
        self.requests = 0

    def remember(self, seconds_ago: Iterable[float]) -> None:
        """Count requests of an earlier run, given by their age: the server has not forgotten them."""
        now = self._clock.monotonic()
        for age in seconds_ago:
            for window in self._windows:
                window.remember(now - age)

    @asynccontextmanager
    async def slot(
        self, deadline: float = math.inf, given_up: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[float]:
        """Wait for permission to send one request; yields the monotonic time it was given at.

        Raises:
            TimeoutError: `deadline` (monotonic seconds) passed or the caller gave up before a slot was free.
        """
        started = await self._permit(deadline, given_up)
        try:
            yield started
        finally:
            now = self._clock.monotonic()
            for window in self._windows:
                window.leave(now)

    async def _permit(self, deadline: float, given_up: Callable[[], bool]) -> float:
        while True:
            now = self._clock.monotonic()
            if now >= deadline or given_up():
                raise TimeoutError
            wait = max(self._paused_until - now, *(window.wait_seconds(now) for window in self._windows))
            if wait <= 0:
                for window in self._windows:
                    window.enter()
                self.requests += 1
                return now
            self._announce(wait, now)
            await self._clock.sleep(min(wait, deadline - now, LONGEST_SLEEP_SECONDS))

    def _announce(self, wait: float, now: float) -> None:
        if wait >= ANNOUNCED_WAIT_SECONDS and now >= self._announced_until:
            self._announced_until = now + wait
            reason = (
                "Cronofy answered 429" if self._paused_until > now else "the allowed requests are used up"
            )
            logger.info("waiting %.0f s: %s", wait, reason)

    def refused(self, sent_at: float, retry_after: timedelta | None) -> None:
        """A request permitted at `sent_at` was answered 429: everyone waits, not this token alone.

        Without Retry-After the pause doubles from 2 s to a minute while refusals go on. Requests
        that were under way when a pause began belong to that pause and do not lengthen it.
        """
        now = self._clock.monotonic()
        if retry_after is not None:
            pause = retry_after.total_seconds()
        elif sent_at < self._pause_began and now < self._paused_until:
            return
        else:
            self._refusals += 1
            # jitter spreads several processes of one application
            pause = min(MAX_PAUSE_SECONDS, 2.0**self._refusals) * random.uniform(0.75, 1.0)  # noqa: S311
        self._pause_began = now
        self._paused_until = max(self._paused_until, now + pause)

    def accepted(self) -> None:
        """A request was not refused: the next pause starts small again."""
        self._refusals = 0


class Allowance:
    """What one run may spend: a number of requests and a time to stop at."""

    def __init__(self, max_requests: int | None = None, deadline: float = math.inf) -> None:
        self._left: float = math.inf if max_requests is None else max_requests
        self._refused = False
        self._stopped_by: str | None = None
        self.deadline = deadline
        self.abandon_at = math.inf

    def take(self, requests: int) -> bool:
        """Set that many requests aside, all or none."""
        if self.stopped or requests > self._left:
            self._refused = True
            return False
        self._left -= requests
        return True

    def stop(self, reason: str, abandon_at: float = math.inf) -> None:
        """No further request in this run, for that reason; those under way have until `abandon_at`."""
        self._stopped_by = self._stopped_by or reason
        self.abandon_at = min(self.abandon_at, abandon_at)

    @property
    def stopped(self) -> bool:
        """Whether the run was told to stop."""
        return self._stopped_by is not None

    def exhausted_by(self, now: float) -> str | None:
        """What ended the run early: `max_requests`, `max_duration` or a reason given to `stop`; else None."""
        if self._stopped_by:
            return self._stopped_by
        if now >= self.deadline:
            return "max_duration"
        return "max_requests" if self._refused or self._left <= 0 else None

    def give_back(self, requests: int) -> None:
        """Return requests that were set aside and not sent."""
        self._left += requests
