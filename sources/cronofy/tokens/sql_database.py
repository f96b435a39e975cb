"""The database of `tokens_query`: an engine that keeps to itself, and errors in a few safe words."""

import logging
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..secret import Secret
from .sql_drivers import leave_unreadable

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

LOGGING_NAME = "dlt_cronofy_tokens"
SHOWN_CHARACTERS = 200
SECRET_PART = 6  # so many characters of a secret in a message are too many
AT_SIGN = "tokens_database in [sources.cronofy]: write an @ in the password as %40"
# what the modules of drivers are called where they are installed from
DRIVER_PACKAGES = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient", "cx_Oracle": "cx-oracle"}
QUOTED = re.compile(r"""(["'`])(.*?)\1""")


def open_engine(database: str | Secret) -> "Engine":
    """An engine for that URL, which holds no connection open and logs neither parameters nor rows.

    Raises:
        ConfigurationError: SQLAlchemy or a driver is missing, or the URL is none.
    """
    database = Secret.of(database)
    try:
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError:
        raise ConfigurationError(
            "tokens_query needs SQLAlchemy: install the extra sql of dlt-cronofy, or sqlalchemy,"
            " and the driver of your database"
        ) from None
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
        leave_unreadable(engine)
    except ConfigurationError as error:
        raise error.with_traceback(None) from None  # the frame below holds the URL in plain
    except NoSuchModuleError:
        problem = "names a database that SQLAlchemy does not know"
    except ImportError as error:
        package = DRIVER_PACKAGES.get(error.name or "", error.name)
        problem = f"needs a driver that is not installed: {error.name}; install {package}"
    except (ArgumentError, TypeError, ValueError):
        if database.reveal().count("@") > 1:
            raise ConfigurationError(AT_SIGN) from None
        problem = "must be a SQLAlchemy URL like postgresql://user:password@host:5432/database"
    else:
        return engine
    raise ConfigurationError(f"tokens_database in [sources.cronofy] {problem}")


def _url(database: str) -> "URL":
    from sqlalchemy import make_url

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


def connect(engine: "Engine") -> "Connection":
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


def error_line(
    error: Exception, shown: str, secrets: Iterable[str | None], *, is_harmless: bool = False
) -> str:
    """A database's error in one line: what kind, and what the driver says where that is harmless.

    Args:
        error: SQLAlchemy's.
        shown: what may be quoted: the driver's other quotations are left out.
        secrets: whatever a part of appears in the driver's words, they are left out altogether.
        is_harmless: whether the values that the database refused were placeholders; then a constraint or a
            column may be named.
    """
    from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

    kind = type(error).__name__
    safe = (DBAPIError,) if is_harmless else (OperationalError, ProgrammingError)
    if not isinstance(error, safe):
        return kind
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    line = "".join(lines[:1])
    if not is_harmless:
        line = QUOTED.sub(lambda match: match.group() if match.group(2) in shown else "…", line)
    line = line[:SHOWN_CHARACTERS]
    hidden = [secret for secret in secrets if secret]
    parts = (line[at : at + SECRET_PART] for at in range(len(line) - SECRET_PART + 1))
    quotes = any(secret in line for secret in hidden) or any(part in "\n".join(hidden) for part in parts)
    return kind if quotes or not line else f"{kind} ({line})"
