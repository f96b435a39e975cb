"""Packages an earlier run left behind: finished first and said so, or set aside and said so."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from dlt.common.storages.load_package import PackageStorage
from dlt.pipeline.exceptions import PipelineStepFailed

from dlt_cronofy.load.steps import Loading
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.warehouse import duckdb_file
from tests.acceptance.documents import disconnected, profile, userinfo
from tests.acceptance.place import KilledError, Place, killed
from tests.acceptance.server import ScriptedServer
from tests.pipelines.conftest import Answers

HOLDS_THE_FILE = (
    "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
)


@dataclass(frozen=True)
class Stage:
    """A folder, and a copy of it as a killed load left it."""

    place: Place
    server: ScriptedServer
    copy: Path

    @contextmanager
    def environment(self) -> Iterator[pytest.MonkeyPatch]:
        """Nothing is written outside of the folder."""
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(self.place.directory)
            patched.setenv("DLT_DATA_DIR", str(self.place.data_dir))
            patched.setenv("HOME", str(self.place.directory))
            yield patched


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One finished load, then one that was killed between normalizing and loading what had changed."""
    answers, keys = Answers(), ["one", "two"]
    answers.by_token = {key: userinfo(f"acc_{key}", [profile("pro_1")]) for key in keys}
    with ScriptedServer(answers) as server:
        place = Place(tmp_path_factory.mktemp("left"), server.base_url)
        found = Stage(place, server, tmp_path_factory.mktemp("copy") / "left")
        place.write_tokens(keys)
        with found.environment() as patched:
            place.clock.offset = timedelta(hours=-2)
            place.load()
            place.clock.offset = timedelta(0)
            answers.by_token["one"] = userinfo("acc_one", [disconnected(profile("pro_1"))])
            patched.setattr(dlt.Pipeline, "load", killed)
            with pytest.raises(KilledError):
                place.load()
        assert len(packages(place)) == 2
        shutil.copytree(place.directory, found.copy)
        yield found


@pytest.fixture
def left_behind(stage: Stage) -> Iterator[Place]:
    """What the killed load left, each time again."""
    shutil.rmtree(stage.place.directory)
    shutil.copytree(stage.copy, stage.place.directory)
    stage.server.log.clear()
    with stage.environment():
        yield replace(stage.place)


@pytest.fixture
def asked(stage: Stage) -> list[Any]:
    """What the server was asked since."""
    return stage.server.log


def packages(place: Place) -> list[Path]:
    """What changed, and then the polls that showed it."""
    return sorted((place.working_dir / "load" / "normalized").glob("*"))


def changes(place: Place) -> list[tuple[Any, ...]]:
    return place.query("SELECT token_key, kind FROM profile_changes WHERE kind <> 'first_seen'")


def test_a_pending_package_is_finished_first_and_said_so(
    left_behind: Place, asked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    left = [package.name for package in packages(left_behind)]
    with caplog.at_level(logging.INFO, "dlt_cronofy"):
        result = left_behind.load(every=timedelta(hours=1))
    assert result.finished_packages == left
    assert all(name in caplog.text for name in left)
    assert packages(left_behind) == []
    # its polls count as evidence: nobody is asked again
    assert asked == []
    assert changes(left_behind) == [("one", "disconnected")]
    assert left_behind.counts()["polls"] == 6


@pytest.mark.long
def test_the_command_says_so_too(left_behind: Place) -> None:
    left = [package.name for package in packages(left_behind)]
    done = left_behind.run("load", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished_packages"] == left
    assert all(name in done.stderr for name in left)


@pytest.mark.long
def test_a_kill_between_normalizing_and_cleaning_up_loses_nothing(
    place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dlt moves the normalized package into place, then deletes the extracted one file by file."""
    place.write_tokens(["nobody"])
    place.load()  # the tables are there
    answers.by_token["one"] = userinfo("acc_one", [profile("pro_1")])
    place.write_tokens(["nobody", "one"])

    delete_all = PackageStorage.delete_package

    def delete_half(storage: PackageStorage, load_id: str, *, not_exists_ok: bool = False) -> None:
        if not_exists_ok:
            return
        jobs = sorted(Path(storage.storage.storage_path, load_id, "new_jobs").iterdir())
        if not any(path.name.startswith("polls.") for path in jobs):
            delete_all(storage, load_id)
            return
        assert len(jobs) > 1
        for path in jobs[: len(jobs) // 2]:
            path.unlink()
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(PackageStorage, "delete_package", delete_half)
        with pytest.raises(KilledError):
            place.load()
    assert len(packages(place)) == 2
    result = place.load(every=timedelta(hours=1))
    assert (len(set(result.finished_packages)), result.quarantined_packages) == (2, [])
    assert place.query("SELECT COUNT(*) FROM polls WHERE token_key = 'one'") == [(2,)]
    assert place.query("SELECT kind FROM profile_changes") == [("first_seen",)]


@pytest.fixture
def corrupted(left_behind: Place) -> Place:
    """The pending package has a file that no warehouse can read."""
    (polls,) = packages(left_behind)[-1].glob("new_jobs/polls.*.parquet")
    polls.write_bytes(b"PAR1 nonsense PAR1")
    return left_behind


@pytest.mark.long
def test_a_package_that_can_never_be_loaded_is_set_aside(
    corrupted: Place, asked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    left = [package.name for package in packages(corrupted)]
    result = corrupted.load(every=timedelta(hours=1))
    assert result.finished_packages == []
    assert [Path(place).name for place in result.quarantined_packages] == left
    place = result.quarantined_packages[-1]
    assert Path(place).parent.name == "quarantine"
    assert list(Path(place).rglob("polls.*.parquet"))
    assert [record.levelname for record in caplog.records if place in record.getMessage()] == ["ERROR"]
    # what it said is asked for again
    assert {request.token for request, _ in asked} == {"one", "two"}
    assert changes(corrupted) == [("one", "disconnected")]
    assert {row["outcome"] for row in corrupted.rows("polls")} == {"ok"}

    again = corrupted.load()
    assert (again.quarantined_packages, again.finished_packages, again.polled_tokens) == ([], [], 2)
    assert Path(place).is_dir()


@pytest.mark.long
def test_the_command_tells_of_the_quarantine(corrupted: Place) -> None:
    done = corrupted.run("load")
    assert done.returncode == 0, done.stderr
    assert "quarantine" in done.stdout
    assert "quarantine" in done.stderr


@pytest.fixture
def constrained(left_behind: Place) -> Place:
    """Somebody added a column to `polls` that must not be null."""
    for statement in (
        "ALTER TABLE cronofy.polls ADD COLUMN team TEXT",
        "UPDATE cronofy.polls SET team = 'ours'",
        "ALTER TABLE cronofy.polls ALTER COLUMN team SET NOT NULL",
    ):
        execute(left_behind, statement)
    return left_behind


def execute(place: Place, statement: str) -> None:
    with duckdb.connect(str(place.database)) as connection:
        connection.execute(statement)


def give_way(place: Place) -> None:
    execute(place, "ALTER TABLE cronofy.polls ALTER COLUMN team DROP NOT NULL")


def test_a_package_that_a_constraint_refuses_stays_until_that_is_gone(
    constrained: Place, asked: list[Any]
) -> None:
    (polls,) = packages(constrained)[1:]
    for _ in range(2):
        with pytest.raises(PipelineStepFailed, match=r"NOT NULL constraint failed: polls\.team"):
            constrained.load()
        assert packages(constrained) == [polls]
    assert asked == []
    give_way(constrained)
    result = constrained.load(every=timedelta(hours=1))
    assert (result.finished_packages, result.quarantined_packages) == ([polls.name], [])
    assert changes(constrained) == [("one", "disconnected")]
    assert constrained.counts()["polls"] == 6


@pytest.mark.long
def test_a_kill_just_after_the_refusal_does_not_make_it_final(
    constrained: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dlt notes that the job failed, and would repeat that next time instead of trying it."""
    with monkeypatch.context() as patched:
        patched.setattr(PackageStorage, "retry_job", killed)
        with pytest.raises(KilledError):
            constrained.load()
    give_way(constrained)
    result = constrained.load(every=timedelta(hours=1))
    assert (len(result.finished_packages), result.quarantined_packages) == (1, [])
    assert constrained.counts()["polls"] == 6


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("setting", "value"), [("auto_abort_on_terminal_error", "true"), ("raise_on_failed_jobs", "false")]
)
def test_a_setting_by_which_refused_polls_would_go_is_refused(
    constrained: Place, asked: list[Any], monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setenv(f"LOAD__{setting.upper()}", value)
    with pytest.raises(ConfigurationError, match=rf"^{setting} in \[load\]"):
        constrained.load()
    assert len(packages(constrained)) == 2
    assert asked == []


@pytest.mark.long
def test_somebody_elses_column_takes_its_default(left_behind: Place) -> None:
    execute(left_behind, "ALTER TABLE cronofy.polls ADD COLUMN team TEXT DEFAULT 'ours'")
    execute(left_behind, "ALTER TABLE cronofy.polls ALTER COLUMN team SET NOT NULL")
    left_behind.load()
    assert left_behind.query("SELECT team, COUNT(*) FROM polls GROUP BY team") == [("ours", 8)]


@pytest.fixture
def locked(left_behind: Place) -> Iterator["subprocess.Popen[str]"]:
    """Somebody else has the DuckDB file open."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_FILE, str(left_behind.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_warehouse_out_of_reach_costs_nothing(
    left_behind: Place, locked: "subprocess.Popen[str]", asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load fails, the package stays, nobody is polled; when the file is free again it is finished."""
    left = packages(left_behind)
    for wait in ("READ_WAIT_SECONDS", "WRITE_WAIT_SECONDS"):
        monkeypatch.setattr(duckdb_file, wait, 0.5)
    done = left_behind.invoke("load")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is open in another process (PID " in done.stderr
    assert "Traceback" not in done.stderr
    assert packages(left_behind) == left
    assert asked == []
    locked.communicate("")
    result = left_behind.load(every=timedelta(hours=1))
    assert result.finished_packages == [each.name for each in left]
    assert result.quarantined_packages == []
    assert changes(left_behind) == [("one", "disconnected")]


def test_a_load_that_fails_keeps_what_it_polled(place: Place, answers: Answers, locked_later: None) -> None:
    answers.by_token["one"] = userinfo("acc_one", [profile("pro_1")])
    place.write_tokens(["one"])
    with pytest.raises(ConnectionError):
        place.load()
    assert len(packages(place)) == 2


@pytest.fixture
def locked_later(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The warehouse goes away while polling."""

    def refuse(loading: Loading) -> None:
        loading.pipeline.normalize()
        raise ConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Loading, "_load_package", refuse)
        yield
