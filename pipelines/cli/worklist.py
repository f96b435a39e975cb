"""The worklist in the terminal: for which customer who must do what, the most urgent first. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from dlt_cronofy.formatting import count, digest_shortened, provider_name
from dlt_cronofy.report import worklist as report
from dlt_cronofy.report.worklist import listed_reasons, parts, people
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
    number = people(actions)
    return f"{count(number, 'account')} need{'s' if number == 1 else ''} action: {listed_reasons(actions)}"


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
    return report.lasting(row, "over ")
