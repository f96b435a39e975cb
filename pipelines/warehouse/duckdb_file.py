"""A DuckDB file: who has it open how, and checkpoints that a kill cannot tear.

DuckDB lets one process write to a file, or several read it. So every connection only reads, but within
`writing`, and a load writes in short turns. Each waits a while for the others.

A checkpoint of DuckDB 1.4 and 1.5 writes over the metadata that the last checkpoint made valid before the
new one is. A kill in the middle of that write leaves a file that never opens again. So no connection of ours
checkpoints the file: what is loaded goes to its write-ahead log, and `checkpoint` works on a copy, which
takes the place of the file when it is complete.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb

from dlt_cronofy.source.files import is_mount, put_in_place, sync, take_over

logger = logging.getLogger("dlt_cronofy")

# for every connection that writes
PRAGMAS = ("disable_checkpoint_on_shutdown",)
SETTINGS = {"wal_autocheckpoint": "1TB"}

# how long a reader waits for a load, which writes for some seconds at a time, and a load for readers
READ_WAIT_SECONDS, WRITE_WAIT_SECONDS = 20.0, 30.0
SECONDS_BETWEEN_TRIES = 0.05

# a query of so small a file takes as long on one thread, and a fifth less of the processor
ONE_THREAD_BYTES = 4 * 1024 * 1024

# A checkpoint copies the whole file. Below this size that takes no time worth mentioning; above, the log may
# grow to a part of the file first, so that no more than so many bytes are copied for each byte loaded.
SMALL_FILE_BYTES = 64 * 1024 * 1024
COPIED_PER_LOGGED_BYTE = 32
# Each open reads the log again. That of a small file waits for the end of a load only while it is small; the
# most takes half a second, while a file of some GB takes several to copy.
LITTLE_LOGGED_BYTES = 8 * 1024 * 1024
MOST_LOGGED_BYTES = 64 * 1024 * 1024

CHUNK_BYTES = 16 * 1024 * 1024
# DuckDB takes a block for each column that is written to: with its 256 KiB a checkpoint of many small tables
# takes four times the memory, and a small file a third more of the disk
BLOCK_BYTES = 64 * 1024
# a checkpoint takes the groups of rows that changed into memory; DuckDB's own have 122,880 rows
ROWS_PER_GROUP = 20_480

# beside the file, so that they are on the same file system; what a killed run left is removed by the next
CHECKPOINT, COPY, NEW = ".checkpoint", ".copy", ".new"
# dlt-cronofy 0.2 checkpointed the file itself, with such a copy beside it, and left these
COPY_OF_0_2 = ".checkpointing"
OF_0_2 = (COPY_OF_0_2, f"{COPY_OF_0_2}.part", f"{COPY_OF_0_2}.wal.part", ".erasing")
# DuckDB's words for a file that was torn
TORN = re.compile(r"Corrupt|checksum|Failure while replaying WAL|not a valid DuckDB|Failed to load metadata")

# by file, how many are within `writing`
_written: Counter[Path] = Counter()


class CheckpointError(Exception):
    """DuckDB did not do what a checkpoint relies on; the file is as it was."""


def log_of(file: Path) -> Path:
    """The write-ahead log of a DuckDB file."""
    return file.with_name(file.name + ".wal")


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Have connections that this process opens meanwhile write to the file."""
    file = file.resolve()
    _written[file] += 1
    try:
        yield
    finally:
        _written[file] -= 1


def is_written(file: Path) -> bool:
    """Whether this process is writing to the file."""
    return _written[file.resolve()] > 0


def connect(file: Path) -> duckdb.DuckDBPyConnection:
    """A connection to the file: one that only reads, but within `writing`.

    Where there is no file, writing creates it; reading finds an empty database of its name.
    """
    if is_written(file):
        if not file.exists():
            _create(file.resolve())
        return _connect_when_free(file, read_only=False, wait_seconds=WRITE_WAIT_SECONDS)
    if file.exists():
        return _connect_when_free(file, read_only=True, wait_seconds=READ_WAIT_SECONDS)
    connection = duckdb.connect(":memory:")
    connection.execute(f"ATTACH ':memory:' AS {quoted(file.stem)}")
    connection.execute(f"USE {quoted(file.stem)}")
    return connection


def _connect_when_free(file: Path, *, read_only: bool, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + wait_seconds
    is_waiting = False
    while True:
        opened = file.stat().st_ino
        try:
            connection = _connect(file, read_only=read_only)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error) or time.monotonic() >= deadline:
                raise
            if not is_waiting:
                logger.warning(
                    "%s is open in another process; waiting up to %d s for it", file.name, wait_seconds
                )
            is_waiting = True
        else:
            if file.stat().st_ino == opened:
                return connection
            connection.close()  # a checkpoint put another file in its place meanwhile
        time.sleep(SECONDS_BETWEEN_TRIES)


def _connect(file: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    if read_only:
        connection = duckdb.connect(str(file), read_only=True)
        if file.stat().st_size < ONE_THREAD_BYTES:
            connection.execute("SET threads = 1")
        return connection
    connection = duckdb.connect(str(file), config=dict(SETTINGS))
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _create(file: Path) -> None:
    """An empty database, complete or not there at all; another one's that came first stays."""
    new = file.with_name(f".{file.name}{NEW}")
    remove_database(new)
    try:
        duckdb.connect(str(new), config={"default_block_size": str(BLOCK_BYTES)}).close()
        sync(new)
        # of a file that somebody removed
        log_of(file).unlink(missing_ok=True)
        try:
            os.link(new, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            new.replace(file)
    finally:
        remove_database(new)


def free_share(file: Path) -> float:
    """How much of the file holds nothing, from 0 to 1: the room of deleted rows that is not used again."""
    with duckdb.connect(str(file), read_only=True) as connection:
        row = connection.execute("SELECT free_blocks, total_blocks FROM pragma_database_size()").fetchone()
    assert row is not None
    free_blocks, total_blocks = row
    return float(free_blocks / total_blocks) if total_blocks else 0.0


def is_checkpoint_due(file: Path, *, more_to_come: bool = False) -> bool:
    """Whether the log is worth a copy of the file; in the end, any log of a small file is."""
    try:
        logged_bytes = log_of(file).stat().st_size
        file_bytes = file.stat().st_size
    except FileNotFoundError:
        return False
    most_logged = min(MOST_LOGGED_BYTES, file_bytes // COPIED_PER_LOGGED_BYTE)
    if file_bytes <= SMALL_FILE_BYTES:
        return not more_to_come or logged_bytes >= LITTLE_LOGGED_BYTES
    return logged_bytes >= most_logged


def checkpoint(file: Path, *, wait_seconds: float = 0.0) -> bool:
    """Move what is in the write-ahead log into the file; returns whether there is no log any more.

    At any instant the file and its log hold the same together, so a kill changes nothing. Where there is no
    room for a copy, or somebody reads for too long, the log stays, which DuckDB reads as well. Nothing in
    this process may have the file open.
    """
    file = file.resolve()
    if not log_of(file).exists():
        return True
    try:
        if is_mount(file):
            _checkpoint_mounted(file, wait_seconds)
            return not log_of(file).exists()
        with _locked(file, wait_seconds) as descriptor:
            _checkpoint_copy(descriptor, file)
    except BlockingIOError:
        logger.debug("%s keeps its write-ahead log: another process has it open", file)
    except OSError as error:
        logger.warning("%s keeps its write-ahead log: no copy can be made (%s)", file, error.strerror)
    except (CheckpointError, duckdb.Error) as error:
        logger.warning("%s keeps its write-ahead log: %s", file, error)
    return not log_of(file).exists()


@contextlib.contextmanager
def _locked(file: Path, wait_seconds: float) -> Iterator[int]:
    """The file opened under the lock that a writing DuckDB has; BlockingIOError where another process has it.

    The lock belongs to the process, and goes when the process closes the file for the first time.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            is_locked = False
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_locked = os.fstat(descriptor).st_ino == file.stat().st_ino
            if is_locked:
                yield descriptor
                return
        finally:
            os.close(descriptor)
        if time.monotonic() >= deadline:
            raise BlockingIOError
        time.sleep(SECONDS_BETWEEN_TRIES)


def _checkpoint_mounted(file: Path, wait_seconds: float) -> None:
    """Checkpoint a file that is a mount of its own: its log lies in a container, and would go with it."""
    logger.warning(
        "%s is a mount of its own, which no copy can replace: a kill may tear it; mount its folder instead",
        file,
    )
    connection = _connect_when_free(file, read_only=False, wait_seconds=wait_seconds)
    with contextlib.closing(connection):
        connection.execute("CHECKPOINT")


def _checkpoint_copy(descriptor: int, file: Path) -> None:
    copy = file.with_name(f".{file.name}{CHECKPOINT}")
    remove_database(copy)
    try:
        _copy(descriptor, file, copy)
        _merge(copy)
        sync(copy)
        sync(log_of(copy))
        # nobody writes to the new file before the old log is gone
        with _locked(copy, 0.0):
            replace_database(copy, file)
            log_of(file).unlink()
    finally:
        remove_database(copy)


def _copy(descriptor: int, file: Path, copy: Path) -> None:
    """Copy file and log; the file by its descriptor, because closing another one would unlock it."""
    with copy.open("xb") as target:
        shutil.copymode(file, copy)
        with contextlib.suppress(OSError, AttributeError):  # not on every system, nor between all its disks
            while os.copy_file_range(descriptor, target.fileno(), CHUNK_BYTES, target.tell()):
                target.seek(0, os.SEEK_END)
        while chunk := os.pread(descriptor, CHUNK_BYTES, target.tell()):
            target.write(chunk)
    shutil.copyfile(log_of(file), log_of(copy))


def _merge(copy: Path) -> None:
    """Checkpoint the copy, and keep its log with DuckDB's checkpoint marker: the file holds all of it.

    DuckDB writes the marker, completes the file and removes the log. A log with the marker is ignored beside
    the complete file and replayed beside the old one, so the two may be replaced one after the other.

    Raises:
        CheckpointError: there is no marker, or DuckDB does not do that.
    """
    with log_of(copy).open("rb") as log:
        # each thread would take its groups of rows into memory
        one_thread = SETTINGS | {"threads": "1"}
        with contextlib.closing(duckdb.connect(config=dict(one_thread))) as connection:
            connection.execute(f"ATTACH {literal(str(copy))} AS merged (ROW_GROUP_SIZE {ROWS_PER_GROUP})")
            rows = _count_rows(connection)
            logged_bytes = os.fstat(log.fileno()).st_size
            connection.execute("CHECKPOINT merged")
            has_marker = os.fstat(log.fileno()).st_size > logged_bytes
        if not has_marker:
            raise CheckpointError("DuckDB put no checkpoint marker into its log")
        if log_of(copy).exists():
            raise CheckpointError("DuckDB kept its log")
        log.seek(0)
        log_of(copy).write_bytes(log.read())
    with contextlib.closing(duckdb.connect(str(copy), read_only=True)) as connection:
        if _count_rows(connection) != rows:
            raise CheckpointError("DuckDB did not recognize its log")


def _count_rows(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], int]:
    """By schema and name of every table."""
    tables = connection.execute(
        "SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
    ).fetchall()
    rows = {}
    for table in tables:
        name = ".".join(map(quoted, table))
        ((count,),) = connection.execute(f"SELECT COUNT(*) FROM {name}").fetchall()  # noqa: S608 - quoted
        rows[table[1:]] = count
    return rows


def replace_database(fresh: Path, file: Path) -> None:
    """Put a complete file, and before it its log if it has one, in the place of another; its rights stay.

    Neither is opened here: closing it would end a lock of this process.
    """
    take_over(fresh, file.stat())
    if log_of(fresh).exists():
        log_of(fresh).replace(log_of(file))
    put_in_place(fresh, file)


def tidy(file: Path) -> None:
    """Remove what a killed checkpoint or creation left beside the file."""
    file = file.resolve()
    if file.exists():
        _restore_0_2(file)
        with contextlib.suppress(OSError), _locked(file, 0.0):
            for leftover in leftovers(file):
                leftover.unlink(missing_ok=True)


def leftovers(file: Path) -> list[Path]:
    """What a kill may leave beside the file and its log."""
    own = [file.with_name(f".{file.name}{suffix}") for suffix in (CHECKPOINT, COPY, NEW)]
    of_0_2 = [file.with_name(file.name + suffix) for suffix in OF_0_2]
    return [path for each in (*own, *of_0_2) for path in (each, log_of(each))]


def _restore_0_2(file: Path) -> None:
    """Put the copy back that 0.2 made before a checkpoint which was killed and tore the file."""
    copy = file.with_name(file.name + COPY_OF_0_2)
    if not copy.exists():
        return
    try:
        with contextlib.closing(duckdb.connect(str(file), read_only=True)) as connection:
            _count_rows(connection)
    except duckdb.Error as error:
        if TORN.search(str(error)) is None:
            raise
        logger.warning("a checkpoint of %s was interrupted; its copy takes its place", file)
        replace_database(copy, file)
    remove_database(copy)


def copy_of(file: Path) -> Path:
    """Where a copy of a DuckDB file is made, before it takes the place of the file."""
    return file.with_name(f".{file.name}{COPY}")


def remove_database(file: Path) -> None:
    """Remove a DuckDB file and its log, where they exist."""
    for path in (file, log_of(file)):
        path.unlink(missing_ok=True)


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
