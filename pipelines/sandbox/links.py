"""How the link of one profile breaks, is repaired, flaps and vanishes; times are seconds from the start."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from .providers import Provider
from .records import Link

MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0

MEDIAN_OUTAGE_SECONDS = 1.6 * DAY
OUTAGE_SIGMA = 1.4
LONGEST_OUTAGE_SECONDS = 60 * DAY
NEVER_RELINKED_SHARE = 0.06
RETURNING_SHARE = 0.5

Incident = Literal["break", "vanish", "wave", "bout"]


@dataclass(frozen=True)
class Fate:
    """What befalls one profile from outside.

    Attributes:
        begin: when it is linked for the first time.
        end: when the simulation ends.
        waves: (time, share) of the mass events of its service; each one hits with probability `share`.
        bouts: when it starts to flap.
    """

    begin: float
    end: float
    waves: Sequence[tuple[float, float]] = ()
    bouts: Sequence[float] = ()


def simulate_link(rng: Random, provider: Provider, fate: Fate) -> list[tuple[float, Link]]:
    """Returns the changes of one profile's link in order of time, all before `fate.end`."""
    return _Simulation(rng, provider, fate).run()


def draw_outage(rng: Random) -> float:
    """Returns the seconds until a broken link is repaired: heavy-tailed, 15 minutes to two months."""
    seconds = rng.lognormvariate(math.log(MEDIAN_OUTAGE_SECONDS), OUTAGE_SIGMA)
    return min(max(seconds, 15 * MINUTE), LONGEST_OUTAGE_SECONDS)


def draw_wait(rng: Random, events_per_1000_days: float) -> float:
    """Returns the seconds until the next event of a constant hazard; infinity if it never happens."""
    return rng.expovariate(events_per_1000_days / 1000) * DAY if events_per_1000_days else math.inf


@dataclass
class _Simulation:
    """The walk through one profile's life. Each handler takes when it starts and returns when it is over."""

    rng: Random
    provider: Provider
    fate: Fate
    changes: list[tuple[float, Link]] = field(default_factory=list)

    def run(self) -> list[tuple[float, Link]]:
        handlers: dict[Incident, Callable[[float], float]] = {
            "break": self.disconnect,
            "vanish": self.vanish,
            "wave": self.disconnect,
            "bout": self.flap,
        }
        at = self.link(self.fate.begin)
        while True:
            at, incident = self.next_incident(at)
            if at >= self.fate.end:
                return [change for change in self.changes if change[0] < self.fate.end]
            at = handlers[incident](at)

    def next_incident(self, at: float) -> tuple[float, Incident]:
        candidates: list[tuple[float, Incident]] = [
            (at + draw_wait(self.rng, self.provider.breaks_per_1000_days), "break"),
            (at + draw_wait(self.rng, self.provider.vanishes_per_1000_days), "vanish"),
            *((bout, "bout") for bout in self.fate.bouts if bout > at),
        ]
        for wave, share in self.fate.waves:
            if wave > at and self.rng.random() < share:
                candidates.append((wave + self.rng.uniform(0, HOUR), "wave"))
        return min(candidates)

    def link(self, at: float) -> float:
        """Connects, with the initial sync that every link begins with."""
        sync_seconds = min(self.rng.lognormvariate(math.log(5 * MINUTE), 1.0), HOUR)
        if self.rng.random() < self.provider.skipped_permission_share:
            sync_seconds = self.rng.uniform(3, 25) * DAY
        self.changes.append((at, "syncing"))
        self.changes.append((at + sync_seconds, "connected"))
        return at + sync_seconds

    def disconnect(self, at: float) -> float:
        self.changes.append((at, "disconnected"))
        if self.rng.random() >= NEVER_RELINKED_SHARE:
            return self.link(at + draw_outage(self.rng))
        if self.rng.random() < RETURNING_SHARE:
            self.changes.append((at + self.rng.uniform(6, 25) * DAY, "absent"))
        return math.inf

    def vanish(self, at: float) -> float:
        self.changes.append((at, "absent"))
        if self.rng.random() < RETURNING_SHARE:
            return self.link(at + self.rng.uniform(0.5, 12) * DAY)
        return math.inf

    def flap(self, at: float) -> float:
        """Breaks and recovers several times within days, as a policy that expires sessions makes it do."""
        for _ in range(self.rng.randint(5, 9)):
            self.changes.append((at, "disconnected"))
            at = self.link(at + self.rng.uniform(4, 15) * HOUR) + self.rng.uniform(5, 16) * HOUR
        return at
