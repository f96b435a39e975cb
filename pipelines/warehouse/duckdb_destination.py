"""dlt's DuckDB destination for a file that is named like the dataset in it.

DuckDB names the catalog after the file. In `cronofy.duckdb` both catalog and schema are called `cronofy`,
so `cronofy.polls` is ambiguous and DuckDB refuses it (1.4, 1.5 and 2.0 do). dlt writes two-part names; this
destination adds the catalog, as dlt's own MotherDuck destination does.
"""

from pathlib import Path
from typing import Any

import duckdb as driver
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.normalizers.naming import NamingConvention
from dlt.common.schema import Schema
from dlt.destinations import duckdb
from dlt.destinations.impl.duckdb.configuration import (
    DuckDbBaseCredentials,
    DuckDbClientConfiguration,
    DuckDbConnectionPool,
    DuckDbCredentials,
)
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from .duckdb_file import PRAGMAS, SETTINGS, connect


class FilePool(DuckDbConnectionPool):
    """Opens the file as `duckdb_file.connect` does: read-only while this process only reads."""

    def borrow_conn(self, *args: Any, **kwargs: Any) -> driver.DuckDBPyConnection:
        """A connection of its own for each caller, cloned from one."""
        with self._conn_lock:
            opened: driver.DuckDBPyConnection | None = self._conn
            if opened is None:
                self._conn = connect(Path(str(self.credentials._conn_str())))  # noqa: SLF001 - dlt's own use
            try:
                return super().borrow_conn(*args, **kwargs)
            finally:
                if not self._conn_borrows:
                    self._close_conn()


class CatalogSqlClient(DuckDbSqlClient):
    """Writes `catalog.schema.table` where `schema.table` would be ambiguous, and never checkpoints."""

    def __init__(
        self,
        dataset_name: str,
        staging_dataset_name: str,
        credentials: DuckDbBaseCredentials,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        super().__init__(dataset_name, staging_dataset_name, credentials, capabilities)
        # dlt's own are set after those of the credentials, and have the file checkpointed
        self._pragmas = [*PRAGMAS]
        self._global_config = {
            name: value for name, value in self._global_config.items() if name != "checkpoint_threshold"
        } | SETTINGS

    def catalog_name(self, quote: bool = True, casefold: bool = True) -> str | None:  # noqa: ARG002, FBT001
        """The catalog of the file, or None where two-part names will do."""
        assert isinstance(self.credentials, DuckDbCredentials)
        catalog = Path(str(self.credentials.database)).stem
        if catalog.lower() not in (str(self.dataset_name).lower(), str(self.staging_dataset_name).lower()):
            return None
        return str(self.capabilities.escape_identifier(catalog)) if quote else catalog

    def warn_if_catalog_equals_dataset_name(self) -> None:
        """Nothing to warn of: names carry the catalog."""


class CatalogClient(DuckDbClient):
    """DuckDB job client over `CatalogSqlClient`."""

    def __init__(
        self,
        schema: Schema,
        config: DuckDbClientConfiguration,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        credentials = config.credentials
        if credentials.external_conn() is None and not isinstance(credentials.conn_pool, FilePool):
            credentials.conn_pool = FilePool(credentials)
        super().__init__(schema, config, capabilities)
        plain = self.sql_client
        self.sql_client = CatalogSqlClient(
            str(plain.dataset_name), str(plain.staging_dataset_name), config.credentials, capabilities
        )


class catalog_duckdb(duckdb):  # noqa: N801 - destinations are named like functions in dlt
    """`dlt.destinations.duckdb` that also loads into a file named like its dataset."""

    def capabilities(
        self, config: DuckDbClientConfiguration | None = None, naming: NamingConvention | None = None
    ) -> DestinationCapabilitiesContext:
        """What the destination can do, which no setting changes.

        dlt asks some thirty times a load, and each time would resolve its whole configuration anew: a fifth
        of a small load.
        """
        return super().capabilities(config or self.spec(), naming)

    @property
    def client_class(self) -> type[DuckDbClient]:
        """The job client dlt creates for this destination."""
        return CatalogClient

    @property
    def destination_type(self) -> str:
        """The plain destination's type: what dlt stores must open without this module."""
        return "dlt.destinations.duckdb"
