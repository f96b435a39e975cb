"""The database of `tokens_query`: an engine that keeps to itself, and errors in a few safe words."""

import logging
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from ..errors import ConfigurationError
from ..secret import Secret

LOGGING_NAME = "dlt_cronofy_tokens"
SHOWN_CHARACTERS = 200
SECRET_PART = 6  # so many characters of a secret in a message are too many
AT_SIGN = "tokens_database in [sources.cronofy]: write an @ in the password as %40"
# what the modules of drivers are called where they are installed from
DRIVER_PACKAGES = {
    "psycopg2": "the extra postgres of dlt-cronofy, or psycopg2-binary",
    "psycopg": "the extra shared of dlt-cronofy, or psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "oracledb": "oracledb",
    "pyodbc": "pyodbc",
}
DENIED_IN_MYSQL = {1142, 1143}  # a command on a table, on a column
QUOTED = re.compile(r"""(["'`])(.*?)\1""")


def open_engine(database: str | Secret) -> Engine:
    """An engine for that URL, which holds no connection open and logs neither parameters nor rows.

    Raises:
        ConfigurationError: the driver is missing, or the URL is none.
    """
    database = Secret.of(database)
    # SQLAlchemy logs whole rows once somebody turns its loggers to DEBUG
    for name in ("engine.Engine", "pool.impl.NullPool"):
        logging.getLogger(f"sqlalchemy.{name}.{LOGGING_NAME}").setLevel(logging.WARNING)
    try:
        engine = create_engine(
            _url(database.reveal()),
            poolclass=NullPool,
            hide_parameters=True,
            logging_name=LOGGING_NAME,
            pool_logging_name=LOGGING_NAME,
        )
    except ConfigurationError as error:
        raise error.with_traceback(None) from None  # the frame below holds the URL in plain
    except NoSuchModuleError:
        problem = "names a database that SQLAlchemy does not know"
    except ImportError as error:
        # nothing but names that are known: anybody may have taken another one in a public index
        package = DRIVER_PACKAGES.get(error.name or "", "what SQLAlchemy's pages name for this database")
        problem = f"needs a driver that is not installed: {error.name}; install {package}"
    except (ArgumentError, TypeError, ValueError):
        if database.reveal().count("@") > 1:
            raise ConfigurationError(AT_SIGN) from None
        problem = "must be a SQLAlchemy URL like postgresql://user:password@host:5432/database"
    else:
        if engine.dialect.driver in TOLERANT_DRIVERS:
            event.listen(engine, "connect", TOLERANT_DRIVERS[engine.dialect.driver])
        return engine
    raise ConfigurationError(f"tokens_database in [sources.cronofy] {problem}")


def without_semicolon(sql: str) -> str:
    """One statement as a driver takes it."""
    return sql.strip().rstrip(";").rstrip()


def _url(database: str) -> URL:
    url = make_url(database.strip())
    if "@" in (url.host or ""):
        # taken for a part of the host, it would be shown
        raise ConfigurationError(AT_SIGN)
    if url.drivername == "postgres":  # what libpq and hosting providers write
        url = url.set(drivername="postgresql")
    if url.drivername == "postgresql" and find_spec("psycopg") is None and find_spec("psycopg2") is not None:
        # SQLAlchemy 2.1 asks for psycopg where 2.0 took psycopg2, which dlt brings
        url = url.set(drivername="postgresql+psycopg2")
    return url


def connect(engine: Engine) -> Connection:
    """A connection; SQLite would make a missing database instead of saying so.

    Raises:
        ConfigurationError: there is no such SQLite file.
        SQLAlchemyError: the database cannot be reached.
    """
    file = engine.url.database
    is_file = engine.dialect.name == "sqlite" and file and not file.startswith((":", "file:"))
    if file and is_file and not Path(file).is_file():
        raise ConfigurationError(f"tokens_database: {file} does not exist")
    return engine.connect()


def is_denied(error: Exception) -> bool:
    """Whether the role lacks a right, by the codes of PostgreSQL and MySQL."""
    original: Any = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if state == "42501":
        return "row-level security" not in str(original)  # which has the same code
    return next(iter(getattr(original, "args", ())), None) in DENIED_IN_MYSQL


def error_line(
    error: Exception, shown: str, secrets: Iterable[str | None], *, is_harmless: bool = False
) -> str:
    """A database's error in one line: what kind, and what the driver says where that is harmless.

    Args:
        error: SQLAlchemy's.
        shown: what may be quoted: the driver's other quotations are left out.
        secrets: where a part of one appears in the driver's words, they are left out altogether.
        is_harmless: whether the database refused placeholders; then a constraint or a column may be named.
    """
    kind = type(error).__name__
    safe = (DBAPIError,) if is_harmless else (OperationalError, ProgrammingError)
    if not isinstance(error, safe):
        return kind
    line = next(filter(None, map(str.strip, str(error.orig).splitlines())), "")
    if not is_harmless:
        line = QUOTED.sub(lambda match: match.group() if match.group(2) in shown else "…", line)
    line = line[:SHOWN_CHARACTERS]
    hidden = [secret for secret in secrets if secret]
    parts = (line[at : at + SECRET_PART] for at in range(len(line) - SECRET_PART + 1))
    quotes = any(secret in line for secret in hidden) or any(part in "\n".join(hidden) for part in parts)
    return kind if quotes or not line else f"{kind} ({line})"


# By themselves drivers fail a whole query for one value that Python lacks. These leave it as it came.


def _keep_sqlite_bytes(connection: Any, _: object) -> None:
    """SQLite takes any bytes for text."""

    def text_of(value: bytes) -> str | bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value

    connection.text_factory = text_of


def _keep_psycopg_times(connection: Any, _: object) -> None:
    """PostgreSQL has times that Python has not: years after 9999 and before 1, and infinity."""
    psycopg, datetimes = import_module("psycopg"), import_module("psycopg.types.datetime")

    def tolerant(loader: Any) -> Any:
        class Loader(loader):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except psycopg.DataError:
                    return bytes(data).decode()

        return Loader

    for name in ("Date", "Timestamp", "Timestamptz"):
        loader = tolerant(getattr(datetimes, f"{name}Loader"))
        connection.adapters.register_loader(name.lower(), loader)


def _keep_psycopg2_times(connection: Any, _: object) -> None:
    """The same for the driver before it."""
    psycopg2 = import_module("psycopg2")
    extensions = psycopg2.extensions

    def tolerant(kind: Any) -> Callable[[str | None, Any], Any]:
        def read(value: str | None, cursor: Any) -> Any:
            try:
                return kind(value, cursor)
            except (psycopg2.Error, ValueError):
                return value

        return read

    for kind in (extensions.PYDATE, extensions.PYDATETIME, extensions.PYDATETIMETZ):
        extensions.register_type(extensions.new_type(kind.values, kind.name, tolerant(kind)), connection)


TOLERANT_DRIVERS: dict[str, Callable[[Any, object], None]] = {
    "pysqlite": _keep_sqlite_bytes,
    "psycopg": _keep_psycopg_times,
    "psycopg2": _keep_psycopg2_times,
}
