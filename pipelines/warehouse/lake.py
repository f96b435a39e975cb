"""A DuckLake: tables as Parquet files, and a catalog of them in SQLite, DuckDB or PostgreSQL.

Many may read it while one writes. Two writers that change rows of one table at once would fail, so loads
take turns (`locks.py`): where the catalog is a file by a lock beside it, where it is PostgreSQL by a lock
there. Every change leaves files and a snapshot behind, so that a load now and then has small files merged,
and what is older than a week removed.
"""

import logging
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import dlt
import duckdb
import fasteners
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.destinations import ducklake
from dlt.destinations.exceptions import DatabaseTransientException
from dlt.destinations.impl.duckdb.configuration import DuckDbConnectionPool
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.destinations.impl.ducklake.configuration import DuckLakeClientConfiguration
from dlt.destinations.impl.ducklake.ducklake import DuckLakeClient
from dlt.destinations.impl.ducklake.sql_client import DuckLakeSqlClient

from dlt_cronofy.source.destinations import OF_DLT
from dlt_cronofy.source.errors import ConfigurationError

from .duckdb_copy import rewrite_without
from .duckdb_file import READ_WAIT_SECONDS, SECONDS_BETWEEN_TRIES, literal, quoted

logger = logging.getLogger("dlt_cronofy")

CATALOG_FILES = ("sqlite", "duckdb")
CATALOG_SERVERS = ("postgres", "postgresql")
CATALOGS = "sqlite, duckdb or postgres"

# a table of so many files is worth merging them; a load adds a few
MANY_FILES = 30
# how long the state of a moment can be asked for, and a query may take
KEPT_DAYS = 7

FORGET_EXTREMES = """
    UPDATE {place}.ducklake_table_column_stats AS kept
    SET min_value = coalesce(files.least, ''), max_value = coalesce(files.greatest, '')
    FROM (
        SELECT columns.table_id, columns.column_id, min(min_value) AS least, max(max_value) AS greatest
        FROM (
            SELECT DISTINCT table_id, column_id FROM {place}.ducklake_column
            WHERE lower(column_type) IN ('varchar', 'json')
        ) AS columns
        LEFT JOIN {place}.ducklake_file_column_stats AS stats
            ON stats.table_id = columns.table_id AND stats.column_id = columns.column_id
        GROUP BY columns.table_id, columns.column_id
    ) AS files
    WHERE kept.table_id = files.table_id AND kept.column_id = files.column_id AND kept.min_value IS NOT NULL
"""
# a file of which a smaller part is deleted stays as it is
RARELY_DELETED = 0.3

# what passes while another process makes the catalog, or has the file of a DuckDB catalog open
PASSING = re.compile(
    r"Could not set lock|database is locked|already exists|[Dd]uplicate key|unique constraint"
)

_pools: "WeakValueDictionary[str, DuckDbConnectionPool]" = WeakValueDictionary()


class LakeSqlClient(DuckLakeSqlClient):
    """Shares one DuckDB with the other clients of the lake in this process.

    dlt opens one for each of some thirty clients a load, and each loads the extensions: ten seconds.
    """

    def open_connection(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own, once the catalog is there and free."""
        deadline = time.monotonic() + READ_WAIT_SECONDS
        while True:
            try:
                # who finds a catalog that is only half attached takes it for there
                with self._pool()._conn_lock:  # noqa: SLF001 - as dlt's own clients do
                    return super().open_connection()
            except Exception as error:
                if PASSING.search(str(error)) is None or time.monotonic() >= deadline:
                    raise
                time.sleep(SECONDS_BETWEEN_TRIES)

    def close_connection(self) -> None:
        """Give it back; with the last one the catalog is closed."""
        connection: duckdb.DuckDBPyConnection | None = self._conn
        if connection is None:
            return
        with suppress(duckdb.Error):
            connection.rollback()
        pool = self._pool()
        with pool._conn_lock:  # noqa: SLF001
            if pool._conn_borrows == 1:  # noqa: SLF001
                connection.execute("USE memory")
                with suppress(duckdb.Error):
                    connection.execute(f"DETACH {self.credentials.ducklake_name}")
            DuckDbSqlClient.close_connection(self)

    def _pool(self) -> DuckDbConnectionPool:
        pool = self.credentials.conn_pool
        assert pool is not None
        return pool


class LakeClient(DuckLakeClient):
    """DuckLake job client over `LakeSqlClient`."""

    def __init__(
        self,
        schema: Schema,
        config: DuckLakeClientConfiguration,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        credentials = config.credentials
        key = repr(
            (str(config), credentials.metadata_schema, credentials.global_config, credentials.extensions)
        )
        credentials.conn_pool = _pools.setdefault(key, DuckDbConnectionPool(credentials))
        super().__init__(schema, config, capabilities)
        plain = self.sql_client
        self.sql_client = LakeSqlClient(
            str(plain.dataset_name),
            str(plain.staging_dataset_name),
            credentials,
            capabilities,
            plain.override_data_path,
            plain.automatic_migration,
        )


class shared_lake(ducklake):  # noqa: N801 - destinations are named like functions in dlt
    """`dlt.destinations.ducklake` over `LakeClient`."""

    @property
    def client_class(self) -> type[DuckLakeClient]:
        """The job client dlt creates for this destination."""
        return LakeClient

    @property
    def destination_type(self) -> str:
        """The plain destination's type: what dlt stores must open without this module."""
        return f"{OF_DLT}ducklake"


def is_lake(pipeline: dlt.Pipeline) -> bool:
    """Whether the pipeline loads into a DuckLake."""
    destination = pipeline.destination
    return destination is not None and destination.destination_type == f"{OF_DLT}ducklake"


def check_catalog(credentials: Any) -> None:
    """Refuse a catalog where writers could not take turns.

    Raises:
        ConfigurationError: it is none of those that are supported.
    """
    kind = credentials.catalog.drivername
    if kind not in (*CATALOG_FILES, *CATALOG_SERVERS):
        raise ConfigurationError(
            f"destination.ducklake.credentials.catalog: {kind} keeps no catalog of ours; use {CATALOGS}"
        )


def catalog_file(pipeline: dlt.Pipeline) -> Path | None:
    """The file that holds the catalog; None where a server does."""
    catalog = _credentials(pipeline).catalog
    return Path(catalog.database).resolve() if catalog.drivername in CATALOG_FILES else None


def catalog_lock(pipeline: dlt.Pipeline) -> fasteners.InterProcessLock | None:
    """What one writer at a time holds, where the catalog is a file; it goes when its holder dies."""
    file = catalog_file(pipeline)
    if file is None:
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    return fasteners.InterProcessLock(file.with_name(f".{file.name}.lock"))


class CatalogSession:
    """A session of its own on the server that keeps a catalog.

    DuckDB's extension opens it, so that a lake needs no other driver.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, server: str) -> None:
        self._connection = connection
        self._server = literal(server)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return self._run(f"SELECT * FROM postgres_query({self._server}, {literal(query)})")  # noqa: S608

    def execute(self, statement: str) -> None:
        """Run a statement by itself, not within a transaction."""
        self._run(f"CALL postgres_execute({self._server}, {literal(statement)})")

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql).fetchall()
        except duckdb.Error as error:
            raise DatabaseTransientException(error) from error


@contextmanager
def catalog_session(pipeline: dlt.Pipeline) -> Iterator[CatalogSession]:
    """An open session where the catalog is in PostgreSQL; what it holds goes with it."""
    with pipeline.sql_client() as client:
        uri = client.credentials.catalog.to_url().render_as_string(hide_password=False)
        connection, server = client.native_connection, f"catalog_{secrets.token_hex(4)}"
        connection.execute(f"ATTACH {literal(uri)} AS {server} (TYPE postgres)")
        # names are looked up elsewhere than in the lake, which would begin a transaction in the catalog
        connection.execute("USE memory")
        session = CatalogSession(connection, server)
        try:
            # DuckDB keeps one session for a transaction; without one, the server holds no rows back for it
            connection.begin()
            session.execute("COMMIT")
            yield session
        finally:
            for end in ("ROLLBACK", f"DETACH {server}"):
                with suppress(duckdb.Error):
                    connection.execute(end)


def _credentials(pipeline: dlt.Pipeline) -> Any:
    return pipeline.sql_client().credentials


@contextmanager
def extensions_loaded(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Keep the DuckDB of a lake, where that keeps nobody out, so that its extensions are loaded once."""
    is_shared = is_lake(pipeline) and _credentials(pipeline).catalog.drivername != "duckdb"
    with pipeline.sql_client() if is_shared else nullcontext():
        yield


def tidy_if_due(pipeline: dlt.Pipeline) -> None:
    """Merge small files and remove what is old, once a table has many files; within a turn to write."""
    with pipeline.sql_client() as client:
        name = client.credentials.ducklake_name
        ((most,),) = client.execute_sql("SELECT max(file_count) FROM ducklake_table_info(%s)", name) or [(0,)]
        if (most or 0) >= MANY_FILES:
            logger.info("merging the files of %s, and removing what is older than %d days", name, KEPT_DAYS)
            _tidy(client, f"older_than => now() - INTERVAL {KEPT_DAYS} DAY", RARELY_DELETED)


def forget_deleted(pipeline: dlt.Pipeline) -> None:
    """Have files and catalog forget what was deleted: all states of the past go; within a turn to write.

    Raises:
        DatabaseException, duckdb.Error, OSError: something was in the way.
    """
    with pipeline.sql_client() as client:
        _tidy(client, "older_than => now()", 0, and_all_files=True)
        _forget_extremes(client)
    # the catalog holds the smallest and largest text of every file, and small tables whole
    credentials, file = _credentials(pipeline), catalog_file(pipeline)
    if file is not None:
        _rewrite_catalog(file, credentials.catalog.drivername)
        return
    with catalog_session(pipeline) as session:
        _vacuum(session, credentials.metadata_schema or credentials.ducklake_name)


def _tidy(client: Any, age: str, threshold: float, *, and_all_files: bool = False) -> None:
    lake = literal(client.credentials.ducklake_name)
    for call in (
        f"ducklake_flush_inlined_data({lake})",
        f"ducklake_rewrite_data_files({lake}, delete_threshold => {threshold})",
        f"ducklake_merge_adjacent_files({lake})",
        f"ducklake_expire_snapshots({lake}, {age})",
        f"ducklake_cleanup_old_files({lake}, {'cleanup_all => true' if and_all_files else age})",
    ):
        client.execute_sql(f"CALL {call}")


def _forget_extremes(client: Any) -> None:
    """Have the catalog forget the smallest and largest texts that went: it keeps them for each column.

    Those of the files, in which all rows are by now, are of the rows that stay.
    """
    credentials = client.credentials
    is_file = credentials.catalog.drivername in CATALOG_FILES
    schema = "main" if is_file else credentials.metadata_schema or credentials.ducklake_name
    place = f"{quoted(f'__ducklake_metadata_{credentials.ducklake_name}')}.{quoted(schema)}"
    client.execute_sql(FORGET_EXTREMES.replace("{place}", place))


def _rewrite_catalog(file: Path, kind: str) -> None:
    if kind == "duckdb":
        rewrite_without(file, {})
        return
    with closing(sqlite3.connect(file, isolation_level=None, timeout=READ_WAIT_SECONDS)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _vacuum(session: CatalogSession, schema: str) -> None:
    for (table,) in session.ask(f"SELECT tablename FROM pg_tables WHERE schemaname = {literal(schema)}"):  # noqa: S608
        session.execute(f"VACUUM (FULL, ANALYZE) {quoted(schema)}.{quoted(table)}")


def lake_files(pipeline: dlt.Pipeline) -> list[Path]:
    """The files of a lake that are on this machine: those of its data, and of a catalog that is a file."""
    credentials, file = _credentials(pipeline), catalog_file(pipeline)
    data = Path(credentials.storage_url).rglob("*") if credentials.storage.is_local_filesystem else ()
    beside = file.parent.glob(f"{file.name}*") if file is not None else ()
    return [path for path in (*data, *beside) if path.is_file()]


def has_remote_files(pipeline: dlt.Pipeline) -> bool:
    """Whether its data is in a bucket."""
    return not _credentials(pipeline).storage.is_local_filesystem
