"""What the views must say, worked out by walking time sample by sample.

The oracle never sees the change log: it walks what each poll listed, as somebody would who sat beside the
poller with a notebook.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

HOLD = timedelta(hours=24)
BADNESS = ("disconnected", "connected", "removed")

Stream = tuple[str, str]
Profile = tuple[str, str, str]


@dataclass(frozen=True)
class Sample:
    """One look at all profiles of one account and type; `listed` says of each whether it was connected."""

    account_id: str
    profile_type: str
    taken_at: datetime
    listed: dict[str, bool]
    relink_urls: dict[str, str]


@dataclass(frozen=True)
class Interval:
    """A stretch of one state."""

    state: str
    start_at: datetime
    end_at: datetime


@dataclass
class Outage:
    """A run of disconnected samples."""

    started_after: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    ended_at: datetime | None = None
    end_reason: str = "open"

    @property
    def detection_seconds(self) -> float | None:
        if self.started_after is None:
            return None
        return (self.first_seen_at - self.started_after).total_seconds()

    @property
    def min_seconds(self) -> float:
        return (self.last_seen_at - self.first_seen_at).total_seconds()

    @property
    def max_seconds(self) -> float | None:
        if self.ended_at is None or self.started_after is None:
            return None
        return (self.ended_at - self.started_after).total_seconds()

    @property
    def seconds(self) -> float:
        return ((self.ended_at or self.last_seen_at) - self.first_seen_at).total_seconds()


Sightings = list[tuple[datetime, str]]


def sightings(samples: list[Sample]) -> dict[Profile, Sightings]:
    """Per profile every instant it was looked at and the state seen there, oldest first."""
    streams: dict[Stream, dict[datetime, list[Sample]]] = {}
    for sample in samples:
        instants = streams.setdefault((sample.account_id, sample.profile_type), {})
        instants.setdefault(sample.taken_at, []).append(sample)
    found: dict[Profile, Sightings] = {}
    for (account_id, profile_type), instants in streams.items():
        known: set[str] = set()
        for instant in sorted(instants):
            for sample in instants[instant]:
                known.update(sample.listed)
            for profile_id in known:
                state = _worst([_state(sample, profile_id) for sample in instants[instant]])
                found.setdefault((account_id, profile_type, profile_id), []).append((instant, state))
    return found


def intervals(seen: Sightings, as_of: datetime, hold: timedelta = HOLD) -> list[Interval]:
    """A profile's history, joined where one state follows itself without a gap."""
    pieces: list[Interval] = []
    for position, (instant, state) in enumerate(seen):
        following = seen[position + 1][0] if position + 1 < len(seen) else as_of
        held_until = min(following, instant + hold)
        pieces.append(Interval(state, instant, held_until))
        pieces.append(Interval("unknown", held_until, following))
    joined: list[Interval] = []
    for piece in pieces:
        if piece.start_at == piece.end_at:
            continue
        if joined and joined[-1].state == piece.state:
            joined[-1] = Interval(piece.state, joined[-1].start_at, piece.end_at)
        else:
            joined.append(piece)
    return joined


def outages(seen: Sightings) -> list[Outage]:
    """A profile's outages."""
    found: list[Outage] = []
    current: Outage | None = None
    previous: datetime | None = None
    for instant, state in seen:
        if state == "disconnected" and current is None:
            current = Outage(started_after=previous, first_seen_at=instant, last_seen_at=instant)
            found.append(current)
        elif state == "disconnected" and current is not None:
            current.last_seen_at = instant
        elif current is not None:
            current.ended_at = instant
            current.end_reason = "relinked" if state == "connected" else "removed"
            current = None
        previous = instant
    return found


def daily_seconds(history: list[Interval]) -> dict[date, Counter[str]]:
    """Microseconds per UTC day and state."""
    days: dict[date, Counter[str]] = {}
    for interval in history:
        for day, length in _split_at_midnight(interval):
            days.setdefault(day, Counter())[interval.state] += length // timedelta(microseconds=1)
    return days


def kaplan_meier(found: list[Outage]) -> list[tuple[float, int, int, float]]:
    """(seconds, at_risk, relinked, survival) at each duration of a relinked outage, by definition."""
    known = [outage for outage in found if outage.started_after is not None]
    survival = 1.0
    rows = []
    for seconds in sorted({outage.seconds for outage in known if outage.end_reason == "relinked"}):
        at_risk = sum(outage.seconds >= seconds for outage in known)
        relinked = sum(outage.seconds == seconds and outage.end_reason == "relinked" for outage in known)
        survival *= 1 - relinked / at_risk
        rows.append((seconds, at_risk, relinked, survival))
    return rows


def relinked_within(found: list[Outage], days: int) -> float:
    """The Kaplan-Meier share of outages that were relinked within so many days."""
    survival = 1.0
    for seconds, _, _, survival_then in kaplan_meier(found):
        if seconds <= days * 86_400:
            survival = survival_then
    return 1 - survival


def broke_again_at(outage: Outage, later: list[Outage]) -> datetime | None:
    """When the same profile broke again within a week of the outage's end; `later` are its later outages."""
    for other in later[:1]:
        if outage.ended_at is not None and other.first_seen_at - outage.ended_at <= timedelta(days=7):
            return other.first_seen_at
    return None


def stock(histories: dict[Profile, list[Interval]], instant: datetime) -> dict[Profile, str]:
    """The state that each profile was in just before an instant."""
    return {
        profile: interval.state
        for profile, history in histories.items()
        for interval in history
        if interval.start_at < instant <= interval.end_at
    }


def state_now(seen: Sightings, as_of: datetime, hold: timedelta = HOLD) -> str | None:
    """A profile's state at as_of, None if it is gone."""
    instant, state = seen[-1]
    if state == "removed":
        return None
    return state if as_of < instant + hold else "unknown"


def verdict(states: list[str]) -> str:
    """An account's verdict from the states of its profiles."""
    kinds = set(states)
    if not kinds:
        return "no_profiles"
    if kinds == {"disconnected"}:
        return "down"
    if "disconnected" in kinds:
        return "degraded"
    return "healthy" if kinds == {"connected"} else "unknown"


def newest_change(seen: Sightings) -> datetime:
    """The first sample of a profile's present state."""
    return next(
        instant
        for position, (instant, state) in reversed(list(enumerate(seen)))
        if position == 0 or seen[position - 1][1] != state
    )


def _state(sample: Sample, profile_id: str) -> str:
    if profile_id not in sample.listed:
        return "removed"
    return "connected" if sample.listed[profile_id] else "disconnected"


def _worst(states: list[str]) -> str:
    return min(states, key=BADNESS.index)


def _split_at_midnight(interval: Interval) -> Iterator[tuple[date, timedelta]]:
    start = interval.start_at
    while start < interval.end_at:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        end = min(midnight, interval.end_at)
        yield start.date(), end - start
        start = end
