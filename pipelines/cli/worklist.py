"""The worklist in the terminal: for which customer who must do what, the most urgent first. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from dlt_cronofy.formatting import (
    SECONDS_PER_DAY,
    count,
    digest_shortened,
    duration,
    provider_name,
    reason_name,
)
from dlt_cronofy.source.tables import Row

MIGRATE = "migrate"
ALL = "SELECT * FROM needs_action ORDER BY rank, since"


def sections(actions: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """What broke, what has never worked, and what still works but has a deadline; each with its title."""
    rows = list(actions)
    broken = [row for row in rows if row["reason"] != MIGRATE]
    parts = {
        "Worked before": [row for row in broken if row["since_known"]],
        "Never seen working": [row for row in broken if not row["since_known"]],
        "Works, but has a deadline": [row for row in rows if row["reason"] == MIGRATE],
    }
    return ((title, by_owner(part)) for title, part in parts.items() if part)


def by_owner(rows: Sequence[Row]) -> list[Row]:
    """One customer, or e-mail domain, after the other: who has the most urgent reason, then the most rows."""
    sizes = Counter(map(owner, rows))
    most_urgent: dict[str, int] = {}
    for row in rows:
        most_urgent[owner(row)] = min(row["rank"], most_urgent.get(owner(row), row["rank"]))

    def place(row: Row) -> tuple[int, int, str, int]:
        name = owner(row)
        return most_urgent[name], -sizes[name], name, row["rank"]

    return sorted(rows, key=place)


def owner(row: Row) -> str:
    """The customer, else the e-mail domain, else nothing."""
    return row["customer"] or row["email_domain"] or ""


def people(rows: Iterable[Row]) -> int:
    """How many accounts these rows are about; a token that was never read counts as one."""
    return len({row["account_id"] or row["token_keys"] for row in rows})


def headline(actions: Sequence[Row]) -> str:
    """How many accounts need action, and which."""
    if not actions:
        return "No account needs action"
    reasons = Counter(row["reason"] for row in sorted(actions, key=lambda row: row["rank"]))
    listed = " · ".join(f"{reason_name(reason)} {number:,}" for reason, number in reasons.items())
    number = people(actions)
    return f"{count(number, 'account')} need{'s' if number == 1 else ''} action: {listed}"


def contact(row: Row) -> str:
    """Whom to write to: the address, else the name, else the tokens; a digest is shortened."""
    tokens = row.get("token_keys") or row.get("token_key")
    return digest_shortened(row["email"] or row["name"]) or tokens or row["account_id"] or ""


def connection(row: Row) -> str:
    """The provider, and the profile's name where it is not the address."""
    name = digest_shortened(row["profile_name"])
    provider = provider_name(row["provider"]) or row["profile_type"] or ""
    return provider if not name or row["profile_name"] == row["email"] else f"{provider}: {name}"


def lasting(row: Row) -> str:
    """How long it has been so; what was so at the first look may be older."""
    seconds = float(row["days"] or 0) * SECONDS_PER_DAY
    if round(seconds / 60) < 1:
        return "just found"
    return ("" if row["since_known"] else "over ") + duration(seconds)
