"""Values that change at known instants."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Track(Generic[T]):
    """A step function of time: `values[i]` holds from `times[i]` until `times[i + 1]`, the last one for ever.

    Neighbouring values differ. Before `times[0]` the first value holds.
    """

    times: tuple[datetime, ...]
    values: tuple[T, ...]

    @classmethod
    def of(cls, changes: Iterable[tuple[datetime, T]]) -> "Track[T]":
        """Builds a track from changes in any order; of two at one instant the later one in the input wins.

        Raises:
            ValueError: there are no changes.
        """
        latest = dict(changes)
        if not latest:
            raise ValueError("a track needs at least one change")
        times: list[datetime] = []
        values: list[T] = []
        for instant in sorted(latest):
            if not values or values[-1] != latest[instant]:
                times.append(instant)
                values.append(latest[instant])
        return cls(tuple(times), tuple(values))

    def at(self, instant: datetime) -> T:
        """Returns the value that holds at `instant`."""
        return self.values[max(bisect_right(self.times, instant) - 1, 0)]

    def between(self, start: datetime, end: datetime) -> "Track[T]":
        """Returns the track from `start` until `end`; what held at `start` becomes its first value."""
        inside = [(t, v) for t, v in zip(self.times, self.values, strict=True) if start < t < end]
        return Track.of([(start, self.at(start)), *inside])
