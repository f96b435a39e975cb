"""The trial of an update: on a real row, with placeholders, in a transaction that is taken back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..secret import Hidden, Secret
from .base import Renewal
from .expiry import expiry_like
from .rows import as_token
from .token import Token
from .write_trial import LIFETIME, is_cut_off, longest, lookalike, placeholder

if TYPE_CHECKING:
    from sqlalchemy import Connection

Row = dict[str, Any]

CHANGES_NOTHING = "the update changes no row that tokens_query reads (a policy, a rule, a trigger?)"
CHANGES_OTHERS = "the update changes rows of other tokens too; it must ask for :used_refresh_token"
KEEPS_SOMETHING_ELSE = "what tokens_query reads after the update is not what was written"
# numbers that are not exact lose so much
INEXACT = timedelta(minutes=2)


@dataclass(frozen=True)
class Sample:
    """A row to try the update on, and what the store's values look like.

    Attributes:
        token: of the row.
        expires_at: the row's own, as the column has it.
        rows: so many rows of the query hold its refresh token.
        access: characters of the longest access token of the store.
        refresh: characters of the longest refresh token of the store.
    """

    token: Token
    expires_at: Hidden
    rows: int
    access: int
    refresh: int

    def pairs(self) -> Iterator[tuple[Secret, Secret]]:
        """New tokens to try: placeholders, and what looks like a token, which a rule may ask for."""
        yield Secret(placeholder(self.access)), Secret(placeholder(self.refresh))
        assert self.token.refresh_token is not None
        access, refresh = self.token.access_token.reveal(), self.token.refresh_token.reveal()
        yield Secret(lookalike(access)), Secret(lookalike(refresh))


class SqlTrial:
    """Tries an update on one connection. Every transaction is rolled back.

    Whether that helps is found out first, with a new access token beside the same refresh token: some
    engines (MyISAM) and connections (autocommit) keep what they were given at once. There the access token
    is put back, and the refresh token is never touched.

    Args:
        connection: to try it on.
        read: the rows of the query, on that connection.
        write: the update with an expiry as the column has it; returns the number of rows it says it changed.
        writes_expiry: whether the update has a place for the expiry.
    """

    def __init__(
        self,
        connection: "Connection",
        read: Callable[[], Iterator[Row]],
        write: Callable[[Renewal, Any], int],
        *,
        writes_expiry: bool,
    ) -> None:
        self._connection = connection
        self._writes_expiry = writes_expiry
        self._read = read
        self._write = write

    def find_sample(self) -> Sample | None:
        """The first row that can be refreshed; None where there is none."""
        access = refresh = rows = 0
        found: tuple[Token, Hidden] | None = None
        for row in self._read():
            try:
                token = as_token(row, "")
            except ConfigurationError:
                continue
            lengths = longest([token])
            access, refresh = max(access, lengths[0]), max(refresh, lengths[1])
            if found is None and token.refresh_token is not None:
                found = (token, Hidden(row.get("expires_at")))
            rows += found is not None and token.refresh_token == found[0].refresh_token
        self._connection.rollback()
        return Sample(*found, rows, access, refresh) if found else None

    def why_not(self, sample: Sample, access: Secret, refresh: Secret, expiry_sample: Any) -> str | None:
        """Why the update does not do what it should; None when it does.

        Args:
            sample: the row to try it on.
            access: the new access token.
            refresh: the new refresh token.
            expiry_sample: what the column of the expiry holds; decides in what form it is written.

        Raises:
            SQLAlchemyError: the database refuses it.
        """
        used = sample.token.refresh_token
        assert used is not None
        renewal = Renewal(sample.token, access, refresh, datetime.now(UTC) + LIFETIME)
        expires_at = expiry_like(renewal.expires_at, expiry_sample)
        try:
            self._write(Renewal(sample.token, access, used), expires_at)
            self._connection.rollback()
            if self._is_kept(access, used):
                self._put_back(sample, used)
                return None
            changed = self._write(renewal, expires_at)
            if self._connection.dialect.name == "postgresql":
                # what is checked at the end of a transaction is checked now
                self._connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
            return self._what_is_wrong(renewal, changed, sample.rows)
        finally:
            self._connection.rollback()

    def _is_kept(self, access: Secret, used: Secret) -> bool:
        """Whether a change that was rolled back is there all the same."""
        rows = (row for row in self._read() if _text(row, "refresh_token") == used.reveal())
        return any(_text(row, "access_token") == access.reveal() for row in rows)

    def _put_back(self, sample: Sample, used: Secret) -> None:
        self._write(Renewal(sample.token, sample.token.access_token, used), sample.expires_at.value)
        self._connection.commit()

    def _what_is_wrong(self, renewal: Renewal, changed: int, rows: int) -> str | None:
        """What the query reads within the transaction, held against what was written."""
        new, used = renewal.refresh_token.reveal(), renewal.token.refresh_token
        found = unchanged = altered = 0
        for row in self._read():
            held = _text(row, "refresh_token")
            if held == new:
                found += 1
                if not _reads_as(row, renewal, has_expiry=self._writes_expiry):
                    return KEEPS_SOMETHING_ELSE
            elif used is not None and held == used.reveal():
                unchanged += 1
            else:
                altered += is_cut_off(held, new) or _text(row, "key") == renewal.token.key
        if found:
            return CHANGES_OTHERS if found > rows else None
        if unchanged or changed == 0:
            return CHANGES_NOTHING
        # a row that left the query, because it asks for expired tokens only, is as good as one that is found
        return KEEPS_SOMETHING_ELSE if altered else None


def _reads_as(row: Row, renewal: Renewal, *, has_expiry: bool) -> bool:
    """Whether a row reads as what was written to it."""
    try:
        token = as_token(row, "")
    except ConfigurationError:
        return False
    if token.access_token != renewal.access_token:
        return False
    if not has_expiry or "expires_at" not in row or renewal.expires_at is None:
        return True
    is_day = isinstance(row["expires_at"], date) and not isinstance(row["expires_at"], datetime)
    distance = timedelta(days=1) if is_day else INEXACT
    return token.expires_at is not None and abs(token.expires_at - renewal.expires_at) <= distance


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()
