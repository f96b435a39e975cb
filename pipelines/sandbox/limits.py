"""The rate limits of an application."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SECOND = 1.0
MINUTE = 60.0


@dataclass(frozen=True)
class Limits:
    """Requests that one application may make, over all endpoints and tokens together.

    Attributes:
        per_second: in any second.
        per_minute: in any 60 seconds.
        retry_after: whether a 429 says when to come back; the real API is not known to.
    """

    per_second: int = 50
    per_minute: int = 500
    retry_after: bool = False


class RateLimiter:
    """Counts admitted requests over two sliding windows of real time. Refused ones do not count.

    Args:
        limits: None admits everything.
        monotonic: real time in seconds. The simulated clock leaps, so it cannot measure a rate.
    """

    def __init__(self, limits: Limits | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._monotonic = monotonic
        self._last_second: deque[float] = deque()
        self._last_minute: deque[float] = deque()

    def admit(self) -> float:
        """Counts a request and returns 0, or refuses it and returns the seconds until one is admitted."""
        if self.limits is None:
            return 0.0
        now = self._monotonic()
        wait_seconds = max(
            _room(self._last_second, now, SECOND, self.limits.per_second),
            _room(self._last_minute, now, MINUTE, self.limits.per_minute),
        )
        if not wait_seconds:
            self._last_second.append(now)
            self._last_minute.append(now)
        return wait_seconds


def _room(arrivals: deque[float], now: float, window_seconds: float, allowed: int) -> float:
    while arrivals and arrivals[0] <= now - window_seconds:
        arrivals.popleft()
    if len(arrivals) < allowed:
        return 0.0
    return arrivals[0] + window_seconds - now if arrivals else window_seconds
