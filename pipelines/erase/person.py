"""One person: which rows are theirs, and by which values they can be recognized. Pure.

A person is an account with the tokens that never belonged to another one, or a single token with the
accounts that have no other one.
"""

import json
import re
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

# a token_key and an account_id that stand in one row; either may be null
Pair = tuple[str | None, str | None]
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

    def condition(self, columns: Mapping[str, str], placeholder: str = "%s") -> Condition | None:
        """The SQL condition of this person's rows and its parameters; None for a table that has none.

        Args:
            columns: the quoted names of `account_id` and `token_key`, those that the table has.
            placeholder: what stands for a parameter.
        """
        parts, parameters = [], []
        for name, values in ((ACCOUNT_ID, self.accounts), (TOKEN_KEY, self.tokens)):
            if name in columns and values:
                parts.append(f"{columns[name]} IN ({', '.join([placeholder] * len(values))})")
                parameters += sorted(values)
        return (" OR ".join(parts), parameters) if parts else None


def person_of_account(account: str, pairs: Collection[Pair]) -> Person:
    """The account, and those of its tokens that never belonged to another one.

    A token's rows without an account are polls that failed before it was known whose it was: they are this
    person's if the token never was anybody else's.

    Args:
        account: the account_id.
        pairs: all that any table says of the account's tokens.
    """
    tokens, _ = _partners(account, [(owner, token) for token, owner in pairs])
    return Person(frozenset((account,)), tokens)


def person_of_token(token: str, pairs: Collection[Pair]) -> Person:
    """The token, and those of its accounts that have no other token.

    Args:
        token: the token_key.
        pairs: all that any table says of the token's accounts.
    """
    accounts, shared = _partners(token, pairs)
    return Person(accounts, frozenset((token,)), shared)


def _partners(key: str, pairs: Collection[Pair]) -> tuple[frozenset[str], frozenset[str]]:
    """What stands beside a key, and never beside another one; and what stands beside others as well."""
    partners = {partner for each, partner in pairs if each == key and partner is not None}
    shared = {partner for each, partner in pairs if partner in partners and each not in (None, key)}
    return frozenset(partners - shared), frozenset(partners & shared)


@dataclass(frozen=True)
class Traces:
    """The values a person is recognized by.

    Attributes:
        values: what to search for.
        left_out: how many values are not searched for, by the column they stood in, or `TOO_SHORT`.
    """

    values: frozenset[str] = frozenset()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """All that is searched for: the values as they are, and as JSON and URLs write them."""
        return sorted({text for value in self.values for text in writings(value)})


def searchable(values: Mapping[str, str]) -> list[str]:
    """The values that are long enough to be searched for, in a steady order."""
    return sorted(value for value in values if len(value) >= MIN_SEARCHED)


def traces_of(values: Mapping[str, str], held_by_others: Collection[str]) -> Traces:
    """What to search for, without what other people's rows hold too.

    Args:
        values: the values of the person's rows and the column each stood in.
        held_by_others: those that stand in other people's rows, alone or within a longer text.
    """
    left_out: Counter[str] = Counter()
    searched = set()
    for value, column in values.items():
        if len(value) < MIN_SEARCHED:
            left_out[TOO_SHORT] += 1
        elif value in held_by_others:
            left_out[column] += 1
        else:
            searched.add(value)
    return Traces(frozenset(searched), dict(sorted(left_out.items())))


def writings(value: str) -> set[str]:
    """A value as it is, as JSON strings hold it, and as URLs do."""
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value, safe=""),
    }


def is_address(key: str) -> bool:
    """Whether a token's key is itself an e-mail address, which no summary shows."""
    return re.search(r"[^\s@]@[^\s@]", key) is not None
