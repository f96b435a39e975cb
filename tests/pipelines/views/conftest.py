"""Databases with raw tables and views: DuckDB in memory, and a real PostgreSQL started for the session."""

from collections.abc import Iterator

import pytest

from tests.pipelines.views.warehouse import (
    DuckDBWarehouse,
    PostgresWarehouse,
    Warehouse,
    create_tables,
    create_views,
)
from tests.postgres import postgres_database


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL server for this worker."""
    with postgres_database() as uri:
        yield uri


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
