"""kill -9 in the middle of a load, then a load: as if the kill had not been, but for repeated polls."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from .place import Place, TestClock
from .server import ScriptedServer
from .world import World

KEYS = {
    "account": ("token_key",),
    "calendars": ("token_key", "calendar_id"),
    "polls": ("poll_id",),
    "profile_changes": ("change_id",),
    "profiles": ("token_key", "profile_type", "profile_id"),
    "userinfo": ("token_key",),
}
# what differs between two runs that saw the same
STAMPS = {"_dlt_id", "_dlt_load_id", "change_id", "observed_at", "previous_poll_at", "run_id"}
# two tokens of one account race for who sees a change first
RACY = {"profile_changes": {"token_key"}}
Content = dict[str, list[tuple[tuple[str, Any], ...]]]


def is_polling(place: Place, server: ScriptedServer) -> bool:
    return len(server.log) > 50


def is_extracted(place: Place, server: ScriptedServer) -> bool:
    return _has_polls(place.working_dir / "normalize" / "extracted")


def is_normalized(place: Place, server: ScriptedServer) -> bool:
    return _has_polls(place.working_dir / "load" / "normalized")


def _has_polls(folder: Path) -> bool:
    with suppress(FileNotFoundError):  # dlt moves files meanwhile
        return any(folder.glob("*/*_jobs/polls.*"))
    return False


def is_loading(place: Place, server: ScriptedServer) -> bool:
    return any((place.working_dir / "load" / "normalized").glob("*/started_jobs/*"))


INSTANTS: dict[str, Callable[[Place, ScriptedServer], bool]] = {
    "extracted": is_extracted,
    "polling": is_polling,
    "normalized": is_normalized,
    "loading": is_loading,
    "loading, a little later": is_loading,
}


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=11, accounts=100, shared=False)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[ScriptedServer]:
    with ScriptedServer(world.answer_steadily) as server:
        yield server


@pytest.fixture(scope="module")
def yesterday(world: World, server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return loaded_yesterday(world, server, tmp_path_factory.mktemp("yesterday"))


def loaded_yesterday(world: World, server: ScriptedServer, directory: Path) -> Place:
    """A place with one finished load of the day before; the world has changed since."""
    place = Place(directory, server.base_url)
    place.clock.offset = timedelta(days=-2)
    place.write_tokens(world.owners)
    world.turn()
    place.load()
    world.turn()
    return place


@pytest.fixture(scope="module")
def undisturbed(yesterday: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same place after today's load, which nobody killed."""
    place = copied(yesterday, tmp_path_factory.mktemp("undisturbed"))
    place.load()
    return place


def copied(place: Place, directory: Path) -> Place:
    """Another place with the same store, warehouse and working files, at the present time."""
    import shutil

    shutil.copytree(place.directory, directory, dirs_exist_ok=True)
    return Place(directory, place.base_url, TestClock())


def content(place: Place) -> Content:
    """Every table but `polls`, without what tells one run from another."""
    return {
        table: sorted(
            (
                tuple(
                    sorted(
                        (name, value if name != "removed_at" else value is not None)
                        for name, value in row.items()
                        if name not in STAMPS | RACY.get(table, set())
                    )
                )
                for row in place.rows(table)
            ),
            key=repr,
        )
        for table in KEYS
        if table != "polls"
    }


def final_outcomes(place: Place) -> dict[tuple[str, str], str]:
    """The outcome of the newest poll of every token and endpoint."""
    rows = sorted(place.rows("polls"), key=lambda row: row["polled_at"])
    return {(row["token_key"], row["endpoint"]): row["outcome"] for row in rows}


def assert_keys_are_unique(place: Place) -> None:
    for table, key in KEYS.items():
        columns = ", ".join(key)
        assert place.query(f"SELECT {columns} FROM {table} GROUP BY ALL HAVING COUNT(*) > 1") == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize("instant", INSTANTS)
def test_a_kill_costs_repeated_polls_and_nothing_else(
    instant: str, yesterday: Place, undisturbed: Place, server: ScriptedServer, tmp_path: Path
) -> None:
    dice = Random(instant)
    place = copied(yesterday, tmp_path)
    server.log.clear()
    process = place.start("load", "--every", "0s")
    deadline = time.monotonic() + 30
    while not INSTANTS[instant](place, server):
        assert process.poll() is None, f"the load ended before the kill: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(dice.uniform(0.02, 0.08) if "later" in instant else dice.uniform(0, 0.02))
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL

    stages = ("normalize/extracted", "load/normalized")
    was_pending = any(path for stage in stages for path in (place.working_dir / stage).glob("*"))
    result = place.load(every=timedelta(hours=1))
    # one package for what changed and one for the polls, unless the kill came between them
    assert bool(result.finished_packages) == was_pending
    assert result.quarantined_packages == []
    assert content(place) == content(undisturbed)
    assert final_outcomes(place) == final_outcomes(undisturbed)
    assert len(place.rows("polls")) >= len(undisturbed.rows("polls"))
    assert_keys_are_unique(place)


def test_the_undisturbed_load_had_something_to_write(yesterday: Place, undisturbed: Place) -> None:
    """What the others compare with is not trivial."""
    before, after = yesterday.counts(), undisturbed.counts()
    assert after["profile_changes"] > before["profile_changes"] + 20
    assert after["polls"] > before["polls"] + 100
    assert content(yesterday) != content(undisturbed)
    assert_keys_are_unique(undisturbed)
