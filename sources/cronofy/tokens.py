"""Tokens: the credentials to poll with, and the stores they are read from."""

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa

from .errors import ConfigurationError
from .expiry import parse_expiry
from .secret import Hidden, Secret
from .settings import DATA_CENTERS

COLUMNS = ("key", "access_token", "refresh_token", "data_center")
# what is read of a row; expires_at may be missing everywhere
READ_COLUMNS = (*COLUMNS, "expires_at")
# RFC 6750 b68token and everything else that can stand in a header without breaking it
HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Token:
    """One authorization of one end user for one Cronofy application.

    Attributes:
        expires_at: when the access token expires, UTC; None where nobody said.
    """

    key: str
    access_token: Secret
    refresh_token: Secret | None = None
    data_center: str | None = None
    expires_at: datetime | None = None


TokenRow = Mapping[str, Any] | str | Token
TokenRows = Iterable[TokenRow] | Callable[[], Iterable[TokenRow]]


def token_key(access_token: str, refresh_token: str | None) -> str:
    """The stable name of a token without a key: an access token changes at every refresh."""
    return "tok_" + hashlib.sha256((refresh_token or access_token).encode()).hexdigest()[:16]


def read_tokens(tokens: Any = None, tokens_file: str | None = None) -> list[Token]:
    """Read and check the configured token store, in its order.

    Args:
        tokens: rows with the columns key, access_token, refresh_token, data_center and perhaps
            expires_at, or plain access tokens; an iterable, a callable that returns one, or the JSON text
            of a list of them.
        tokens_file: path of a CSV, JSON Lines or Parquet file with those columns.

    Raises:
        ConfigurationError: no store, two stores, or a row that cannot be used; names the place.
    """
    tokens = Hidden(tokens)
    if tokens.value is not None and tokens_file is not None:
        raise ConfigurationError(
            "two token stores are set: keep either tokens or tokens_file in [sources.cronofy]"
        )
    if tokens.value is not None:
        return collect_tokens("tokens", "entry", enumerate(configured_rows(tokens.value), start=1))
    if tokens_file is not None:
        return collect_tokens(tokens_file, *file_rows(Path(tokens_file)))
    raise ConfigurationError(
        "no tokens: set tokens in .dlt/secrets.toml or tokens_file in .dlt/config.toml,"
        " section [sources.cronofy]"
    )


def in_data_centers(tokens: Iterable[Token], default: str) -> list[Token]:
    """The tokens, each with a data center: its own, else the default."""
    return [replace(token, data_center=token.data_center or default) for token in tokens]


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


def file_rows(path: Path, suffix: str | None = None) -> tuple[str, Iterator[tuple[int, Any]]]:
    """What a row of the file is called, and the rows with their numbers, unchecked.

    Args:
        path: the file.
        suffix: what its name would end in, where it ends otherwise.

    Raises:
        ConfigurationError: no such file, or none that can be read; also while the rows are read.
    """
    readers: dict[str, tuple[str, Callable[[Path], Iterator[tuple[int, Any]]]]] = {
        ".csv": ("line", _csv_rows),
        ".jsonl": ("line", _json_lines),
        ".ndjson": ("line", _json_lines),
        ".parquet": ("row", _parquet_rows),
    }
    suffix = (suffix or path.suffix).lower()
    if suffix not in readers:
        raise ConfigurationError(f"{path}: tokens_file must end in .csv, .jsonl, .ndjson or .parquet")
    if not path.is_file():
        raise ConfigurationError(f"{path}: tokens_file does not exist")
    unit, read = readers[suffix]
    return unit, read(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    names = [(name or "").strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if reader.fieldnames and "access_token" not in names:
        # the names found are not shown: a file without a header line has a token there
        raise ConfigurationError(
            f"{path}, line 1: no column access_token;"
            f" the first line must name the columns {', '.join(COLUMNS)}"
        )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error:
        raise ConfigurationError(f"{path}, line {reader.line_num}: not CSV") from None


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield number, orjson.loads(line)
            except ValueError:
                raise ConfigurationError(f"{path}, line {number}: not a JSON object") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        if "access_token" not in file.schema_arrow.names:
            raise ConfigurationError(f"{path}: no column access_token; expected {', '.join(COLUMNS)}")
        columns = [name for name in READ_COLUMNS if name in file.schema_arrow.names]
        batches = file.iter_batches(columns=columns)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (pa.ArrowException, OSError):
        raise ConfigurationError(f"{path}: not a Parquet file") from None


def collect_tokens(store: str, unit: str, rows: Iterable[tuple[int, Any]]) -> list[Token]:
    """The tokens of numbered rows, checked.

    Args:
        store: what messages call the store.
        unit: what messages call a row.
        rows: each with its number.

    Raises:
        ConfigurationError: no rows, a row that cannot be used, or a key twice; names the place.
    """
    try:
        return _collect(store, unit, rows)
    except ConfigurationError as error:
        raise error.with_traceback(None) from None  # the frames below hold rows in plain


def _collect(store: str, unit: str, rows: Iterable[tuple[int, Any]]) -> list[Token]:
    tokens: list[Token] = []
    places: dict[str, int] = {}
    for number, row in rows:
        place = f"{store}, {unit} {number}"
        token = as_token(row, place)
        if token.key in places:
            raise ConfigurationError(
                f"{place}: key {token.key!r} was used before, at {unit} {places[token.key]};"
                " keys must be unique"
            )
        places[token.key] = number
        tokens.append(token)
    if not tokens:
        raise ConfigurationError(f"{store}: holds no tokens")
    return tokens


def as_token(row: Any, place: str) -> Token:
    """The token of one row: a table, a plain access token, or a token already.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if isinstance(row, Token):
        return row
    if isinstance(row, str):
        row = {"access_token": row}
    if not isinstance(row, Mapping):
        raise ConfigurationError(f"{place}: not a table with the columns {', '.join(COLUMNS)}")
    access_token = _field(row, "access_token", place)
    if access_token is None:
        raise ConfigurationError(f"{place}: access_token is missing")
    refresh_token = _field(row, "refresh_token", place)
    for name, value in (("access_token", access_token), ("refresh_token", refresh_token)):
        if value is not None and not HEADER_SAFE.fullmatch(value):
            raise ConfigurationError(f"{place}: {name} holds characters that no token has")
    key = _field(row, "key", place) or token_key(access_token, refresh_token)
    if not key.isprintable():
        raise ConfigurationError(f"{place}: key holds control characters")
    return Token(
        key=key,
        access_token=Secret(access_token),
        refresh_token=Secret(refresh_token) if refresh_token else None,
        data_center=check_data_center(_field(row, "data_center", place), place),
        expires_at=_expiry(row.get("expires_at"), place),
    )


def _expiry(value: Any, place: str) -> datetime | None:
    try:
        return parse_expiry(value)
    except ValueError:
        # the value is not shown: a token may stand in the wrong column
        raise ConfigurationError(
            f"{place}: expires_at is no point in time; use ISO 8601 text or seconds since 1970"
        ) from None


def _field(row: Mapping[str, Any], name: str, place: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, Secret):
        value = value.reveal()
    if name == "key" and isinstance(value, (int, UUID)) and not isinstance(value, bool):
        value = str(value)  # a primary key is a common token key
    if not isinstance(value, str):
        raise ConfigurationError(f"{place}: {name} is not text")
    return value.strip() or None


def check_data_center(data_center: str | None, place: str) -> str | None:
    """The data center in lower case, or None where none is named.

    Raises:
        ConfigurationError: it is none of Cronofy's six.
    """
    if data_center is None:
        return None
    if data_center.lower() not in DATA_CENTERS:
        raise ConfigurationError(
            # the value is not shown: a token may stand in the wrong column
            f"{place}: unknown data_center; use one of {', '.join(DATA_CENTERS)}"
        )
    return sys.intern(data_center.lower())  # one object for very many tokens
