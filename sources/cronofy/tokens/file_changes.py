"""What renewals change in the rows of a token file, whatever its format."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .base import Renewal
from .expiry import expiry_like, is_missing
from .token import Token, token_key

Values = dict[str, Any]


class Changes:
    """The renewals that a file is to hold, in their order; and which of them found a row."""

    def __init__(self, renewals: Sequence[Renewal]) -> None:
        self._renewals = renewals
        self._applied: set[int] = set()
        self._by_used: dict[str, list[int]] = {}
        for number, renewal in enumerate(renewals):
            if renewal.token.refresh_token is not None:
                self._by_used.setdefault(renewal.token.refresh_token.reveal(), []).append(number)

    def edits(self, rows: Iterable[Mapping[str, Any]], empty_expiry: Any = "") -> dict[int, Values]:
        """The new values of the rows that change, by the row's number from 0.

        Args:
            rows: each with its `refresh_token`, and with `key` and `expires_at` where the file has them.
            empty_expiry: the form of an expiry in a file that has none yet, as `expiry_like` takes it.
        """
        rows = list(rows)
        expiries = (row.get("expires_at") for row in rows)
        form = next((each for each in expiries if not (is_missing(each) or each == "")), empty_expiry)
        found = ((number, row, self._last(row.get("refresh_token"))) for number, row in enumerate(rows))
        return {number: _values(row, renewal, form) for number, row, renewal in found if renewal is not None}

    def renewed(self, token: Token) -> Token:
        """The token as the file has it with these changes."""
        renewal = self._last(token.refresh_token.reveal()) if token.refresh_token else None
        if renewal is None:
            return token
        return replace(
            token,
            access_token=renewal.access_token,
            refresh_token=renewal.refresh_token,
            expires_at=renewal.expires_at,
        )

    def conflicts(self) -> list[Renewal]:
        """The renewals that no row was found for."""
        return [each for number, each in enumerate(self._renewals) if number not in self._applied]

    def _last(self, refresh_token: Any) -> Renewal | None:
        """The renewal that a row with this refresh token ends with."""
        held = refresh_token.strip() if isinstance(refresh_token, str) else ""
        number = -1
        # a token renewed twice ends with the second, which used what the first one brought
        while (later := next((n for n in self._by_used.get(held, ()) if n > number), None)) is not None:
            number = later
            held = self._renewals[number].refresh_token.reveal()
            self._applied.add(number)
        return None if number < 0 else self._renewals[number]


def _values(row: Mapping[str, Any], renewal: Renewal, form: Any) -> Values:
    """The new values of a row, without `expires_at` where the row has no such column.

    A row without a key is known by its refresh token, so it is given that name before the token goes.
    """
    used, refresh_token = row["refresh_token"].strip(), renewal.refresh_token.reveal()
    values: Values = {"access_token": renewal.access_token.reveal(), "refresh_token": refresh_token}
    key = row.get("key")
    if used != refresh_token and (key is None or (isinstance(key, str) and not key.strip())):
        values["key"] = token_key("", used)
    if "expires_at" in row:
        own = row["expires_at"]
        values["expires_at"] = expiry_like(renewal.expires_at, form if is_missing(own) or own == "" else own)
    return values
