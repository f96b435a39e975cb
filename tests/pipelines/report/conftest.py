"""Warehouses to report on: the demo's, on both engines, and ones in which nothing, or only failure, is."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import dlt
import pytest

from dlt_cronofy.report.contents import Report, read_report
from dlt_cronofy.report.frames import Read, frame_reader
from dlt_cronofy.warehouse.dataset import held_open
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.pipelines.views.conftest import postgres_uri
from tests.pipelines.views.warehouse import (
    DuckDBWarehouse,
    PostgresWarehouse,
    Row,
    create_tables,
    create_views,
    fill,
)
from tests.played import copy_to_postgres, demo_file, demo_plan
from tests.postgres import credentials

__all__ = ["demo_file", "demo_plan", "postgres_uri"]

FAILED_POLL: Row = {
    "poll_id": "1",
    "run_id": "run-1",
    "token_key": "user_1",
    "endpoint": "userinfo",
    "polled_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
    "requested_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
    "outcome": "timeout",
}


def pipeline_on(database: Path, working_files: Path) -> dlt.Pipeline:
    return open_pipeline("duckdb", credentials=str(database), pipelines_dir=working_files)


@pytest.fixture(scope="session")
def demo_pipeline(demo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dlt.Pipeline:
    """The demo on DuckDB."""
    return pipeline_on(demo_file, tmp_path_factory.mktemp("working"))


@pytest.fixture(scope="session")
def postgres_pipeline(
    demo_file: Path, postgres_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> dlt.Pipeline:
    """The demo on PostgreSQL."""
    warehouse = PostgresWarehouse(postgres_uri)
    # this process may have the other one open for writing
    copy_to_postgres(Path(shutil.copy(demo_file, tmp_path_factory.mktemp("copy"))), warehouse)
    # what is shown must not depend on it
    database = urlsplit(postgres_uri).path[1:]
    warehouse.execute(f"ALTER DATABASE {database} SET timezone TO 'America/New_York'")
    warehouse.close()
    return open_pipeline(
        "postgres", credentials=credentials(postgres_uri), pipelines_dir=tmp_path_factory.mktemp("working")
    )


@pytest.fixture(scope="session")
def demo_read(demo_pipeline: dlt.Pipeline) -> Iterator[Read]:
    with held_open(demo_pipeline):
        yield frame_reader(demo_pipeline)


@pytest.fixture(scope="session")
def demo_report(demo_pipeline: dlt.Pipeline) -> Report:
    return read_report(demo_pipeline, None, None, anonymous=False)


@pytest.fixture
def warehouse_with(tmp_path: Path) -> Callable[[list[Row]], Path]:
    """Makes a DuckDB file with all tables and views in which nothing is but these polls."""

    def make(polls: list[Row]) -> Path:
        database = tmp_path / "warehouse.duckdb"
        with closing(DuckDBWarehouse(str(database))) as warehouse:
            create_tables(warehouse)
            fill(warehouse, {"polls": polls})
            create_views(warehouse)
        return database

    return make
