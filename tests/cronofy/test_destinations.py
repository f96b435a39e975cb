"""The source refuses a destination that cannot keep the history, before it calls anybody."""

from pathlib import Path
from typing import Any

import dlt
import pytest

from dlt_cronofy.source import cronofy_source
from dlt_cronofy.source.destinations import DESTINATIONS, check_destination
from dlt_cronofy.source.errors import ConfigurationError
from tests.cronofy.bodies import account, userinfo
from tests.cronofy.server import Server, answer


@dlt.destination
def nowhere(items: Any, table: Any) -> None:
    """A destination of somebody's own."""


WILL_NOT_DO: tuple[Any, ...] = (
    *("filesystem", "sqlalchemy", "mssql", "clickhouse", "athena", "lancedb", "qdrant", "dummy"),
    nowhere(),
)


def pipeline_to(destination: Any, directory: Path) -> dlt.Pipeline:
    return dlt.pipeline("somebodys", destination=destination, pipelines_dir=str(directory / "working"))


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_warehouse_that_merges_and_answers_sql_will_do(destination: str, workdir: Path) -> None:
    check_destination(pipeline_to(destination, workdir))


@pytest.mark.parametrize(
    "destination", WILL_NOT_DO, ids=lambda each: each if isinstance(each, str) else "custom"
)
def test_another_one_is_refused_by_name(destination: Any, workdir: Path) -> None:
    pipeline = pipeline_to(destination, workdir)
    with pytest.raises(
        ConfigurationError, match=r"^destination [a-z]+ cannot keep the history: choose one of duckdb, "
    ):
        check_destination(pipeline)


@pytest.mark.parametrize("resources", [(), ("polls",)], ids=["all", "one"])
def test_a_run_into_files_calls_nobody(
    workdir: Path, server: Server, monkeypatch: pytest.MonkeyPatch, resources: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", str(workdir / "lake"))
    monkeypatch.setenv("SOURCES__CRONOFY__BASE_URL", server.url)
    server.on("userinfo", "at-k1", answer(200, userinfo()))
    server.on("account", "at-k1", answer(200, account()))
    pipeline = pipeline_to("filesystem", workdir)
    source = cronofy_source(tokens=[{"key": "k1", "access_token": "at-k1"}])
    with pytest.raises(Exception, match="destination filesystem cannot keep the history"):
        pipeline.run(source.with_resources(*resources) if resources else source)
    assert server.called() == {}
    assert not (workdir / "lake").exists()
    assert not pipeline.has_pending_data
