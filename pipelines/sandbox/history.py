"""Draws profiles and all that happens to them: links that break, flap and vanish, new names and calendars.

Times are seconds from the world's start, negative before it, until a `Span` turns them into instants.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal

from .people import CALENDAR_NAMES, CALENDAR_PROVIDERS, Provider, draw_letters
from .records import Body, Link, Profile, ProfileState, Protocol, Track

MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0

MEDIAN_OUTAGE_SECONDS = 1.6 * DAY
OUTAGE_SIGMA = 1.4
LONGEST_OUTAGE_SECONDS = 60 * DAY
NEVER_RELINKED_SHARE = 0.06
RETURNING_SHARE = 0.5
RENAMES_PER_1000_DAYS = 0.8
CALENDAR_CHANGES_PER_1000_DAYS = 6.0
EXCHANGE_WEB_SERVICES_SHARE = 0.5

Incident = Literal["break", "vanish", "bout"]
Calendars = tuple[Body, ...]


@dataclass(frozen=True)
class Span:
    """The time that a world covers: the first instant and the length in seconds."""

    start: datetime
    seconds: float

    @property
    def end(self) -> datetime:
        """The first instant past the world."""
        return self.start + timedelta(seconds=self.seconds)

    def instant(self, seconds: float) -> datetime:
        """Returns the instant `seconds` after the start, in whole seconds."""
        return self.start + timedelta(seconds=round(seconds))


@dataclass(frozen=True)
class Fate:
    """What befalls one profile from outside, from when it is linked first until the simulation ends.

    `waves` are (time, share) of the mass events of its service; each one hits with probability `share`.
    `bouts` are when it starts to flap.
    """

    begin: float
    end: float
    waves: Sequence[tuple[float, float]] = ()
    bouts: Sequence[float] = ()


def draw_profile(rng: Random, provider: Provider, name: str, span: Span, fate: Fate) -> Profile:
    """Returns a profile that meets `fate`, cut to `span`; `name` is mostly an address."""
    profile_id = f"pro_{draw_letters(rng, 16)}"
    links = Track.of((span.instant(at), link) for at, link in simulate_link(rng, provider, fate))
    names = _draw_names(rng, name, span, fate)
    calendars = _draw_calendars(rng, provider, profile_id, name, span, fate)
    protocols = _draw_protocols(provider, profile_id, links)
    # a profile that is not listed shows nothing, so nothing else about it may count as a change
    absent = ProfileState("absent", name)
    states = [(span.start, absent)] if fate.begin > 0 else []
    for at in sorted({*links.times, *names.times, *calendars.times}):
        link = links.at(at)
        listed = ProfileState(link, names.at(at), calendars.at(at), protocols.at(at))
        states.append((at, absent if link == "absent" else listed))
    return Profile(profile_id, provider, Track.of(states).between(span.start, span.end))


def draw_stuck_profile(rng: Random, name: str, span: Span, begin: float) -> Profile:
    """Returns a Google profile whose user leaves the calendar permission unticked: it never syncs."""
    states = [
        (span.start, ProfileState("absent", name)),
        (span.instant(begin), ProfileState("syncing", name)),
    ]
    return Profile(f"pro_{draw_letters(rng, 16)}", CALENDAR_PROVIDERS["google"], Track.of(states))


def make_read_only(profile: Profile, at: datetime) -> Profile:
    """Returns the profile with none of its calendars writable from `at` on."""

    def read_only(state: ProfileState) -> ProfileState:
        calendars = tuple(each | {"calendar_readonly": True} for each in state.calendars)
        return replace(state, calendars=calendars)

    history = profile.history
    before = [change for change in history.changes() if change[0] < at]
    after = [(instant, read_only(state)) for instant, state in history.changes() if instant > at]
    return replace(profile, history=Track.of([*before, (at, read_only(history.at(at))), *after]))


def connect_again(rng: Random, profile: Profile, span: Span, begin: float) -> tuple[Profile, Profile]:
    """Returns a profile that breaks at `begin` and is removed, and the one that its user then connects."""
    broken_at = span.instant(begin)
    removed_at = span.instant(begin + rng.uniform(1, 3) * DAY)
    connected_at = removed_at + timedelta(seconds=round(rng.uniform(0.1, 2) * DAY))
    state = profile.history.at(broken_at)
    before = [change for change in profile.history.changes() if change[0] < broken_at]
    absent = ProfileState("absent", state.profile_name)
    removed = [(broken_at, replace(state, link="disconnected")), (removed_at, absent)]
    profile_id = f"pro_{draw_letters(rng, 16)}"
    old, new = profile.profile_id.removeprefix("pro_"), profile_id.removeprefix("pro_")
    connected = ProfileState(
        "connected",
        state.profile_name,
        tuple(each | {"calendar_id": each["calendar_id"].replace(old, new)} for each in state.calendars),
        state.protocol and "graph_api",
    )
    histories = (
        Track.of([*before, *removed]),
        Track.of([(span.start, absent), (connected_at, connected)]),
    )
    first, second = (history.between(span.start, span.end) for history in histories)
    return replace(profile, history=first), Profile(profile_id, profile.provider, second)


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
                candidates.append((wave + self.rng.uniform(0, HOUR), "break"))
        return min(candidates)

    def link(self, at: float) -> float:
        """Connects, with the initial sync that every link begins with."""
        sync_seconds = min(self.rng.lognormvariate(math.log(5 * MINUTE), 1.0), HOUR)
        if self.rng.random() < self.provider.skipped_permission_share:
            sync_seconds = self.rng.uniform(3, 25) * DAY
        self.changes += [(at, "syncing"), (at + sync_seconds, "connected")]
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


def _draw_names(rng: Random, name: str, span: Span, fate: Fate) -> Track[str]:
    changes = [(span.instant(fate.begin), name)]
    at = fate.begin + draw_wait(rng, RENAMES_PER_1000_DAYS)
    if at < fate.end and "@" in name:
        local, _, domain = name.partition("@")
        changes.append((span.instant(at), f"{local}.{rng.choice(('new', 'eu', 'hq', 'ext'))}@{domain}"))
    return Track.of(changes)


def _draw_protocols(provider: Provider, profile_id: str, links: Track[Link]) -> Track[Protocol | None]:
    """Some profiles of Microsoft 365 are on Exchange Web Services until they are connected again."""
    if provider.service != "office365":
        return Track.of([(links.times[0], None)])
    begin: Protocol = "graph_api"
    # drawn from the id, so that all else is drawn as before
    if Random(profile_id).random() < EXCHANGE_WEB_SERVICES_SHARE:  # noqa: S311 - a simulation, no secrets
        begin = "exchange_web_services"
    changes: list[tuple[datetime, Protocol | None]] = [(links.times[0], begin)]
    changes += [(at, "graph_api") for at, link in links.changes()[1:] if link == "syncing"]
    return Track.of(changes)


def _draw_calendars(
    rng: Random, provider: Provider, profile_id: str, name: str, span: Span, fate: Fate
) -> Track[Calendars]:
    if provider.profile_type == "conferencing":
        return Track.of([(span.instant(fate.begin), ())])
    if provider.service == "cronofy":
        only = _calendar(profile_id, "0000000000", name)
        return Track.of([(span.instant(fate.begin), (only,))])
    names = rng.sample(CALENDAR_NAMES, k=rng.randint(1, 5))
    calendars = tuple(
        _draw_calendar(rng, provider, profile_id, each, primary=each == names[0]) for each in names
    )
    changes = [(span.instant(fate.begin), calendars)]
    at = fate.begin
    while (at := at + draw_wait(rng, CALENDAR_CHANGES_PER_1000_DAYS)) < fate.end:
        calendars = _change_calendars(rng, provider, profile_id, calendars)
        changes.append((span.instant(at), calendars))
    return Track.of(changes)


def _change_calendars(rng: Random, provider: Provider, profile_id: str, calendars: Calendars) -> Calendars:
    """Adds a calendar, marks one as deleted (it stays listed) or takes a deleted one off the list."""
    kind = rng.choice(("add", "delete", "purge"))
    if kind == "delete" and len(calendars) > 1:
        victim = rng.choice(calendars[1:])
        return tuple(each | {"calendar_deleted": True} if each is victim else each for each in calendars)
    if kind == "purge" and any(each["calendar_deleted"] for each in calendars):
        return tuple(each for each in calendars if not each["calendar_deleted"])
    name = rng.choice(CALENDAR_NAMES)
    return (*calendars, _draw_calendar(rng, provider, profile_id, name, primary=False))


def _draw_calendar(rng: Random, provider: Provider, profile_id: str, name: str, *, primary: bool) -> Body:
    readonly = not primary and rng.random() < 0.3
    return _calendar(
        profile_id,
        draw_letters(rng, 11),
        name,
        calendar_readonly=readonly,
        calendar_primary=primary,
        calendar_integrated_conferencing_available=provider.service in {"gsuite", "google", "office365"},
        calendar_attachments_available=provider.service in {"office365", "icloud"},
        permission_level="unrestricted" if not readonly and rng.random() < 0.1 else "sandbox",
    )


def _calendar(profile_id: str, number: str, name: str, **facts: Any) -> Body:
    return {
        "calendar_id": f"cal_{profile_id.removeprefix('pro_')}_{number}",
        "calendar_name": name,
        "calendar_readonly": False,
        "calendar_deleted": False,
        "calendar_primary": True,
        "calendar_integrated_conferencing_available": False,
        "calendar_attachments_available": False,
        "permission_level": "unrestricted",
    } | facts
