"""The application's own token table: read with a query, written back with an update."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, UnreachableError
from ..expiry import expiry_like, parse_expiry
from ..secret import Secret
from ..tokens import COLUMNS, READ_COLUMNS, StoredTokens, Token, as_token, collect_tokens
from . import Renewal, StoreError
from .sql_database import connect, open_engine, said

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, TextClause

    from .sql_update import Target

FETCHED_ROWS = 2000
NEEDED_PARAMETERS = {"access_token", "refresh_token", "used_refresh_token"}
PARAMETERS = NEEDED_PARAMETERS | {"expires_at", "key"}


@dataclass(frozen=True)
class Update:
    """The statement that writes a refreshed token back, and the parameters it has."""

    statement: "TextClause"
    parameters: frozenset[str]

    @classmethod
    def of(cls, sql: str) -> "Update":
        """The update of an SQL text with named parameters."""
        from sqlalchemy import text

        statement = text(sql.strip().rstrip(";"))
        return cls(statement, frozenset(statement.compile().params))


class SqlStore:
    """A table read with `tokens_query`, and updated when tokens were refreshed.

    The update is derived from the query, or given as `tokens_update`. A query should have a column `key`:
    without one a token goes by its refresh token, so one that rotates is a new token to the warehouse.
    An index on the column of the refresh token makes the update cheap.
    """

    def __init__(self, query: str, database: str | Secret, update: str | None = None) -> None:
        """Nothing is connected to yet.

        Raises:
            ConfigurationError: SQLAlchemy or a driver is missing, or a setting cannot be used.
        """
        self.name = "tokens_query"
        self.folder: Path | None = None
        database = Secret.of(database)
        self._query = query.strip().rstrip(";").rstrip()
        self._engine = open_engine(database)
        self._update = _checked_update(update) if update else None
        self._writes_with = "tokens_update" if update else "tokens_query"
        self._shown = f"{query}\n{update or ''}\n{self._engine.url.render_as_string(hide_password=True)}"
        self._names: list[str] | None = None
        self._expiry_sample: Any = None
        self._some_key = "0"

    def read(self) -> StoredTokens:
        """All tokens, in the order of the query, and which rows are none; a few thousand at a time."""
        from sqlalchemy.exc import OperationalError, SQLAlchemyError

        # the query goes to the driver as it is, so that : and % mean what they mean there
        options = {"no_parameters": True, "yield_per": FETCHED_ROWS}
        try:
            with connect(self._engine) as connection:
                result = connection.exec_driver_sql(self._query, execution_options=options)
                self._names = _names(result)
                return collect_tokens(self.name, "row", enumerate(self._rows(result), start=1))
        except SQLAlchemyError as error:
            # what kind tells which are passing: no connection, a lock, a server that restarts
            kind = UnreachableError if isinstance(error, OperationalError) else ConfigurationError
            raise kind(f"{self.name} failed: {self._said(error)}") from None
        except UnicodeError:
            raise ConfigurationError(f"{self.name} failed: a column is not text in UTF-8") from None
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            # a driver that has no value for one of the database's, such as a year after 9999
            raise ConfigurationError(
                f"{self.name} failed: the driver cannot read a value ({type(error).__name__});"
                " cast its column to text in the query"
            ) from None

    def why_not_saved(self) -> str | None:
        """Tries the update with a refresh token that no row has, and takes it back."""
        from sqlalchemy.exc import SQLAlchemyError

        # a key as the table has them, because a column may take numbers or UUIDs only
        nobody = Token(self._some_key, Secret("-"), Secret("- no token -"))
        renewal = Renewal(nobody, Secret("-"), Secret("-"), datetime.now(UTC))
        try:
            update = self._known_update()
            with connect(self._engine) as connection:
                connection.execute(update.statement, self._parameters(update, renewal))
                connection.rollback()
        except (StoreError, ConfigurationError) as error:
            return str(error)
        except SQLAlchemyError as error:
            return f"{self._writes_with} cannot be written back: {self._said(error)}"
        return None

    def current(self, token: Token) -> Token | None:
        """The row of that key, asked for as a part of the query; None where that has no column key.

        Of several rows it is the one that was read before, as long as that is there.
        """
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        with suppress(SQLAlchemyError, ConfigurationError, UnicodeError), connect(self._engine) as connection:
            key = next((name for name in self._columns(connection) if name.lower() == "key"), None)
            if key is not None:
                quoted = self._engine.dialect.identifier_preparer.quote(key).replace(":", "\\:")
                one = text(f"{self._part()} WHERE t.{quoted} = :key")
                rows = self._rows(connection.execute(one, {"key": token.key}))
                found = list(self._usable(rows))
                same = (each for each in found if each.refresh_token == token.refresh_token)
                return next(same, found[0] if found else None)
        return None

    def _usable(self, rows: Iterator[dict[str, Any]]) -> Iterator[Token]:
        for row in rows:
            with suppress(ConfigurationError):
                yield as_token(row, self.name)

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Update the rows of all renewals, in one transaction."""
        from sqlalchemy.exc import SQLAlchemyError

        conflicts: list[Renewal] = []
        try:
            update = self._known_update()
            with connect(self._engine) as connection, connection.begin():
                for renewal in renewals:
                    result = connection.execute(update.statement, self._parameters(update, renewal))
                    if result.rowcount == 0:
                        conflicts.append(renewal)
        except ConfigurationError as error:
            raise StoreError(str(error)) from None
        except SQLAlchemyError as error:
            words = self._said(error, renewals)
            raise StoreError(f"{self._writes_with} cannot be written back: {words}") from None
        return conflicts

    def _said(self, error: Exception, renewals: Sequence[Renewal] = ()) -> str:
        secrets = (secret for renewal in renewals for secret in _secrets(renewal))
        return said(error, self._shown, (self._engine.url.password, *secrets))

    def _rows(self, result: "CursorResult[Any]") -> Iterator[dict[str, Any]]:
        """The rows as tables of the columns that matter."""
        at = {name.lower(): index for index, name in enumerate(_names(result))}
        wanted = [(name, at[name]) for name in READ_COLUMNS if name in at]
        for part in result.partitions(FETCHED_ROWS):
            for row in part:
                values = {name: row[index] for name, index in wanted}
                if self._expiry_sample is None and _is_time(values.get("expires_at")):
                    self._expiry_sample = values["expires_at"]
                self._some_key = str(values.get("key") or self._some_key)
                yield values

    def _part(self) -> str:
        """The query as a part of another one; the line break ends a comment."""
        query = self._query.replace(":", "\\:")
        return f"SELECT * FROM ({query}\n) t"  # noqa: S608 - the query is the user's own

    def _columns(self, connection: "Connection") -> list[str]:
        """What the query's columns are called."""
        from sqlalchemy import text

        if self._names is None:
            self._names = _names(connection.execute(text(f"{self._part()} WHERE 1 = 0")))
        return self._names

    def _known_update(self) -> Update:
        """The update that was given, or else the derived one.

        Raises:
            StoreError: none was given, and none can be derived from the query.
        """
        if self._update is None:
            from .sql_update import NotDerivedError, derive_target

            with connect(self._engine) as connection:
                try:
                    names = self._columns(connection)
                    target = derive_target(self._query, self._engine.dialect.name, names)
                except NotDerivedError as error:
                    raise StoreError(
                        f"{self.name} cannot be written back: {error};"
                        " set tokens_update in [sources.cronofy] to the SQL that writes a token back"
                    ) from None
                if self._expiry_sample is None and "expires_at" in target.columns:
                    self._expiry_sample = self._declared_sample(connection, target)
            self._update = Update.of(target.statement)
        return self._update

    def _parameters(self, update: Update, renewal: Renewal) -> dict[str, Any]:
        used = renewal.token.refresh_token
        sample = self._expiry_sample
        if sample is None and self._engine.dialect.name == "sqlite":
            sample = ""  # text is the usual form there
        values = {
            "access_token": renewal.access_token.reveal(),
            "refresh_token": renewal.refresh_token.reveal(),
            "used_refresh_token": used.reveal() if used else None,
            "expires_at": expiry_like(renewal.expires_at, sample),
            "key": renewal.token.key,
        }
        return {name: value for name, value in values.items() if name in update.parameters}

    def _declared_sample(self, connection: "Connection", target: "Target") -> Any:
        """What a column without any value yet would hold, by its type."""
        from sqlalchemy import inspect, types
        from sqlalchemy.exc import SQLAlchemyError

        name = target.columns["expires_at"].strip('"`[]').lower()
        with suppress(SQLAlchemyError):
            columns = inspect(connection).get_columns(target.table_name, target.schema_name)
            kind = next((column["type"] for column in columns if column["name"].lower() == name), None)
            if isinstance(kind, types.DateTime) and not kind.timezone and connection.dialect.name != "sqlite":
                return datetime(1970, 1, 1)  # noqa: DTZ001 - a column without a zone
            if isinstance(kind, (types.Integer, types.Numeric)):
                return 0
            if isinstance(kind, types.String):
                return ""
        return None


def _names(result: "CursorResult[Any]") -> list[str]:
    """What the columns of a result are called.

    Raises:
        ConfigurationError: they are not those of tokens.
    """
    names = list(map(str, result.keys())) if result.returns_rows else []
    lower = [name.lower() for name in names]
    if "access_token" not in lower:
        raise ConfigurationError(
            f"tokens_query: no column access_token; the query must name its columns {', '.join(COLUMNS)}"
        )
    twice = [name for name in READ_COLUMNS if lower.count(name) > 1]
    if twice:
        raise ConfigurationError(f"tokens_query: several columns {twice[0]}; name the ones that matter")
    return names


def _is_time(value: Any) -> bool:
    try:
        return parse_expiry(value) is not None
    except ValueError:
        return False


def _checked_update(sql: str) -> Update:
    update = Update.of(sql)
    missing, unknown = NEEDED_PARAMETERS - update.parameters, update.parameters - PARAMETERS
    if missing:
        raise ConfigurationError(
            f"tokens_update in [sources.cronofy] must use {_listed(missing)}:"
            " both new tokens are written, where the refresh token is still :used_refresh_token"
        )
    if unknown:
        raise ConfigurationError(
            f"tokens_update in [sources.cronofy] has no value for {_listed(unknown)};"
            f" there are {_listed(PARAMETERS)}, and any other colon is written \\:"
        )
    return update


def _listed(parameters: set[str] | frozenset[str]) -> str:
    return ", ".join(f":{name}" for name in sorted(parameters))


def _secrets(renewal: Renewal) -> Iterator[str]:
    used = renewal.token.refresh_token
    for secret in (renewal.token.access_token, renewal.access_token, renewal.refresh_token, used):
        if secret is not None:
            yield secret.reveal()
