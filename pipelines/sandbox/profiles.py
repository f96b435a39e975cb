"""Draws profiles: who provides them, their names and calendars, and their whole history."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from .links import DAY, Fate, draw_wait, simulate_link
from .people import CALENDAR_NAMES, draw_letters
from .providers import Provider
from .records import Calendar, Profile, ProfileState
from .track import Track

RENAMES_PER_1000_DAYS = 0.8
CALENDAR_CHANGES_PER_1000_DAYS = 6.0
LONGEST_PAST_SECONDS = 90 * DAY


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
        """Returns the instant `seconds` after the start (before it if negative), in whole seconds."""
        return self.start + timedelta(seconds=round(seconds))


def draw_profile(rng: Random, provider: Provider, name: str, span: Span, fate: Fate) -> Profile:
    """Returns a profile linked at `fate.begin` (before the span's start for a settled one).

    Args:
        rng: the account's own generator.
        provider: the kind of profile.
        name: `profile_name`, mostly an address.
        span: the time that the history is cut to.
        fate: when it is linked, and what hits it from outside.
    """
    profile_id = f"pro_{draw_letters(rng, 16)}"
    links = Track.of((span.instant(at), link) for at, link in simulate_link(rng, provider, fate))
    names = _draw_names(rng, name, span, fate)
    calendars = _draw_calendars(rng, provider, profile_id, name, span, fate)
    instants = sorted({*links.times, *names.times, *calendars.times})
    states = [(t, ProfileState(links.at(t), names.at(t), calendars.at(t))) for t in instants]
    if fate.begin > 0:
        states.append((span.start, ProfileState("absent", name)))
    history = Track.of((t, _strip_absent(state, name)) for t, state in states)
    return Profile(profile_id, provider, history.between(span.start, span.end))


def _strip_absent(state: ProfileState, name: str) -> ProfileState:
    # a profile that is not listed shows nothing, so nothing else about it may count as a change
    return ProfileState("absent", name) if state.link == "absent" else state


def _draw_names(rng: Random, name: str, span: Span, fate: Fate) -> Track[str]:
    changes = [(span.instant(fate.begin), name)]
    at = fate.begin + draw_wait(rng, RENAMES_PER_1000_DAYS)
    if at < fate.end and "@" in name:
        local, _, domain = name.partition("@")
        changes.append((span.instant(at), f"{local}.{rng.choice(('new', 'eu', 'hq', 'ext'))}@{domain}"))
    return Track.of(changes)


def _draw_calendars(
    rng: Random, provider: Provider, profile_id: str, name: str, span: Span, fate: Fate
) -> Track[tuple[Calendar, ...]]:
    if provider.profile_type == "conferencing":
        return Track.of([(span.instant(fate.begin), ())])
    if provider.service == "cronofy":
        return Track.of([(span.instant(fate.begin), (_only_calendar(profile_id, name),))])
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


def _change_calendars(
    rng: Random, provider: Provider, profile_id: str, calendars: tuple[Calendar, ...]
) -> tuple[Calendar, ...]:
    """Adds a calendar, marks one as deleted (it stays listed) or takes a deleted one off the list."""
    kind = rng.choice(("add", "delete", "purge"))
    if kind == "delete" and len(calendars) > 1:
        victim = rng.choice(calendars[1:])
        return tuple(replace(each, calendar_deleted=True) if each is victim else each for each in calendars)
    if kind == "purge" and any(each.calendar_deleted for each in calendars):
        return tuple(each for each in calendars if not each.calendar_deleted)
    name = rng.choice(CALENDAR_NAMES)
    return (*calendars, _draw_calendar(rng, provider, profile_id, name, primary=False))


def _draw_calendar(rng: Random, provider: Provider, profile_id: str, name: str, *, primary: bool) -> Calendar:
    readonly = not primary and rng.random() < 0.3
    return Calendar(
        calendar_id=f"cal_{profile_id.removeprefix('pro_')}_{draw_letters(rng, 11)}",
        calendar_name=name,
        calendar_readonly=readonly,
        calendar_deleted=False,
        calendar_primary=primary,
        calendar_integrated_conferencing_available=provider.service in {"gsuite", "google", "office365"},
        calendar_attachments_available=provider.service in {"office365", "icloud"},
        permission_level="unrestricted" if not readonly and rng.random() < 0.1 else "sandbox",
    )


def _only_calendar(profile_id: str, name: str) -> Calendar:
    return Calendar(
        calendar_id=f"cal_{profile_id.removeprefix('pro_')}_0000000000",
        calendar_name=name,
        calendar_readonly=False,
        calendar_deleted=False,
        calendar_primary=True,
        calendar_integrated_conferencing_available=False,
        calendar_attachments_available=False,
        permission_level="unrestricted",
    )


def draw_past(rng: Random) -> float:
    """Returns when a settled profile was linked: seconds before the start, as a negative number."""
    return -rng.uniform(2 * DAY, LONGEST_PAST_SECONDS)


def is_ever_listed(profile: Profile) -> bool:
    """Returns whether any body within the span shows the profile."""
    return any(state.link != "absent" for state in profile.history.values)


def drop_unseen(profiles: Sequence[Profile]) -> tuple[Profile, ...]:
    """Returns the profiles that some body shows."""
    return tuple(profile for profile in profiles if is_ever_listed(profile))
