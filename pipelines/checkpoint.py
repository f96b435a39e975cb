"""Checkpoints of a DuckDB file, made so that a kill at any instant leaves a file that opens.

DuckDB 1.5 writes over the metadata block that the last checkpoint made valid, before it makes the next one
valid. A kill in the middle of that write tears the block, and then nothing of the file can be read. So no
connection of ours checkpoints by itself: what is loaded goes to the write-ahead log, and this module
checkpoints once a package, with a copy beside the file until it is done.
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path

import duckdb

logger = logging.getLogger("dlt_cronofy")

# for every connection of ours
PRAGMAS = ("disable_checkpoint_on_shutdown",)
SETTINGS = {"wal_autocheckpoint": "1TB"}
COPY = ".checkpointing"


def checkpoint(file: Path) -> None:
    """Move what is in the write-ahead log into the file.

    Where there is no room for a copy the log stays, which DuckDB reads as well; the next load tries again.
    """
    log = log_of(file)
    if not log.exists():
        return
    copy = _copy(file)
    try:
        _copy_durably(log, log_of(copy))
        _copy_durably(file, copy)  # last: where it is complete, both are
    except OSError as error:
        logger.warning("%s keeps its write-ahead log: no copy can be made (%s)", file, error.strerror)
        _remove(copy)
        return
    with duckdb.connect(str(file)) as connection:
        connection.execute("CHECKPOINT")
    _remove(copy)


def mend(file: Path) -> None:
    """Put the copy back if a checkpoint was interrupted and tore the file; call before it is opened."""
    copy = _copy(file)
    if not copy.exists():
        _remove(copy)
        return
    if not _is_readable(file):
        logger.warning("a checkpoint of %s was interrupted; its copy takes its place", file)
        if log_of(copy).exists():
            _copy_durably(log_of(copy), log_of(file))
        copy.replace(file)
    _remove(copy)


def _is_readable(file: Path) -> bool:
    """Whether its metadata can be read: the catalog when it is opened, a table's when it is counted."""
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            tables = connection.execute(
                "SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
            ).fetchall()
            for table in tables:
                connection.table(".".join(f'"{name}"' for name in table)).count("*").fetchall()
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            raise
        return False
    return True


def _copy(file: Path) -> Path:
    return file.with_name(file.name + COPY)


def log_of(file: Path) -> Path:
    """The write-ahead log of a DuckDB file."""
    return file.with_name(file.name + ".wal")


def _copy_durably(source: Path, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    shutil.copymode(source, part)
    sync(part)
    part.replace(target)


def sync(path: Path) -> None:
    """Have a file, or what a folder lists, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(copy: Path) -> None:
    """The copy first: a log alone is no copy."""
    for path in (copy, log_of(copy)):
        for each in (path, path.with_name(path.name + ".part")):
            with contextlib.suppress(FileNotFoundError):
                each.unlink()
