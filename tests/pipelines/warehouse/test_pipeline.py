"""Opening the warehouse, asking it, and keeping its views."""

import os
import sys
from collections.abc import Iterator
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from dlt.common.destination import Destination

from dlt_cronofy import configuration
from dlt_cronofy.cli.main import cli
from dlt_cronofy.source.destinations import DESTINATIONS
from dlt_cronofy.views import PUBLIC_VIEWS, create_views
from dlt_cronofy.warehouse import dataset
from dlt_cronofy.warehouse.dataset import (
    SESSION_IN_UTC,
    query_rows,
    refresh_views,
    set_session_utc,
    sql_client,
    writer,
)
from dlt_cronofy.warehouse.pipeline import location, open_pipeline
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.pipelines.conftest import Answers


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A load that all look at; what some add to it does not disturb the others."""
    folder, answers = tmp_path_factory.mktemp("loaded"), Answers()
    answers.by_token["one"] = userinfo("acc_1", [profile("pro_1")])
    with ScriptedServer(answers) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DLT_DATA_DIR", str(folder / "data"))
        environment.chdir(folder)
        place = Place(folder, server.base_url)
        place.write_tokens(["one"])
        place.load()
        yield place


@pytest.mark.parametrize(
    ("asked", "configured", "expected"),
    [
        (None, None, "dlt.destinations.duckdb"),
        ("duckdb", "postgres", "dlt.destinations.duckdb"),
        (None, "postgres", "dlt.destinations.postgres"),
        ("postgres", None, "dlt.destinations.postgres"),
        (None, "dlt.destinations.duckdb", "dlt.destinations.duckdb"),
    ],
)
def test_the_destination_is_what_was_asked_for_or_configured(
    asked: str | None, configured: str | None, expected: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if configured:
        monkeypatch.setenv("DESTINATION_TYPE", configured)
    pipeline = open_pipeline(asked, pipelines_dir=place.data_dir)
    assert pipeline.destination is not None
    assert pipeline.destination.destination_type == expected
    assert pipeline.dataset_name == "cronofy"


# a custom destination is named by its module
OTHER_DESTINATIONS = (
    *("filesystem", "sqlalchemy", "mssql", "clickhouse", "athena", "lancedb", "lance", "weaviate", "qdrant"),
    *("dremio", "synapse", "fabric", "dummy", "destination", "lake", "nowhere", "sqlite", "DuckDB"),
    "tests.cronofy.test_destinations.nowhere",
)
COMMANDS = [("load",), ("plan",), ("check",), ("views",), ("move", "--to", "duckdb")]
ALL_SUPPORTED = (
    "choose one of duckdb, motherduck, ducklake, postgres, snowflake, bigquery, redshift, databricks"
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("destination", OTHER_DESTINATIONS)
def test_a_destination_that_will_not_do_is_refused_before_anything_is_read(
    destination: str, command: tuple[str, ...], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "configured_store", lambda _: pytest.fail("read tokens"))
    environment = place.environment(DESTINATION__LAKE__DESTINATION_TYPE="filesystem")
    arguments = (*command, "--destination", destination)
    refused = CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)
    assert (refused.exit_code, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert f"--destination {destination}: " in line
    assert ALL_SUPPORTED in line
    # who wants files may take the one that keeps files
    assert ("ducklake keeps the tables as Parquet files" in line) == (destination in ("filesystem", "lake"))


def test_a_history_moves_to_no_destination_that_will_not_do(loaded: Place) -> None:
    arguments = ("move", "--to", "sqlalchemy")
    refused = CliRunner().invoke(cli, arguments, env=loaded.environment(), catch_exceptions=False)
    assert refused.exit_code == 2
    assert f"--destination sqlalchemy: {ALL_SUPPORTED}" in refused.stderr


def test_a_configured_destination_is_refused_as_one_that_is_asked_for(
    loaded: Place, server: ScriptedServer
) -> None:
    environment = loaded.environment(SOURCES__CRONOFY__BASE_URL=server.base_url, DESTINATION_TYPE="mssql")
    refused = CliRunner().invoke(cli, ("load",), env=environment, catch_exceptions=False)
    assert refused.exit_code == 2
    assert ALL_SUPPORTED in refused.stderr
    assert server.log == []


def test_each_destination_has_sessions_in_utc() -> None:
    for name in DESTINATIONS:
        target = Destination.from_reference(name)
        assert target is not None
        assert str(target.capabilities().sqlglot_dialect) in {"bigquery", *SESSION_IN_UTC}


def test_bigquery_has_no_session_and_takes_its_time_zone_query_by_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its library cannot be had here: two of its classes, as its reference describes them."""
    library = SimpleNamespace(QueryJobConfig=SimpleNamespace, query=SimpleNamespace(ConnectionProperty=dict))
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", library)
    client: Any = SimpleNamespace(
        capabilities=SimpleNamespace(sqlglot_dialect="bigquery"), native_connection=SimpleNamespace()
    )
    set_session_utc(client)
    config = client.native_connection.default_query_job_config
    assert config.connection_properties == [{"key": "time_zone", "value": "UTC"}]


SESSIONS = {
    "session_timezone": {"DESTINATION__DUCKDB__CREDENTIALS__SESSION_TIMEZONE": "America/New_York"},
    "local_config": {"DESTINATION__DUCKDB__CREDENTIALS__LOCAL_CONFIG": '{"TimeZone": "Asia/Kathmandu"}'},
    "global_config": {"DESTINATION__DUCKDB__CREDENTIALS__GLOBAL_CONFIG": '{"TimeZone": "Asia/Kathmandu"}'},
}


@pytest.mark.parametrize("configured", SESSIONS.values(), ids=SESSIONS)
def test_queries_set_session_utc_whatever_is_configured(
    loaded: Place, monkeypatch: pytest.MonkeyPatch, configured: dict[str, str]
) -> None:
    for name, value in configured.items():
        monkeypatch.setenv(name, value)
    pipeline = open_pipeline(
        "duckdb", credentials=str(loaded.database), pipelines_dir=loaded.data_dir / "pipelines"
    )
    sql = (
        "SELECT CAST(TIMESTAMPTZ '2026-01-31 22:00:00+00' AS DATE) AS day,"
        " date_trunc('day', TIMESTAMPTZ '2026-01-31 22:00:00+00') AS midnight,"
        " TIMESTAMPTZ '2026-07-01 00:00:00' AS instant"
    )
    with sql_client(pipeline) as client:
        (row,) = query_rows(client, sql)
    assert row["day"] == date(2026, 1, 31)
    assert [row["midnight"].isoformat(), row["instant"].isoformat()] == [
        "2026-01-31T00:00:00+00:00",
        "2026-07-01T00:00:00+00:00",
    ]


@pytest.mark.long
def test_a_dataset_of_another_name(loaded: Place) -> None:
    arguments = ("load", "--dataset", "elsewhere")
    result = CliRunner().invoke(cli, arguments, env=loaded.environment(), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "dataset elsewhere" in result.stdout
    assert loaded.query("SELECT COUNT(*) FROM elsewhere.polls") == [(2,)]
    assert loaded.query("SELECT COUNT(*) FROM elsewhere.account_health") == [(1,)]


def test_queries_answer_with_dictionaries(loaded: Place) -> None:
    pipeline = open_pipeline(
        "duckdb", credentials=str(loaded.database), pipelines_dir=loaded.data_dir / "pipelines"
    )
    with sql_client(pipeline) as client:
        rows = query_rows(client, "SELECT token_key, endpoint FROM polls WHERE endpoint = %s", "userinfo")
    assert rows == [{"token_key": "one", "endpoint": "userinfo"}]


@pytest.mark.long
def test_views_are_made_as_often_as_asked(loaded: Place) -> None:
    pipeline = open_pipeline(
        "duckdb", credentials=str(loaded.database), pipelines_dir=loaded.data_dir / "pipelines"
    )
    for hold_seconds in (3600.0, 7200.0):
        made = refresh_views(pipeline, hold_seconds)
        assert set(made) >= set(PUBLIC_VIEWS)
    for view in PUBLIC_VIEWS:
        assert loaded.query(f"SELECT COUNT(*) >= 0 FROM {view}") == [(True,)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("damage", "hold_seconds", "made_again"),
    [
        ("SELECT 1", 3600.0, False),
        ("DROP VIEW outages", 3600.0, True),
        ("DROP VIEW _definitions", 3600.0, True),
        ("CREATE OR REPLACE VIEW _definitions AS SELECT 'of another release' AS digest", 3600.0, True),
        ("SELECT 1", 7200.0, True),
    ],
    ids=["as they should be", "one is missing", "nobody knows", "others", "another hold"],
)
def test_a_load_makes_views_that_are_not_as_they_should_be(
    loaded: Place, monkeypatch: pytest.MonkeyPatch, damage: str, hold_seconds: float, made_again: bool
) -> None:
    pipeline = open_pipeline(
        "duckdb", credentials=str(loaded.database), pipelines_dir=loaded.data_dir / "pipelines"
    )
    refresh_views(pipeline, 3600.0)
    with writer(pipeline), sql_client(pipeline) as client:
        client.execute_sql(damage)
    made = []

    def create(*arguments: Any, **options: Any) -> list[str]:
        made.append(arguments)
        return create_views(*arguments, **options)

    monkeypatch.setattr(dataset, "create_views", create)
    refresh_views(pipeline, hold_seconds, even_if_current=False)
    assert len(made) == made_again
    assert loaded.query("SELECT COUNT(*) >= 0 FROM outages") == [(True,)]


def test_the_location_is_a_file_and_never_credentials(loaded: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = open_pipeline(
        "duckdb", credentials=str(loaded.database), pipelines_dir=loaded.data_dir / "pipelines"
    )
    assert loaded.directory / location(pipeline) == loaded.database
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "postgresql://someone:password@host/database")
    elsewhere = open_pipeline("postgres", pipelines_dir=loaded.data_dir / "elsewhere")
    assert location(elsewhere) == "postgres"


def test_telemetry_is_off_unless_configured(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME__DLTHUB_TELEMETRY", raising=False)
    open_pipeline(pipelines_dir=place.data_dir)
    assert os.environ["RUNTIME__DLTHUB_TELEMETRY"] == "false"
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "true")
    open_pipeline(pipelines_dir=place.data_dir)
    assert os.environ["RUNTIME__DLTHUB_TELEMETRY"] == "true"


def test_loaded_packages_are_not_kept_on_disk(loaded: Place) -> None:
    """They hold what people's tables hold."""
    assert (loaded.working_dir / "load" / "loaded").is_dir()
    assert list(loaded.data_dir.rglob("*.parquet")) == []


def test_records_of_loaded_packages_do_not_pile_up(loaded: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlt_cronofy.warehouse.dlt_workarounds.KEPT_RECORDS", 1)
    folder = loaded.working_dir / "load" / "loaded"
    before = {record.name for record in folder.iterdir()}
    loaded.load()
    kept = sorted(record.name for record in folder.iterdir())
    assert len(kept) == 1
    assert kept[0] > max(before)


def test_a_trace_is_of_one_package_however_many_a_process_loads(place: Place, answers: Answers) -> None:
    keys = ["one", "two", "three"]
    answers.by_token |= {key: userinfo(f"acc_{key}", [profile("pro_1")]) for key in keys}
    place.write_tokens(keys)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dlt_cronofy.load.run.package_polls", lambda _: 1)
        place.load()
    trace = place.pipeline().last_trace
    assert trace is not None
    assert [step.step for step in trace.steps] == ["extract", "extract", "normalize", "load"]
