"""One person: which rows are theirs, and by which values they can be recognized. Pure.

A person is an account with the tokens that never belonged to another one, or a single token with the
accounts that have no other one.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

ACCOUNT_ID, TOKEN_KEY = "account_id", "token_key"

# the columns whose values say who somebody is
VALUE_COLUMNS = (
    ACCOUNT_ID,
    TOKEN_KEY,
    "email",
    "name",
    "profile_id",
    "profile_name",
    "profile_relink_url",
    "graph_api_migration_url",
    "calendar_id",
    "calendar_name",
    "application_calendar_id",
)
# shorter values stand in many a longer text by chance
MIN_SEARCHED = 5
TOO_SHORT = "too short"

# an account_id and a token_key that stand in one row; either may be null
Pair = tuple[str | None, str | None]
KEYS = (ACCOUNT_ID, TOKEN_KEY)
# an SQL condition and its parameters
Condition = tuple[str, list[str]]


@dataclass(frozen=True)
class Person:
    """Whose rows go: those with one of these accounts, and those with one of these tokens.

    Attributes:
        accounts: every row of them goes.
        tokens: every row of them goes.
        shared_accounts: accounts of the token that stay, because they have another token.
    """

    accounts: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    shared_accounts: frozenset[str] = frozenset()

    @property
    def keys(self) -> dict[str, list[str]]:
        """The values of each key column, sorted."""
        return {ACCOUNT_ID: sorted(self.accounts), TOKEN_KEY: sorted(self.tokens)}

    def condition(self, columns: Mapping[str, str], placeholder: str = "%s") -> Condition | None:
        """The SQL condition of this person's rows and its parameters; None for a table that has none.

        `columns` has the quoted names of those of `account_id` and `token_key` that the table has.
        """
        parts, parameters = [], []
        for name, values in self.keys.items():
            if name in columns and values:
                parts.append(f"{columns[name]} IN ({', '.join([placeholder] * len(values))})")
                parameters += values
        return (" OR ".join(parts), parameters) if parts else None


def person_of(column: str, key: str, pairs: Collection[Pair]) -> Person:
    """An account with those of its tokens that never belonged to another one, or a token likewise.

    A token's rows without an account are polls that failed before it was known whose it was: they are this
    person's if the token never was anybody else's. `pairs` is all that any table says of the account's tokens
    and of the accounts of these, or the reverse.
    """
    mine = KEYS.index(column)
    partners = {pair[1 - mine] for pair in pairs if pair[mine] == key}
    found = frozenset(partner for partner in partners if partner is not None)
    shared = found & {pair[1 - mine] for pair in pairs if pair[mine] not in (None, key)}
    if column == ACCOUNT_ID:
        return Person(frozenset([key]), found - shared)
    return Person(found - shared, frozenset([key]), shared)


@dataclass(frozen=True)
class Traces:
    """The values a person is recognized by, and how many are left out, by their column, or `TOO_SHORT`."""

    values: frozenset[str] = frozenset()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """All that is searched for: the values as they are, and as JSON and URLs write them."""
        return sorted({text for value in self.values for text in writings(value)})


def searchable(values: Mapping[str, str]) -> list[str]:
    """The values that are long enough to be searched for, sorted."""
    return sorted(value for value in values if len(value) >= MIN_SEARCHED)


def traces_of(values: Mapping[str, str], held_by_others: Collection[str]) -> Traces:
    """What to search for of the values of a person's rows, each with its column.

    What stands in other people's rows too, alone or within a longer text, is left out.
    """
    long_enough = set(searchable(values))
    left_out = Counter(
        column if value in long_enough else TOO_SHORT
        for value, column in values.items()
        if value not in long_enough or value in held_by_others
    )
    return Traces(frozenset(long_enough.difference(held_by_others)), dict(sorted(left_out.items())))


def writings(value: str) -> set[str]:
    """A value as it is, as JSON strings hold it, and as URLs do."""
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value, safe=""),
    }
