"""The requests of an application: how many were made, and how many it may make."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_MEMORY = 200_000


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
    """Counts admitted requests over two sliding windows of real time; the simulated clock leaps.

    Refused requests do not count. Limits of None admit everything.
    """

    def __init__(self, limits: Limits | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._monotonic = monotonic
        most = max(limits.per_second, limits.per_minute) if limits else 0
        self._admitted: deque[float] = deque(maxlen=most)

    def admit(self) -> float:
        """Counts a request and returns 0, or refuses it and returns the seconds until one is admitted."""
        if self.limits is None:
            return 0.0
        now = self._monotonic()
        free_at = max(self._free_at(self.limits.per_second, 1), self._free_at(self.limits.per_minute, 60))
        if free_at <= now:
            self._admitted.append(now)
        return max(0.0, free_at - now)

    def _free_at(self, allowed: int, window_seconds: float) -> float:
        """When so few of the admitted ones are within the window that there is room for one more."""
        return self._admitted[-allowed] + window_seconds if len(self._admitted) >= allowed else 0.0


class Traffic:
    """Counts requests to the API, not to the control endpoints; `arrivals` are when the last ones came."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.clear()

    def clear(self) -> None:
        """Forgets everything counted so far."""
        self.total = 0
        self.arrivals: deque[float] = deque(maxlen=LONGEST_MEMORY)
        self._answers: Counter[tuple[str, str]] = Counter()

    def arrive(self) -> None:
        """Counts a request as it comes in."""
        self.total += 1
        self.arrivals.append(self._monotonic())

    def answer(self, endpoint: str, outcome: int | str) -> None:
        """Counts an answer: its HTTP status, or the kind of fault where there is none."""
        self._answers[endpoint, str(outcome)] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns {endpoint: {status: answers}}, such as {"userinfo": {"200": 190, "401": 4}}."""
        counts: dict[str, dict[str, int]] = {}
        for (endpoint, outcome), number in sorted(dict(self._answers).items()):
            counts.setdefault(endpoint, {})[outcome] = number
        return counts
