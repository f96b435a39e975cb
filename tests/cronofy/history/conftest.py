"""An empty DuckDB file and an empty PostgreSQL, one after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dlt
import pytest

from dlt_cronofy.warehouse.dlt_workarounds import catalog_duckdb
from tests.pipelines.views.server import postgres_server


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
        yield into(catalog_duckdb(credentials=str(workdir / "cronofy.duckdb")))
        return
    with postgres_server() as uri:
        (socket_directory,) = parse_qs(urlsplit(uri).query)["host"]
        credentials = f"postgresql://postgres:x@localhost:5432/postgres?host={socket_directory}"
        yield into(dlt.destinations.postgres(credentials))
