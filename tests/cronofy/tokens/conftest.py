"""One PostgreSQL for all tests of stores, emptied for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cronofy.tokens.databases import Database
from tests.postgres import postgres_database


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_database() as uri:
        yield uri


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    (tmp_path / "app.db").touch()
    return Database(f"sqlite:///{tmp_path / 'app.db'}")


@pytest.fixture
def postgres(postgres_url: str) -> Database:
    database = Database(postgres_url)
    database.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return database


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found
