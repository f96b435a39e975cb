"""MotherDuck without its service: a local database of DuckDB, opened by name through dlt's `motherduck`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from dlt.destinations.impl.motherduck.configuration import MotherDuckCredentials

from dlt_cronofy.cli.main import cli
from dlt_cronofy.sandbox import MovableClock, build_world, serve
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse import dataset, duckdb_file
from dlt_cronofy.warehouse.pipeline import duckdb_file as file_of
from tests.acceptance.place import TABLES, Place
from tests.acceptance.test_postgres import START, Warehouse

pytestmark = pytest.mark.warehouses

CREDENTIALS = "md:prod?motherduck_token=secret"


def refused(*_: object, **__: object) -> None:
    raise AssertionError("this is for files of this machine")


def test_it_is_duckdb_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "service" / "prod.duckdb"
    database.parent.mkdir()
    opened: list[str] = []

    def connection_string(credentials: MotherDuckCredentials) -> str:
        opened.append(f"{credentials.database} {credentials.password}")
        return str(database)

    monkeypatch.setattr(MotherDuckCredentials, "_conn_str", connection_string)
    monkeypatch.setenv("DESTINATION__MOTHERDUCK__CREDENTIALS", CREDENTIALS)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    clock, world = MovableClock(START), build_world(accounts=5, seed=5, start=START, days=14)
    with serve(world, clock=clock) as server:
        both = [Warehouse(name, Place(tmp_path / name, server.base_url)) for name in ("duckdb", "motherduck")]
        written = []
        for warehouse in both:
            warehouse.place.directory.mkdir()
            world.write_tokens(warehouse.place.tokens_file)
            if warehouse.destination == "motherduck":
                for name in ("checkpoint", "writing"):
                    monkeypatch.setattr(dataset, name, refused)
                monkeypatch.setattr(duckdb_file, "connect", refused)
            written.append(warehouse.load(clock))
    assert written[0] == written[1]
    assert set(opened) == {"prod secret"}
    motherduck = both[1]
    assert file_of(motherduck.pipeline) is None
    with dataset.sql_client(motherduck.pipeline) as client:
        assert client.fully_qualified_dataset_name() == '"prod"."cronofy"'
    rows = {relation: motherduck.rows(relation) for relation in (*TABLES, *PUBLIC_VIEWS)}
    settings = motherduck.place.environment(
        DESTINATION_TYPE="motherduck", DESTINATION__MOTHERDUCK__CREDENTIALS=CREDENTIALS
    )
    for command, expected in (("rebuild --check", "no difference"), ("status --json", '"freshness"')):
        done = CliRunner().invoke(cli, command.split(), env=settings, catch_exceptions=False)
        assert (done.exit_code, expected in done.stdout) == (0, True), done.output
    done = CliRunner().invoke(
        cli, ["query", "SELECT count(*) AS n FROM cronofy.polls", "--json"], env=settings
    )
    assert json.loads(done.stdout) == {"n": len(rows["polls"])}
    monkeypatch.undo()
    assert rows == {relation: both[0].rows(relation) for relation in rows}
    # neither a lock nor a copy
    assert {path.name for path in database.parent.iterdir()} <= {"prod.duckdb", "prod.duckdb.wal"}
