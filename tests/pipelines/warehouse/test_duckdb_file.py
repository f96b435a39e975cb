"""A DuckDB file: readers stand beside each other, a writer waits for them, and no kill tears it."""

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import duckdb
import pytest

from dlt_cronofy.warehouse import dataset, duckdb_file
from dlt_cronofy.warehouse.dataset import sql_client, writer
from dlt_cronofy.warehouse.duckdb_file import (
    PRAGMAS,
    SETTINGS,
    checkpoint,
    connect,
    log_of,
    tidy,
    writing,
)
from dlt_cronofy.warehouse.pipeline import open_pipeline

HOLD_OPEN = (
    "import duckdb, sys, time; c = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'reading');"
    "print(1, flush=True); time.sleep(60)"
)

WRITE = """
import duckdb, sys
try:
    duckdb.connect(sys.argv[1])
except duckdb.IOException:
    sys.exit(3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a hundred rows, and ten more in its write-ahead log."""
    path = tmp_path / "some.duckdb"
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT range AS n FROM range(100)")
    log(path, "INSERT INTO numbers SELECT range FROM range(10)")
    assert log_of(path).exists()
    return path


def log(file: Path, sql: str) -> None:
    with closing(duckdb.connect(str(file), config=dict(SETTINGS))) as connection:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(sql)


def rows(file: Path) -> int:
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM numbers").fetchall()[0][0])


def beside(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir()} - {file.name}


@contextmanager
def held(file: Path, how: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The file open in another process, until the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_OPEN, str(file), how], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is open
        yield process
        process.terminate()


def test_the_log_goes_into_the_file_and_nothing_stays_beside_it(file: Path) -> None:
    file.chmod(0o640)
    assert checkpoint(file)
    assert (beside(file), rows(file)) == (set(), 110)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    before = file.read_bytes()
    assert checkpoint(file)
    assert file.read_bytes() == before


def test_a_checkpoint_never_writes_to_the_file(file: Path) -> None:
    """A process that has it open goes on with what it was."""
    before = file.read_bytes()
    with file.open("rb") as opened:
        assert checkpoint(file)
        assert opened.read() == before
        assert file.stat().st_ino != os.fstat(opened.fileno()).st_ino


def test_nobody_writes_to_the_new_file_before_the_old_log_is_gone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process commits in between would go with that log."""
    tried: list[int] = []
    real = duckdb_file.replace_database

    def replace(fresh: Path, path: Path) -> None:
        real(fresh, path)
        tried.append(subprocess.run([sys.executable, "-c", WRITE, str(path)], check=False).returncode)

    monkeypatch.setattr(duckdb_file, "replace_database", replace)
    assert checkpoint(file)
    assert tried == [3]
    assert subprocess.run([sys.executable, "-c", WRITE, str(file)], check=False).returncode == 0


def test_a_file_that_was_replaced_meanwhile_is_not_checkpointed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on what is no longer there keeps nobody out."""
    fresh = file.with_name("fresh")
    shutil.copy(file, fresh)
    real = os.open

    def late(path: Path, *arguments: int) -> int:
        descriptor = real(path, *arguments)
        if path == file and fresh.exists():
            fresh.replace(file)
        return descriptor

    monkeypatch.setattr(os, "open", late)
    assert not checkpoint(file)
    assert checkpoint(file)


def test_a_link_to_the_file_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.parent.mkdir()
    link.symlink_to(file)
    assert checkpoint(link)
    assert (link.is_symlink(), rows(link), beside(file)) == (True, 110, {"elsewhere"})


def test_the_log_that_was_merged_is_ignored_beside_the_new_file_and_replayed_beside_the_old(
    file: Path, tmp_path: Path
) -> None:
    """The two instants at which a kill leaves file and log of different ages."""
    old = tmp_path / "old.duckdb"
    shutil.copy(file, old)
    shutil.copy(log_of(file), log_of(old))
    with duckdb_file._locked(file, 0.0) as descriptor:
        copy = tmp_path / "copy.duckdb"
        duckdb_file._copy(descriptor, file, copy)
        duckdb_file._merge(copy)
    shutil.copy(log_of(copy), log_of(old))
    for each in (copy, old):
        assert rows(each) == 110
        log(each, "INSERT INTO numbers VALUES (7)")
        assert rows(each) == 111


def test_what_a_kill_left_is_removed(file: Path) -> None:
    hidden = (
        ".some.duckdb.checkpoint",
        ".some.duckdb.checkpoint.wal",
        ".some.duckdb.copy",
        ".some.duckdb.new",
    )
    for name in (*hidden, "some.duckdb.erasing"):  # the last one by 0.2
        file.with_name(name).write_bytes(b"half")
    tidy(file)
    assert (beside(file), rows(file)) == ({"some.duckdb.wal"}, 110)


@pytest.mark.parametrize("has_log", [True, False])
@pytest.mark.parametrize("is_torn", [True, False])
def test_a_checkpoint_of_0_2_that_was_killed(file: Path, is_torn: bool, has_log: bool) -> None:
    """It had a copy beside the file, which it tore."""
    copy = file.with_name(file.name + ".checkpointing")
    shutil.copy(file, copy)
    if has_log:
        shutil.copy(log_of(file), log_of(copy))
    if is_torn:
        content = bytearray(file.read_bytes())
        for start in range(12_288, len(content), 262_144):
            content[start : start + 1000] = b"\xff" * 1000
        file.write_bytes(content)
        with pytest.raises(duckdb.Error):
            rows(file)
    else:
        log(file, "INSERT INTO numbers VALUES (1000)")
    tidy(file)
    assert (rows(file), beside(file)) == (110 if is_torn else 111, {"some.duckdb.wal"})


def test_without_room_for_a_copy_the_log_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert not checkpoint(file)
    assert (rows(file), beside(file)) == (110, {"some.duckdb.wal"})


def test_a_file_that_is_a_mount_of_its_own_is_checkpointed_in_place(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folder goes with the container, and its log with that."""
    monkeypatch.setattr(duckdb_file, "is_mount", lambda path: path == file)
    inode = file.stat().st_ino
    with held(file, "reading"):
        assert not checkpoint(file)
    assert checkpoint(file)
    assert (beside(file), rows(file), file.stat().st_ino) == (set(), 110, inode)
    assert "mount its folder instead" in caplog.text


@pytest.mark.parametrize("how", ["reading", "writing"])
def test_while_somebody_has_the_file_open_the_log_stays(file: Path, how: str) -> None:
    with held(file, how):
        assert not checkpoint(file)
    assert beside(file) == {"some.duckdb.wal"} if how == "reading" else True
    assert checkpoint(file)
    assert rows(file) == 110


@pytest.mark.parametrize(
    ("file_bytes", "logged_bytes", "is_due"),
    [
        (duckdb_file.SMALL_FILE_BYTES, 1, True),
        (duckdb_file.SMALL_FILE_BYTES * 2, duckdb_file.SMALL_FILE_BYTES // 16 - 1, False),
        (duckdb_file.SMALL_FILE_BYTES * 2, duckdb_file.SMALL_FILE_BYTES // 16, True),
        (duckdb_file.SMALL_FILE_BYTES * 99, duckdb_file.MOST_LOGGED_BYTES - 1, False),
        (duckdb_file.SMALL_FILE_BYTES * 99, duckdb_file.MOST_LOGGED_BYTES, True),
        (10_000, None, False),
        (None, None, False),
    ],
)
def test_a_large_file_is_copied_when_its_log_is_a_good_part_of_it(
    file_bytes: int | None, logged_bytes: int | None, is_due: bool, tmp_path: Path
) -> None:
    file = tmp_path / "some.duckdb"
    for path, size in ((file, file_bytes), (log_of(file), logged_bytes)):
        if size is not None:
            with path.open("wb") as sparse:
                sparse.truncate(size)
    assert duckdb_file.is_checkpoint_due(file) == is_due


def test_readers_stand_beside_each_other_and_none_can_write(file: Path) -> None:
    with held(file, "reading"), closing(connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchall() == [(110,)]
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connection.execute("DELETE FROM numbers")


def test_a_small_file_is_read_on_one_thread_by_us_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(connection: duckdb.DuckDBPyConnection) -> int:
        with closing(connection):
            return int(connection.execute("SELECT current_setting('threads')").fetchall()[0][0])

    default = threads(duckdb.connect(str(file), read_only=True))
    assert threads(connect(file)) == 1
    with closing(connect(file)), closing(duckdb.connect(str(file), read_only=True)):
        pass  # the settings of both are the same to DuckDB
    monkeypatch.setattr(duckdb_file, "ONE_THREAD_BYTES", 0)
    assert threads(connect(file)) == threads(duckdb.connect(str(file), read_only=True)) == default


def test_reading_what_is_not_there_creates_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new.duckdb"
    with closing(connect(file)) as connection:
        assert connection.execute("SELECT current_database()").fetchall() == [("new",)]
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_a_file_that_was_removed_is_not_taken_for_that_of_a_new_one(file: Path) -> None:
    file.unlink()
    with writing(file), closing(connect(file)) as connection:
        assert connection.execute("SELECT * FROM duckdb_tables()").fetchall() == []


def test_writing_waits_for_readers_and_says_so(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with held(file, "reading") as reader, writing(file):
        threading.Timer(0.3, reader.terminate).start()
        with closing(connect(file)) as connection:
            connection.execute("DELETE FROM numbers WHERE n < 50")
    assert "some.duckdb is open in another process; waiting" in caplog.text
    assert rows(file) == 50


def test_waiting_ends(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_file, "WRITE_WAIT_SECONDS", 0.2)
    with held(file, "reading"), writing(file), pytest.raises(duckdb.IOException, match="lock"):
        connect(file)


def test_no_client_of_a_pipeline_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dlt's own settings would: on closing, and when a log has grown."""
    monkeypatch.setattr(dataset, "is_checkpoint_due", lambda _, **__: False)
    file = tmp_path / "some.duckdb"
    pipeline = open_pipeline("duckdb", credentials=str(file), pipelines_dir=tmp_path / "pipelines")
    with writer(pipeline), sql_client(pipeline) as client:
        before = file.read_bytes()
        client.execute_sql("CREATE SCHEMA cronofy")
        client.execute_sql("CREATE TABLE cronofy.numbers AS SELECT range AS n FROM range(1000)")
        assert client.execute_sql("SELECT current_setting('wal_autocheckpoint')") == [("931.3 GiB",)]
    assert file.read_bytes() == before
    with sql_client(pipeline) as client:
        assert client.execute_sql("SELECT count(*) FROM numbers") == [(1000,)]
    assert file.read_bytes() == before


@pytest.mark.parametrize("how", ["reading", "writing"])
def test_a_file_that_is_replaced_while_it_is_opened(
    how: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    real = duckdb.connect

    def slow(*arguments: object, **options: object) -> duckdb.DuckDBPyConnection:
        connection = real(*arguments, **options)  # type: ignore[arg-type]
        if not opened:
            opened.append(True)
            fresh = file.with_name("fresh")
            shutil.copy(file, fresh)
            fresh.replace(file)
        return connection

    monkeypatch.setattr(duckdb, "connect", slow)
    began = time.monotonic()
    with nullcontext() if how == "reading" else writing(file), closing(connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchall() == [(110,)]
    assert time.monotonic() - began >= duckdb_file.SECONDS_BETWEEN_TRIES
