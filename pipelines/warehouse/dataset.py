"""The dataset of a pipeline: the SQL that reads its tables and views, and who has its DuckDB file open.

In SQL of ours a relation is named in braces, `{polls}`; `read` puts the name there that the warehouse needs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import import_module
from threading import get_ident
from typing import Any

import dlt
import sqlglot
from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dlt_cronofy.formatting import program
from dlt_cronofy.source.destinations import written_names
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tables import Row
from dlt_cronofy.views import PUBLIC_VIEWS, are_current, create_views

from .dataset_schema import knows_views, learn_views
from .duckdb_file import checkpoint, is_checkpoint_due, is_written, writing
from .lake import catalog_file, is_lake
from .pipeline import DEFAULT_DESTINATION, duckdb_file, location, pipeline_target

Client = SqlClientBase[Any]

# of DuckDB files and lakes: by place, whether it may be written, and thread
_open_clients: dict[tuple[str, bool, int], Client] = {}

# What sets a session to UTC, whatever the server, database, role or environment say
SESSION_IN_UTC = {
    "databricks": "SET TIME ZONE 'UTC'",
    "duckdb": "SET TimeZone = 'UTC'",
    "postgres": "SET TIME ZONE 'UTC'",
    "redshift": "SET timezone TO 'UTC'",
    "snowflake": "ALTER SESSION SET TIMEZONE = 'UTC'",
}


@contextmanager
def sql_client(pipeline: dlt.Pipeline) -> Iterator[Client]:
    """An open SQL client on the dataset of the pipeline; its session's time zone is UTC.

    It only reads a DuckDB file, but within `writer`. One that this thread has open already is used again on
    DuckDB and DuckLake: dlt takes longer to make one than DuckDB to answer.
    """
    key = _client_key(pipeline)
    if key is not None and key in _open_clients:
        yield _open_clients[key]
        return
    with pipeline.sql_client() as client:
        set_session_utc(client)
        if key is None:
            yield client
            return
        _open_clients[key] = client
        try:
            yield client
        finally:
            del _open_clients[key]


def _client_key(pipeline: dlt.Pipeline) -> tuple[str, bool, int] | None:
    """What an open client is found by; None where each has its own."""
    file = duckdb_file(pipeline)
    if file is not None:
        return str(file), is_written(file), get_ident()
    return (str(pipeline_target(pipeline)), False, get_ident()) if is_lake(pipeline) else None


def set_session_utc(client: Client) -> None:
    """Have the open session of a client show times, and cut days, in UTC, whatever is configured."""
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


@contextmanager
def loaded_dataset(pipeline: dlt.Pipeline) -> Iterator[Client]:
    """An open SQL client on a dataset that holds something; ConfigurationError where nothing was loaded."""
    nothing = ConfigurationError(f"{location(pipeline)} holds no data yet; run {program()} load first")
    path = catalog_file(pipeline) if is_lake(pipeline) else duckdb_file(pipeline)
    if path is not None and not path.exists():
        raise nothing  # opening it would create it
    with sql_client(pipeline) as client:
        if not client.has_dataset():
            raise nothing
        yield client


def read(client: Client, sql: str, *parameters: Any) -> list[Row]:
    """Rows of a query that names relations in braces; a brace that is meant is written twice."""
    return query_rows(client, sql.format_map(_Relations(client)), *parameters)


class _Relations(dict[str, str]):
    """The qualified name of whatever relation is asked for."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def __missing__(self, name: str) -> str:
        return str(self._client.make_qualified_table_name(name))


def query_rows(client: Client, sql: str, *parameters: Any) -> list[Row]:
    """Rows of a query as dictionaries; times that have a zone are in UTC."""
    names, rows = query_columns(client, sql, *parameters)
    return [dict(zip(names, row, strict=True)) for row in rows]


def query_columns(client: Client, sql: str, *parameters: Any) -> tuple[list[str], list[list[Any]]]:
    """The names of a query's columns, and its rows; times that have a zone are in UTC."""
    with client.execute_query(sql, *parameters) as cursor:
        names = written_names(client, (column[0] for column in cursor.description))
        return names, [[in_utc(value) for value in row] for row in cursor.fetchall()]


def in_utc(value: Any) -> Any:
    """A time with a zone in UTC: a column may keep another offset, whatever the session says."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value


def check_query(client: Client, sql: str) -> None:
    """Make sure that it is one statement and only reads: the history cannot be fetched again.

    Raises:
        ConfigurationError: it is none, several, or one that writes.
    """
    try:
        statements = [each for each in sqlglot.parse(sql, dialect=_dialect(client)) if each is not None]
    except SqlglotError as error:
        raise ConfigurationError(f"not SQL: {str(error).splitlines()[0]}") from None
    if len(statements) != 1:
        raise ConfigurationError(f"{len(statements)} statements given; query runs exactly one")
    reads = isinstance(statements[0], (exp.Query, exp.Describe, exp.Show, exp.Summarize))
    if not reads or statements[0].find(exp.DML, exp.Into) is not None:
        raise ConfigurationError("query only reads; this statement does something else")


def refresh_views(
    pipeline: dlt.Pipeline, hold_seconds: float, *, even_if_current: bool = True
) -> Sequence[str]:
    """Create or replace the SQL views, or only where they are not current; returns their names."""
    if even_if_current or not has_current_views(pipeline, hold_seconds):
        in_lake = is_lake(pipeline)
        with writer(pipeline), sql_client(pipeline) as client:
            dataset = client.fully_qualified_dataset_name()
            execute: Callable[[str], Any] = client.execute_sql
            # each statement by itself would be a snapshot
            with client.begin_transaction() if in_lake else nullcontext():
                create_views(
                    execute, _dialect(client), dataset, hold_seconds, comments_on_columns=not in_lake
                )
            learn_views(pipeline)
    elif not knows_views(pipeline):
        with writer(pipeline):
            learn_views(pipeline)
    return PUBLIC_VIEWS


def has_current_views(pipeline: dlt.Pipeline, hold_seconds: float) -> bool:
    """Whether all views are there and were made from the present definitions."""
    with sql_client(pipeline) as client:
        execute: Callable[[str], Any] = client.execute_sql
        dataset, schema = client.fully_qualified_dataset_name(), str(client.dataset_name)
        return are_current(execute, _dialect(client), dataset, schema, hold_seconds)


def _dialect(client: Client) -> str:
    return str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)


def drop_staging(pipeline: dlt.Pipeline) -> None:
    """Remove this writer's staging dataset, which the next load from here makes again.

    Its name is that of a machine and a folder there; where machines come and go it would stay for ever.
    """
    with writer(pipeline), sql_client(pipeline) as client, client.with_staging_dataset():
        if client.has_dataset():
            client.drop_dataset()


@contextmanager
def held_open(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Keep a DuckDB file or a lake open while it is opened a dozen times, which is then nearly free."""
    with sql_client(pipeline) if _client_key(pipeline) is not None else nullcontext():
        yield


@contextmanager
def writer(pipeline: dlt.Pipeline, *, more_to_come: bool = False) -> Iterator[None]:
    """Open a DuckDB file for writing, which keeps all other processes out, and keep it open.

    Afterwards its log is moved into the file, if that is worth a copy of it; where more is to come soon, a
    small one waits. Other warehouses need nothing.
    """
    file = duckdb_file(pipeline)
    if file is None:
        with held_open(pipeline):
            yield
        return
    with writing(file), held_open(pipeline):
        yield
    if not is_written(file) and is_checkpoint_due(file, more_to_come=more_to_come):
        checkpoint(file)
