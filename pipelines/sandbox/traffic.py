"""What the server has been asked and how it answered."""

import time
from collections import Counter, deque
from collections.abc import Callable

LONGEST_MEMORY = 200_000


class Traffic:
    """Counts requests to the API; the control endpoints are not counted.

    Args:
        monotonic: real time in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._arrivals: deque[float] = deque(maxlen=LONGEST_MEMORY)
        self._answers: Counter[tuple[str, str]] = Counter()
        self.total = 0

    def arrive(self) -> None:
        """Counts a request as it comes in."""
        self.total += 1
        self._arrivals.append(self._monotonic())

    def answer(self, endpoint: str, outcome: int | str) -> None:
        """Counts an answer: its HTTP status, or the kind of fault where there is none."""
        self._answers[endpoint, str(outcome)] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns {endpoint: {status: answers}}, such as {"userinfo": {"200": 190, "401": 4}}."""
        counts: dict[str, dict[str, int]] = {}
        for (endpoint, outcome), number in sorted(dict(self._answers).items()):
            counts.setdefault(endpoint, {})[outcome] = number
        return counts

    def peak(self, window_seconds: float) -> int:
        """Returns the most requests that came in within any `window_seconds`, of the last 200,000."""
        arrivals, first, most = tuple(self._arrivals), 0, 0
        for index, arrival in enumerate(arrivals):
            while arrivals[first] <= arrival - window_seconds:
                first += 1
            most = max(most, index - first + 1)
        return most

    def clear(self) -> None:
        """Forgets everything counted so far."""
        self.total = 0
        self._arrivals.clear()
        self._answers.clear()
