"""The worklist: for which customer who must do what, the most urgent first. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dlt_cronofy.formatting import SECONDS_PER_DAY, count, digest_shortened, duration, reason_name
from dlt_cronofy.source.tables import Row

from .mail import connection

MIGRATE = "migrate"
BROKE = "Worked before"
NEVER = "Never seen working"
DEADLINE = "Works, but has a deadline"

# how many rows have a reason, for a headline
COUNTED = {
    "authorize": ("account", "to authorize again"),
    "widen_scope": ("account", "without the access we need"),
    "relink": ("connection", "down"),
    "initial_sync": ("connection", "stuck in the first sync"),
    "no_writable_calendar": ("connection", "without a calendar that can be written"),
    "migrate": ("connection", "to move to Microsoft Graph"),
}


@dataclass(frozen=True)
class Group:
    """The rows of one customer, or e-mail domain; the name is empty where neither is known."""

    name: str
    rows: list[Row]

    @property
    def people(self) -> int:
        """Accounts it is about."""
        return people(self.rows)

    @property
    def reasons(self) -> str:
        """How many rows have which reason: `relink 3 · move to Microsoft Graph 1`."""
        return listed_reasons(self.rows)


@dataclass(frozen=True)
class Part:
    """One part of the worklist."""

    title: str
    groups: list[Group]

    @property
    def people(self) -> int:
        """Accounts it is about."""
        return people(row for group in self.groups for row in group.rows)


def parts(actions: Iterable[Row]) -> list[Part]:
    """What broke, what has never worked, and what still works but has a deadline."""
    rows = list(actions)
    broken = [row for row in rows if row["reason"] != MIGRATE]
    found = {
        BROKE: [row for row in broken if row["since_known"]],
        NEVER: [row for row in broken if not row["since_known"]],
        DEADLINE: [row for row in rows if row["reason"] == MIGRATE],
    }
    return [Part(title, list(_groups(part))) for title, part in found.items() if part]


def _groups(rows: Sequence[Row]) -> Iterator[Group]:
    return (Group(name, list(members)) for name, members in groupby(by_owner(rows), owner))


def by_owner(rows: Sequence[Row]) -> list[Row]:
    """One customer, or e-mail domain, after the other; those of nobody we know last.

    First who has the most urgent reason, then who has most rows.
    """
    sizes = Counter(map(owner, rows))
    most_urgent: dict[str, int] = {}
    for row in rows:
        most_urgent[owner(row)] = min(row["rank"], most_urgent.get(owner(row), row["rank"]))

    def place(row: Row) -> tuple[bool, int, int, str, int]:
        name = owner(row)
        return not name, most_urgent[name], -sizes[name], name, row["rank"]

    return sorted(rows, key=place)


def owner(row: Row) -> str:
    """The customer, else the e-mail domain, else nothing."""
    return row["customer"] or digest_shortened(row["email_domain"]) or ""


def people(rows: Iterable[Row]) -> int:
    """How many accounts these rows are about; a token that was never read counts as one."""
    return len({row["account_id"] or row["token_keys"] for row in rows})


def headline(actions: Sequence[Row]) -> str:
    """How many accounts need action, and of how many customers, where that is known."""
    number = people(actions)
    if not number:
        return "No account needs action"
    customers = len({row["customer"] for row in actions if row["customer"]})
    of = f" of {count(customers, 'customer')}" if customers else ""
    return f"{count(number, 'account')}{of} need{'s' if number == 1 else ''} action"


def count_reasons(actions: Iterable[Row]) -> Counter[str]:
    """How many rows have each reason, the most urgent first."""
    return Counter(row["reason"] for row in sorted(actions, key=lambda row: row["rank"]))


def listed_reasons(actions: Iterable[Row]) -> str:
    """`relink 3 · move to Microsoft Graph 1`."""
    counts = count_reasons(actions)
    return " · ".join(f"{reason_name(reason)} {number:,}" for reason, number in counts.items())


def counted(actions: Iterable[Row]) -> list[str]:
    """`17 connections down`, `3 accounts to authorize again`: how many rows have each reason."""
    reasons = count_reasons(actions)
    words = {reason: COUNTED.get(reason, ("case", reason)) for reason in reasons}
    return [f"{count(number, words[reason][0])} {words[reason][1]}" for reason, number in reasons.items()]


def contact(row: Row) -> str:
    """Whose it is: the name, else the address, else the profile's name, else the id or the tokens."""
    known = row["name"] or row["email"] or row.get("profile_name")
    return digest_shortened(known) or row["account_id"] or row["token_keys"] or ""


def connection_name(row: Row) -> str:
    """`Google Workspace calendar`; empty where the account's tokens are what needs something."""
    return "" if row["profile_type"] is None else connection(row)


def lasting(row: Row, at_least: str = "at least ") -> str:
    """For how long it has been so, after `at_least` where the first look found it so and it may be older."""
    seconds = float(row["days"] or 0) * SECONDS_PER_DAY
    if round(seconds / 60) < 1:
        return "just found"
    return ("" if row["since_known"] else at_least) + duration(seconds)
