"""The warehouse: the dlt pipeline that loads it, and the SQL that reads it."""

import hashlib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dlt
import sqlglot
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.pipeline import get_dlt_pipelines_dir
from dlt.common.runtime import anon_tracker
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sources.cronofy import SOURCE_NAME
from sources.cronofy.errors import ConfigurationError
from sources.cronofy.tables import TABLES

from .console import program
from .duckdb_destination import catalog_duckdb
from .views import PUBLIC_VIEWS, are_current, create_views

PIPELINE_NAME = "cronofy"
DEFAULT_DESTINATION = "duckdb"
DEFAULT_DATASET = "cronofy"

# where dlt looks for credentials of DuckDB
DUCKDB_CREDENTIALS = ("destination.duckdb.credentials", "destination.credentials", "credentials")

# A merge deletes rows and inserts them anew. dlt 1.31 does not know that these warehouses have transactions,
# and without one a kill between the two takes the rows along.
MERGES_AT_ONCE = {"supports_transactions": True}

# dlt's own words for a job that is tried again, traceback included, and for a package that is not
FAILED_JOB = re.compile(r"Traceback \(most recent|was not fully loaded|ransient exception in job")

# what every DuckDB file has behind a checksum
DUCKDB_MAGIC, DUCKDB_MAGIC_AT = b"DUCK", 8

Row = dict[str, Any]

_duckdb_files: "WeakKeyDictionary[dlt.Pipeline, Path]" = WeakKeyDictionary()


def open_pipeline(
    destination: str | None = None,
    dataset: str | None = None,
    credentials: str | None = None,
    pipelines_dir: Path | None = None,
) -> dlt.Pipeline:
    """The dlt pipeline of that destination, brought up to date with what the destination knows.

    Args:
        destination: dlt's name of it; from dlt's configuration, else duckdb.
        dataset: the schema to load into.
        credentials: overrides the configured ones, as for the demo's own file.
        pipelines_dir: dlt's working files; dlt's default where None.

    Raises:
        ConfigurationError: dlt knows no such destination, or its DuckDB file can be none.
    """
    _configure_dlt()
    name = destination or configured_destination()
    dataset = dataset or DEFAULT_DATASET
    place = pipelines_dir or working_place(name, dataset)
    pipeline: dlt.Pipeline = dlt.pipeline(
        PIPELINE_NAME,
        destination=_destination(name, credentials, place),
        dataset_name=dataset,
        pipelines_dir=str(place),
    )
    file = duckdb_file(pipeline)
    if file is not None:
        check_duckdb_file(file, f"destination.{name}.credentials")
    return pipeline


def _destination(name: str, credentials: str | None, place: Path) -> Destination[Any, Any]:
    try:
        # Two writers that share a staging dataset empty it under each other, and rows get lost without an
        # error. Each working directory has one of its own.
        layout = f"%s_staging_{_digest(socket.gethostname(), str(place.absolute()))}"
        target = Destination.from_reference(name, credentials=credentials, staging_dataset_name_layout=layout)
    except UnknownDestinationModule:
        raise ConfigurationError(f"--destination {name}: dlt knows no such destination") from None
    assert target is not None
    if type(target) is dlt.destinations.duckdb:
        return _duckdb(target.destination_name, credentials)
    if "delete-insert" not in (target.capabilities().supported_merge_strategies or ()):
        raise ConfigurationError(f"--destination {name}: cannot merge rows by key, which this load relies on")
    if target.capabilities().supports_ddl_transactions:
        target.caps_params |= MERGES_AT_ONCE
    return target


def _duckdb(name: str, credentials: str | None) -> Destination[Any, Any]:
    options: dict[str, Any] = {**MERGES_AT_ONCE}
    if name != DEFAULT_DESTINATION:
        # dlt names the file after a destination that is named, else after the pipeline
        options["destination_name"] = name
    elif credentials is None and not any(dlt.secrets.get(key) for key in DUCKDB_CREDENTIALS):
        # dlt would remember the folder of the first run for all later ones
        credentials = str(Path.cwd() / f"{PIPELINE_NAME}.duckdb")
    if credentials is not None:
        options["credentials"] = credentials
    return catalog_duckdb(**options)


def check_duckdb_file(file: Path, setting: str) -> None:
    """Refuse what can never be a DuckDB file; DuckDB says so late, and dlt then names the internet.

    Raises:
        ConfigurationError: its folder is missing, it is a folder itself, or a file of another kind.
    """
    if str(file).startswith((":", "md:")):
        return  # in memory, or MotherDuck
    if file.is_dir():
        raise ConfigurationError(f"{setting}: {file} is a folder, not a DuckDB file")
    if not file.parent.is_dir():
        raise ConfigurationError(
            f"{setting}: there is no folder {file.parent}; make it, or name another file"
        )
    # one that cannot be read is explained when it is opened
    with suppress(OSError), file.open("rb") as content:
        magic = content.read(DUCKDB_MAGIC_AT + len(DUCKDB_MAGIC))[DUCKDB_MAGIC_AT:]
        # one that was just made is empty, or zeros
        if magic.strip(b"\0") and magic != DUCKDB_MAGIC:
            raise ConfigurationError(f"{setting}: {file} is not a DuckDB file; name another one")


def working_place(destination: str | None = None, dataset: str | None = None, application: str = "") -> Path:
    """The folder of dlt's working files: the configured one, else one for each target.

    Pending packages belong to the target they were polled for, so targets do not share a folder; nor do
    applications that load at the same time.
    """
    destination, dataset = destination or configured_destination(), dataset or DEFAULT_DATASET
    configured: str | None = dlt.config.get("pipelines_dir")
    if configured:
        return Path(configured)
    folder = str(Path.cwd()) if destination == DEFAULT_DESTINATION else ""
    parts = (destination, dataset, folder, *((application,) if application else ()))
    return Path(get_dlt_pipelines_dir()) / f"{PIPELINE_NAME}-{_digest(*parts)}"


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()


def configured_destination() -> str:
    """Dlt's `destination_type` where one is configured, else duckdb."""
    configured: str | None = dlt.config.get("destination_type")
    return configured or DEFAULT_DESTINATION


def _configure_dlt() -> None:
    """Defaults of ours for dlt, which its own configuration overrides."""
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    if os.environ["RUNTIME__DLTHUB_TELEMETRY"].lower() in ("false", "0", "no"):
        # telemetry is off, and yet dlt 1.31 writes an id for it into the home of the machine
        anon_tracker.get_anonymous_id = lambda: ""
    logging.getLogger("dlt").addFilter(_is_worth_a_line)
    if dlt.config.get("load.delete_completed_jobs") is None:
        # loaded packages hold what people's tables hold; they are not kept on disk
        dlt.config["load.delete_completed_jobs"] = True


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    # a load is two packages, extracted one after the other: the schema has moved on by design
    if "Storage schema was used" in record.getMessage():
        return False
    # what fails for good is raised as well, and one line says what to do about it; --verbose shows all
    failed = record.exc_info is not None or FAILED_JOB.search(record.getMessage()) is not None
    return not failed or logging.getLogger("dlt_cronofy").isEnabledFor(logging.DEBUG)


@contextmanager
def sql_client(pipeline: dlt.Pipeline) -> Iterator[SqlClientBase[Any]]:
    """An open SQL client on the dataset of the pipeline."""
    with pipeline.sql_client() as client:
        yield client


def query_rows(client: SqlClientBase[Any], sql: str, *parameters: Any) -> list[Row]:
    """Rows of a query as dictionaries."""
    with client.execute_query(sql, *parameters) as cursor:
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def refresh_views(pipeline: dlt.Pipeline, hold_seconds: float, *, anew: bool = True) -> Sequence[str]:
    """Create or replace the SQL views beside the tables; returns their names.

    Args:
        pipeline: Whose dataset it is.
        hold_seconds: How long one sample is trusted.
        anew: Also where they are as they should be already.
    """
    with sql_client(pipeline) as client:
        execute: Callable[[str], Any] = client.execute_sql
        dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        dataset = client.fully_qualified_dataset_name()
        schema = str(client.dataset_name)
        if anew or not are_current(lambda sql: execute(sql) or [], dialect, dataset, schema, hold_seconds):
            create_views(execute, dialect, dataset, hold_seconds)
    return PUBLIC_VIEWS


def learn_columns(pipeline: dlt.Pipeline) -> None:
    """Teach dlt's schema the columns the tables have by now: another writer may have added some.

    dlt asks the warehouse for its schema where it has none, or another machine has more state. So it would
    take a column that somebody else added for its own to type, and the warehouse would refuse it, or round.
    """
    if SOURCE_NAME not in pipeline.schemas:
        return
    schema = pipeline.schemas[SOURCE_NAME]
    present = [name for name in TABLES if name in schema.tables]
    with pipeline.destination_client(SOURCE_NAME) as client:
        if not isinstance(client, SqlJobClientBase):
            return
        for table, columns in client.get_storage_tables(present):
            known = schema.tables[table]["columns"]
            for stored, column in columns.items():
                # some warehouses write all names in capitals
                name = stored if stored in known else schema.naming.normalize_identifier(stored)
                if known.setdefault(name, column).get("data_type") != column["data_type"]:
                    known[name]["data_type"] = column["data_type"]


def drop_staging(pipeline: dlt.Pipeline) -> None:
    """Remove this writer's staging dataset, which the next load from here makes again.

    Its name is that of a machine and a folder there; where machines come and go it would stay for ever.
    """
    with sql_client(pipeline) as client, client.with_staging_dataset():
        if client.has_dataset():
            client.drop_dataset()


@contextmanager
def held_open(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Keep a DuckDB file open while dlt opens and closes it a dozen times, which is then nearly free."""
    with sql_client(pipeline) if _is_duckdb(pipeline) else nullcontext():
        yield


def _is_duckdb(pipeline: dlt.Pipeline) -> bool:
    return isinstance(pipeline.destination, dlt.destinations.duckdb)


def duckdb_file(pipeline: dlt.Pipeline) -> Path | None:
    """The DuckDB file of the pipeline, without opening it; None for another warehouse."""
    if not _is_duckdb(pipeline):
        return None
    if pipeline not in _duckdb_files:
        # where that is, is looked for in all of dlt's configuration
        _duckdb_files[pipeline] = Path(str(pipeline.sql_client().credentials.database))
    return _duckdb_files[pipeline]


def location(pipeline: dlt.Pipeline) -> str:
    """Where the data is, for people: the DuckDB file, else the destination's name. Never credentials."""
    path = duckdb_file(pipeline)
    if path is not None:
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return str(pipeline.destination.destination_name) if pipeline.destination else DEFAULT_DESTINATION


@contextmanager
def loaded_dataset(pipeline: dlt.Pipeline) -> Iterator[SqlClientBase[Any]]:
    """An open SQL client on a dataset that holds something.

    Raises:
        ConfigurationError: nothing was loaded there yet.
    """
    nothing = ConfigurationError(f"{location(pipeline)} holds no data yet; run {program()} load first")
    path = duckdb_file(pipeline)
    if path is not None and not path.exists():
        raise nothing  # opening it would create it
    with sql_client(pipeline) as client:
        if not client.has_dataset():
            raise nothing
        yield client


def check_query(client: SqlClientBase[Any], sql: str) -> None:
    """Make sure that it is one statement and only reads: the history cannot be fetched again.

    Raises:
        ConfigurationError: it is none, several, or one that writes.
    """
    dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect=dialect) if statement is not None]
    except SqlglotError as error:
        raise ConfigurationError(f"not SQL: {str(error).splitlines()[0]}") from None
    if len(statements) != 1:
        raise ConfigurationError(f"{len(statements)} statements given; query runs exactly one")
    reads = isinstance(statements[0], (exp.Query, exp.Describe, exp.Show, exp.Summarize))
    if not reads or statements[0].find(exp.DML, exp.Into) is not None:
        raise ConfigurationError("query only reads; this statement does something else")
