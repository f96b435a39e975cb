"""A DuckLake: tables as Parquet files, and a catalog of them in SQLite, DuckDB or PostgreSQL.

Many may read it while one writes. Two writers that change rows of one table at once would fail, so loads
take turns (`locks.py`): where the catalog is a file by a lock beside it, where it is PostgreSQL by a lock
there. Every change leaves files and a snapshot behind, so that a load now and then has small files merged,
and what is older than a week removed.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
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

from .duckdb_file import READ_WAIT_SECONDS, SECONDS_BETWEEN_TRIES, literal

logger = logging.getLogger("dlt_cronofy")

CATALOG_FILES = ("sqlite", "duckdb")
CATALOG_SERVERS = ("postgres", "postgresql")
CATALOGS = "sqlite, duckdb or postgres"

# a table of so many files is worth merging them; a load adds a few
MANY_FILES = 30
# how long the state of a moment can be asked for, and a query may take
KEPT_DAYS = 7

# how the server that keeps the catalog is called in SQL while a turn is held
SERVER = "catalog_server"
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
                with self.credentials.conn_pool._conn_lock:  # noqa: SLF001 - as dlt's own clients do
                    return super().open_connection()
            except Exception as error:
                if PASSING.search(str(error)) is None or time.monotonic() >= deadline:
                    raise
                time.sleep(SECONDS_BETWEEN_TRIES)

    def close_connection(self) -> None:
        """Give it back; with the last one the catalog is closed."""
        if self._conn is None:
            return
        with suppress(duckdb.Error):
            self._conn.rollback()
        pool = self.credentials.conn_pool
        with pool._conn_lock:  # noqa: SLF001
            if pool._conn_borrows == 1:  # noqa: SLF001
                self._conn.execute("USE memory")
                with suppress(duckdb.Error):
                    self._conn.execute(f"DETACH {self.credentials.ducklake_name}")
            DuckDbSqlClient.close_connection(self)


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


@contextmanager
def catalog_transaction(pipeline: dlt.Pipeline) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """A transaction on the server that keeps the catalog, apart from all others; yields what asks it.

    DuckDB's extension opens the connection: a lake needs no other driver.
    """
    uri = _credentials(pipeline).catalog.to_url().render_as_string(hide_password=False)
    with pipeline.sql_client() as client:
        connection = client.native_connection
        connection.execute(f"ATTACH {literal(uri)} AS {SERVER} (TYPE postgres, READ_ONLY)")
        try:
            connection.begin()
            yield partial(_ask, connection)
        finally:
            with suppress(Exception):  # where the connection was lost, so was the transaction
                connection.rollback()
            with suppress(Exception):
                connection.execute(f"DETACH {SERVER}")


def _ask(connection: Any, query: str) -> list[tuple[Any, ...]]:
    try:
        rows: list[tuple[Any, ...]] = connection.execute(
            f"SELECT * FROM postgres_query({literal(SERVER)}, {literal(query)})"  # noqa: S608 - literals
        ).fetchall()
    except Exception as error:
        raise DatabaseTransientException(error) from error
    return rows


def _credentials(pipeline: dlt.Pipeline) -> Any:
    return pipeline.sql_client().credentials  # type: ignore[attr-defined]
