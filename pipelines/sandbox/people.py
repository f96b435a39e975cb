"""What the population is drawn from: regions with their names, employers, and the providers."""

import string
import unicodedata
from dataclasses import dataclass
from random import Random
from typing import Literal

_PLAIN = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "ß": "ss", "'": ""})
_HEX = "0123456789abcdef"
_LETTERS = string.ascii_letters + string.digits


ProfileType = Literal["calendar", "conferencing"]


@dataclass(frozen=True)
class Region:
    """Where people live: their names, their zone and their data center.

    Names that are not in Latin script are written `name|romanized`.
    """

    data_center: str
    zones: tuple[str, ...]
    given: tuple[str, ...]
    family: tuple[str, ...]
    weight: int
    family_first: bool = False


REGIONS = (
    Region(
        "us",
        ("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
        ("Grace", "Marcus", "Priya", "José", "Hannah", "DeShawn", "Emily", "Mateo", "Olivia", "Ravi"),
        ("Hopper", "Nguyen", "O'Brien", "García", "Washington", "Patel", "Kowalski", "Lee", "Muñoz", "Reed"),
        weight=46,
    ),
    Region(
        "uk",
        ("Europe/London", "Europe/Dublin"),
        ("Ada", "Siân", "Callum", "Niamh", "Imran", "Beatrice", "Oisín", "Freya"),
        ("Lovelace", "Davies", "McAllister", "Ó Briain", "Khan", "Ashworth", "Okafor", "Whitfield"),
        weight=16,
    ),
    Region(
        "de",
        ("Europe/Berlin", "Europe/Paris", "Europe/Warsaw", "Europe/Copenhagen", "Europe/Athens"),
        ("Jürgen", "Zoë", "Łukasz", "Søren", "Amélie", "Ἕλενα|elena", "Björn", "François"),
        ("Müller", "Großmann", "Wiśniewski", "Nørgaard", "Lefèvre", "Παπαδοπούλου|papadopoulou", "Dvořák"),
        weight=18,
    ),
    Region(
        "sg",
        ("Asia/Singapore", "Asia/Tokyo", "Asia/Seoul"),
        ("花子|hanako", "健|ken", "민준|minjun", "秀英|xiuying", "美咲|misaki"),
        ("田中|tanaka", "鈴木|suzuki", "김|kim", "王|wang", "佐藤|sato"),
        weight=8,
        family_first=True,
    ),
    Region(
        "au",
        ("Australia/Sydney", "Australia/Perth", "Pacific/Auckland"),
        ("Matilda", "Jarrah", "Lachlan", "Aroha", "Chloe"),
        ("Nguyễn", "Campbell", "Te Rangi", "Fraser", "Papadakis"),
        weight=7,
    ),
    Region(
        "ca",
        ("America/Toronto", "America/Vancouver", "America/Montreal"),
        ("Élodie", "Liam", "Noémie", "Harjit", "Sophie"),
        ("Tremblay", "Bouchard", "Singh", "MacDonald", "Côté"),
        weight=5,
    ),
)

EMPLOYERS = (
    *("contoso.example", "northwind.example", "fabrikam.example", "tailspin.example"),
    *("wingtip.example", "litware.example", "adatum.example", "proseware.example"),
)

CUSTOMERS = {
    "contoso.example": "Contoso",
    "northwind.example": "Northwind Traders",
    "fabrikam.example": "Fabrikam",
    "tailspin.example": "Wingtip Toys",
    "wingtip.example": "Wingtip Toys",
    "litware.example": "Litware",
    "adatum.example": "Adatum",
}
"""Who pays for the people of an employer; nobody does for those of proseware.example."""

PRIVATE_DOMAINS = {
    "google": "gmail.example",
    "icloud": "icloud.example",
    "outlook_com": "outlook.example",
    "gsuite": "studio.example",
    "office365": "consulting.example",
}

CALENDAR_NAMES = (
    *("Work", "Home", "Team", "Bank Holidays", "Birthdays", "Interviews"),
    *("On-call", "Réunions", "家族", "Urlaub 🏖", "Room bookings", "Training"),
)


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


_CALENDAR = (
    Provider("calendar", "google", "gsuite", 3.0, skipped_permission_share=0.01),
    Provider("calendar", "google", "google", 4.0, 0.9, skipped_permission_share=0.03),
    Provider("calendar", "exchange", "office365", 8.0),
    Provider("calendar", "exchange", "exchange", 5.0),
    Provider("calendar", "apple", "icloud", 11.0, 0.9),
    Provider("calendar", "live_connect", "outlook_com", 4.5, 0.9),
    Provider("calendar", "cronofy", "cronofy", 0.0, 0.0),
)

_CONFERENCING = (
    Provider("conferencing", "zoom", None, 3.5),
    Provider("conferencing", "ms_teams", None, 5.0),
    Provider("conferencing", "google_meet_api", None, 2.0),
    Provider("conferencing", "go_to", None, 6.0),
)

CALENDAR_PROVIDERS = {each.slug: each for each in _CALENDAR}
CONFERENCING_PROVIDERS = {each.slug: each for each in _CONFERENCING}

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


@dataclass(frozen=True)
class Person:
    """One user: the name as displayed, its ASCII form for addresses, the zone and the data center."""

    name: str
    slug: str
    zoneinfo: str
    data_center: str


def draw_person(rng: Random) -> Person:
    """Returns a person of a region drawn by weight."""
    region = rng.choices(REGIONS, [region.weight for region in REGIONS])[0]
    given, given_slug = _spell(rng.choice(region.given))
    family, family_slug = _spell(rng.choice(region.family))
    name = f"{family}{given}" if region.family_first else f"{given} {family}"
    return Person(name, f"{given_slug}.{family_slug}", rng.choice(region.zones), region.data_center)


def draw_id(rng: Random, prefix: str) -> str:
    """Returns an account id of 28 characters, such as `acc_5700a00eb0ccd07000000000`."""
    return f"{prefix}_" + "".join(rng.choices(_HEX, k=27 - len(prefix)))


def draw_letters(rng: Random, length: int) -> str:
    """Returns ASCII letters and digits, as tokens and the ids of profiles and calendars are made of."""
    return "".join(rng.choices(_LETTERS, k=length))


def _spell(name: str) -> tuple[str, str]:
    shown, _, romanized = name.partition("|")
    decomposed = unicodedata.normalize("NFKD", (romanized or shown).translate(_PLAIN))
    return shown, "".join(c for c in decomposed if c.isascii() and not c.isspace()).lower()
