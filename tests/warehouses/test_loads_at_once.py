"""Two loads at once into one DuckLake, a reader beside them, and loads that are killed."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg2  # type: ignore[import-untyped]
import pytest

from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.acceptance.world import World

from .conftest import CATALOGS, catalog
from .lake import Lake

pytestmark = pytest.mark.warehouses

ACCOUNTS, ROUNDS, KILLS = 40, 2, 4


@pytest.fixture(scope="module")
def world() -> World:
    world = World(seed=31, accounts=ACCOUNTS, shared=False)
    world.turn()
    return world


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[ScriptedServer]:
    with ScriptedServer(world.answer_steadily) as server:
        yield server


# a catalog in DuckDB lets one process in at a time: who waits for too long fails, and loses nothing
SHARED_CATALOGS = ("sqlite", "postgres")


@pytest.fixture
def lakes(
    request: pytest.FixtureRequest, world: World, server: ScriptedServer, tmp_path: Path
) -> Iterator[tuple[Lake, Lake]]:
    """Two folders, each with half of the tokens, whose loads go into one lake."""
    with catalog(request.param, tmp_path) as place:
        both = (
            Lake(tmp_path / "left", server.base_url, catalog=place, files=tmp_path / "files"),
            Lake(tmp_path / "right", server.base_url, catalog=place, files=tmp_path / "files"),
        )
        tokens = sorted(world.owners)
        for number, lake in enumerate(both):
            lake.directory.mkdir()
            lake.write_tokens(tokens[number::2])
        yield both


def start(lake: Lake) -> "subprocess.Popen[str]":
    # each is an application of its own: none of its tokens has left because the other one does not know it
    name = lake.directory.name
    return lake.start(
        *("load", "--every", "0s", "--json", "--max-failure-ratio", "1"), SOURCES__CRONOFY__APPLICATION=name
    )


def ended(process: "subprocess.Popen[str]") -> dict[str, int]:
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    summary: dict[str, int] = json.loads(output)
    return summary


def ask(lake: Place, sql: str) -> list[dict[str, int]]:
    answer = lake.run("query", sql, "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    return found if isinstance(found, list) else [found]


def assert_complete(lake: Lake, polls: int | None = None) -> None:
    """Nothing is lost or there twice, and the evidence is what the polls say."""
    checked = lake.run("rebuild", "--check")
    assert (checked.returncode, checked.stdout.strip()) == (0, "no difference"), checked.stdout
    (counted,) = ask(lake, "SELECT count(*) AS polls, count(DISTINCT poll_id) AS ids FROM polls")
    assert counted["polls"] == counted["ids"]
    assert polls in (None, counted["polls"])
    for table, key in (
        ("token_status", "token_key"),
        ("userinfo", "token_key"),
        ("profiles", "token_key, profile_type, profile_id"),
        ("profile_changes", "change_id"),
        ("coverage", "account_id, profile_type, first_sample_at"),
    ):
        twice = f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1"
        (found,) = ask(lake, f"SELECT count(*) AS n FROM ({twice}) AS twice")
        assert found == {"n": 0}, table


READER = """
import sys, time
from pathlib import Path
from click.testing import CliRunner
from dlt_cronofy.cli.main import cli
stop, last = Path(sys.argv[1]), 0
while not stop.exists():
    for sql in ("SELECT count(*) AS n FROM polls", "SELECT count(*) AS n FROM needs_action"):
        answer = CliRunner().invoke(cli, ["query", sql, "--format", "csv"])
        assert answer.exit_code == 0, answer.output
        if "polls" in sql:
            found = int(answer.stdout.split()[-1])
            assert found >= last, (found, last)
            last = found
            print(found, flush=True)
"""


@pytest.mark.parametrize("lakes", SHARED_CATALOGS, indirect=True)
def test_two_loads_and_a_reader(lakes: tuple[Lake, Lake], world: World, tmp_path: Path) -> None:
    polls = ended(start(lakes[0]))["polls"]
    stop = tmp_path / "stop"
    reader = subprocess.Popen(
        [lakes[0].python, "-c", READER, str(stop)],
        env=lakes[0].environment(),
        cwd=lakes[0].directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for _ in range(ROUNDS):
            world.turn()
            polls += sum(ended(process)["polls"] for process in [start(lake) for lake in lakes])
    finally:
        stop.touch()
        output, _ = reader.communicate(timeout=100)
    assert reader.returncode == 0, output
    # it has looked meanwhile
    assert len(output.split()) > ROUNDS
    assert_complete(lakes[0], polls)


@pytest.mark.parametrize("lakes", CATALOGS, indirect=True)
def test_kills_heal(lakes: tuple[Lake, Lake], world: World) -> None:
    dice = random.Random(lakes[0].catalog.partition(":")[0])
    for lake in lakes:
        ended(start(lake))
    for number in range(KILLS):
        world.turn()
        doomed, other = (start(lake) for lake in lakes[:: 1 if number % 2 else -1])
        time.sleep(dice.uniform(2.5, 6.5))
        with suppress(ProcessLookupError):
            doomed.send_signal(signal.SIGKILL)
        doomed.communicate(timeout=30)
        ended(other)
    for lake in lakes:
        ended(start(lake))
    assert_complete(lakes[0])
    (found,) = ask(lakes[0], "SELECT count(*) AS n FROM token_status WHERE endpoint IS NOT NULL")
    assert found == {"n": len(world.owners)}


# of another load, as if that had altered the table that each load begins with; the staging table came later
COMMIT = """
    SET search_path = ducklake;
    INSERT INTO ducklake_snapshot
    SELECT snapshot_id + 1, now(), schema_version, next_catalog_id, next_file_id
    FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1;
    INSERT INTO ducklake_snapshot_changes (snapshot_id, changes_made)
    SELECT (SELECT max(snapshot_id) FROM ducklake_snapshot), 'altered_table:' || min(table_id)
    FROM ducklake_table WHERE table_name = 'runs' AND end_snapshot IS NULL
"""


@pytest.mark.parametrize("lakes", ["postgres"], indirect=True)
def test_the_last_commit_of_a_killed_load_comes_first(lakes: tuple[Lake, Lake]) -> None:
    # the server goes on with it after the lock of that load is gone
    lake = lakes[0]
    ended(start(lake))
    (catalog_uri,) = re.findall(r"postgresql.*", lake.catalog)
    with closing(psycopg2.connect(catalog_uri)) as session:
        cursor = session.cursor()
        cursor.execute(COMMIT)
        assert cursor.rowcount == 1
        process = start(lake)
        has_turn = False
        while not has_turn:
            time.sleep(0.1)
            cursor.execute("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND granted")
            ((has_turn,),) = cursor.fetchall()
        time.sleep(4)
        session.commit()
    ended(process)
    assert_complete(lake)
