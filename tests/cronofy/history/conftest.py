"""An empty DuckDB file and an empty PostgreSQL, one after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest

from dlt_cronofy.warehouse.dlt_workarounds import catalog_duckdb
from dlt_cronofy.warehouse.duckdb_file import writing
from tests.postgres import credentials, postgres_database


@pytest.fixture(params=["duckdb", "postgres"])
def pipeline(request: pytest.FixtureRequest, workdir: Path) -> Iterator[dlt.Pipeline]:
    def into(destination: Any) -> dlt.Pipeline:
        return dlt.pipeline(
            "histories",
            destination=destination,
            dataset_name="cronofy",
            pipelines_dir=str(workdir / "working"),
        )

    if request.param == "duckdb":
        file = workdir / "cronofy.duckdb"
        with writing(file):
            yield into(catalog_duckdb(credentials=str(file)))
        return
    with postgres_database() as uri:
        yield into(dlt.destinations.postgres(credentials(uri)))
