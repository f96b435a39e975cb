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
from dlt_cronofy.report.worklist import parts, people
from dlt_cronofy.source.tables import Row

ALL = "SELECT * FROM needs_action ORDER BY rank, since"


def sections(actions: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """What broke, what has never worked, and what still works but has a deadline; each with its title."""
    for part in parts(actions):
        yield part.title, [row for group in part.groups for row in group.rows]


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
