"""Packages of a killed load are loaded into the warehouse they were polled for, and into no other."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dlt_cronofy.erase.person import Person, Traces
from dlt_cronofy.erase.removal import Removal
from dlt_cronofy.erase.summary import Erased
from dlt_cronofy.warehouse.pipeline import open_pipeline
from dlt_cronofy.warehouse.working_folders import LOCK, OWNER, WorkingFolder
from tests.pipelines.loads import OTHERS, PERSON, PERSONS, Loads
from tests.pipelines.warehouse.writing import Postgres, postgres_for_writers

LEFT = "package(s) in {} are not loaded: "
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, 2); print(flush=True); sys.stdin.read()"


@contextmanager
def in_use(folder: WorkingFolder) -> Iterator[None]:
    """As by a load in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path / LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        yield
        holder.kill()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_for_writers() as server:
        yield server


@pytest.mark.long
@pytest.mark.parametrize("configured", [False, True], ids=["own folders", "one configured folder"])
def test_packages_never_cross_two_files(
    configured: bool, loads: Loads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if configured:
        monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "configured"))
    _never_cross(loads, loads.file("prod"), loads.file("test"))
    assert "are not loaded" not in caplog.text


@pytest.mark.long
def test_packages_never_cross_two_databases(
    loads: Loads, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "configured"))
    _never_cross(loads, postgres.credentials, postgres.database("test"))


def _never_cross(loads: Loads, prod: str, test: str) -> None:
    """Prod is killed, test is loaded from the same place, and prod goes on."""
    left = loads.leave_pending(prod)
    packages = left.pending()
    result = loads.load(test, hours_ago=1)
    assert (result.finished_packages, loads.polls(test), loads.kinds(test)) == ([], 4, ["first_seen"])
    assert left.pending() == packages
    again = loads.load(prod)
    assert len(again.finished_packages) == 2
    assert (again.quarantined_packages, left.pending()) == ([], [])
    assert loads.kinds(prod) == ["first_seen", "disconnected", "connected"]


@pytest.mark.long
def test_what_waits_under_another_configuration_is_finished(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "earlier"))
    left = loads.leave_pending(loads.file("prod"))
    monkeypatch.delenv("PIPELINES_DIR")
    result = loads.load(loads.file("prod"))
    assert len(result.finished_packages) == 2
    assert left.pending() == []
    assert loads.kinds(loads.file("prod")) == ["first_seen", "disconnected", "connected"]


def older_release(loads: Loads, folder: WorkingFolder) -> WorkingFolder:
    """The folder as 0.2 named it, after the folder one stood in; nothing in it says whose it is."""
    (folder.path / OWNER).unlink()
    return WorkingFolder(Path(shutil.move(folder.path, loads.root / "cronofy-0a1b2c3d")))


@pytest.mark.long
def test_what_an_older_release_left_is_named(loads: Loads, caplog: pytest.LogCaptureFixture) -> None:
    left = older_release(loads, loads.leave_pending(loads.file("prod")))
    loads.load(loads.file("prod"))
    assert LEFT.format(left.working_dir) + "it is not known which warehouse they are for" in caplog.text
    assert len(left.pending()) == 2


@pytest.mark.long
def test_what_cannot_be_finished_is_named(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays, and the load goes on."""
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "earlier"))
    left = loads.leave_pending(loads.file("prod"))
    monkeypatch.delenv("PIPELINES_DIR")

    def load(warehouse: str, why: str) -> None:
        caplog.clear()
        result = loads.load(warehouse)
        assert (result.finished_packages, result.quarantined_packages) == ([], [])
        assert why in caplog.text
        assert str(left.working_dir) in caplog.text
        assert len(left.pending()) == 2

    with in_use(left):
        load(loads.file("prod"), "a load is running there")
    with monkeypatch.context() as patched:
        patched.setattr("dlt_cronofy.load.pending.sole_user", read_only)
        load(loads.file("prod"), "Read-only file system")
    (left.path / LOCK).unlink()
    load(loads.file("prod"), "another program made them")
    load(shutil.move(loads.file("prod"), loads.file("moved")), "and that file is not there")
    assert loads.polls(loads.file("moved")) == 4 + 4 * 2


def read_only(_: WorkingFolder) -> Any:
    raise OSError(30, "Read-only file system")


@pytest.mark.long
def test_an_erased_person_stays_away_wherever_one_stood(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from packages, a quarantine or notes in other folders, and not from what shards left."""
    warehouse = loads.file("prod")
    monkeypatch.setenv("PIPELINES_DIR", str(loads.place.directory / "earlier"))
    left = loads.leave_pending(warehouse)
    monkeypatch.delenv("PIPELINES_DIR")
    shards = loads.root / "cronofy-0a1b2c3d" / "shards"
    shutil.copytree(left.path, shards)
    other = loads.root / "cronofy-1a1b2c3d"
    shutil.copytree(left.working_dir / "load/normalized", other / "cronofy" / "quarantine")
    (other / LOCK).touch()
    (other / "cronofy-refreshing-12ab.jsonl").write_text(json.dumps({"token_key": PERSONS}))
    answer = loads.erase(warehouse, 0)
    assert (answer["found"], answer["problems"]) == ([], [])
    assert answer["packages_deleted"] >= 2
    assert left.pending() == []
    assert WorkingFolder(shards).packages() == []
    assert (other / "cronofy-refreshing-12ab.jsonl").read_text() == ""
    for folder in (warehouse, left.path, other):
        assert PERSON not in str(contents(Path(folder)))
    # a later load from there, of a store that has no token of theirs
    monkeypatch.setenv("PIPELINES_DIR", str(left.path))
    loads.load(warehouse, tokens_of=[OTHERS])
    assert (loads.kinds(warehouse), loads.polls(warehouse)) == ([], 4)


def contents(path: Path) -> list[Any]:
    """What is in a DuckDB file, or in the Parquet files of a folder."""
    if path.is_file():
        return [path.read_bytes()]
    return [pq.read_table(each, partitioning=None).to_pylist() for each in path.rglob("*.parquet")]


@pytest.mark.long
def test_an_erasure_says_what_it_did_not_reach(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    prod, test = loads.file("prod"), loads.file("test")
    left = loads.leave_pending(prod)
    loads.load(test)

    def erase(said: str) -> None:
        (problem,) = loads.erase(test, 1)["problems"]
        assert said in problem
        assert str(left.path) in problem
        assert PERSON not in problem

    with in_use(left):
        erase("a load is running over ")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", unlisted(left.path))
        erase("cannot be read; packages may wait there")
    (left.path / LOCK).unlink()
    erase("another program made it: delete ")
    (left.path / LOCK).touch()
    own = shutil.copytree(left.working_dir, loads.root / "a_program_of_ours")
    assert f"another program made it: delete {own}" in loads.erase(test, 1)["problems"][-1]
    shutil.rmtree(own)
    erase(f"they are for {prod}, dataset cronofy; run ")
    named_otherwise = shutil.copytree(left.path, loads.place.directory / "copy")
    assert len(left.pending()) == 2
    # there too, and then it is done
    loads.erase(prod, 0)
    loads.load(test)
    loads.erase(test, 0)
    left = older_release(loads, WorkingFolder(named_otherwise))
    erase("it is not known for which warehouse: delete that folder")


def unlisted(folder: Path) -> Callable[[Path], Iterator[Path]]:
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(13, "Permission denied")
        return iter(listed(path))

    return iterdir


def test_ducklake_keeps_what_was_deleted(loads: Loads) -> None:
    result = Erased(PERSON, None)
    Removal(open_pipeline("ducklake"), Person(), Traces(), {}, result).overwrite_deleted()
    (problem,) = result.problems
    assert "ducklake_expire_snapshots" in problem
    assert not result.is_complete
