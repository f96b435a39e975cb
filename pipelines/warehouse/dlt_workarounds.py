"""What this project does because of dlt 1.31, each with the report upstream that it waits for.

With another release of dlt, read this file: what it fixes can go from here. Number means an issue of
dlt-hub/dlt; where there is none, none was found.

| what | why | upstream |
| --- | --- | --- |
| `own_staging` | writers that share a staging dataset empty it under each other, and rows are lost | #4297 |
| `MERGES_AT_ONCE` | a merge on DuckDB or PostgreSQL is not one transaction; a kill loses rows | none |
| `catalog_duckdb` | a DuckDB file named like its dataset makes two-part names ambiguous | none |
| `FileCursor` | Arrow batches are read with more of pyarrow than they need | none |
| `FilePool`, `CatalogSqlClient` | connections that only read, and that never checkpoint the file | none |
| `FileCredentials` | a path is parsed as a URL, which imports SQLAlchemy where it is there | none |
| `_with_texts` | DuckDB looks for pandas with each parameter, for long where there is none | none |
| `learn_columns` | the schema is not asked for again where another writer has added columns | #1711 |
| `learn_extracted_columns` | the schema is saved after the package | #3375 |
| `drop_unfinished_files`, `drop_normalized_twins` | a kill leaves half a schema, or a package twice | #3227 |
| `load_normalized` | a job that failed before a kill is reported once more before it is tried | #3557 |
| `forget_trace` | with each step, the trace of up to a hundred steps is pickled once more | none |
| `drop_loaded_records` | records of loaded packages are kept for ever | none |
| `resolve_configuration_once` | a destination's configuration is resolved some forty times a load | none |
| `read_schemas_once` | the file of a schema is read and hashed whenever the schema is used | none |
| `look_at_types_once` | types of settings are taken apart with each value that is looked for | none |
| `leave_no_telemetry_id` | telemetry is off, and an id for it is written into the home folder | none |
| `is_worth_a_line` | tracebacks of jobs that are tried again are logged as errors | none |

The source has two more, because it imports nothing from here: `_dlt_load_id` of Arrow tables is set in
`history/arrow.py` (#2615), and `destination_scope` keeps a merge of `polls` from reading all its keys.
"""

import json
import logging
import re
import shutil
import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import _GeneratorContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

import dlt
import duckdb as driver
from dlt.common import validation
from dlt.common.configuration import configspec, resolve
from dlt.common.configuration.providers import environ
from dlt.common.configuration.specs import base_configuration
from dlt.common.destination import Destination, DestinationCapabilitiesContext
from dlt.common.destination.client import StorageSchemaInfo
from dlt.common.destination.dataset import DBApiCursor
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.common.normalizers.naming import NamingConvention
from dlt.common.runtime import anon_tracker
from dlt.common.schema import Schema
from dlt.common.storages import LiveSchemaStorage
from dlt.destinations import duckdb
from dlt.destinations.impl.duckdb.configuration import (
    DuckDbBaseCredentials,
    DuckDbClientConfiguration,
    DuckDbConnectionPool,
    DuckDbCredentials,
)
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.impl.duckdb.sql_client import DuckDBDBApiCursorImpl, DuckDbSqlClient
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.exceptions import PipelineStepFailed
from pathvalidate import is_valid_filepath

from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.tables import TABLES

from .duckdb_file import SETTINGS, connect, literal
from .failures import root_cause
from .target import digest
from .working_folders import EXTRACTED, LOADED

if TYPE_CHECKING:
    import pyarrow as pa

# A merge deletes rows and inserts them again. dlt 1.31 does not know that these warehouses have transactions,
# and without one a kill between the two takes the rows along.
MERGES_AT_ONCE = {"supports_transactions": True}

# dlt's own words for a job that is tried again, traceback included, and for a package that is not
FAILED_JOB = re.compile(r"Traceback \(most recent|was not fully loaded|ransient exception in job")

# dlt's own words for destinations that are refused in one line, and for a schema that moved on by design: a
# load is two packages, extracted one after the other
NOISE = re.compile(
    r"Custom destination callable not provided|initializing destination factory|Storage schema was used"
)

# loaded packages whose records stay, to look at: without rows, but with a schema of 60 KB each
KEPT_RECORDS = 20
# dlt writes a file under such a name and then renames it
UNFINISHED_FILE = re.compile(r"[0-9a-f]{16}")
HOLD_UNFINISHED_FILES = ("*", "schemas/**/*", "normalize/**/*", "load/**/*")


def own_staging(target: Destination[Any, Any], folder: Path) -> None:
    """Give each working directory on each machine a staging dataset of its own."""
    if "staging_dataset_name_layout" in target.spec.get_resolvable_fields():
        own = digest(socket.gethostname(), str(folder.absolute()), size=4)
        target.config_params["staging_dataset_name_layout"] = f"%s_staging_{own}"


def resolve_configuration_once(target: Destination[Any, Any]) -> None:
    """Have a destination resolve its configuration once: dlt does it forty times a load, a quarter of it."""
    resolve = target.configuration
    resolved: dict[str, Any] = {}

    def configuration(initial_config: Any, accept_partial: bool = False) -> Any:  # noqa: FBT001 - dlt's
        if initial_config is None or accept_partial or initial_config.credentials:
            return resolve(initial_config, accept_partial)
        key = repr(sorted(dict(initial_config).items()))
        if key not in resolved:
            resolved[key] = _copied(resolve(initial_config))
        return _copied(resolved[key])

    target.configuration = configuration  # type: ignore[method-assign]


def _copied(config: Any) -> Any:
    """A configuration with credentials of its own, which hold what a client has open."""
    copied = config.copy()
    if copied.credentials is not None:
        copied.credentials = copied.credentials.copy()
    if isinstance(copied.credentials, DuckDbBaseCredentials):
        # a copy has no pool of connections
        copied.credentials.on_resolved()  # type: ignore[attr-defined]
    return copied


def read_schemas_once(pipeline: dlt.Pipeline) -> None:
    """Have the file of a schema be read once, until it changes: dlt reads it with each use of the schema."""
    storage = cast("LiveSchemaStorage", pipeline.schemas)
    load = storage.load_schema
    seen: dict[str, tuple[int, ...]] = {}

    def load_schema(name: str) -> Schema:
        file = Path(storage.storage.storage_path) / f"{name}.schema.json"
        stat = file.stat() if file.exists() else None
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else ()
        live = storage.live_schemas.get(name)
        # dlt also has what was changed taken back from the file
        if stamp and live is not None and seen.get(name) == stamp and not live.is_modified:
            return live
        seen[name] = stamp
        return load(name)

    if not storage.config.import_schema_path:
        storage.load_schema = load_schema  # type: ignore[method-assign]


_is_secret = base_configuration.is_secret_hint
_is_known_secret = cache(_is_secret)
_get_type_hints = vars(validation)["get_type_hints"]


def look_at_types_once() -> None:
    """Have dlt look at a type once, and not with each value of it: that is a tenth of a small load."""
    for module in (base_configuration, environ, resolve):
        vars(module)["is_secret_hint"] = is_secret_hint
    vars(validation)["get_type_hints"] = lambda spec, **_: _type_hints(spec)


def is_secret_hint(hint: Any) -> bool:
    """Whether a setting of that type is a secret."""
    try:
        return _is_known_secret(hint)
    except TypeError:  # not every annotation can be hashed
        return _is_secret(hint)


@cache
def _type_hints(spec: Any) -> Any:
    """The types of the fields of a typed dictionary."""
    module = sys.modules.get(spec.__module__)
    return _get_type_hints(spec, globalns=vars(module) if module else None)


def leave_no_telemetry_id() -> None:
    """Have dlt write no id for its telemetry, which is off."""
    anon_tracker.get_anonymous_id = lambda: ""


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a line of dlt's log says what our own lines do not."""
    if NOISE.search(record.getMessage()):
        return False
    # what fails for good is raised as well, and one line says what to do about it; --verbose shows all
    failed = record.exc_info is not None or FAILED_JOB.search(record.getMessage()) is not None
    return not failed or logging.getLogger("dlt_cronofy").isEnabledFor(logging.DEBUG)


@configspec(init=False)
class FileCredentials(DuckDbCredentials):
    """Credentials of DuckDB that take a path for what it is."""

    def parse_native_representation(self, native_value: Any) -> None:
        """A path, or what else dlt knows; it would import SQLAlchemy to find that a path is no URL."""
        is_text = isinstance(native_value, str) and "://" not in native_value
        if is_text and is_valid_filepath(native_value, platform="auto"):
            self.database = native_value
        else:
            super().parse_native_representation(native_value)


@configspec(init=False)
class FileConfiguration(DuckDbClientConfiguration):
    """The configuration of DuckDB with these credentials."""

    credentials: FileCredentials = None  # type: ignore[assignment] # as dlt has it


class FilePool(DuckDbConnectionPool):
    """Opens the file as `duckdb_file.connect` does: to read, but within `writing`."""

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


_pools: "WeakValueDictionary[str, FilePool]" = WeakValueDictionary()


def _pool_of(credentials: Any) -> FilePool:
    """One pool for all clients of a file: dlt makes a dozen clients a load, and each would open the file."""
    place = str(credentials._conn_str())  # noqa: SLF001 - dlt's own use
    if place.startswith((":", "md:")):
        return FilePool(credentials)
    settings = [
        getattr(credentials, name) for name in ("extensions", "global_config", "pragmas", "local_config")
    ]
    return _pools.setdefault(
        repr((Path(place).resolve(), settings, credentials.statements)), FilePool(credentials)
    )


class FileCursor(DuckDBDBApiCursorImpl):
    """Reads Arrow batches with pyarrow alone: dlt imports its compute functions and Parquet for that."""

    def iter_arrow(self, chunk_size: int) -> "Generator[pa.Table, None, None]":
        """Tables of so many rows, or one of all."""
        if not chunk_size:
            yield from super().iter_arrow(chunk_size)
            return
        import pyarrow as pa

        cursor = self.native_cursor
        # DuckDB 1.4 has the second name only
        read = cursor.to_arrow_reader if hasattr(cursor, "to_arrow_reader") else cursor.fetch_record_batch
        for batch in read(chunk_size):
            yield pa.Table.from_batches([batch])


class CatalogSqlClient(DuckDbSqlClient):
    """Writes `catalog.schema.table` where `schema.table` would be ambiguous, and never checkpoints."""

    cursor_impl = FileCursor

    def __init__(
        self,
        dataset_name: str,
        staging_dataset_name: str,
        credentials: DuckDbBaseCredentials,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        super().__init__(dataset_name, staging_dataset_name, credentials, capabilities)
        # dlt's own have the file checkpointed; ours are set when it is opened, not for each connection
        self._pragmas: list[str] = []
        self._global_config = {
            name: value for name, value in self._global_config.items() if name != "checkpoint_threshold"
        } | SETTINGS

    def execute_query(self, query: Any, *args: Any, **kwargs: Any) -> "_GeneratorContextManager[DBApiCursor]":
        """Run a query; texts are written into it."""
        query, args = _with_texts(query, args)
        return super().execute_query(query, *args, **kwargs)

    def catalog_name(self, quote: bool = True, casefold: bool = True) -> str | None:  # noqa: ARG002, FBT001
        """The catalog of the file, or None where two-part names will do."""
        assert isinstance(self.credentials, DuckDbCredentials)
        catalog = Path(str(self.credentials.database)).stem
        if catalog.lower() not in (str(self.dataset_name).lower(), str(self.staging_dataset_name).lower()):
            return None
        return str(self.capabilities.escape_identifier(catalog)) if quote else catalog

    def warn_if_catalog_equals_dataset_name(self) -> None:
        """Nothing to warn of: names carry the catalog."""


def _with_texts(query: str, values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """A query with its texts as literals, and its other parameters."""
    first, *others = query.split("%s")
    if len(others) != len(values):
        return query, tuple(values)
    written, bound = [first], []
    for value, part in zip(values, others, strict=True):
        if isinstance(value, str) and "\0" not in value and "%s" not in value:
            written += [literal(value), part]
        else:
            written += ["%s", part]
            bound.append(value)
    return "".join(written), tuple(bound)


class CatalogClient(DuckDbClient):
    """DuckDB job client over `CatalogSqlClient`."""

    def __init__(
        self,
        schema: Schema,
        config: DuckDbClientConfiguration,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        credentials = config.credentials
        credentials.local_config = {**(credentials.local_config or {}), "TimeZone": "UTC"}
        if credentials.external_conn() is None and not isinstance(credentials.conn_pool, FilePool):
            credentials.conn_pool = _pool_of(credentials)
        super().__init__(schema, config, capabilities)
        plain = self.sql_client
        self.sql_client = CatalogSqlClient(
            str(plain.dataset_name), str(plain.staging_dataset_name), config.credentials, capabilities
        )


class catalog_duckdb(duckdb):  # noqa: N801 - destinations are named like functions in dlt
    """`dlt.destinations.duckdb` that also loads into a file named like its dataset."""

    spec = FileConfiguration

    def capabilities(
        self, config: DuckDbClientConfiguration | None = None, naming: NamingConvention | None = None
    ) -> DestinationCapabilitiesContext:
        """What the destination can do, which no setting changes.

        dlt asks some thirty times a load, and each time would resolve its whole configuration: a fifth
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


def learn_columns(pipeline: dlt.Pipeline) -> None:
    """Teach dlt's schema the columns the tables have by now: another writer may have added some.

    dlt asks the warehouse for its schema where it has none, or another machine has more state. So it would
    take a column that somebody else added for its own to type, and the warehouse would refuse it, or round.
    """
    if SOURCE_NAME not in pipeline.schemas:
        # the first load of another writer may have made the tables just now
        pipeline.sync_destination()
    if SOURCE_NAME not in pipeline.schemas and not _restore_schema(pipeline):
        return
    schema = pipeline.schemas[SOURCE_NAME]
    present = [name for name in TABLES if name in schema.tables]
    with pipeline.destination_client(SOURCE_NAME) as client:
        if not isinstance(client, SqlJobClientBase):
            return
        for table, columns in client.get_storage_tables(present):
            known = schema.tables[table]["columns"]
            for stored, column in columns.items():
                # some warehouses write all names in capitals; two underscores stand between parts of a name
                name = stored if stored in known else schema.naming.normalize_path(stored)
                if name not in known and not column.get("nullable", True):
                    continue  # not of ours, which are all nullable; left out, it takes its own default
                if known.setdefault(name, column).get("data_type") != column["data_type"]:
                    known[name]["data_type"] = column["data_type"]


def _restore_schema(pipeline: dlt.Pipeline) -> bool:
    """Take dlt's schema from the warehouse, where no load has left a state: a history moved there."""
    with pipeline.destination_client() as client:
        if not isinstance(client, SqlJobClientBase) or not client.is_storage_initialized():
            return False
        # None where there is none, which its type does not say
        stored = cast("StorageSchemaInfo | None", client.get_stored_schema(SOURCE_NAME))
    if stored is None:
        return False
    pipeline.schemas.save_schema(Schema.from_stored_schema(json.loads(stored.schema)))
    return True


def load_normalized(pipeline: dlt.Pipeline) -> None:
    """Load what is normalized.

    A job that failed just before a kill is not tried at first: dlt reports the failure once more and puts the
    job back, so the second try is the first one of this run.
    """
    try:
        pipeline.load()
    except PipelineStepFailed as error:
        if type(root_cause(error)) is not DestinationTerminalException:
            raise
        pipeline.load()


def drop_unfinished_files(working_dir: Path) -> None:
    """Remove what a kill or a full disk left half-written; dlt would take a half schema for a schema."""
    for path in [path for pattern in HOLD_UNFINISHED_FILES for path in working_dir.glob(pattern)]:
        if UNFINISHED_FILE.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def learn_extracted_columns(pipeline: dlt.Pipeline) -> None:
    """Teach dlt's schema the columns of extracted packages.

    dlt saves its schema after the package. If the run ended in between, it would normalize the package by
    the older schema, and the warehouse would refuse the columns that are new.
    """
    for load_id in pipeline.list_extracted_load_packages():
        file = Path(pipeline.working_dir) / EXTRACTED / load_id / "schema.json"
        try:
            extracted = Schema.from_dict(json.loads(file.read_text(encoding="utf-8")), validate_schema=False)
        except (OSError, ValueError):
            continue  # half deleted, or not readable: what follows says so
        if extracted.name not in pipeline.schemas:
            pipeline.schemas.save_schema(extracted)
            continue
        known = pipeline.schemas[extracted.name]
        for name, table in extracted.tables.items():
            columns = known.tables[name]["columns"] if name in known.tables else {}
            if table["columns"].keys() - columns.keys():
                known.update_table(table)


def forget_trace(pipeline: dlt.Pipeline) -> None:
    """Begin the trace again with the next package: dlt writes the last hundred steps with each new one."""
    # the file has it
    pipeline._last_trace = None  # type: ignore[assignment]  # noqa: SLF001


def drop_loaded_records(pipeline: dlt.Pipeline) -> None:
    """Remove the records of all loaded packages but the newest: dlt keeps them for ever."""
    # named by load ids, which are times
    records = sorted((Path(pipeline.working_dir) / LOADED).glob("*"))
    for record in records[:-KEPT_RECORDS]:
        shutil.rmtree(record, ignore_errors=True)


def drop_normalized_twins(pipeline: dlt.Pipeline) -> None:
    """Remove what is left of extracted packages that were normalized: the kill came before dlt did."""
    for load_id in pipeline.list_normalized_load_packages():
        shutil.rmtree(Path(pipeline.working_dir) / EXTRACTED / load_id, ignore_errors=True)
