"""dlt's DuckDB destination for a file that is named like the dataset in it.

DuckDB names the catalog after the file. In `cronofy.duckdb` both catalog and schema are called `cronofy`,
so `cronofy.polls` is ambiguous and DuckDB refuses it (1.4, 1.5 and 2.0 do). dlt writes two-part names; this
destination adds the catalog, as dlt's own MotherDuck destination does.
"""

from pathlib import Path

from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.normalizers.naming import NamingConvention
from dlt.common.schema import Schema
from dlt.destinations import duckdb
from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration, DuckDbCredentials
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from .checkpoint import PRAGMAS, SETTINGS


class CatalogSqlClient(DuckDbSqlClient):
    """Writes `catalog.schema.table` where `schema.table` would be ambiguous."""

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
        _leave_checkpoints_to_us(config.credentials)
        super().__init__(schema, config, capabilities)
        plain = self.sql_client
        self.sql_client = CatalogSqlClient(
            str(plain.dataset_name), str(plain.staging_dataset_name), config.credentials, capabilities
        )


def _leave_checkpoints_to_us(credentials: DuckDbCredentials) -> None:
    credentials.pragmas = list(dict.fromkeys([*(credentials.pragmas or ()), *PRAGMAS]))
    credentials.global_config = (credentials.global_config or {}) | SETTINGS


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
