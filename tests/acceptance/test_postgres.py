"""`load --destination postgres` end to end: what DuckDB holds and answers, PostgreSQL does too."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import dlt
import pandas as pd
import psycopg2  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.report.frames import frame_reader
from dlt_cronofy.report.health import read_health
from dlt_cronofy.sandbox import MovableClock, SandboxServer, build_world, serve
from dlt_cronofy.sandbox import World as SandboxWorld
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.dataset import loaded_dataset, query_rows, sql_client
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.docs.test_python import ANYWHERE, BI, run_example
from tests.postgres import credentials, postgres_database

from .place import RACY, STAMPS, TABLES, Place, Row, StandingClock

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
# the world changes between the loads; the last gap is longer than a sample is trusted
LOADS_AT = (timedelta(0), timedelta(hours=20), timedelta(days=9))


@dataclass(frozen=True)
class Warehouse:
    """A destination, and the folder that everything else of it is in."""

    destination: str
    place: Place

    @property
    def pipeline(self) -> dlt.Pipeline:
        file = str(self.place.database) if self.destination == "duckdb" else None
        return open_pipeline(
            self.destination, credentials=file, pipelines_dir=self.place.data_dir / "pipelines"
        )

    def load(self, clock: MovableClock) -> dict[str, int]:
        """Load every token; says how many rows of which table were written."""
        settings = PollingSettings(
            base_url=self.place.base_url, requests_per_second=1e6, requests_per_minute=1e6
        )
        tokens = open_store(tokens_file=str(self.place.tokens_file)).read()
        options = LoadOptions(every=timedelta(0))
        return Load(self.pipeline, settings, tokens, options, StandingClock(clock)).run().rows

    def rows(self, relation: str) -> list[str]:
        """What a table or view holds, in an order that depends on the rows alone."""
        with sql_client(self.pipeline) as client:
            rows = query_rows(client, f"SELECT * FROM {client.make_qualified_table_name(relation)}")
        return sorted(repr(_comparable(row, RACY.get(relation, set()))) for row in rows)


def _comparable(row: Row, racy: set[str]) -> dict[str, Any]:
    kept = {name: value for name, value in sorted(row.items()) if name not in STAMPS | racy}
    if kept.get("run_id"):
        kept["run_id"] = kept["run_id"].partition("-")[0]  # the instant, without the random name
    return {name: plain(value) for name, value in kept.items()}


def plain(value: Any) -> Any:
    """An instant in UTC, and a decimal without a fraction as the integer that other drivers have."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return int(value) if isinstance(value, Decimal) and value % 1 == 0 else value


@dataclass(frozen=True)
class Played:
    """The warehouses after the last load, what each load wrote, and where the sandbox still answers."""

    duckdb: Warehouse
    postgres: Warehouse
    written: dict[str, list[dict[str, int]]]
    credentials: str

    def command(self, *arguments: str) -> str:
        """What a command prints that is configured as people configure it."""
        environment = self.postgres.place.environment(DESTINATION__POSTGRES__CREDENTIALS=self.credentials)
        whole = [*arguments, "--destination", "postgres"]
        finished = CliRunner().invoke(cli, whole, env=environment, catch_exceptions=False)
        assert finished.exit_code == 0, finished.stderr
        return finished.stdout


def load_all(
    world: SandboxWorld, clock: MovableClock, warehouses: Mapping[str, Warehouse]
) -> dict[str, list[dict[str, int]]]:
    """The same loads into each warehouse while the world changes; what each load wrote, by warehouse."""
    written: dict[str, list[dict[str, int]]] = {name: [] for name in warehouses}
    for warehouse in warehouses.values():
        world.write_tokens(warehouse.place.tokens_file)
    for passed in LOADS_AT:
        clock.move_to(START + passed)
        for name, warehouse in warehouses.items():
            written[name].append(warehouse.load(clock))
    return written


@pytest.fixture(scope="module")
def sandbox_world() -> SandboxWorld:
    return build_world(accounts=60, seed=5, start=START, days=14)


@pytest.fixture(scope="module")
def played(sandbox_world: SandboxWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Three loads of a changing world into both engines; then the world stands still."""
    clock = MovableClock(START)
    with ExitStack() as stack:
        server: SandboxServer = stack.enter_context(serve(sandbox_world, clock=clock))
        uri = stack.enter_context(postgres_database())
        with closing(psycopg2.connect(uri)) as connection, connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {urlsplit(uri).path[1:]} SET timezone TO '{TIME_ZONE}'")
            connection.commit()
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("DESTINATION__POSTGRES__CREDENTIALS", credentials(uri))
        environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        warehouses = {
            destination: Warehouse(destination, Place(tmp_path_factory.mktemp(destination), server.base_url))
            for destination in ("duckdb", "postgres")
        }
        written = load_all(sandbox_world, clock, warehouses)
        yield Played(**warehouses, written=written, credentials=credentials(uri))


# the day there is another one than in UTC when the loads are made
TIME_ZONE = "America/Los_Angeles"
CUT = (
    "SELECT date_trunc('day', polled_at) AS midnight, CAST(polled_at AS DATE) AS day,"
    " CAST(polled_at AS VARCHAR) AS text, TIMESTAMPTZ '2026-07-01 00:00:00' AS instant, COUNT(*) AS polls"
    " FROM {polls} GROUP BY 1, 2, 3 ORDER BY 1"
)
SAYS_OTHERWISE: dict[str, dict[str, str]] = {
    "the database": {},
    "the environment": {"PGTZ": "Asia/Kathmandu"},
    "the credentials": {"DESTINATION__POSTGRES__CREDENTIALS__SESSION_TIMEZONE": "Asia/Kathmandu"},
    "the options": {"options": "&options=-c%20timezone%3DAsia/Kathmandu"},
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("configured", SAYS_OTHERWISE.values(), ids=SAYS_OTHERWISE)
def test_queries_set_session_utc_whatever_the_session_says(
    played: Played, monkeypatch: pytest.MonkeyPatch, configured: dict[str, str]
) -> None:
    for name, value in configured.items():
        monkeypatch.setenv(name, value)
    options = configured.get("options", "")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", played.credentials + options)
    answers = []
    for warehouse in (played.duckdb, played.postgres):
        with sql_client(warehouse.pipeline) as client:
            answers.append(query_rows(client, CUT.format(polls=client.make_qualified_table_name("polls"))))
    assert len(answers[0]) == len(LOADS_AT)
    assert answers[1] == answers[0]
    assert [str(row["midnight"]) for row in answers[1]] == [str(row["midnight"]) for row in answers[0]]
    assert {row["midnight"].utcoffset() for row in answers[1]} == {timedelta(0)}


def test_the_summary_and_the_report_are_in_utc(played: Played) -> None:
    healths, frames = [], []
    for warehouse in (played.duckdb, played.postgres):
        with loaded_dataset(warehouse.pipeline) as client:
            healths.append(read_health(client))
        read = frame_reader(warehouse.pipeline)
        frames.append(
            read("SELECT CAST(max(polled_at) AS DATE) AS day, max(polled_at) AS newest_at FROM polls")
        )
    printed = [json.dumps(health.as_dict(), default=str, sort_keys=True) for health in healths]
    assert printed[1] == printed[0]
    pd.testing.assert_frame_equal(frames[1], frames[0])


def test_the_loads_write_the_same(played: Played) -> None:
    assert played.written["postgres"] == played.written["duckdb"]
    assert all(rows["profile_changes"] for rows in played.written["postgres"])


@pytest.mark.parametrize("table", TABLES)
def test_tables_hold_the_same(played: Played, table: str) -> None:
    rows = played.postgres.rows(table)
    assert rows
    assert rows == played.duckdb.rows(table)


@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_views_answer_the_same(played: Played, view: str) -> None:
    rows = played.postgres.rows(view)
    # three samples days apart show no flapping, nor what was connected an hour before
    assert rows or view in ("flapping_profiles", "mass_events")
    assert rows == played.duckdb.rows(view)


def test_the_commands_work_on_it(played: Played, sandbox_world: SandboxWorld) -> None:
    """A load when nothing has changed writes polls only; then the views, the summary and a query."""
    before = {table: played.postgres.rows(table) for table in TABLES}
    loaded = json.loads(played.command("load", "--every", "0s", "--json"))
    assert loaded["destination"] == "postgres"
    assert loaded["rows"] == {"polls": loaded["polls"]}
    for table in set(TABLES) - {"polls"}:
        assert played.postgres.rows(table) == before[table]
    assert set(PUBLIC_VIEWS) <= set(played.command("views").split())
    # users without a token are none
    assert json.loads(played.command("status", "--json"))["tokens"] == len(sandbox_world.tokens)
    counted = played.command("query", "SELECT count(*) AS n FROM polls", "--json")
    assert json.loads(counted) == {"n": len(before["polls"]) + loaded["polls"]}


def test_the_examples_for_python_and_bi_tools_work_on_it(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in played.postgres.place.environment(DESTINATION_TYPE="postgres").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", played.credentials)
    monkeypatch.chdir(played.postgres.place.directory)
    for example in ANYWHERE:
        run_example(example)
    dataset = dlt.dataset(dlt.destinations.postgres(played.credentials), "cronofy")
    with sql_client(played.postgres.pipeline) as client:
        assert client.execute_sql(BI) == dataset(BI.rstrip(";\n")).fetchall()
