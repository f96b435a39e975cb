"""The calendar and conferencing providers that the sandbox simulates, and how often each one breaks."""

from dataclasses import dataclass
from typing import Literal

ProfileType = Literal["calendar", "conferencing"]


@dataclass(frozen=True)
class Provider:
    """One kind of profile.

    Attributes:
        profile_type: which of the two profile lists of a userinfo body names it.
        name: `provider_name` in bodies.
        service: `provider_service` in bodies; None for conferencing profiles, which have no such field.
        breaks_per_1000_days: disconnections expected in 1000 connected days of one profile.
        vanishes_per_1000_days: unlinkings (the profile leaves the list) in 1000 connected days.
        skipped_permission_share: share of links whose user leaves the calendar permission unticked, so
            that the initial sync stays required for days.
    """

    profile_type: ProfileType
    name: str
    service: str | None
    breaks_per_1000_days: float
    vanishes_per_1000_days: float = 0.5
    skipped_permission_share: float = 0.0

    @property
    def slug(self) -> str:
        """The service, or the name where there is no service."""
        return self.service or self.name


def _by_slug(*providers: Provider) -> dict[str, Provider]:
    return {provider.slug: provider for provider in providers}


CALENDAR_PROVIDERS = _by_slug(
    Provider("calendar", "google", "gsuite", 3.0, skipped_permission_share=0.01),
    Provider("calendar", "google", "google", 4.0, 0.9, skipped_permission_share=0.03),
    Provider("calendar", "exchange", "office365", 8.0),
    Provider("calendar", "exchange", "exchange", 5.0),
    Provider("calendar", "apple", "icloud", 11.0, 0.9),
    Provider("calendar", "live_connect", "outlook_com", 4.5, 0.9),
    Provider("calendar", "cronofy", "cronofy", 0.0, 0.0),
)

CONFERENCING_PROVIDERS = _by_slug(
    Provider("conferencing", "zoom", None, 3.5),
    Provider("conferencing", "ms_teams", None, 5.0),
    Provider("conferencing", "google_meet_api", None, 2.0),
    Provider("conferencing", "go_to", None, 6.0),
)

MAIN_SERVICES = {"office365": 36, "gsuite": 34, "google": 9, "exchange": 8, "outlook_com": 7, "icloud": 6}
"""Weights of the service of an account's first profile, which is mostly the employer's."""

FURTHER_SERVICES = {"google": 38, "icloud": 22, "outlook_com": 16, "gsuite": 12, "office365": 12}
"""Weights of the service of each further profile, which is mostly a private one."""

CONFERENCING_SHARES = {
    "office365": {"ms_teams": 0.45, "zoom": 0.25},
    "exchange": {"ms_teams": 0.3, "zoom": 0.25, "go_to": 0.08},
    "gsuite": {"google_meet_api": 0.3, "zoom": 0.3},
}
"""Share of accounts with each conferencing profile, by the service of the account's first profile."""

OTHER_CONFERENCING_SHARES = {"zoom": 0.2, "go_to": 0.05}
