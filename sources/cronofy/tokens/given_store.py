"""Tokens in the configuration, or given by code; a function takes the refreshed ones."""

import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from ..errors import ConfigurationError
from .base import OnRefresh, Renewal, StoreError
from .rows import collect_tokens
from .token import StoredTokens, Token

REREAD_SECONDS = 30.0
NO_HOOK = "tokens in [sources.cronofy] cannot be written back: use tokens_file, tokens_query or on_refresh"
NOT_PLAIN = "it must be a plain function, not async and without yield"


class GivenStore:
    """A list, or a callable that returns one; a hook takes the refreshed tokens."""

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
        try:
            if not callable(self._rows):
                # kept, because an iterator gives its rows once
                self._rows = list(_listed(self._rows))
            rows = enumerate(_listed(self._rows() if callable(self._rows) else self._rows), start=1)
            return collect_tokens(self.name, "entry", rows, self._labels)
        except ConfigurationError as error:
            raise error.with_traceback(None) from None  # the frames below hold tokens in plain

    def why_not_saved(self) -> str | None:
        """Without a hook there is nowhere to write to; what a hook does shows when it is first called."""
        return NO_HOOK if self._on_refresh is None else _why_not_called(self._on_refresh)

    def current(self, token: Token) -> Token | None:
        """What a callable returns, called again after half a minute; a list does not show what is current."""
        if not callable(self._rows):
            return None
        with self._lock:
            now = self._monotonic()
            if self._known_at is None or now - self._known_at >= REREAD_SECONDS:
                self._known_at, self._known = now, {}
                with suppress(Exception):  # the callable may raise anything
                    self._known = {each.key: each for each in self.read()}
            return self._known.get(token.key)

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Call the hook once for each renewal, also after one that failed.

        Raises:
            StoreError: the hook failed, or there is none. What it took is not given to it again when the
                same renewals are saved again.
        """
        if self._on_refresh is None:
            raise StoreError(NO_HOOK)
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
            else:
                self._handed_over.add(renewal)
        if failures:
            raise StoreError(f"on_refresh failed for {len(failures)} of {len(renewals)}: {failures[0]}")
        self._handed_over.difference_update(renewals)
        return []


def _listed(tokens: Any) -> Iterable[Any]:
    if isinstance(tokens, str):
        try:
            tokens = json.loads(tokens)
        except ValueError:
            tokens = None
    if isinstance(tokens, (Mapping, str)) or not isinstance(tokens, Iterable):
        raise ConfigurationError(
            'tokens is not a list: write ["token", …] or [{"key": …, "access_token": …}, …]'
        )
    return tokens


def _why_not_called(hook: OnRefresh) -> str | None:
    """Why this function cannot take a renewal; what only a call shows is not found."""
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
    """Whether a hook has returned what still has to run: a coroutine or a generator."""
    if inspect.iscoroutine(returned):
        returned.close()  # it is never awaited, and Python would say so
    return inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned)
