"""Tokens: the credentials to poll with, and those of one store."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..errors import ConfigurationError
from ..secret import Secret
from .labels import Labels, label_picker

# so many rows that cannot be used are listed; all are counted
LISTED_ROWS = 1000
LOGGED_ROWS = 3
SHOWN_KEY = 100
NO_SECRET = Secret("")

logger = logging.getLogger("dlt_cronofy")


@dataclass(frozen=True, slots=True)
class Token:
    """One authorization of one end user for one Cronofy application.

    Attributes:
        access_token: empty where the store has a refresh token only: it is refreshed before it is used.
        expires_at: when the access token expires, UTC; None where it is not known.
        labels: in the order of `StoredTokens.label_names`.
    """

    key: str
    access_token: Secret = NO_SECRET
    refresh_token: Secret | None = None
    data_center: str | None = None
    expires_at: datetime | None = None
    labels: Labels = field(default=(), repr=False)

    @property
    def has_access_token(self) -> bool:
        """Whether there is anything to call with."""
        return bool(self.access_token.reveal())

    @property
    def is_connected(self) -> bool:
        """False for a user of the store without any token, who has not connected yet."""
        return self.has_access_token or self.refresh_token is not None


@dataclass(frozen=True, slots=True)
class UnusableRow:
    """A row of a store that no token can be read from. Quotes no value of it but its key.

    Attributes:
        place: the store, and which of its rows.
        reason: what is wrong, in words for a person.
        key: None where it has none that can be used, or where a token may stand in its place.
    """

    place: str
    reason: str
    key: str | None = None

    def __str__(self) -> str:
        key = self.key if self.key is None or len(self.key) <= SHOWN_KEY else self.key[:SHOWN_KEY] + "…"
        return f"{self.place}: {self.reason}{'' if key is None else f' (key {key!r})'}"


class StoredTokens(list[Token]):
    """The tokens of a store that can be used, in its order, and what its other rows are.

    Attributes:
        unusable: rows that cannot be used; the others are polled.
        not_connected: users without any token: they have not connected yet.
        places: of the tokens without an access token, by key.
        label_names: what the labels of a token are called, in their order.
        missing_labels: those of them that no row has a column for.
    """

    def __init__(
        self,
        tokens: Iterable[Token] = (),
        unusable: Iterable[UnusableRow] = (),
        not_connected: Iterable[Token] = (),
        places: Mapping[str, str] | None = None,
        label_names: Sequence[str] = (),
        missing_labels: Sequence[str] = (),
    ) -> None:
        super().__init__(tokens)
        self.unusable = tuple(unusable)
        self.not_connected = tuple(not_connected)
        self.places = places or {}
        self.label_names = tuple(label_names)
        self.missing_labels = tuple(missing_labels)

    @classmethod
    def of(cls, tokens: Iterable[Token]) -> "StoredTokens":
        """The tokens, with what is known of other rows where they came with it."""
        return tokens if isinstance(tokens, cls) else cls(tokens)

    @property
    def keys(self) -> set[str]:
        """Of the tokens, and of the rows that cannot be used."""
        return {token.key for token in self} | {row.key for row in self.unusable if row.key is not None}

    def replaced(self, tokens: Iterable[Token], **changes: Any) -> "StoredTokens":
        """Other tokens of the same store, and perhaps other attributes."""
        return StoredTokens(tokens, **(vars(self) | changes))

    def with_labels(self, names: Sequence[str]) -> "StoredTokens":
        """The same with these labels, in this order; null where the store does not have one."""
        names = tuple(names)
        if names == self.label_names:
            return self
        pick = label_picker(self.label_names, names)
        return self.replaced(
            [replace(token, labels=pick(token.labels)) for token in self],
            not_connected=[replace(token, labels=pick(token.labels)) for token in self.not_connected],
            label_names=names,
            missing_labels=[n for n in names if n not in self.label_names or n in self.missing_labels],
        )


def token_key(access_token: str, refresh_token: str | None) -> str:
    """The stable name of a token without a key: an access token changes at every refresh."""
    return "tok_" + hashlib.sha256((refresh_token or access_token).encode()).hexdigest()[:16]


def in_data_centers(tokens: Iterable[Token], default: str) -> StoredTokens:
    """The tokens, each with a data center: its own, else the default."""
    return StoredTokens.of(tokens).replaced(
        replace(token, data_center=token.data_center or default) for token in tokens
    )


def without_refreshing(tokens: StoredTokens, store: str) -> StoredTokens:
    """The tokens that can be called with as they are; the others are rows that cannot be used.

    Raises:
        ConfigurationError: these are most of them.
    """
    reason = "access_token is missing; client_id and client_secret are needed to get one by the refresh token"
    unusable = [
        UnusableRow(tokens.places.get(token.key, store), reason, token.key)
        for token in tokens
        if not token.has_access_token
    ]
    if not unusable:
        return tokens
    usable = (token for token in tokens if token.has_access_token)
    found = tokens.replaced(usable, unusable=(*tokens.unusable, *unusable))
    check_usable(found)
    return found


def check_usable(tokens: StoredTokens) -> None:
    """Refuse a store of which most rows are wrong: it is not what it should be.

    Raises:
        ConfigurationError: more than half of its rows cannot be used; says why the first one cannot.
    """
    wrong, rows = len(tokens.unusable), len(tokens) + len(tokens.unusable)
    if 2 * wrong > rows:
        raise ConfigurationError(
            f"{tokens.unusable[0]}; {wrong} of {rows} rows cannot be used, more than half"
        )


def log_unusable(tokens: Iterable[Token]) -> None:
    """One line in the log about the rows that are left out; none where there are none."""
    unusable = StoredTokens.of(tokens).unusable
    if unusable:
        first = "; ".join(map(str, unusable[:LOGGED_ROWS]))
        more = len(unusable) - LOGGED_ROWS
        logger.warning(
            "%d row%s of the token store cannot be used: %s%s",
            len(unusable),
            "" if len(unusable) == 1 else "s",
            first,
            f"; and {more} more" if more > 0 else "",
        )
