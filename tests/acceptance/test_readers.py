"""Readers of a DuckDB file and a load stand beside each other, and a load loses nothing it has polled."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from dlt.destinations.exceptions import DestinationConnectionError

from dlt_cronofy.load import steps
from dlt_cronofy.warehouse import duckdb_file

from .place import Place
from .server import ScriptedServer
from .test_killed_loads import assert_keys_are_unique, content, copied, final_outcomes, loaded_yesterday
from .world import World

READ = (
    "import duckdb, sys, time; connection = duckdb.connect(sys.argv[1], read_only=True);"
    "print(1, flush=True); time.sleep(60)"
)


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=31, accounts=60, shared=False)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[ScriptedServer]:
    with ScriptedServer(world.answer_steadily) as server:
        yield server


@pytest.fixture(scope="module")
def yesterday(world: World, server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return loaded_yesterday(world, server, tmp_path_factory.mktemp("yesterday"))


@contextmanager
def read_elsewhere(file: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", READ, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


@pytest.mark.long
def test_a_reader_that_stays_costs_no_poll(
    yesterday: Place, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load stops polling and keeps what was answered, more than the package that could not be loaded."""
    place, undisturbed = (copied(yesterday, tmp_path / name) for name in ("read", "undisturbed"))
    undisturbed.load()
    server.log.clear()
    for name in ("MIN_PACKAGE_POLLS", "MAX_PACKAGE_POLLS"):
        monkeypatch.setattr(steps, name, 20)
    monkeypatch.setattr(duckdb_file, "WRITE_WAIT_SECONDS", 0.5)
    before = len(place.rows("polls"))
    with read_elsewhere(place.database), pytest.raises(DestinationConnectionError, match="lock"):
        place.load(max_attempts=1)
    asked = len(server.log)
    assert asked > 20
    server.log.clear()
    result = place.load(every=timedelta(hours=1), max_attempts=1)
    assert len(result.finished_packages) > 2
    assert len(place.rows("polls")) - before == asked + len(server.log)
    assert content(place) == content(undisturbed)
    assert final_outcomes(place) == final_outcomes(undisturbed)
    assert_keys_are_unique(place)


@pytest.mark.long
def test_what_waits_to_be_loaded_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an account with several tokens each profile is first seen once, though nothing is loaded yet."""
    world = World(seed=31, accounts=15)
    world.turn()
    for name in ("MIN_PACKAGE_POLLS", "MAX_PACKAGE_POLLS"):
        monkeypatch.setattr(steps, name, 5)
    with ScriptedServer(world.answer_steadily) as server:
        place = Place(tmp_path, server.base_url)
        place.write_tokens(world.owners)
        with monkeypatch.context() as patched:
            patched.setattr(steps.Loading, "_load_package", refuse)
            with pytest.raises(ConnectionError):
                place.load()
        assert len(place.load(every=timedelta(hours=1)).finished_packages) > 4
    seen = "SELECT account_id, profile_id FROM profile_changes WHERE kind = 'first_seen' GROUP BY ALL"
    assert place.query(f"{seen} HAVING COUNT(*) > 1") == []
    assert len(place.query(seen)) > 15


def refuse(_: steps.Loading) -> None:
    raise ConnectionError("gone")


@pytest.mark.long
def test_three_readers_and_a_load(yesterday: Place, tmp_path: Path) -> None:
    place = copied(yesterday, tmp_path)
    assert place.run("views").returncode == 0
    started = [
        place.start(*command)
        for command in (
            ("load", "--every", "0s", "--max-failure-ratio", "1"),
            ("status", "--json"),
            ("query", "--json", "SELECT COUNT(*) AS n FROM outages"),
            ("report",),
        )
    ]
    ended = [(*process.communicate(timeout=100), process.returncode) for process in started]
    assert [status for _, _, status in ended] == [0, 0, 0, 0], ended


def test_reading_needs_no_right_to_write(tmp_path: Path) -> None:
    """As from a file system that is mounted read-only: nothing is written beside the file."""
    world = World(seed=31, accounts=3)
    world.turn()
    with ScriptedServer(world.answer_steadily) as server:
        place = Place(tmp_path, server.base_url)
        place.write_tokens(world.owners)
        place.load(refresh_views=True)
    folder = place.database.parent
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
    for command in (("status",), ("query", "SELECT 1"), ("plan",)):
        assert place.invoke(*command).exit_code == 0
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
    assert after == before
