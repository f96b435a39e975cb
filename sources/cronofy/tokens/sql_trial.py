"""The trial of an update: on a real row, with placeholders, in a transaction that is rolled back."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ..secret import Secret
from .base import Renewal
from .expiry import expiry_like
from .placeholders import LIFETIME, is_cut_off, lookalike
from .token import Token

CHANGES_NOTHING = "the update changes no row that tokens_query reads (a policy, a rule, a trigger?)"
CHANGES_OTHERS = "the update changes rows of other tokens too; it must ask for :used_refresh_token"
KEEPS_SOMETHING_ELSE = "what tokens_query reads after the update is not what was written"
# numbers that are not exact lose so much
INEXACT = timedelta(minutes=2)
# a trial on a row that the application changes meanwhile begins again with another one
TRIALS = 3
# and after that long it tries no other form of the expiry
TRIAL_SECONDS = 20.0


@dataclass(frozen=True)
class SqlTrial:
    """Tries an update on one connection. Every transaction is rolled back.

    Attributes:
        connection: to try it on.
        read: the tokens of the query's rows, on that connection; None for a row that cannot be used.
        write: the update with an expiry as the column has it; returns the number of rows it says it changed.
        in_words: what the database says of a renewal that it refuses.
        expiry_forms: what the column of the expiry may hold, as `expiry_like` takes it.
        has_expiry: whether the update writes expiries that the query reads; asked once rows were read.
    """

    connection: Connection
    read: Callable[[], list[Token | None]]
    write: Callable[[Renewal, Any], int]
    in_words: Callable[[Exception, Renewal], str]
    expiry_forms: Sequence[Any]
    has_expiry: Callable[[], bool]

    def run(self) -> tuple[str | None, Any]:
        """Why the update does not do what it should, or None, and the form of the expiry that did.

        Raises:
            SQLAlchemyError: the rows cannot be read.
        """
        why, form, tried = None, None, None
        for _ in range(TRIALS):
            rows = self.read_before()
            sample = next((token for token in rows if token and token.refresh_token), None)
            if sample is None:
                return None, None  # there is nothing to refresh
            if sample == tried:
                break  # else the application changed that row meanwhile
            why, form = self._try_forms(sample, rows)
            if why != CHANGES_NOTHING:
                break
            tried = sample
        return why, form

    def read_before(self) -> list[Token | None]:
        """The rows as they are before a trial."""
        rows = self.read()
        self.connection.rollback()
        return rows

    def _try_forms(self, sample: Token, rows: Sequence[Token | None]) -> tuple[str | None, Any]:
        access = _like_longest(token.access_token for token in rows if token)
        refresh = _like_longest(t.refresh_token for t in rows if t and t.refresh_token)
        renewal = Renewal(sample, access, refresh, datetime.now(UTC) + LIFETIME)
        first: str | None = None
        given_up_at = time.monotonic() + TRIAL_SECONDS
        for form in self.expiry_forms:
            try:
                why = self._why_not(renewal, form, rows)
            except SQLAlchemyError as error:
                why = self.in_words(error, renewal)
            finally:
                self.connection.rollback()
            if why is None:
                return None, form
            first = first or why
            if time.monotonic() > given_up_at:
                break
        return first, None

    def _why_not(self, renewal: Renewal, form: Any, rows: Sequence[Token | None]) -> str | None:
        """Why the update does not do what it should for this renewal; None when it does.

        Raises:
            SQLAlchemyError: the database refuses it.
        """
        if self._keeps_at_once(renewal, form):
            return None
        changed = self.write(renewal, expiry_like(renewal.expires_at, form))
        if self.connection.dialect.name == "postgresql":
            # what is checked at the end of a transaction is checked now
            self.connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        return self._what_is_wrong(renewal, changed, rows)

    def _keeps_at_once(self, renewal: Renewal, form: Any) -> bool:
        """Whether what is rolled back is there all the same, as with some engines (MyISAM) and autocommit.

        It is tried with a new access token, which is taken back; the refresh token is never touched.
        """
        old, used = renewal.token, renewal.token.refresh_token
        assert used is not None
        self.write(replace(renewal, refresh_token=used), expiry_like(renewal.expires_at, form))
        self.connection.rollback()
        held = {(token.refresh_token, token.access_token) for token in self.read() if token}
        if (used, renewal.access_token) not in held:
            return False
        self.write(Renewal(old, old.access_token, used), expiry_like(old.expires_at, form))
        self.connection.commit()
        return True

    def _what_is_wrong(self, renewal: Renewal, changed: int, before: Sequence[Token | None]) -> str | None:
        """What the query reads within the transaction, compared with what was written."""
        used, new, rows = renewal.token.refresh_token, renewal.refresh_token, self.read()
        tokens = [token for token in rows if token]
        found = [token for token in tokens if token.refresh_token == new]
        if rows.count(None) > before.count(None) or not all(self._reads_as(each, renewal) for each in found):
            return KEEPS_SOMETHING_ELSE
        if found:
            holders = sum(token.refresh_token == used for token in before if token)
            return CHANGES_OTHERS if len(found) > holders else None
        if changed == 0 or any(token.refresh_token == used for token in tokens):
            return CHANGES_NOTHING
        is_altered = any(
            token.key == renewal.token.key
            or (token.refresh_token and is_cut_off(token.refresh_token.reveal(), new.reveal()))
            for token in tokens
        )
        # a row that left the query, because it asks for expired tokens only, is as good as one that is found
        return KEEPS_SOMETHING_ELSE if is_altered else None

    def _reads_as(self, token: Token, renewal: Renewal) -> bool:
        """Whether a row reads as what was written to it."""
        if token.access_token != renewal.access_token:
            return False
        found, written = token.expires_at, renewal.expires_at
        if not self.has_expiry():
            return True
        if found is None or written is None:
            return False
        # a column of days has midnight
        distance = timedelta(days=1) if found.time() == time_of_day() else INEXACT
        return abs(found - written) <= distance


def _like_longest(secrets: Iterable[Secret]) -> Secret:
    """A placeholder for the longest of them."""
    return Secret(lookalike(max((each.reveal() for each in secrets), key=len)))
