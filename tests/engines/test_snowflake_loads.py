"""`--destination snowflake` end to end on fakesnow: tables, merges and views hold what DuckDB's hold."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.sandbox import MovableClock, build_world, serve
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.dataset import sql_client
from tests.acceptance.place import TABLES, Place
from tests.acceptance.test_postgres import START, Warehouse, load_all

from .snowflake import CREDENTIALS, snowflake

pytestmark = pytest.mark.warehouses

ACCOUNTS = 10


@dataclass(frozen=True)
class Played:
    """A Snowflake and a DuckDB file after the same loads, and where the sandbox still answers."""

    snowflake: Warehouse
    duckdb: Warehouse
    written: dict[str, list[dict[str, int]]]

    def command(self, *arguments: str, **environment: str) -> str:
        """What a command prints that is configured as people configure it."""
        configured = {"DESTINATION_TYPE": "snowflake", "DESTINATION__SNOWFLAKE__CREDENTIALS": CREDENTIALS}
        settings = self.snowflake.place.environment(**{**configured, **environment})
        finished = CliRunner().invoke(cli, arguments, env=settings, catch_exceptions=False)
        assert finished.exit_code == 0, finished.output
        return finished.stdout

    def assert_sound(self) -> None:
        assert self.command("rebuild", "--check").strip() == "no difference"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Three loads of a changing world into both; then the world stands still."""
    clock, world = MovableClock(START), build_world(accounts=ACCOUNTS, seed=5, start=START, days=14)
    with ExitStack() as stack:
        stack.enter_context(snowflake())
        server = stack.enter_context(serve(world, clock=clock))
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        both = {
            name: Warehouse(name, Place(tmp_path_factory.mktemp(name), server.base_url))
            for name in ("snowflake", "duckdb")
        }
        written = load_all(world, clock, both)
        yield Played(both["snowflake"], both["duckdb"], written)


def test_the_loads_write_what_they_write_into_duckdb(played: Played) -> None:
    assert played.written["snowflake"] == played.written["duckdb"]
    assert played.written["snowflake"][-1]["profile_changes"]
    for relation in (*TABLES, *PUBLIC_VIEWS):
        assert played.snowflake.rows(relation) == played.duckdb.rows(relation), relation


def test_the_commands_work_on_it(played: Played) -> None:
    """A load when nothing has changed writes polls only, and removes old ones; the others read."""
    played.assert_sound()
    counted = "SELECT count(*) AS n FROM cronofy.polls WHERE polled_at < '2026-02-01'"
    assert json.loads(played.command("query", counted, "--json"))["n"] > 0
    loaded = json.loads(played.command("load", "--every", "0s", "--json", SOURCES__CRONOFY__KEEP_POLLS="30d"))
    assert (loaded["destination"], loaded["rows"]) == ("snowflake", {"polls": loaded["polls"]})
    assert set(PUBLIC_VIEWS) <= set(played.command("views").split())
    assert json.loads(played.command("status", "--json"))["tokens"] == loaded["tokens"]
    assert json.loads(played.command("query", counted, "--json")) == {"n": 0}
    assert "due" in played.command("plan")
    assert "snowflake answers" in played.command("check")
    played.command("rebuild")
    played.assert_sound()


def test_an_erased_person_is_in_no_table(played: Played) -> None:
    query = "SELECT account_id FROM cronofy.userinfo WHERE email IS NOT NULL ORDER BY 1 LIMIT 1"
    person = json.loads(played.command("query", query, "--json"))["account_id"]
    erased = json.loads(played.command("erase", "--account", person, "--yes", "--json"))
    assert erased["found"] == []
    counted = f"SELECT count(*) AS n FROM cronofy.profile_changes WHERE account_id = '{person}'"
    assert json.loads(played.command("query", counted, "--json")) == {"n": 0}
    played.assert_sound()


def test_a_history_moves_out_and_in(played: Played, tmp_path: Path) -> None:
    file = {"DESTINATION__DUCKDB__CREDENTIALS": str(tmp_path / "moved.duckdb")}
    moved = json.loads(played.command("move", "--to", "duckdb", "--json", **file))
    assert (moved["differences"], moved["rows"]["polls"] > 0) == ([], True)
    with sql_client(played.snowflake.pipeline) as client:
        client.drop_dataset()
    moved = json.loads(
        played.command("move", "--destination", "duckdb", "--to", "snowflake", "--json", **file)
    )
    assert (moved["differences"], moved["rows"]["polls"] > 0) == ([], True)
    played.assert_sound()
