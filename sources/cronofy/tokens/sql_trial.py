"""The trial of an update: on a real row, with placeholders, in a transaction that is rolled back."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ..errors import ConfigurationError
from ..secret import Hidden, Secret
from .base import Renewal
from .expiry import expiry_like
from .placeholders import LIFETIME, is_cut_off, lookalike
from .rows import as_token
from .token import Token

Row = dict[str, Any]

CHANGES_NOTHING = "the update changes no row that tokens_query reads (a policy, a rule, a trigger?)"
CHANGES_OTHERS = "the update changes rows of other tokens too; it must ask for :used_refresh_token"
KEEPS_SOMETHING_ELSE = "what tokens_query reads after the update is not what was written"
# numbers that are not exact lose so much
INEXACT = timedelta(minutes=2)
# a trial on a row that the application changes meanwhile begins again with another one
TRIALS = 3
# and after that long it tries no other form of the expiry
TRIAL_SECONDS = 20.0


class Sample(NamedTuple):
    """A row to try the update on.

    Attributes:
        token: of the row.
        used: its refresh token.
        expires_at: the row's own, as the column has it.
        rows: so many rows of the query hold its refresh token.
        pair: new tokens that look like the longest ones of the store.
    """

    token: Token
    used: Secret
    expires_at: Hidden
    rows: int
    pair: tuple[Secret, Secret]


@dataclass(frozen=True)
class SqlTrial:
    """Tries an update on one connection. Every transaction is rolled back.

    Whether that helps is found out first, with a new access token beside the same refresh token: some
    engines (MyISAM) and connections (autocommit) keep what they were given at once. There the access token
    is put back, and the refresh token is never touched.

    Attributes:
        connection: to try it on.
        read: the rows of the query, on that connection.
        write: the update with an expiry as the column has it; returns the number of rows it says it changed.
        in_words: what the database says of a renewal that it refuses.
        writes_expiry: whether the update has a place for the expiry.
    """

    connection: Connection
    read: Callable[[], Iterator[Row]]
    write: Callable[[Renewal, Any], int]
    in_words: Callable[[Exception, Renewal], str]
    writes_expiry: bool

    def run(self, forms: Sequence[Any]) -> tuple[str | None, Any]:
        """Why the update does not do what it should, or None, and the form of the expiry that did.

        Args:
            forms: what the column of the expiry may hold, as `expiry_like` takes it.

        Raises:
            SQLAlchemyError: the rows cannot be read.
        """
        why, form, tried = None, None, None
        for _ in range(TRIALS):
            sample = self.find_sample()
            if sample is None:
                return None, None  # there is nothing to refresh
            if sample.token == tried:
                break  # else the application changed that row meanwhile
            why, form = self._try_forms(sample, forms)
            if why != CHANGES_NOTHING:
                break
            tried = sample.token
        return why, form

    def find_sample(self) -> Sample | None:
        """The first row that can be refreshed; None where there is none."""
        access, refresh, rows = Secret(""), Secret(""), 0
        found: tuple[Token, Secret, Hidden] | None = None
        for row in self.read():
            token = _token_of(row)
            if token is None:
                continue
            access = max(access, token.access_token, key=_length)
            if token.refresh_token is not None:
                refresh = max(refresh, token.refresh_token, key=_length)
                found = found or (token, token.refresh_token, Hidden(row.get("expires_at")))
                rows += token.refresh_token == found[1]
        self.connection.rollback()
        if found is None:
            return None
        return Sample(*found, rows, (Secret(lookalike(access.reveal())), Secret(lookalike(refresh.reveal()))))

    def _try_forms(self, sample: Sample, forms: Sequence[Any]) -> tuple[str | None, Any]:
        first: str | None = None
        given_up_at = time.monotonic() + TRIAL_SECONDS
        for form in forms:
            renewal = Renewal(sample.token, *sample.pair, datetime.now(UTC) + LIFETIME)
            try:
                why = self._why_not(sample, renewal, expiry_like(renewal.expires_at, form))
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

    def _why_not(self, sample: Sample, renewal: Renewal, expires_at: Any) -> str | None:
        """Why the update does not do what it should for this renewal; None when it does.

        Raises:
            SQLAlchemyError: the database refuses it.
        """
        self.write(Renewal(sample.token, renewal.access_token, sample.used), expires_at)
        self.connection.rollback()
        rows = (row for row in self.read() if _text(row, "refresh_token") == sample.used.reveal())
        if any(_text(row, "access_token") == renewal.access_token.reveal() for row in rows):
            # what was rolled back is there all the same
            self.write(Renewal(sample.token, sample.token.access_token, sample.used), sample.expires_at.value)
            self.connection.commit()
            return None
        changed = self.write(renewal, expires_at)
        if self.connection.dialect.name == "postgresql":
            # what is checked at the end of a transaction is checked now
            self.connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        return self._what_is_wrong(sample, renewal, changed)

    def _what_is_wrong(self, sample: Sample, renewal: Renewal, changed: int) -> str | None:
        """What the query reads within the transaction, compared with what was written."""
        new, used = renewal.refresh_token.reveal(), sample.used.reveal()
        found = unchanged = altered = 0
        for row in self.read():
            held = _text(row, "refresh_token")
            if held == new:
                found += 1
                if not self._reads_as(row, renewal):
                    return KEEPS_SOMETHING_ELSE
            elif held == used:
                unchanged += 1
            else:
                altered += is_cut_off(held, new) or _text(row, "key") == renewal.token.key
        if found:
            return CHANGES_OTHERS if found > sample.rows else None
        if unchanged or changed == 0:
            return CHANGES_NOTHING
        # a row that left the query, because it asks for expired tokens only, is as good as one that is found
        return KEEPS_SOMETHING_ELSE if altered else None

    def _reads_as(self, row: Row, renewal: Renewal) -> bool:
        """Whether a row reads as what was written to it."""
        token, expires_at = _token_of(row), row.get("expires_at")
        if token is None or token.access_token != renewal.access_token:
            return False
        if not self.writes_expiry or "expires_at" not in row or renewal.expires_at is None:
            return True
        is_day = isinstance(expires_at, date) and not isinstance(expires_at, datetime)
        distance = timedelta(days=1) if is_day else INEXACT
        return token.expires_at is not None and abs(token.expires_at - renewal.expires_at) <= distance


def _token_of(row: Row) -> Token | None:
    try:
        return as_token(row, "")
    except ConfigurationError:
        return None


def _length(secret: Secret) -> int:
    return len(secret.reveal())


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()
