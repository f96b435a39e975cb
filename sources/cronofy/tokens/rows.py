"""Rows of any token store, and the tokens in them.

A row is a table (a mapping), a plain access token, a `Token`, or a `RowError` in the place of one that could
not be read.
"""

import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from ..errors import ConfigurationError
from ..secret import Secret
from ..settings import DATA_CENTERS, TOKEN_COLUMNS
from .expiry import is_missing, parse_expiry, plain
from .labels import LabelReader, whole_number
from .token import StoredTokens, Token, UnusableRow, check_usable, token_key

# what messages name; expires_at may be missing everywhere
NAMED_COLUMNS = ", ".join(TOKEN_COLUMNS[:-1])
# RFC 6750 b68token and everything else that can stand in a header without breaking it
HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
QUOTES = ("'", '"')
# a token that stands in the wrong column: long, and nothing a person would write
OPAQUE = re.compile(r"[A-Za-z0-9._~+/=-]{32,}")
UUID_TEXT = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

NumberedRows = Iterator[tuple[int, Any]]
# new values of some rows, by the row's number and by column
Edits = Mapping[int, Mapping[str, Any]]


class RowError(Exception):
    """A row cannot be used; the message says why, and quotes no value."""


def collect_tokens(
    store: str, unit: str, rows: Iterable[tuple[int, Any]], labels: Sequence[str] | None = None
) -> StoredTokens:
    """The tokens of numbered rows, and which rows are none. Of rows with one key the first is the token.

    Messages call the store and a row what `store` and `unit` say; `labels` are names in lower case, None for
    the default.

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
    not_connected: dict[str, Token] = {}
    for number, row in rows:
        place = f"{store}, {unit} {number}"
        found = _read_row(row, place, labels)
        if isinstance(found, UnusableRow):
            unusable.append(found)
        elif not found.is_connected:
            not_connected.setdefault(found.key, found)
        elif (first := tokens.setdefault(found.key, found)) is found:
            numbers[found.key] = number
        elif first != replace(found, expires_at=first.expires_at, labels=first.labels):
            reason = f"its key was used before, at {unit} {numbers[found.key]}; keys must be unique"
            unusable.append(UnusableRow(place, reason, found.key))
    if not (tokens or unusable or not_connected):
        raise ConfigurationError(f"{store}: holds no tokens")
    stored = StoredTokens(
        tokens.values(),
        unusable,
        [each for key, each in not_connected.items() if key not in tokens],
        {key: f"{store}, {unit} {numbers[key]}" for key, each in tokens.items() if not each.has_access_token},
        labels.wanted,
        labels.missing,
    )
    check_usable(stored)
    return stored


def as_token(row: Any, labels: LabelReader) -> Token | None:
    """The token of one row; None where it cannot be used, or has no token."""
    found = _read_row(row, "", labels)
    return found if isinstance(found, Token) and found.is_connected else None


def _read_row(row: Any, place: str, labels: LabelReader) -> Token | UnusableRow:
    """The token of a row, which has only a key where the user has not connected; or why it has none."""
    key = None
    try:
        if isinstance(row, RowError):
            raise row
        given = row.labels if isinstance(row, Token) else None
        row = _as_table(row)
        key = read_key(row.get("key"))
        access_token, refresh_token = _token(row, "access_token") or "", _token(row, "refresh_token")
        is_connected = access_token or refresh_token
        if not (key or is_connected):
            return UnusableRow(place, "access_token is missing")
        return Token(
            key=key or token_key(access_token, refresh_token),
            access_token=Secret(access_token),
            refresh_token=Secret(refresh_token) if refresh_token else None,
            data_center=_data_center(row) if is_connected else None,
            expires_at=_expiry(row.get("expires_at")) if is_connected else None,
            labels=labels.read(row) if given is None else labels.take(given),
        )
    except RowError as error:
        is_opaque = key is not None and OPAQUE.fullmatch(key) and not UUID_TEXT.fullmatch(key)
        return UnusableRow(place, str(error), None if is_opaque else key)


def _as_table(row: Any) -> Mapping[str, Any]:
    if isinstance(row, (str, Secret)):
        return {"access_token": row}
    if isinstance(row, Token):
        return {name: getattr(row, name) for name in TOKEN_COLUMNS}
    if not isinstance(row, Mapping):
        raise RowError(f"not a table with the columns {NAMED_COLUMNS}")
    return row


def is_blank(row: Any, besides: Container[str] = ()) -> bool:
    """Whether it is a table of nothing; one cell alone that is empty is a token that is missing."""
    if not isinstance(row, Mapping):
        return False
    values = [value for name, value in row.items() if name not in besides]
    return len(values) > 1 and all(
        is_missing(value) or (isinstance(value, str) and not value.strip()) for value in values
    )


def read_key(value: Any) -> str | None:
    """A key as text: a primary key is a common one, which pandas makes a float where another is missing."""
    value = plain(value)
    if isinstance(value, str):
        if not value.strip().isprintable():
            raise RowError("key holds control characters")
        return value.strip() or None
    if is_missing(value):
        return None
    if isinstance(value, UUID):
        return str(value)
    number = whole_number(value)
    if number is None:
        raise RowError("key is neither text nor an exact whole number nor a UUID")
    return number


def _token(row: Mapping[str, Any], name: str) -> str | None:
    text = _text(row, name)
    if text is not None and not HEADER_SAFE.fullmatch(text):
        raise RowError(f"{name} holds characters that no token has")
    if text is not None and text.startswith(QUOTES) and text.endswith(QUOTES):
        raise RowError(f"{name} has quotation marks around it, which no token has")
    return text


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if isinstance(value, Secret):
        value = value.reveal()
    if not isinstance(value, str):
        if is_missing(value):
            return None
        raise RowError(f"{name} is not text")
    return value.strip() or None


def _data_center(row: Mapping[str, Any]) -> str | None:
    """The data center in lower case, or None where none is named."""
    data_center = _text(row, "data_center")
    if data_center is None:
        return None
    if data_center.lower() not in DATA_CENTERS:
        # the value is not shown: a token may stand in the wrong column
        raise RowError(f"unknown data_center; use one of {', '.join(DATA_CENTERS)}")
    return sys.intern(data_center.lower())  # one object for very many tokens


def _expiry(value: Any) -> datetime | None:
    try:
        return parse_expiry(value)
    except ValueError:
        # nor is this one shown
        raise RowError(
            "expires_at is no point in time; use ISO 8601 text, a date or a number since 1970"
        ) from None
