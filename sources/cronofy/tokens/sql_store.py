"""The application's own token table: read with a query, written back with an update."""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, TextClause, inspect, text, types
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from ..errors import ConfigurationError, UnreachableError
from ..secret import Secret
from ..settings import TOKEN_COLUMNS
from .base import Renewal, StoreError
from .expiry import expiry_form, expiry_like
from .labels import LabelReader
from .placeholders import is_cut_off
from .rows import NAMED_COLUMNS, as_token, collect_tokens
from .sql_database import connect, error_line, is_denied, open_engine, without_semicolon
from .sql_trial import KEEPS_SOMETHING_ELSE, SqlTrial
from .sql_update import NotDerivedError, Target, derive_target
from .token import StoredTokens, Token

FETCHED_ROWS = 2000
# how long an update waits for another transaction's lock
LOCK_SECONDS = 30
NEEDED_PARAMETERS = {"access_token", "refresh_token", "used_refresh_token"}
PARAMETERS = NEEDED_PARAMETERS | {"expires_at", "key"}
WITHOUT_ZONE = datetime(1970, 1, 1)  # noqa: DTZ001 - what a column without a zone holds

Row = dict[str, Any]


class SqlStore:
    """A table read with `tokens_query`, and updated when tokens were refreshed.

    The update is derived from the query, or given as `tokens_update`. A query should have a column `key`:
    without one a token goes by its refresh token, so one that rotates is a new token to the warehouse.
    An index on the column of the refresh token makes the update cheap.
    """

    def __init__(
        self,
        query: str,
        database: str | Secret,
        update: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Nothing is connected to yet; `labels` are names in lower case, None for the default.

        Raises:
            ConfigurationError: the driver is missing, or a setting cannot be used.
        """
        self.name = "tokens_query"
        self.folder: Path | None = None
        database = Secret.of(database)
        self._query = without_semicolon(query)
        self._engine = open_engine(database)
        self._update = _checked_update(update) if update else None
        self._cannot = f"{'tokens_update' if update else self.name} cannot be written back"
        self._shown = f"{query}\n{update or ''}\n{self._engine.url.render_as_string(hide_password=True)}"
        self._labels = labels
        self._names: list[str] | None = None
        self._expiry_form: Any = None
        self._is_given = update is not None
        self._right = "the rights that tokens_update needs" if update else ""

    def read(self) -> StoredTokens:
        """All tokens, in the order of the query, and which rows are none; a few thousand at a time."""
        try:
            with connect(self._engine) as connection:
                rows = map(self._noted, self._query_rows(connection))
                return collect_tokens(self.name, "row", enumerate(rows, start=1), self._labels)
        except SQLAlchemyError as error:
            # what kind shows which are passing: no connection, a lock, a server that restarts
            kind = UnreachableError if isinstance(error, OperationalError) else ConfigurationError
            raise kind(f"{self.name} failed: {self._in_words(error)}") from None
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            # a driver that has no value for one of the database's, such as a year after 9999
            raise ConfigurationError(
                f"{self.name} failed: the driver cannot read a value ({type(error).__name__});"
                " cast its column to text in the query"
            ) from None

    def why_not_saved(self) -> str | None:
        """Tries the update on a real row, reads what the row is then, and takes it back."""
        try:
            update = self._known_update()
            writes_expiry = "expires_at" in _parameters(update)
            with connect(self._engine) as connection:
                trial = SqlTrial(
                    connection,
                    partial(self._query_tokens, connection),
                    partial(self._write, connection, update),
                    self._in_trial,
                    self._expiry_forms() if writes_expiry else (None,),
                    lambda: writes_expiry and "expires_at" in map(str.lower, self._names or ()),
                )
                why, form = trial.run()
        except (StoreError, ConfigurationError) as error:
            return str(error)
        except SQLAlchemyError as error:
            why, form = self._in_words(error), None
        if self._expiry_form is None:
            self._expiry_form = form
        return why and f"{self._cannot}: {why}"

    def _in_trial(self, error: Exception, renewal: Renewal) -> str:
        """The database's words, and the statement that grants what the role lacks."""
        words = self._in_words(error, renewal, is_harmless=True)
        role = self._engine.url.username
        if not self._right or not role or not is_denied(error):
            return words
        to = self._engine.dialect.identifier_preparer.quote(role)
        other = "" if self._is_given else "set tokens_update, or "
        grant = f"grant {to} {self._right}" if self._is_given else f"run GRANT {self._right} TO {to}"
        return f"{words}; {grant}, or {other}leave client_id out"

    def _expiry_forms(self) -> tuple[Any, ...]:
        """The forms that the column of the expiry may have: a single one, where any row has a value."""
        if self._expiry_form is not None:
            return (self._expiry_form,)
        is_sqlite = self._engine.dialect.name == "sqlite"  # where text is the usual form
        return ("", 0) if is_sqlite else (None, WITHOUT_ZONE, "", 0)

    def current(self, token: Token) -> Token | None:
        """The row of that key, asked for as a part of the query; None where that has no column key.

        Of several rows it is the one that was read before, as long as that is there.
        """
        with suppress(SQLAlchemyError, ConfigurationError), connect(self._engine) as connection:
            return self._current(connection, token)
        return None

    def _current(self, connection: Connection, token: Token) -> Token | None:
        found: list[Token] = []
        with suppress(SQLAlchemyError, ConfigurationError, UnicodeError):
            key = next((name for name in self._columns(connection) if name.lower() == "key"), None)
            if key is None:
                return None
            quoted = self._engine.dialect.identifier_preparer.quote(key).replace(":", "\\:")
            one = text(f"{self._as_part()} WHERE t.{quoted} = :key")
            labels = LabelReader(self._labels)
            rows = self._rows(connection.execute(one, {"key": token.key}))
            found = [each for row in rows if (each := as_token(row, labels))]
        same = (each for each in found if each.refresh_token == token.refresh_token)
        return next(same, found[0] if found else None)

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Update the rows of all renewals, in one transaction, and look what became of them.

        Raises:
            StoreError: nothing was written; or the database took the update and kept something else.
        """
        try:
            update, form = self._known_update(), self._expiry_form
            if form is None:
                form = self._expiry_forms()[0]
            with connect(self._engine) as connection:
                with connection.begin():
                    conflicts = [
                        each
                        for each in renewals
                        if self._write(connection, update, each, expiry_like(each.expires_at, form)) == 0
                    ]
                written = [each for each in renewals if each not in conflicts]
                changed = [each for each in written if self._is_changed(connection, each)]
        except ConfigurationError as error:
            raise StoreError(str(error)) from None
        except SQLAlchemyError as error:
            raise StoreError(f"{self._cannot}: {self._in_words(error, *renewals)}") from None
        if changed:
            raise StoreError(f"{self._cannot}: {KEEPS_SOMETHING_ELSE}")
        return conflicts

    def _write(self, connection: Connection, update: TextClause, renewal: Renewal, expires_at: Any) -> int:
        """Update the rows of one renewal; how many that were, below 0 where the driver does not say."""
        if connection.dialect.name == "postgresql":
            # not for ever: new refresh tokens are nowhere but in memory
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        used = renewal.token.refresh_token
        values = {
            "access_token": renewal.access_token.reveal(),
            "refresh_token": renewal.refresh_token.reveal(),
            "used_refresh_token": used.reveal() if used else None,
            "expires_at": expires_at,
            "key": renewal.token.key,
        }
        wanted = {name: values[name] for name in _parameters(update)}
        return int(connection.execute(update, wanted).rowcount)

    def _is_changed(self, connection: Connection, renewal: Renewal) -> bool:
        """Whether the row holds, after the update, the old tokens or the beginning of the new ones."""
        old, found = renewal.token, self._current(connection, renewal.token)
        if found is None:
            return False  # the query has no key, or does not read the row any more
        pairs = [(old.access_token, renewal.access_token, found.access_token)]
        if old.refresh_token is not None and found.refresh_token is not None:
            pairs.append((old.refresh_token, renewal.refresh_token, found.refresh_token))
        return any(
            (held == before != new) or is_cut_off(held.reveal(), new.reveal()) for before, new, held in pairs
        )

    def _in_words(self, error: Exception, *renewals: Renewal, is_harmless: bool = False) -> str:
        """The database's words, unless they quote a token of these; placeholders may be quoted."""
        secrets: list[Secret | None] = []
        for each in renewals:
            secrets += (each.token.access_token, each.token.refresh_token)
            secrets += () if is_harmless else (each.access_token, each.refresh_token)
        hidden = (secret.reveal() for secret in secrets if secret is not None)
        password = self._engine.url.password
        return error_line(error, self._shown, [password, *hidden], is_harmless=is_harmless)

    def _query_tokens(self, connection: Connection) -> list[Token | None]:
        labels = LabelReader(())
        return [as_token(row, labels) for row in self._query_rows(connection)]

    def _query_rows(self, connection: Connection) -> Iterator[Row]:
        """The rows of the query, fetched a few thousand at a time."""
        # the query goes to the driver as it is, so that : and % mean what they mean there
        options = {"no_parameters": True, "yield_per": FETCHED_ROWS}
        with closing(connection.exec_driver_sql(self._query, execution_options=options)) as result:
            yield from self._rows(result)

    def _rows(self, result: "CursorResult[Any]") -> Iterator[Row]:
        """The rows as tables of the columns that matter."""
        self._names = self._checked_names(result)
        lower = [name.lower() for name in self._names]
        labels = LabelReader(self._labels).wanted
        # the default label is not asked for: of several columns of its name it is none
        wanted = [(name, lower.index(name)) for name in (*TOKEN_COLUMNS, *labels) if lower.count(name) == 1]
        for part in result.partitions(FETCHED_ROWS):
            for row in part:
                yield {name: row[index] for name, index in wanted}

    def _noted(self, row: Row) -> Row:
        """The row; the first one with an expiry shows which form the column has."""
        if self._expiry_form is None:
            self._expiry_form = expiry_form([row.get("expires_at")], None)
        return row

    def _as_part(self) -> str:
        """The query as a part of another one; the line break ends a comment."""
        query = self._query.replace(":", "\\:")
        return f"SELECT * FROM ({query}\n) t"  # noqa: S608 - the query is the user's own

    def _columns(self, connection: Connection) -> list[str]:
        """What the query's columns are called."""
        if self._names is None:
            self._names = self._checked_names(connection.execute(text(f"{self._as_part()} WHERE 1 = 0")))
        return self._names

    def _checked_names(self, result: "CursorResult[Any]") -> list[str]:
        """What the columns of a result are called; of those that are wanted none twice.

        Raises:
            ConfigurationError: they are not those of tokens.
        """
        names = list(map(str, result.keys())) if result.returns_rows else []
        lower = [name.lower() for name in names]
        if "access_token" not in lower:
            raise ConfigurationError(
                f"{self.name}: no column access_token; the query must name its columns {NAMED_COLUMNS}"
            )
        twice = [name for name in (*TOKEN_COLUMNS, *(self._labels or ())) if lower.count(name) > 1]
        if twice:
            raise ConfigurationError(f"{self.name}: several columns {twice[0]}; name the ones that matter")
        return names

    def _known_update(self) -> TextClause:
        """The update that was given, or else the derived one.

        Raises:
            StoreError: none was given, and none can be derived from the query.
        """
        if self._update is None:
            with connect(self._engine) as connection:
                names = self._columns(connection)
                try:
                    target = derive_target(self._query, self._engine.dialect.name, names)
                except NotDerivedError:
                    raise StoreError(
                        f"{self._cannot}: it does not show which columns of which table tokens come from;"
                        " set tokens_update in [sources.cronofy] to the SQL that writes a token back"
                    ) from None
                self._right = target.right
                if self._expiry_form is None and target.expiry_column:
                    self._expiry_form = _declared_form(connection, target)
            self._update = text(target.statement)
        return self._update


def _declared_form(connection: Connection, target: Target) -> Any:
    """The form of an expiry in a column without any value yet, if its type shows it."""
    name = (target.expiry_column or "").strip('"`[]').lower()
    with suppress(SQLAlchemyError):
        columns = inspect(connection).get_columns(target.table_name, target.schema_name)
        kind = next((column["type"] for column in columns if column["name"].lower() == name), None)
        if isinstance(kind, types.DateTime) and not kind.timezone and connection.dialect.name != "sqlite":
            return WITHOUT_ZONE
        if isinstance(kind, (types.Integer, types.Numeric)):
            return 0
        if isinstance(kind, types.String):
            return ""
    return None


def _parameters(statement: TextClause) -> set[str]:
    return set(statement.compile().params)


def _checked_update(sql: str) -> TextClause:
    update = text(without_semicolon(sql))
    if not NEEDED_PARAMETERS <= _parameters(update) <= PARAMETERS:
        raise ConfigurationError(
            "tokens_update in [sources.cronofy] must set :access_token and :refresh_token where the refresh"
            " token is :used_refresh_token; it may use :expires_at and :key; any other colon is written \\:"
        )
    return update
