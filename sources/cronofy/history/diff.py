"""Change capture: what is known + what a sample shows → the changes. Pure.

A sample is one ok answer that lists an account's profiles of one type. Everything known about those
profiles and not listed any more was removed; everything else is compared field by field.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """What a sample says of a profile. `unknown` is nothing a sample can say."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    REMOVED = "removed"


# of two samples at one instant the first of these wins
STRONGEST_FIRST = (State.DISCONNECTED, State.CONNECTED, State.REMOVED)


class Kind(StrEnum):
    """Why there is a row in `profile_changes`."""

    FIRST_SEEN = "first_seen"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    REMOVED = "removed"
    REAPPEARED = "reappeared"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class ProfileState:
    """A profile's state and the attributes whose change is worth a row.

    Links are written with them. Whether a link stays the same from poll to poll is not known, so another one
    is no change.
    """

    state: State
    provider_name: str | None = None
    provider_service: str | None = None
    profile_name: str | None = None
    profile_initial_sync_required: bool | None = None
    profile_relink_url: str | None = field(default=None, compare=False)

    def as_removed(self) -> "ProfileState":
        """The same profile, no longer listed: who it was is kept, its condition is not."""
        return ProfileState(State.REMOVED, self.provider_name, self.provider_service, self.profile_name)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one profile: what it is now, what it was, and of what kind."""

    profile_id: str
    kind: Kind
    now: ProfileState
    before: ProfileState | None


def detect_changes(known: Mapping[str, ProfileState], listed: Mapping[str, ProfileState]) -> list[Change]:
    """Compare one sample with what is known of the same account and profile type.

    Args:
        known: the last known state by profile_id, removed profiles included.
        listed: what the sample shows by profile_id; the sample is complete.

    Returns:
        The changes, listed profiles first; empty when the sample only confirms.
    """
    changes = [
        Change(profile_id, kind, now, before)
        for profile_id, now in listed.items()
        if (kind := _kind(before := known.get(profile_id), now)) is not None
    ]
    changes += [
        Change(profile_id, Kind.REMOVED, before.as_removed(), before)
        for profile_id, before in known.items()
        if before.state is not State.REMOVED and profile_id not in listed
    ]
    return changes


def is_outweighed(change: Change) -> bool:
    """Whether the state before the change wins, where another sample at the same instant has shown it."""
    before = change.before
    return before is not None and STRONGEST_FIRST.index(before.state) < STRONGEST_FIRST.index(
        change.now.state
    )


def _kind(before: ProfileState | None, now: ProfileState) -> Kind | None:
    if before is None:
        return Kind.FIRST_SEEN
    if before.state is State.REMOVED:
        return Kind.REAPPEARED
    if before.state is not now.state:
        return Kind(now.state.value)
    return None if before == now else Kind.ATTRIBUTES


def apply_changes(known: dict[str, ProfileState], changes: Iterable[Change]) -> None:
    """Bring what is known up to date with the changes."""
    for change in changes:
        known[change.profile_id] = change.now
