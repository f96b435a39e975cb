"""The records that make up a simulated world."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from .people import Provider

AccountType = Literal["account", "service_account", "application_calendar"]
Endpoint = Literal["userinfo", "account", "profiles"]
Link = Literal["absent", "disconnected", "syncing", "connected"]
Protocol = Literal["exchange_web_services", "graph_api"]

Body = dict[str, Any]

ENDPOINTS: tuple[Endpoint, ...] = ("userinfo", "account", "profiles")
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
        """Builds a track from one change or more; of two at one instant the later one in the input wins."""
        kept: list[tuple[datetime, T]] = []
        for instant, value in sorted(dict(changes).items(), key=lambda change: change[0]):
            if not kept or kept[-1][1] != value:
                kept.append((instant, value))
        times, values = zip(*kept, strict=True)
        return cls(times, values)

    def at(self, instant: datetime) -> T:
        """Returns the value that holds at `instant`."""
        return self.values[max(bisect_right(self.times, instant) - 1, 0)]

    def changes(self) -> list[tuple[datetime, T]]:
        """Returns the times and the values from then on."""
        return list(zip(self.times, self.values, strict=True))

    def between(self, start: datetime, end: datetime) -> "Track[T]":
        """Returns the track from `start` until `end`; what held at `start` becomes its first value."""
        inside = [(t, v) for t, v in self.changes() if start < t < end]
        return Track.of([(start, self.at(start)), *inside])


@dataclass(frozen=True)
class ProfileState:
    """What a body says of one profile at one time.

    `calendars` are the entries of `profile_calendars`, `protocol` the `provider_protocol` of Microsoft 365.
    A calendar profile that is `syncing` without a calendar is stuck: its user left the permission unticked.
    """

    link: Link
    profile_name: str
    calendars: tuple[Body, ...] = ()
    protocol: Protocol | None = None


@dataclass(frozen=True)
class Profile:
    """One profile and all that ever happens to it."""

    profile_id: str
    provider: Provider
    history: Track[ProfileState]


@dataclass(frozen=True)
class Account:
    """One account (`acc_`), service account (`ser_`) or application calendar (`apc_`).

    `omits_name` distinguishes a missing `name` from one that is null. What else a kind says of itself is in
    `extras` (of the userinfo body), `data` (of its `cronofy.data`) and `authorization` (of that). Links of an
    account with `volatile_links` differ from answer to answer. The application serves it for `customer` until
    `left_at`; None for never.
    """

    account_id: str
    type: AccountType
    zoneinfo: str
    data_center: str
    email: str | None = None
    name: str | None = None
    omits_name: bool = True
    profiles: tuple[Profile, ...] = ()
    extras: Body = field(default_factory=dict)
    data: Body = field(default_factory=dict)
    authorization: Body = field(default_factory=dict)
    customer: str | None = None
    volatile_links: bool = False
    left_at: datetime | None = None


@dataclass(frozen=True)
class SandboxToken:
    """One authorization of one account, as it stands in the token file.

    `forbidden` are the endpoints its scope does not reach (403). `revoked_at` is when its user withdraws it:
    from then on the access token gets 401 and the refresh token `invalid_grant`; None for never. From
    `left_at` on it is not in the token file any more.
    """

    key: str
    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    data_center: str
    account_id: str
    scope: str
    forbidden: frozenset[Endpoint] = frozenset()
    revoked_at: datetime | None = None
    customer: str | None = None
    left_at: datetime | None = None

    def is_revoked(self, at: datetime) -> bool:
        """Returns whether the user has withdrawn the authorization by `at`."""
        return self.revoked_at is not None and at >= self.revoked_at


@dataclass(frozen=True)
class Invited:
    """A user who has not connected a calendar yet: a row of the token file without a token."""

    key: str
    customer: str | None


@dataclass(frozen=True)
class Wave:
    """A mass event: at `at`, and within the hour after, that share of some profiles disconnects.

    It is those of one `provider_service`, or those with names in one `email_domain`.
    """

    at: datetime
    share: float
    provider_service: str | None = None
    email_domain: str | None = None

    def reaches(self, service: str | None, domain: str) -> bool:
        """Returns whether it may hit a profile of that service with a name in that domain."""
        return self.provider_service in (None, service) and self.email_domain in (None, domain)
