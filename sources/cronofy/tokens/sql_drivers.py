"""Drivers of databases that leave a value as it came where Python has nothing for it.

By themselves they fail the whole query for such a value of one row.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

TIMES = ("date", "timestamp", "timestamptz")


def leave_unreadable(engine: "Engine") -> None:
    """Have the connections of the engine hand on what cannot be read, for a driver that is known."""
    from sqlalchemy import event

    if engine.dialect.driver in PREPARED:
        event.listen(engine, "connect", PREPARED[engine.dialect.driver])


def _prepare_sqlite(connection: Any, _: object) -> None:
    """SQLite takes any bytes for text."""

    def text_of(value: bytes) -> str | bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value

    connection.text_factory = text_of


def _prepare_psycopg(connection: Any, _: object) -> None:
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

    for name in TIMES:
        loader = getattr(datetimes, f"{name.capitalize()}Loader")
        connection.adapters.register_loader(name, tolerant(loader))


def _prepare_psycopg2(connection: Any, _: object) -> None:
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


PREPARED: dict[str, Callable[[Any, object], None]] = {
    "pysqlite": _prepare_sqlite,
    "psycopg": _prepare_psycopg,
    "psycopg2": _prepare_psycopg2,
}
