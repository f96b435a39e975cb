"""`--destination ducklake` end to end: what a DuckDB file holds and answers, a DuckLake does too."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg2  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.erase.finder import Finder
from dlt_cronofy.sandbox import MovableClock, build_world, serve
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse import lake
from dlt_cronofy.warehouse.dataset import sql_client
from tests.acceptance.place import TABLES, Place
from tests.acceptance.test_postgres import START, Warehouse, load_all
from tests.docs.test_python import ANYWHERE, BI, LAKE, run_example

from .conftest import CATALOGS, catalog
from .lake import Lake, extension_directory, lake_settings

pytestmark = pytest.mark.warehouses

ACCOUNTS = 40
TEXTS = "SELECT count(*) AS found FROM profiles WHERE account_id > 'acc_' AND profile_id < 'q'"


@dataclass(frozen=True)
class Played:
    """A lake and a DuckDB file after the same loads, and where the sandbox still answers."""

    lake: Warehouse
    duckdb: Warehouse
    written: dict[str, list[dict[str, int]]]

    @property
    def place(self) -> Lake:
        assert isinstance(self.lake.place, Lake)
        return self.lake.place

    def command(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """What a command prints that is configured as people configure it."""
        settings = self.place.environment(**environment)
        finished = CliRunner().invoke(cli, arguments, env=settings, catch_exceptions=False)
        assert finished.exit_code == status, finished.output
        return finished.stdout

    def assert_sound(self) -> None:
        assert self.command("rebuild", "--check").strip() == "no difference"


@pytest.fixture(scope="module", params=CATALOGS)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Three loads of a changing world into both; then the world stands still."""
    clock, world = MovableClock(START), build_world(accounts=ACCOUNTS, seed=5, start=START, days=14)
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        server = stack.enter_context(serve(world, clock=clock))
        place = stack.enter_context(catalog(request.param, folder))
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        for name, value in lake_settings(place, folder / "files").items():
            environment.setenv(name, value)
        both = {
            "ducklake": Warehouse(
                "ducklake", Lake(folder, server.base_url, catalog=place, files=folder / "files")
            ),
            "duckdb": Warehouse("duckdb", Place(tmp_path_factory.mktemp("duckdb"), server.base_url)),
        }
        written = load_all(world, clock, both)
        yield Played(both["ducklake"], both["duckdb"], written)


def test_tables_and_views_are_those_of_a_duckdb_file(played: Played) -> None:
    assert played.written["ducklake"] == played.written["duckdb"]
    assert all(rows["profile_changes"] for rows in played.written["ducklake"])
    for relation in (*TABLES, *PUBLIC_VIEWS):
        assert played.lake.rows(relation) == played.duckdb.rows(relation), relation
    assert played.lake.rows("outages")


def test_the_comment_of_a_view_says_what_its_columns_mean(played: Played) -> None:
    with sql_client(played.lake.pipeline) as client:
        rows = client.execute_sql(
            "SELECT comment FROM duckdb_views() WHERE view_name = 'needs_action' AND schema_name = 'cronofy'"
        )
    ((comment,),) = rows or ()
    assert "; rank: " in comment


# of DuckDB's and Altair's use of pandas
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_commands_work_on_it(played: Played) -> None:
    """A load when nothing has changed writes polls only; the others read."""
    played.assert_sound()
    loaded = json.loads(played.command("load", "--every", "0s", "--json"))
    assert (loaded["destination"], loaded["rows"]) == ("ducklake", {"polls": loaded["polls"]})
    assert set(PUBLIC_VIEWS) <= set(played.command("views").split())
    assert json.loads(played.command("status", "--json"))["tokens"] == loaded["tokens"]
    report = played.place.directory / "health.html"
    played.command("report", "--output", str(report))
    assert "<html" in report.read_text(encoding="utf-8")
    counted = json.loads(played.command("query", "SELECT count(*) AS n FROM cronofy.polls", "--json"))
    assert counted["n"] > loaded["polls"]
    assert "due" in played.command("plan")
    assert "ducklake answers" in played.command("check")
    played.command("rebuild")
    played.assert_sound()


# of dlt's use of pandas
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_examples_for_python_and_bi_tools_work_on_it(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in played.place.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(played.place.directory)
    for example in ANYWHERE:
        run_example(example)
    with sql_client(played.lake.pipeline) as client:
        assert client.execute_sql(BI)
    if played.place.catalog.startswith("sqlite"):
        settings: dict[str, Any] = {"extension_directory": str(extension_directory())}
        file = played.place.catalog.removeprefix("sqlite:///")
        with closing(duckdb.connect(config=settings)) as connection:
            assert connection.execute(LAKE.replace("lake.sqlite", file)).fetchall()[0][0] > 0


def test_files_are_merged_and_old_states_removed(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = played.lake.pipeline
    before = {table: played.lake.rows(table) for table in TABLES}
    files = len(lake.lake_files(pipeline))
    monkeypatch.setattr(lake, "MANY_FILES", 1)
    monkeypatch.setattr(lake, "KEPT_DAYS", 0)
    lake.tidy_if_due(pipeline)
    assert len(lake.lake_files(pipeline)) < files
    assert {table: played.lake.rows(table) for table in TABLES} == before


def test_an_erased_person_is_in_no_file_and_not_in_the_catalog(played: Played) -> None:
    query = (
        "SELECT account_id, any_value(email) AS email FROM userinfo JOIN profiles USING (account_id)"
        " WHERE email IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    person = json.loads(played.command("query", query, "--json"))
    finder = Finder(person.values())
    texts = json.loads(played.command("query", TEXTS, "--json"))
    texts["found"] -= json.loads(
        played.command("query", f"{TEXTS} AND account_id = '{person['account_id']}'", "--json")
    )["found"]
    assert any(map(finder.is_in, lake.lake_files(played.lake.pipeline)))
    erased = json.loads(played.command("erase", "--account", person["account_id"], "--yes", "--json"))
    assert (erased["found"], erased["problems"]) == ([], [])
    assert [path for path in lake.lake_files(played.lake.pipeline) if finder.is_in(path)] == []
    if played.place.catalog.startswith("postgres"):
        assert not any(text in catalog_text(played.place.catalog) for text in person.values())
    played.assert_sound()
    # the catalog still finds the rows of the others
    assert json.loads(played.command("query", TEXTS, "--json")) == texts
    played.command("load", "--every", "1h")


def catalog_text(uri: str) -> str:
    """All that the tables of a catalog in PostgreSQL hold."""
    with closing(psycopg2.connect(uri)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ducklake'")
        texts = []
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM ducklake."{table}" t')
            texts += [text for (text,) in cursor.fetchall()]
        return "\n".join(texts)


def test_old_polls_go(played: Played) -> None:
    counted = "SELECT count(*) AS n FROM polls WHERE polled_at < '2026-02-01'"
    assert json.loads(played.command("query", counted, "--json"))["n"] > 0
    played.command("load", "--every", "0s", SOURCES__CRONOFY__KEEP_POLLS="30d")
    assert json.loads(played.command("query", counted, "--json")) == {"n": 0}
    played.assert_sound()


# where the catalog is makes no difference
@pytest.mark.parametrize("played", ["sqlite"], indirect=True)
def test_a_history_moves_in_and_out(played: Played, tmp_path: Path) -> None:
    out: dict[str, Any] = {"DESTINATION__DUCKDB__CREDENTIALS": str(tmp_path / "moved.duckdb")}
    moved = json.loads(played.command("move", "--to", "duckdb", "--json", **out))
    assert (moved["differences"], moved["rows"]["polls"] > 0) == ([], True)
    back: dict[str, Any] = lake_settings(f"sqlite:///{tmp_path / 'back.sqlite'}", tmp_path / "back")
    back["DESTINATION__DUCKDB__CREDENTIALS"] = str(played.duckdb.place.database)
    moved = json.loads(
        played.command("move", "--destination", "duckdb", "--to", "ducklake", "--json", **back)
    )
    assert (moved["differences"], moved["rows"]["polls"] > 0) == ([], True)
