"""Tokens: the credentials to poll with, and what the rows of a token store are."""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from ..errors import ConfigurationError
from ..secret import Hidden, Secret
from ..settings import DATA_CENTERS, TOKEN_COLUMNS
from .expiry import is_missing, parse_expiry, plain
from .labels import LabelReader, Labels, picked_labels

# what is read of a row besides its labels; expires_at may be missing everywhere
READ_COLUMNS = TOKEN_COLUMNS
COLUMNS = READ_COLUMNS[:-1]
# RFC 6750 b68token and everything else that can stand in a header without breaking it
HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
QUOTES = ("'", '"')
# a float is exact up to here, so two larger keys could become one; and no number that long is a key
LARGEST_EXACT, LARGEST_KEY = 2**53, 10**100
# so many rows that cannot be used are listed; all are counted
LISTED_ROWS = 1000
LOGGED_ROWS = 3
# a token that stands in the wrong column: long, and nothing a person would write
OPAQUE = re.compile(r"[A-Za-z0-9._~+/=-]{32,}")
UUID_TEXT = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
SHOWN_KEY = 100

logger = logging.getLogger("dlt_cronofy")


@dataclass(frozen=True, slots=True)
class Token:
    """One authorization of one end user for one Cronofy application.

    Attributes:
        access_token: empty where the store has a refresh token only: it is refreshed before it is used.
        expires_at: when the access token expires, UTC; None where nobody said.
        labels: what the store says of it besides, in the order of `StoredTokens.label_names`.
    """

    key: str
    access_token: Secret
    refresh_token: Secret | None = None
    data_center: str | None = None
    expires_at: datetime | None = None
    labels: Labels = field(default=(), repr=False)

    @property
    def has_access_token(self) -> bool:
        """Whether there is anything to call with."""
        return bool(self.access_token.reveal())


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


@dataclass(frozen=True, slots=True)
class NotConnected:
    """A user of the store without any token, who has not connected yet.

    Attributes:
        labels: in the order of `StoredTokens.label_names`.
    """

    key: str
    labels: Labels = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """What stands for a row that could not even be read; says why."""

    reason: str


class StoredTokens(list[Token]):
    """The tokens of a store that can be used, in its order, and what its other rows are.

    Attributes:
        unusable: rows that cannot be used; the others are polled.
        not_connected: users without any token: they have not connected yet.
        places: of the tokens without an access token, by key.
        label_names: what the labels of a token are called, in their order.
    """

    def __init__(
        self,
        tokens: Iterable[Token] = (),
        unusable: Sequence[UnusableRow] = (),
        not_connected: Sequence[NotConnected] = (),
        places: Mapping[str, str] | None = None,
        label_names: Sequence[str] = (),
    ) -> None:
        super().__init__(tokens)
        self.unusable = tuple(unusable)
        self.not_connected = tuple(not_connected)
        self.places = places or {}
        self.label_names = tuple(label_names)

    @classmethod
    def of(cls, tokens: Iterable[Token]) -> "StoredTokens":
        """The tokens, with what is known of other rows where they came with it."""
        return tokens if isinstance(tokens, cls) else cls(tokens)

    @property
    def keys(self) -> set[str]:
        """Of the tokens, and of the rows that cannot be used."""
        return {token.key for token in self} | {row.key for row in self.unusable if row.key is not None}

    def replaced(self, tokens: Iterable[Token], unusable: Iterable[UnusableRow] = ()) -> "StoredTokens":
        """Other tokens of the same store, and further rows that cannot be used."""
        return StoredTokens(
            tokens, (*self.unusable, *unusable), self.not_connected, self.places, self.label_names
        )

    def with_labels(self, wanted: Sequence[str]) -> "StoredTokens":
        """The same with those of the wanted labels that the store has, in that order, and no other."""
        names = tuple(name for name in wanted if name in self.label_names)
        if names == self.label_names:
            return self
        at = [self.label_names.index(name) for name in names]
        not_connected = [_labelled(each, picked_labels(each.labels, at)) for each in self.not_connected]
        tokens = (_labelled(each, picked_labels(each.labels, at)) for each in self)
        return StoredTokens(tokens, self.unusable, not_connected, self.places, names)


Labelled = TypeVar("Labelled", Token, NotConnected)


def _labelled(each: Labelled, labels: Labels) -> Labelled:
    return each if each.labels == labels else replace(each, labels=labels)


TokenRow = Mapping[str, Any] | str | Token
TokenRows = Iterable[TokenRow] | Callable[[], Iterable[TokenRow]]


def token_key(access_token: str, refresh_token: str | None) -> str:
    """The stable name of a token without a key: an access token changes at every refresh."""
    return "tok_" + hashlib.sha256((refresh_token or access_token).encode()).hexdigest()[:16]


def read_tokens(
    tokens: Any = None, tokens_file: str | None = None, labels: Sequence[str] | None = None
) -> StoredTokens:
    """Read and check the configured token store, in its order.

    Args:
        tokens: rows with the columns key, access_token, refresh_token, data_center and perhaps
            expires_at, or plain access tokens; an iterable, a callable that returns one, or the JSON text
            of a list of them.
        tokens_file: path of a CSV, JSON Lines or Parquet file with those columns.
        labels: names of the labels, in lower case; None for the default.

    Raises:
        ConfigurationError: no store, two stores, one that cannot be read, or one of which most rows cannot
            be used; names the place.
    """
    from .file_formats import file_rows

    tokens = Hidden(tokens)
    if tokens.value is not None and tokens_file is not None:
        raise ConfigurationError(
            "two token stores are set: keep either tokens or tokens_file in [sources.cronofy]"
        )
    if tokens.value is not None:
        return collect_tokens("tokens", "entry", enumerate(configured_rows(tokens.value), start=1), labels)
    if tokens_file is not None:
        return collect_tokens(tokens_file, *file_rows(Path(tokens_file), labels=labels), labels)
    raise ConfigurationError(
        "no tokens: set tokens in .dlt/secrets.toml or tokens_file in .dlt/config.toml,"
        " section [sources.cronofy]"
    )


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
    usable = tokens.replaced((token for token in tokens if token.has_access_token), unusable)
    check_usable(usable)
    return usable


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


def configured_rows(tokens: Any) -> Iterable[Any]:
    """The rows of the setting `tokens`, unchecked.

    Raises:
        ConfigurationError: it is not a list of any kind.
    """
    try:
        return _as_rows(tokens() if callable(tokens) else tokens)
    except ConfigurationError as error:
        tokens = None
        raise error.with_traceback(None) from None  # the frames below hold tokens in plain


def _as_rows(tokens: Any) -> Iterable[Any]:
    if isinstance(tokens, str):
        try:
            tokens = json.loads(tokens)
        except ValueError:
            raise ConfigurationError(
                'tokens is not a list: write ["token", …] or [{"key": …, "access_token": …}, …]'
            ) from None
    if isinstance(tokens, (Mapping, str)) or not isinstance(tokens, Iterable):
        raise ConfigurationError(
            "tokens is not a list of tables {key, access_token, refresh_token, data_center}"
        )
    return tokens


def collect_tokens(
    store: str, unit: str, rows: Iterable[tuple[int, Any]], labels: Sequence[str] | None = None
) -> StoredTokens:
    """The tokens of numbered rows, and which rows are none. Of rows with one key the first is the token.

    Args:
        store: what messages call the store.
        unit: what messages call a row.
        rows: each with its number.
        labels: names of the labels, in lower case; None for the default.

    Raises:
        ConfigurationError: no rows, or most of them cannot be used; names the place.
    """
    try:
        return _collect(store, unit, rows, LabelReader(labels))
    except ConfigurationError as error:
        raise error.with_traceback(None) from None  # the frames below hold rows in plain


def _collect(store: str, unit: str, rows: Iterable[tuple[int, Any]], labels: LabelReader) -> StoredTokens:
    tokens: dict[str, Token] = {}
    numbers: dict[str, int] = {}
    unusable: list[UnusableRow] = []
    not_connected: dict[str, NotConnected] = {}
    for number, row in rows:
        place = f"{store}, {unit} {number}"
        found = _read_row(row, place, labels)
        if isinstance(found, UnusableRow):
            unusable.append(found)
        elif isinstance(found, NotConnected):
            not_connected.setdefault(found.key, found)
        elif (first := tokens.setdefault(found.key, found)) is found:
            numbers[found.key] = number
        elif first != replace(found, expires_at=first.expires_at, labels=first.labels):
            reason = f"its key was used before, at {unit} {numbers[found.key]}; keys must be unique"
            unusable.append(UnusableRow(place, reason, found.key))
    if not (tokens or unusable or not_connected):
        raise ConfigurationError(f"{store}: holds no tokens")
    stored = StoredTokens(
        (_labelled(each, labels.aligned(each.labels)) for each in tokens.values()),
        unusable,
        [
            _labelled(each, labels.aligned(each.labels))
            for key, each in not_connected.items()
            if key not in tokens
        ],
        {key: f"{store}, {unit} {numbers[key]}" for key, each in tokens.items() if not each.has_access_token},
        labels.names,
    )
    check_usable(stored)
    return stored


def as_token(row: Any, place: str, labels: LabelReader | None = None) -> Token:
    """The token of one row: a table, a plain access token, or a token already.

    Raises:
        ConfigurationError: it cannot be used.
    """
    found = _read_row(row, place, labels)
    row = None
    if isinstance(found, Token):
        return found
    if isinstance(found, NotConnected):
        found = UnusableRow(place, "access_token is missing")
    raise ConfigurationError(str(found))


class _RefusedError(Exception):
    """A value cannot be used; the message says why, and does not quote it."""


def _read_row(row: Any, place: str, labels: LabelReader | None = None) -> Token | UnusableRow | NotConnected:
    """What a row is: a token; why it is none; or a user who has not connected."""
    if isinstance(row, BrokenRow):
        return UnusableRow(place, row.reason)
    if isinstance(row, (str, Secret)):
        row = {"access_token": row}
    given = row.labels if isinstance(row, Token) else None
    if isinstance(row, Token):
        row = {name: getattr(row, name) for name in READ_COLUMNS}
    if not isinstance(row, Mapping):
        return UnusableRow(place, f"not a table with the columns {', '.join(COLUMNS)}")
    key = None
    try:
        key = _key(row.get("key"))
        access_token, refresh_token = _token(row, "access_token"), _token(row, "refresh_token")
        if access_token or refresh_token:
            return Token(
                key=key or token_key(access_token or "", refresh_token),
                access_token=Secret(access_token or ""),
                refresh_token=Secret(refresh_token) if refresh_token else None,
                data_center=_data_center(row),
                expires_at=_expiry(row.get("expires_at")),
                labels=_labels(row, given, labels),
            )
        if key:
            return NotConnected(key, _labels(row, given, labels))
        reason = "access_token is missing"
    except _RefusedError as refused:
        reason = str(refused)
    return UnusableRow(place, reason, _shown_key(key))


def _labels(row: Mapping[str, Any], given: Labels | None, labels: LabelReader | None) -> Labels:
    if labels is None:
        return ()
    return labels.read(row) if given is None else labels.take(given)


def _shown_key(key: str | None) -> str | None:
    is_opaque = key is not None and OPAQUE.fullmatch(key) and not UUID_TEXT.fullmatch(key)
    return None if is_opaque else key


def _key(value: Any) -> str | None:
    """A key as text: a primary key is a common one, which pandas makes a float where another is missing."""
    if isinstance(value, str):
        value = value.strip()
        if not value.isprintable():
            raise _RefusedError("key holds control characters")
        return value or None
    value = plain(value)
    if is_missing(value):
        return None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not _is_whole(value):
        raise _RefusedError("key is neither text nor a whole number nor a UUID")
    if isinstance(value, float) and abs(value) > LARGEST_EXACT:
        raise _RefusedError("key is a number too large to be exact; make it text")
    return str(int(value))


def _is_whole(value: int | float | Decimal) -> bool:
    try:
        return -LARGEST_KEY < value < LARGEST_KEY and value == int(value)
    except (ArithmeticError, ValueError):
        return False


def _token(row: Mapping[str, Any], name: str) -> str | None:
    text = _text(row, name)
    if text is not None and not HEADER_SAFE.fullmatch(text):
        raise _RefusedError(f"{name} holds characters that no token has")
    if text is not None and text.startswith(QUOTES) and text.endswith(QUOTES):
        raise _RefusedError(f"{name} has quotation marks around it, which no token has")
    return text


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if isinstance(value, Secret):
        value = value.reveal()
    if not isinstance(value, str):
        if is_missing(value):
            return None
        raise _RefusedError(f"{name} is not text")
    return value.strip() or None


def _data_center(row: Mapping[str, Any]) -> str | None:
    """The data center in lower case, or None where none is named."""
    data_center = _text(row, "data_center")
    if data_center is None:
        return None
    if data_center.lower() not in DATA_CENTERS:
        # the value is not shown: a token may stand in the wrong column
        raise _RefusedError(f"unknown data_center; use one of {', '.join(DATA_CENTERS)}")
    return sys.intern(data_center.lower())  # one object for very many tokens


def _expiry(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return parse_expiry(value)
    except ValueError:
        # the value is not shown: a token may stand in the wrong column
        raise _RefusedError(
            "expires_at is no point in time; use ISO 8601 text, a date or a number since 1970"
        ) from None
