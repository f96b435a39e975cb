"""The records that make up a simulated world."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from .providers import ProfileType, Provider
from .track import Track

AccountType = Literal["account", "service_account", "application_calendar"]
Endpoint = Literal["userinfo", "account", "profiles"]
Link = Literal["absent", "disconnected", "syncing", "connected"]
State = Literal["connected", "disconnected", "removed"]

ENDPOINTS: tuple[Endpoint, ...] = ("userinfo", "account", "profiles")


@dataclass(frozen=True)
class Calendar:
    """One entry of `profile_calendars`, under the names that bodies use."""

    calendar_id: str
    calendar_name: str
    calendar_readonly: bool
    calendar_deleted: bool
    calendar_primary: bool
    calendar_integrated_conferencing_available: bool
    calendar_attachments_available: bool
    permission_level: str


@dataclass(frozen=True)
class ProfileState:
    """What a body says of one profile at one time. `link` is `absent` or one of the three listed states."""

    link: Link
    profile_name: str
    calendars: tuple[Calendar, ...] = ()

    @property
    def state(self) -> State:
        """The connection alone: `connected` (syncing too), `disconnected` or `removed`."""
        if self.link == "absent":
            return "removed"
        return "disconnected" if self.link == "disconnected" else "connected"


@dataclass(frozen=True)
class Profile:
    """One profile and all that ever happens to it. Before `history` begins it does not exist."""

    profile_id: str
    provider: Provider
    history: Track[ProfileState]

    def at(self, instant: datetime) -> ProfileState | None:
        """Returns the listed state at `instant`, or None while the profile is not listed."""
        state = self.history.at(instant)
        return None if state.link == "absent" else state


@dataclass(frozen=True)
class ServiceAccount:
    """What only service accounts have; `flat` marks those that answer with the older flat keys."""

    provider_name: str
    domain: str | None
    delegated_scope: str
    flat: bool


@dataclass(frozen=True)
class Account:
    """One account (`acc_`), service account (`ser_`) or application calendar (`apc_`).

    `omits_name` distinguishes a missing `name` from one that is null. `application_calendar_id` and
    `service_account` are None for the other types.
    """

    account_id: str
    type: AccountType
    email: str | None
    name: str | None
    omits_name: bool
    zoneinfo: str
    data_center: str
    profiles: tuple[Profile, ...] = ()
    application_calendar_id: str | None = None
    service_account: ServiceAccount | None = None

    @cached_property
    def breakpoints(self) -> tuple[datetime, ...]:
        """The instants at which a body of this account changes, in order."""
        return tuple(sorted({t for profile in self.profiles for t in profile.history.times[1:]}))

    def segment(self, instant: datetime) -> int:
        """Returns the number of the stretch between two breakpoints that `instant` lies in, from 0."""
        return bisect_right(self.breakpoints, instant)


@dataclass(frozen=True)
class SandboxToken:
    """One authorization of one account, as it stands in the token file.

    `forbidden` are the endpoints its scope does not reach (403). `revoked_at` is when its user withdraws it:
    from then on the access token gets 401 and the refresh token `invalid_grant`; None for never.
    """

    key: str
    access_token: str
    refresh_token: str | None
    data_center: str
    account_id: str
    scope: str
    forbidden: frozenset[Endpoint] = frozenset()
    revoked_at: datetime | None = None

    def __repr__(self) -> str:
        return f"SandboxToken({self.key}, {self.account_id}, {self.data_center})"

    def is_revoked(self, at: datetime) -> bool:
        """Returns whether the user has withdrawn the authorization by `at`."""
        return self.revoked_at is not None and at >= self.revoked_at


@dataclass(frozen=True)
class Wave:
    """A mass event: at `at`, and within the hour after, many profiles of one provider_service disconnect."""

    at: datetime
    provider_service: str
    share: float


@dataclass(frozen=True)
class Change:
    """One change of state of one profile, as the server would have shown it from `at` on."""

    at: datetime
    profile_type: ProfileType
    profile_id: str
    state: State
