"""What every token store is, and what it takes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ..secret import Secret
from .token import Token


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

    def applied_to(self, token: Token) -> Token:
        """A token that holds the used refresh token, with the new pair."""
        return replace(
            token,
            access_token=self.access_token,
            refresh_token=self.refresh_token,
            expires_at=self.expires_at,
        )


OnRefresh = Callable[[Renewal], Any]


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

        `StoredTokens`, a list as well, also says which rows cannot be used. The rows of any other list are
        checked by `stored_tokens`: they are tokens, with labels in the order of the setting `token_labels`,
        or tables with the columns of a token and of the labels.

        Raises:
            ConfigurationError: the store, or most of its rows, cannot be used; names the place.
        """
        ...

    def why_not_saved(self) -> str | None:
        """Why refreshed tokens could not be written back, in words for a person; None when they can.

        Asked before the first refresh token of a run is used up, because afterwards is too late. A store
        does what `save` does where that can be undone, with values as long as the longest it holds.
        """
        ...

    def current(self, token: Token) -> Token | None:
        """The token of that key as the store has it now; None where it is gone or not known."""
        ...

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Write refreshed tokens back, durably; every row that holds the used refresh token is changed.

        Returns:
            The renewals whose used refresh token the store does not hold any more, because the application
            changed it meanwhile; the store's own value was left alone.

        Raises:
            StoreError: nothing was written.
        """
        ...


def store_name(store: TokenStore) -> str:
    """What messages call a store; one from outside may have no name."""
    return str(getattr(store, "name", "tokens"))
