"""The most that came within a window of time."""

from collections.abc import Iterable


def peak(arrivals: Iterable[float], window_seconds: float) -> int:
    """The most requests that came in within any `window_seconds`."""
    times = tuple(arrivals)
    first = most = 0
    for index, arrival in enumerate(times):
        while times[first] <= arrival - window_seconds:
            first += 1
        most = max(most, index - first + 1)
    return most
