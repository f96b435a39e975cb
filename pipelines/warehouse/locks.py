"""Writers: who may write to a warehouse at the same time.

Two dlt pipelines that merge into one dataset lose rows without an error: they share a staging dataset and
empty it under each other. Here

- each working directory on each machine has a staging dataset of its own (`warehouse.py`),
- one load at a time uses a working directory, and one at a time a DuckDB file: a second one is refused,
- a working directory with packages of another target is refused too,
- on PostgreSQL and DuckLake writers take turns, package by package: a lock of the dataset's is held while
  tables and views are made and rows merged. It is an advisory lock of a session, or of the system on a file
  beside the catalog, so it goes when its holder dies.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import dlt
import fasteners
from dlt.destinations.exceptions import DatabaseException, DatabaseTransientException
from dlt.destinations.sql_client import SqlClientBase

from .dataset import query_rows, sql_client
from .lake import catalog_lock, catalog_session, is_lake
from .pipeline import duckdb_file, location, pipeline_target
from .working_folders import LOCK, WorkingFolder

logger = logging.getLogger("dlt_cronofy")

LOCKED_DIALECT = "postgres"
KEEPALIVE_SECONDS = {"tcp_keepalives_idle": 20, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 4}
HOLDS = """
    SELECT COUNT(*) > 0 AS held FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
          AND ((classid::bigint << 32) | objid::bigint) = %s
"""
# a DuckLake's catalog: whether another session is in the middle of a commit
COMMITS = """
    SELECT count(*) > 0 FROM pg_locks INNER JOIN pg_class ON pg_class.oid = pg_locks.relation
    WHERE relname = 'ducklake_snapshot' AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# the longest that it is waited for
COMMIT_WAIT_SECONDS = 30.0
LOST_TURN = "the turn to write was lost; run the load again"
SECONDS_BETWEEN_TRIES = 0.1


class WarehouseBusy(Exception):  # noqa: N818 - it is a state and no error
    """Another load writes there; the one-line message says where."""


@contextmanager
def sole_writer(pipeline: dlt.Pipeline, wait_seconds: float = 0.0) -> Iterator[None]:
    """Keep other loads away from the working directory, and from a DuckDB file, until the end.

    WarehouseBusy is raised where one is there, and stays for so many seconds.
    """
    directory = Path(pipeline.pipelines_dir)
    directory.mkdir(parents=True, exist_ok=True)
    locks = [(directory / LOCK, directory)]
    file = duckdb_file(pipeline)
    if file is not None and file.parent.is_dir():
        # the same file by whatever way one comes to it
        target = file.resolve()
        locks.append((target.with_name(f".{target.name}.lock"), file))
    with ExitStack() as held:
        for path, place in locks:
            held.enter_context(_locked(path, place, wait_seconds))
        _refuse_others(pipeline)
        yield


@contextmanager
def sole_user(folder: WorkingFolder) -> Iterator[None]:
    """Keep loads away from a working folder; WarehouseBusy where one is there."""
    with _locked(folder.path / LOCK, folder.path):
        yield


@contextmanager
def _locked(path: Path, place: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    lock = fasteners.InterProcessLock(path)
    if not lock.acquire(blocking=wait_seconds > 0, timeout=wait_seconds or None):
        lock.lockfile.close()  # left open by a lock that was not got
        raise WarehouseBusy(f"another load is running over {place}; this one does nothing")
    try:
        yield
    finally:
        lock.release()


def _refuse_others(pipeline: dlt.Pipeline) -> None:
    """Refuse packages of another target: the folder was moved here, or given away after it was opened."""
    folder, target = WorkingFolder(Path(pipeline.pipelines_dir)), pipeline_target(pipeline)
    if not folder.is_of(target) and not folder.is_free():
        raise WarehouseBusy(
            f"{folder.path} is of loads into {folder.owner() or 'another warehouse'}; this one does nothing."
            " Run it again, or set pipelines_dir in .dlt/config.toml"
        )


def take_folder(pipeline: dlt.Pipeline) -> None:
    """Give the working folder to the pipeline's target, before its first package is there."""
    folder, target = WorkingFolder(Path(pipeline.pipelines_dir)), pipeline_target(pipeline)
    if folder.owner() != target:
        folder.give_to(target)


@contextmanager
def turn(pipeline: dlt.Pipeline) -> Iterator[Callable[[], None]]:
    """Wait for this writer's turn, where several write to one dataset of PostgreSQL or to one DuckLake.

    Nothing elsewhere. Yields what raises DatabaseException where the session that has the turn has ended, and
    others may write.
    """
    if is_lake(pipeline):
        with _lake_turn(pipeline) as make_sure:
            yield make_sure
        return
    if pipeline.destination is None or pipeline.destination.capabilities().sqlglot_dialect != LOCKED_DIALECT:
        yield lambda: None
        return
    with sql_client(pipeline) as client:
        key = _lock_key(str(client.dataset_name))
        _wait_for(lambda: _try_lock(client, key), str(client.dataset_name))
        try:
            # a server that does not hear of this one for a minute gives the turn to the next
            for setting, seconds in KEEPALIVE_SECONDS.items():
                client.execute_sql(f"SET {setting} = {seconds}")
            yield partial(_make_sure, client, key)
        finally:
            # The end of the session unlocks too, but a moment later. Where it has ended, there is no lock.
            with suppress(DatabaseException):
                client.execute_sql("SELECT pg_advisory_unlock(%s)", key)


@contextmanager
def _lake_turn(pipeline: dlt.Pipeline) -> Iterator[Callable[[], None]]:
    """The turn to write to a DuckLake: all its datasets share one, as they share the snapshots."""
    lock = catalog_lock(pipeline)
    if lock is not None:
        _wait_for(lambda: bool(lock.acquire(blocking=False)), location(pipeline))
        try:
            yield lambda: None
        finally:
            lock.release()
        return
    with catalog_session(pipeline) as session:
        key = _lock_key(pipeline_target(pipeline).location)
        _wait_for(lambda: bool(session.ask(f"SELECT pg_try_advisory_lock({key})")[0][0]), location(pipeline))
        # the server goes on with the last commit of a load that was killed, and ours would conflict with it
        _wait_for(lambda: not session.ask(COMMITS)[0][0], location(pipeline), COMMIT_WAIT_SECONDS)

        def make_sure() -> None:
            if not session.ask(HOLDS.replace("%s", str(key)))[0][0]:
                raise DatabaseTransientException(RuntimeError(LOST_TURN))

        try:
            yield make_sure
        finally:
            with suppress(DatabaseException):
                session.ask(f"SELECT pg_advisory_unlock({key})")


def _wait_for(is_free: Callable[[], bool], place: str, most_seconds: float = math.inf) -> None:
    if is_free():
        return
    logger.info("another load is writing to %s; waiting for it", place)
    deadline = time.monotonic() + most_seconds
    # a query that waits keeps deleted rows from being vacuumed, and a statement_timeout ends it
    while not is_free() and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_TRIES)


def _make_sure(client: SqlClientBase[Any], key: int) -> None:
    """That the session is alive, and with it the lock; a session that was ended raises."""
    if not query_rows(client, HOLDS, key)[0]["held"]:
        raise DatabaseTransientException(RuntimeError(LOST_TURN))


def _try_lock(client: SqlClientBase[Any], key: int) -> bool:
    return bool(query_rows(client, "SELECT pg_try_advisory_lock(%s) AS got", key)[0]["got"])


def _lock_key(dataset: str) -> int:
    digest = hashlib.blake2b(f"dlt-cronofy\0{dataset}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
