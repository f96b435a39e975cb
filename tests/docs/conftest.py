"""The demo's data: that of every answer in docs/questions.md."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from tests.pipelines.views.conftest import postgres_uri
from tests.played import demo_file, demo_plan

__all__ = ["connection", "demo_file", "demo_plan", "postgres_uri"]


@pytest.fixture
def connection(demo_file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The demo's data, in a session that does not think in UTC."""
    with closing(duckdb.connect(str(demo_file), read_only=True)) as connection:
        connection.execute("USE cronofy")
        connection.execute("SET TimeZone = 'America/St_Johns'")
        yield connection
