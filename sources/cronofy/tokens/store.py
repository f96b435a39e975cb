"""Token stores: where tokens come from, and where refreshed ones go back to."""

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, cast

from ..errors import ConfigurationError
from ..secret import Hidden, Secret
from ..settings import PollingSettings, checked_labels
from .labels import DEFAULT_LABELS
from .token import (
    StoredTokens,
    Token,
    collect_tokens,
    configured_rows,
    in_data_centers,
    read_tokens,
    without_refreshing,
)

REREAD_SECONDS = 30.0
NOT_PLAIN = "it must be a plain function, not async and without yield"


@dataclass(frozen=True, slots=True)
class Renewal:
    """One refresh: the pair of tokens that takes the place of an old one.

    Attributes:
        token: as it was read from the store; its refresh token is the one that was used.
        access_token: the new one.
        refresh_token: the new one; the used one again where it did not rotate.
        expires_at: when the new access token expires, UTC; None where the answer did not say.
    """

    token: Token
    access_token: Secret
    refresh_token: Secret
    expires_at: datetime | None = None


class StoreError(Exception):
    """A store cannot be written; the one-line message says which, why and what to do. Quotes no token."""


class TokenStore(Protocol):
    """Where tokens come from, and where refreshed ones go back to. Methods block; they run in threads."""

    name: str
    """For messages: a path, or the setting the store came from."""
    folder: Path | None
    """Where notes on refreshes under way may be kept beside the store; None where it has no place."""

    def read(self) -> list[Token]:
        """All tokens, in the order of the store.

        `StoredTokens`, a list as well, also says which rows cannot be used. The tokens of any other list
        are checked by `stored_tokens`, so that one that cannot be used costs itself only. It may hold tables
        instead of tokens, and these the columns that are labels; the labels of a token are in the order of
        the setting `token_labels`.

        Raises:
            ConfigurationError: the store, or most of its rows, cannot be used; names the place.
        """
        ...

    def why_not_saved(self) -> str | None:
        """Why refreshed tokens could not be written back, in words for a person; None when they can.

        Asked before the first refresh token of a run is used up, because afterwards is too late. A store
        does what `save` does as far as it can be undone, with values as long as the longest it holds.
        """
        ...

    def current(self, token: Token) -> Token | None:
        """The token of that key as it stands in the store now; None where it is gone or cannot be told."""
        ...

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Write refreshed tokens back, durably; every row that holds the used refresh token is changed.

        Returns:
            The renewals whose used refresh token the store does not hold any more: somebody else changed
            it meanwhile, and the store's own value was left alone.

        Raises:
            StoreError: nothing was written.
        """
        ...


OnRefresh = Callable[[Renewal], Any]


def stored_tokens(store: TokenStore, settings: PollingSettings) -> StoredTokens:
    """The tokens of a store that can be polled, each with a data center, and what its other rows are.

    Raises:
        ConfigurationError: the store, or most of its rows, cannot be used, or it lacks a column that is to be
            a label; names the place.
    """
    labels, found = settings.token_labels, store.read()
    if found and not isinstance(found, StoredTokens):
        found = collect_tokens(store.name, "entry", enumerate(found, start=1), labels)
    stored = StoredTokens.of(found)
    if stored or stored.not_connected:
        _check_labels(stored, labels or (), store.name)
    labelled = stored.with_labels(DEFAULT_LABELS if labels is None else labels)
    tokens = in_data_centers(labelled, settings.data_center)
    return tokens if settings.client is not None else without_refreshing(tokens, store.name)


def _check_labels(stored: StoredTokens, wanted: Sequence[str], store: str) -> None:
    missing = [name for name in wanted if name not in stored.label_names]
    if missing:
        raise ConfigurationError(f"token_labels: {store} has no column {missing[0]}")


def open_store(
    tokens: Any = None,
    tokens_file: str | None = None,
    tokens_query: str | None = None,
    tokens_database: str | Secret | None = None,
    tokens_update: str | None = None,
    on_refresh: OnRefresh | None = None,
    token_labels: str | Sequence[str] | None = None,
) -> TokenStore:
    """The configured token store; nothing of it is read yet.

    Args:
        tokens: rows as `read_tokens` takes them, or a store: an object with `read` and `save`.
        tokens_file: path of a CSV, JSON Lines or Parquet file.
        tokens_query: SQL query whose columns are those of a token.
        tokens_database: SQLAlchemy URL of the database that it runs in.
        tokens_update: SQL that writes one refreshed token back, where it cannot be derived from the query.
        on_refresh: is given every refreshed token, where `tokens` is no store that can take it back.
        token_labels: columns that are read as labels, as the setting of that name has them.

    Raises:
        ConfigurationError: no store, two of them, half of one, or names that no label can have; says what
            to set and where.
    """
    tokens, database = Hidden(tokens), Secret.of(tokens_database) if tokens_database else None
    tokens_database = None
    missing = {
        "tokens": tokens.value is None,
        "tokens_file": tokens_file is None,
        "tokens_query": tokens_query is None,
    }
    given = [name for name, is_missing in missing.items() if not is_missing]
    if len(given) > 1:
        raise ConfigurationError(
            f"{'two' if len(given) == 2 else 'three'} token stores are set:"
            f" keep either {' or '.join(given)} in [sources.cronofy]"
        )
    _check_query(tokens_query, database, tokens_update)
    labels = checked_labels(token_labels)
    is_store = all(callable(getattr(tokens.value, method, None)) for method in ("read", "save"))
    if on_refresh is not None and (is_store or given in (["tokens_file"], ["tokens_query"])):
        raise ConfigurationError(
            "on_refresh goes with tokens given as a list or a callable: a store is written back to by itself"
        )
    if is_store:
        return cast("TokenStore", tokens.value)
    if tokens_query is not None and database is not None:
        from .sql_store import SqlStore

        return SqlStore(tokens_query, database, tokens_update, labels)
    if tokens_file is not None:
        from .file_store import FileStore

        return FileStore(tokens_file, labels)
    if tokens.value is None:
        read_tokens()  # says that nothing is set
    return GivenStore(tokens.value, on_refresh, labels)


def _check_query(query: str | None, database: Secret | None, update: str | None) -> None:
    if query is not None and not database:
        raise ConfigurationError(
            "tokens_query needs tokens_database, the SQLAlchemy URL of the database it runs in:"
            " set it in .dlt/secrets.toml, section [sources.cronofy]"
        )
    for name, value in (("tokens_database", database), ("tokens_update", update)):
        if query is None and value:
            raise ConfigurationError(
                f"{name} needs tokens_query, the SQL that reads the tokens:"
                " set it in .dlt/config.toml, section [sources.cronofy]"
            )


def _why_not_called(hook: OnRefresh) -> str | None:
    """Why this function cannot take a renewal, as far as it shows without a call."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    # an object may be a function by its method
    if any(is_kind(each) for is_kind in kinds for each in (hook, type(hook).__call__)):
        return f"on_refresh cannot be called: {NOT_PLAIN}"
    with suppress(ValueError):  # some built-in functions have no signature
        try:
            inspect.signature(hook).bind(None)
        except TypeError:
            return "on_refresh cannot be called: it must take one argument, the renewal"
    return None


def _is_unfinished(returned: object) -> bool:
    """Whether a hook has only said that it will do something: a coroutine or a generator."""
    if inspect.iscoroutine(returned):
        returned.close()  # it is never awaited, and Python would say so
    return inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned)


class GivenStore:
    """Tokens in the configuration, or given by code; a hook takes the refreshed ones."""

    def __init__(
        self,
        tokens: Any,
        on_refresh: OnRefresh | None = None,
        labels: Sequence[str] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "tokens"
        self.folder: Path | None = None
        self._rows = tokens
        self._on_refresh = on_refresh
        self._labels = labels
        self._monotonic = monotonic
        self._lock = Lock()
        self._known: dict[str, Token] = {}
        self._known_at: float | None = None
        self._handed_over: set[Renewal] = set()

    def read(self) -> StoredTokens:
        """All tokens; a callable is called again, and an iterator is used up by the first time."""
        if not callable(self._rows):
            # kept, because an iterator gives its rows once
            self._rows = list(configured_rows(self._rows))
        return self._collect()

    def why_not_saved(self) -> str | None:
        """Without a hook there is nowhere to write to; what a hook does shows when it is first called."""
        if self._on_refresh is None:
            return (
                "tokens in [sources.cronofy] cannot be written back:"
                " use tokens_file, tokens_query or on_refresh"
            )
        return _why_not_called(self._on_refresh)

    def current(self, token: Token) -> Token | None:
        """What a callable says, asked anew after half a minute; nothing can be told of a list."""
        if not callable(self._rows):
            return None
        with self._lock:
            now = self._monotonic()
            if self._known_at is None or now - self._known_at >= REREAD_SECONDS:
                self._known_at, self._known = now, {}
                try:
                    self._known = {each.key: each for each in self._collect()}
                except Exception:  # noqa: BLE001 - the callable is somebody else's
                    return None
            return self._known.get(token.key)

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Call the hook once for each renewal, also after one that failed.

        Raises:
            StoreError: the hook failed, or there is none. What it took is not given to it again when the
                same renewals are saved again.
        """
        if self._on_refresh is None:
            raise StoreError(self.why_not_saved())
        failures: list[str] = []
        for renewal in renewals:
            if renewal in self._handed_over:
                continue
            try:
                returned = self._on_refresh(renewal)
            except Exception as error:  # noqa: BLE001 - and its text may quote a token
                failures.append(type(error).__name__)
                continue
            if _is_unfinished(returned):
                failures.append(NOT_PLAIN)
                continue
            self._handed_over.add(renewal)
        if failures:
            raise StoreError(f"on_refresh failed for {len(failures)} of {len(renewals)}: {failures[0]}")
        self._handed_over.difference_update(renewals)
        return []

    def _collect(self) -> StoredTokens:
        rows: Iterable[Any] = configured_rows(self._rows)
        return collect_tokens(self.name, "entry", enumerate(rows, start=1), self._labels)
