"""The application's log of Cronofy's push notifications, read with `due_query`."""

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from ..clock import MOST_AHEAD
from ..errors import ConfigurationError
from ..settings import PollingSettings
from .expiry import parse_expiry
from .rows import RowError, read_key
from .store import NO_DATABASE, NO_SQLALCHEMY

SETTING = "due_query in [sources.cronofy]"
NAMES, NOTIFIED_AT = ("key", "account_id"), "notified_at"
FETCHED_ROWS = 2000

logger = logging.getLogger("dlt_cronofy")


def read_notified(settings: PollingSettings, now: datetime) -> dict[str, datetime]:
    """When the application was last notified, by token_key or account_id; empty without a `due_query`.

    Rows without a name or a time are nothing. What is dated more than an hour ahead of `now` is left out, and
    a warning says so: such a token would be first in every load until then.

    Raises:
        ConfigurationError: the query cannot be run, or does not return what it should.
    """
    query, database = settings.due_query, settings.tokens_database
    if query is None:
        return {}
    if database is None:
        raise ConfigurationError(NO_DATABASE.format("due_query"))
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from .sql_database import connect, error_line, open_engine, without_semicolon
    except ImportError:
        raise ConfigurationError(NO_SQLALCHEMY.format("due_query")) from None
    engine = open_engine(database)
    newest: dict[str, datetime] = {}
    ahead = 0
    try:
        with connect(engine) as connection:
            options = {"no_parameters": True, "yield_per": FETCHED_ROWS}
            text = without_semicolon(query)
            with closing(connection.exec_driver_sql(text, execution_options=options)) as result:
                for name, at in _notices(result):
                    if at > now + MOST_AHEAD:
                        ahead += 1
                    elif name not in newest or at > newest[name]:
                        newest[name] = at
    except SQLAlchemyError as error:
        shown = f"{query}\n{engine.url.render_as_string(hide_password=True)}"
        raise ConfigurationError(
            f"{SETTING} failed: {error_line(error, shown, [engine.url.password])}"
        ) from None
    if ahead:
        logger.warning(
            "due_query: %d row(s) are dated more than an hour ahead and do not count;"
            " times without a zone are taken for UTC",
            ahead,
        )
    return newest


def _notices(result: Any) -> Iterator[tuple[str, datetime]]:
    """The names and times of a result.

    Raises:
        ConfigurationError: a column is missing, or holds something else.
    """
    names = list(map(str.lower, map(str, result.keys()))) if result.returns_rows else []
    if NOTIFIED_AT not in names or not set(NAMES) & set(names):
        raise ConfigurationError(f"{SETTING} must return the columns key or account_id, and notified_at")
    at = names.index(NOTIFIED_AT)
    of = [names.index(name) for name in NAMES if name in names]
    for part in result.partitions(FETCHED_ROWS):
        for row in part:
            notified_at = _moment(row[at])
            if notified_at is None:
                continue
            for index in of:
                if (name := _name(row[index], names[index])) is not None:
                    yield name, notified_at


def _moment(value: Any) -> datetime | None:
    try:
        return parse_expiry(value)
    except ValueError:
        raise ConfigurationError(f"{SETTING}: a value of notified_at is no point in time") from None


def _name(value: Any, column: str) -> str | None:
    try:
        return read_key(value)
    except RowError as error:
        reason = str(error).removeprefix("key ")
        raise ConfigurationError(f"{SETTING}: a value of {column} {reason}") from None
