"""The warehouse: the dlt pipeline that loads it, and the SQL that reads it."""

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dlt
import sqlglot
from dlt.common.destination import Destination
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.runtime import anon_tracker
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dlt_cronofy.cli.console import program
from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.views import PUBLIC_VIEWS, are_current, create_views

from .duckdb_destination import catalog_duckdb
from .duckdb_file import checkpoint, is_checkpoint_due, is_written, reading, writing
from .target import PIPELINE_NAME, Target, bind_files, digest, target_of
from .working_folders import WorkingFolder, configured_base, default_folder, folder_for

DEFAULT_DESTINATION = "duckdb"
DEFAULT_DATASET = "cronofy"

# dlt has more; these merge rows by key, and the views are written in their SQL
DESTINATIONS = (
    "duckdb",
    "motherduck",
    "ducklake",
    "postgres",
    "snowflake",
    "bigquery",
    "redshift",
    "databricks",
)

# where dlt looks for credentials of DuckDB
DUCKDB_CREDENTIALS = ("destination.duckdb.credentials", "destination.credentials", "credentials")

# A merge deletes rows and inserts them anew. dlt 1.31 does not know that these warehouses have transactions,
# and without one a kill between the two takes the rows along.
MERGES_AT_ONCE = {"supports_transactions": True}

# dlt's own words for a job that is tried again, traceback included, and for a package that is not
FAILED_JOB = re.compile(r"Traceback \(most recent|was not fully loaded|ransient exception in job")

# dlt's own words for destinations that are refused in one line
UNFIT_DESTINATION = re.compile(r"Custom destination callable not provided|initializing destination factory")

# What sets a session to UTC, whatever the server, database, role or environment say
SESSION_IN_UTC = {
    "databricks": "SET TIME ZONE 'UTC'",
    "duckdb": "SET TimeZone = 'UTC'",
    "postgres": "SET TIME ZONE 'UTC'",
    "redshift": "SET timezone TO 'UTC'",
    "snowflake": "ALTER SESSION SET TIMEZONE = 'UTC'",
}
# what every DuckDB file has behind a checksum
DUCKDB_MAGIC, DUCKDB_MAGIC_AT = b"DUCK", 8

Row = dict[str, Any]

_duckdb_files: "WeakKeyDictionary[dlt.Pipeline, Path]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Opening:
    """What a pipeline was opened with, and the target that this came to."""

    destination: str
    dataset: str
    credentials: str | None
    target: Target


_openings: "WeakKeyDictionary[dlt.Pipeline, Opening]" = WeakKeyDictionary()


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
        pipelines_dir: dlt's working files; the target's own folder where None. Where packages of another
            target wait there, a folder within it.

    Raises:
        ConfigurationError: dlt knows no such destination, it is none that is supported, or its DuckDB file
            can be none.
    """
    name, dataset = destination or configured_destination(), dataset or DEFAULT_DATASET
    target = _target(name, dataset, credentials)
    folder = folder_for(target, pipelines_dir) if pipelines_dir else _folder(target)
    pipeline = _open(Opening(name, dataset, credentials, target), folder)
    file = duckdb_file(pipeline)
    if file is not None:
        check_duckdb_file(file, f"destination.{name}.credentials")
    return pipeline


def reopened(pipeline: dlt.Pipeline, folder: WorkingFolder) -> dlt.Pipeline:
    """The same target as that pipeline's, over other working files; dlt takes it for the active one."""
    return _open(_openings[pipeline], folder)


def _open(opening: Opening, folder: WorkingFolder) -> dlt.Pipeline:
    place = folder.path
    target = _destination(opening.destination, opening.credentials)
    if "staging_dataset_name_layout" in target.spec.get_resolvable_fields() and not _loads_duckdb(target):
        # Two writers that share a staging dataset empty it under each other, and rows get lost without an
        # error. Each working directory has one of its own.
        own = digest(socket.gethostname(), str(place.absolute()), size=4)
        target.config_params["staging_dataset_name_layout"] = f"%s_staging_{own}"
    pipeline: dlt.Pipeline = dlt.pipeline(
        PIPELINE_NAME, destination=target, dataset_name=opening.dataset, pipelines_dir=str(place)
    )
    _openings[pipeline] = opening
    return pipeline


def pipeline_target(pipeline: dlt.Pipeline) -> Target | None:
    """What the pipeline loads into; None where something else than `open_pipeline` made it."""
    opening = _openings.get(pipeline)
    return opening.target if opening is not None else None


def _target(name: str, dataset: str, credentials: str | None = None) -> Target:
    _configure_dlt()
    return target_of(_destination(name, credentials), dataset)


def _destination(name: str, credentials: str | None) -> Destination[Any, Any]:
    try:
        target = Destination.from_reference(name, credentials=credentials)
    except UnknownDestinationModule:
        raise ConfigurationError(f"--destination {name}: dlt knows no such destination") from None
    assert target is not None
    kind = target.destination_type.removeprefix("dlt.destinations.")
    if kind not in DESTINATIONS:
        raise ConfigurationError(f"--destination {name}: choose one of {', '.join(DESTINATIONS)}")
    if type(target) is dlt.destinations.duckdb:
        target = _duckdb(target.destination_name, credentials)
    elif target.capabilities().supports_ddl_transactions:
        target.caps_params |= MERGES_AT_ONCE
    bind_files(target)
    return target


def _duckdb(name: str, credentials: str | None) -> Destination[Any, Any]:
    options: dict[str, Any] = {**MERGES_AT_ONCE}
    if name != DEFAULT_DESTINATION:
        # dlt names the file after a destination that is named, else after the pipeline
        options["destination_name"] = name
    elif credentials is None and not _has_credentials():
        # dlt would remember the folder of the first run for all later ones
        credentials = str(Path.cwd() / f"{PIPELINE_NAME}.duckdb")
    if credentials is not None:
        options["credentials"] = credentials
    return catalog_duckdb(**options)


def _has_credentials() -> bool:
    """Whether a DuckDB file is configured: as one value or as a field, for this pipeline or for all."""
    for key in DUCKDB_CREDENTIALS:
        for name in (key, f"{key}.database"):
            if _is_configured(name) or _is_configured(f"{PIPELINE_NAME}.{name}"):
                return True
    return False


def _is_configured(key: str) -> bool:
    return bool(dlt.secrets.get(key))


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
    target = _target(destination or configured_destination(), dataset or DEFAULT_DATASET)
    return _folder(target, application).path


def _folder(target: Target, application: str = "") -> WorkingFolder:
    base = configured_base()
    if base is None:
        return default_folder(target, digest(application) if application else "")
    return WorkingFolder(base) if application else folder_for(target, base)


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
    if UNFIT_DESTINATION.search(record.getMessage()):
        return False
    # what fails for good is raised as well, and one line says what to do about it; --verbose shows all
    failed = record.exc_info is not None or FAILED_JOB.search(record.getMessage()) is not None
    return not failed or logging.getLogger("dlt_cronofy").isEnabledFor(logging.DEBUG)


@contextmanager
def sql_client(pipeline: dlt.Pipeline) -> Iterator[SqlClientBase[Any]]:
    """An open SQL client on the dataset of the pipeline; its session's time zone is UTC.

    It only reads a DuckDB file, but within `writer`.
    """
    with reader(pipeline), pipeline.sql_client() as client:
        set_session_utc(client)
        yield client


def set_session_utc(client: SqlClientBase[Any]) -> None:
    """Have the open session of a client show times, and cut days, in UTC.

    Otherwise the database, the role, the environment or dlt's configuration decide what day it is in a query.
    """
    dialect = str(client.capabilities.sqlglot_dialect)
    if dialect == "bigquery":
        # it has no session: each query brings its time zone along, over that of the project
        bigquery = import_module("google.cloud.bigquery")
        zone = bigquery.query.ConnectionProperty(key="time_zone", value="UTC")
        client.native_connection.default_query_job_config = bigquery.QueryJobConfig(
            connection_properties=[zone]
        )
    elif dialect in SESSION_IN_UTC:
        client.execute_sql(SESSION_IN_UTC[dialect])


def query_rows(client: SqlClientBase[Any], sql: str, *parameters: Any) -> list[Row]:
    """Rows of a query as dictionaries; times that have a zone are in UTC."""
    with client.execute_query(sql, *parameters) as cursor:
        names = [column[0] for column in cursor.description]
        return [
            {name: _in_utc(value) for name, value in zip(names, row, strict=True)}
            for row in cursor.fetchall()
        ]


def _in_utc(value: Any) -> Any:
    # a column may keep the offset with which it was written, whatever the session says
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


def refresh_views(pipeline: dlt.Pipeline, hold_seconds: float, *, anew: bool = True) -> Sequence[str]:
    """Create or replace the SQL views beside the tables; returns their names.

    Args:
        pipeline: Whose dataset it is.
        hold_seconds: How long one sample is trusted.
        anew: Also where they are as they should be already.
    """
    if anew or not _has_current_views(pipeline, hold_seconds):
        with writer(pipeline), sql_client(pipeline) as client:
            dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
            execute: Callable[[str], Any] = client.execute_sql
            create_views(execute, dialect, client.fully_qualified_dataset_name(), hold_seconds)
    return PUBLIC_VIEWS


def _has_current_views(pipeline: dlt.Pipeline, hold_seconds: float) -> bool:
    with sql_client(pipeline) as client:
        execute: Callable[[str], Any] = client.execute_sql
        dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        dataset, schema = client.fully_qualified_dataset_name(), str(client.dataset_name)
        return are_current(lambda sql: execute(sql) or [], dialect, dataset, schema, hold_seconds)


def learn_columns(pipeline: dlt.Pipeline) -> None:
    """Teach dlt's schema the columns the tables have by now: another writer may have added some.

    dlt asks the warehouse for its schema where it has none, or another machine has more state. So it would
    take a column that somebody else added for its own to type, and the warehouse would refuse it, or round.
    """
    if SOURCE_NAME not in pipeline.schemas:
        # the first load of another writer may have made the tables just now
        pipeline.sync_destination()
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
                # some warehouses write all names in capitals; two underscores stand between parts of a name
                name = stored if stored in known else schema.naming.normalize_path(stored)
                if name not in known and not column.get("nullable", True):
                    continue  # not of ours, which are all nullable; left out, it takes its own default
                if known.setdefault(name, column).get("data_type") != column["data_type"]:
                    known[name]["data_type"] = column["data_type"]


def drop_staging(pipeline: dlt.Pipeline) -> None:
    """Remove this writer's staging dataset, which the next load from here makes again.

    Its name is that of a machine and a folder there; where machines come and go it would stay for ever.
    """
    with writer(pipeline), sql_client(pipeline) as client, client.with_staging_dataset():
        if client.has_dataset():
            client.drop_dataset()


@contextmanager
def held_open(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Keep a DuckDB file open while it is opened and closed a dozen times, which is then nearly free."""
    with reader(pipeline), sql_client(pipeline) if _is_duckdb(pipeline) else nullcontext():
        yield


@contextmanager
def reader(pipeline: dlt.Pipeline, wait_seconds: float | None = None) -> Iterator[None]:
    """Have whatever opens a DuckDB file meanwhile, dlt too, read it only. Other warehouses need nothing."""
    file = duckdb_file(pipeline)
    with reading(file, wait_seconds) if file is not None else nullcontext():
        yield


@contextmanager
def writer(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Open a DuckDB file for writing, which keeps all other processes out, and keep it open.

    Afterwards its log is moved into the file, if that is worth a copy of it. Other warehouses need nothing.

    Raises:
        DestinationConnectionError: another process kept the file open for too long.
    """
    file = duckdb_file(pipeline)
    if file is None:
        yield
        return
    with writing(file), held_open(pipeline):
        yield
    if not is_written(file) and is_checkpoint_due(file):
        checkpoint(file)


def _is_duckdb(pipeline: dlt.Pipeline) -> bool:
    return _loads_duckdb(pipeline.destination)


def _loads_duckdb(destination: Destination[Any, Any] | None) -> bool:
    return isinstance(destination, dlt.destinations.duckdb)


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
