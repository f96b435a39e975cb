"""The rate limiter: what an application may send in a second and in a minute.

Why not a rate-limiting library: the ones at hand count a call when it is *permitted*. The server counts
it when it *arrives*, and between the two lie connection set-up and queueing. A burst that was permitted
one window after the last can arrive within one window of it. Here a call occupies its window from the
moment it is permitted until one full period after its answer, so any window of the server's contains
only calls that were held at one instant, and there are never more of those than the limit.
`benchmarks/` shows both against a server that counts.

What that costs: a slot comes back one period and one answer time later, so 60 / (60 + answer time) of a
limit per minute can be used, 99.7 % at 200 ms, and 1 / (1 + answer time) of a limit per second, 83 % at
200 ms. Only where the answer arrived is known, not when the server counted the call, and the shortest
round trip seen so far is no bound of the next one. Cronofy's limit per minute is the one that binds.
"""

import bisect
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta

from ...clock import Clock
from .shared_rate_limiter import SharedRateLimiter
from .tuning import (
    ANNOUNCED_WAIT_SECONDS,
    CAREFUL_SECONDS,
    CAREFUL_UP_TO,
    FIRST_PAUSE_SECONDS,
    IN_FLIGHT_CHECK_SECONDS,
    LONGEST_SLEEP_SECONDS,
    MAX_PAUSE_SECONDS,
)

logger = logging.getLogger("dlt_cronofy")


def whole_calls(calls: float, period_seconds: float) -> tuple[float, float]:
    """A rate as a whole number of calls (or infinity) and the seconds they are for.

    Less than one call a period is one call in a period that is longer in proportion.
    """
    limit = max(1, math.floor(calls)) if math.isfinite(calls) else math.inf
    return limit, period_seconds * max(1.0, 1.0 / calls)


class Window:
    """At most `limit` calls in any `period_seconds`, as the server sees them."""

    def __init__(self, calls: float, period_seconds: float) -> None:
        self.limit, self.period_seconds = whole_calls(calls, period_seconds)
        self._in_flight = 0
        self._frees_at: deque[float] = deque()

    def wait_seconds(self, now: float) -> float:
        """Seconds until a slot may be free; 0 when one is free now."""
        frees_at = self._frees_at
        while frees_at and frees_at[0] <= now:
            frees_at.popleft()
        if self._in_flight + len(frees_at) < self.limit:
            return 0.0
        if frees_at:
            return max(frees_at[0] - now, IN_FLIGHT_CHECK_SECONDS / 10)
        return IN_FLIGHT_CHECK_SECONDS

    def room(self) -> float:
        """How many calls may be permitted now; right after `wait_seconds`."""
        return self.limit - self._in_flight - len(self._frees_at)

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


class RateLimiter:
    """The two rate limits of one Cronofy application, shared by all calls of this process.

    Holds no asyncio primitive, so that one limiter can serve the event loops of several dlt runs.

    Args:
        clock: of the run.
        per_second: calls in any second.
        per_minute: calls in any 60 seconds.
        shared: where other processes of the application draw from the same limits: what every call needs
            in addition.
    """

    def __init__(
        self, clock: Clock, per_second: float, per_minute: float, shared: SharedRateLimiter | None = None
    ) -> None:
        self._clock = clock
        windows = (Window(per_second, 1.0), Window(per_minute, 60.0))
        # what can never be full is not kept
        self._windows = tuple(window for window in windows if math.isfinite(window.limit))
        self._shared = shared
        self._waiting = 0
        self._under_way = 0
        self._permitted_at = -math.inf
        self._careful = math.inf
        self._paused_until = -math.inf
        self._pause_began = -math.inf
        self._next_pause = FIRST_PAUSE_SECONDS
        self._announced_until = -math.inf
        self.requests = 0

    def remember(self, seconds_ago: Iterable[float]) -> None:
        """Count requests of an earlier run, given by their age: the server has not forgotten them."""
        now = self._clock.monotonic()
        for age in seconds_ago:
            for window in self._windows:
                window.remember(now - age)

    async def enter(self, deadline: float = math.inf, given_up: Callable[[], bool] = lambda: False) -> float:
        """Wait for permission to send one request; returns the monotonic time it was given at.

        Raises:
            TimeoutError: `deadline` (monotonic seconds) passed or the caller gave up before that.
        """
        started = self._permit_now(deadline, given_up)
        if started is None:
            self._waiting += 1
            try:
                while (started := self._permit_now(deadline, given_up)) is None:
                    await self._wait(deadline)
            finally:
                self._waiting -= 1
        return started

    def _permit_now(self, deadline: float, given_up: Callable[[], bool]) -> float | None:
        """The present, where a call is permitted at once."""
        now = self._clock.monotonic()
        if now >= deadline or given_up():
            raise TimeoutError
        if self._wait_seconds(now) > 0 or not (self._shared is None or self._shared.use(now)):
            return None
        for window in self._windows:
            window.enter()
        self._under_way += 1
        self._permitted_at = now
        self.requests += 1
        return now

    def leave(self, started: float) -> None:
        """The call permitted then was answered or given up: it still counts for one period."""
        now = self._clock.monotonic()
        self._under_way -= 1
        for window in self._windows:
            window.leave(now)
        if self._shared is not None:
            self._shared.answered(now - started)

    def _wait_seconds(self, now: float) -> float:
        """Seconds until this process may send; 0 when it may now."""
        wait = self._paused_until - now
        for window in self._windows:
            wait = max(wait, window.wait_seconds(now))
        if self._under_way + 1 > self._careful and now < self._permitted_at + CAREFUL_SECONDS:
            wait = max(wait, IN_FLIGHT_CHECK_SECONDS)
        return wait

    async def _wait(self, deadline: float) -> None:
        """Wait for what is missing: this process's room, or slots of all processes together."""
        now = self._clock.monotonic()
        wait = self._wait_seconds(now)
        if wait <= 0 and self._shared is not None:
            if self._shared.has_failed:
                raise TimeoutError
            wait = self._shared.wait_seconds(now)
            if wait <= 0:
                await self._shared.draw(self._wanted)
                return
        self._announce(wait, now)
        await self._clock.sleep(max(0.0, min(wait, deadline - now, LONGEST_SLEEP_SECONDS)))

    def _wanted(self) -> int:
        """How many calls could be sent now: there are callers, and room in this process."""
        room = min([self._careful - self._under_way, *(window.room() for window in self._windows)])
        return int(max(1, min(self._waiting, room)))

    def _announce(self, wait: float, now: float) -> None:
        if wait >= ANNOUNCED_WAIT_SECONDS and now >= self._announced_until:
            self._announced_until = now + wait
            reason = (
                "Cronofy answered 429" if self._paused_until > now else "the allowed requests are used up"
            )
            logger.info("waiting %.0f s: %s", wait, reason)

    def refused(self, sent_at: float, retry_after: timedelta | None) -> None:
        """A request permitted at `sent_at` was answered 429: everyone waits, not this token alone.

        Somebody else used a part of the limits. Without Retry-After the pause doubles from one second to
        eight while refusals go on, and what follows it starts with a single call and widens by one a round
        trip, so that a window which is still full costs one refusal and not one for each caller. Requests
        that were under way when a pause began belong to that pause and do not lengthen it.
        """
        now = self._clock.monotonic()
        if retry_after is not None:
            pause = retry_after.total_seconds()
        elif sent_at < self._pause_began:
            return
        else:
            # jitter spreads several processes of one application
            pause = self._next_pause * random.uniform(1.0, 1.25)  # noqa: S311
            self._next_pause = min(MAX_PAUSE_SECONDS, 2 * self._next_pause)
            self._careful = 1.0
        self._pause_began = now
        self._paused_until = max(self._paused_until, now + pause)

    def accepted(self) -> None:
        """A request was not refused: more may go at once, in the end the next pause is short again."""
        # during a pause this is an answer to what was sent before it
        if math.isinf(self._careful) or self._clock.monotonic() < self._paused_until:
            return
        self._careful += 1 / self._careful
        if self._careful > CAREFUL_UP_TO:
            self._careful, self._next_pause = math.inf, FIRST_PAUSE_SECONDS
