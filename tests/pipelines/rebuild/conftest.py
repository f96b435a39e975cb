"""Warehouses of either engine, behind real clients of dlt."""

from collections.abc import Iterator

import pytest

from tests.pipelines.rebuild.warehouse import Tables, open_tables
from tests.pipelines.warehouse.writing import postgres_for_writers


@pytest.fixture(scope="session")
def duckdb_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    folder = tmp_path_factory.mktemp("duckdb")
    with open_tables(folder, "duckdb", str(folder / "evidence_of_polls.duckdb")) as tables:
        yield tables


@pytest.fixture(scope="session")
def postgres_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    with (
        postgres_for_writers() as server,
        open_tables(tmp_path_factory.mktemp("postgres"), "postgres", server.credentials) as tables,
    ):
        yield tables


@pytest.fixture(scope="session", params=["duckdb", "postgres"])
def tables(request: pytest.FixtureRequest) -> Tables:
    """Each engine in turn."""
    found: Tables = request.getfixturevalue(f"{request.param}_tables")
    return found
