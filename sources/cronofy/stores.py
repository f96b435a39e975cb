"""Token stores: where tokens come from, and where refreshed ones go back to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from .secret import Secret
from .tokens import Token


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
        """All tokens, checked, in the order of the store."""
        ...

    def why_not_saved(self) -> str | None:
        """Why refreshed tokens could not be written back, in words for a person; None when they can."""
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
