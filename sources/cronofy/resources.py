"""The dlt source and its resources: one poll feeds several tables."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import dlt
import pyarrow as pa
from dlt.common.schema import Schema
from dlt.common.storages.load_package import load_package_state
from dlt.extract import DltResource
from dlt.extract.hints import make_hints

from . import SOURCE_NAME
from .destinations import check_destination
from .history.arrow import Framer, with_load_id
from .history.state import SqlWarehouseState
from .settings import (
    ACCOUNT,
    PROFILES,
    USERINFO,
    CronofyConfiguration,
    PollingSettings,
    SecretText,
    check_endpoints,
    revealed,
)
from .sweep import Rows, Sweep
from .tables import CONTENT, EVIDENCE, POLLS, TABLES, Table, tables_with
from .tokens.base import OnRefresh
from .tokens.store import open_store, stored_tokens
from .tokens.token import log_unusable

# Arrow tables by name
Frames = dict[str, pa.Table]


@dlt.source(name=SOURCE_NAME, section=SOURCE_NAME, spec=CronofyConfiguration)
def cronofy_source(
    tokens: Any = None,
    tokens_file: str | None = None,
    tokens_query: str | None = None,
    tokens_database: SecretText | str | None = None,
    tokens_update: str | None = None,
    token_labels: str | list[str] | None = None,
    application: str | None = None,
    client_id: str | None = None,
    client_secret: SecretText | str | None = None,
    data_center: str = dlt.config.value,
    base_url: str | None = None,
    requests_per_second: float = dlt.config.value,
    requests_per_minute: float = dlt.config.value,
    requests_shared_in: SecretText | str | None = None,
    proxy: SecretText | str | None = None,
    max_attempts: int = dlt.config.value,
    timeout: float = dlt.config.value,
    personal_data: str = dlt.config.value,
    personal_data_key: SecretText | str | None = None,
    endpoints: Sequence[str] | None = None,
    on_refresh: OnRefresh | None = None,
) -> Sequence[DltResource]:
    """Connection health of Cronofy accounts: current state, change log and every poll.

    One poll feeds several tables, so `source.with_resources(...)` decides what is called: `userinfo` or
    `calendars` calls `/v1/userinfo`, which fills the profile tables as well; without them `profiles` or
    `profile_changes` calls `/v1/profiles`; `account` calls `/v1/account`, at most once a day per token.
    What the destination holds already is read from it, and only changes are loaded.

    Args:
        tokens: {key, access_token, refresh_token, data_center} or plain access tokens; an iterable or a
            callable that returns one.
        tokens_file: CSV, JSON Lines or Parquet file with those columns.
        tokens_query: SQL query over the application's own token table, with those columns.
        tokens_database: SQLAlchemy URL of the database that it runs in.
        tokens_update: SQL that writes a refreshed token back, where it cannot be derived from the query.
        token_labels: columns of the token store that are kept in `token_status`; without it `customer`, if
            the store has that column.
        application: whose tokens these are; without it client_id, else `default`.
        client_id: of the Cronofy application; with client_secret, expired tokens are refreshed.
        client_secret: of the Cronofy application.
        data_center: us, au, ca, de, sg or uk, for tokens that name none.
        base_url: overrides the data center's host.
        requests_per_second: never exceeded.
        requests_per_minute: never exceeded.
        requests_shared_in: where several processes of the application draw from these limits together: a
            file on their machine, or a URL of Redis or PostgreSQL.
        proxy: URL of an HTTP proxy, which gets CONNECT only.
        max_attempts: tries of one request.
        timeout: seconds one try may take.
        personal_data: what becomes of e-mail, names and relink URLs: keep, hash or drop.
        personal_data_key: the key that hash needs.
        endpoints: overrides what `with_resources` would call: `userinfo`, `account`, `profiles`.
        on_refresh: called with every refreshed token, to write it back to a store of your own.

    Raises:
        ConfigurationError: the token store, most of its rows, or settings cannot be used; says which and
            where. A row that cannot be used is named in the log, and the others are polled.
    """
    configuration = CronofyConfiguration()
    configuration.update(
        {
            "data_center": data_center,
            "base_url": base_url,
            "requests_per_second": requests_per_second,
            "requests_per_minute": requests_per_minute,
            "requests_shared_in": requests_shared_in,
            "proxy": proxy,
            "max_attempts": max_attempts,
            "timeout": timeout,
            "token_labels": token_labels,
            "application": application,
            "client_id": client_id,
            "client_secret": client_secret,
            "personal_data": personal_data,
            "personal_data_key": personal_data_key,
        }
    )
    settings = PollingSettings.of(configuration)
    store = open_store(
        tokens,
        tokens_file,
        tokens_query,
        revealed(tokens_database),
        tokens_update,
        on_refresh,
        settings.token_labels,
    )
    found = stored_tokens(store, settings)
    log_unusable(found)
    sweep = Sweep(settings, tokens=found, store=store)
    wanted = check_endpoints(endpoints) if endpoints is not None else None
    return sweep_resources(sweep, wanted)


def sweep_resources(sweep: Sweep, endpoints: tuple[str, ...] | None = None) -> Sequence[DltResource]:
    """The tables, filled by one sweep; without `endpoints` the selected tables decide what is called."""
    return _resources(dlt.resource(_polled, name="polled", selected=False)(sweep, endpoints))


@dlt.source(name=SOURCE_NAME, section=SOURCE_NAME)
def prepared_source(frames: Iterable[Frames]) -> Sequence[DltResource]:
    """The same tables from what was captured before, as the scheduled load has it; asks for no configuration.

    Args:
        frames: Arrow tables by name.
    """
    return _resources(dlt.resource(_prepared, name="polled", selected=False)(frames))


def _resources(polled: DltResource) -> Sequence[DltResource]:
    packed = [*((table,) for table in CONTENT), EVIDENCE]
    return [polled, *(_table_resource(polled, tables) for tables in packed)]


def _prepared(frames: Iterable[Frames]) -> Iterator[Frames]:
    check_destination(dlt.current.pipeline())
    load_id = load_package_state()["load_id"]
    for each in frames:
        yield {name: with_load_id(frame, load_id) for name, frame in each.items()}


async def _polled(sweep: Sweep, endpoints: tuple[str, ...] | None) -> AsyncIterator[Frames]:
    """Poll once for all tables; yields Arrow tables by name."""
    check_destination(dlt.current.pipeline())
    schema = dlt.current.source_schema()
    tables = set(dlt.current.source().selected_resources) & TABLES.keys()
    if POLLS.name in tables:
        tables |= {table.name for table in EVIDENCE}
    load_id = load_package_state()["load_id"]
    framer, described = schema_framer(schema), tables_with(sweep.settings.token_labels)

    def frame(rows: Rows) -> Frames:
        frames = framer.frames(rows, described)
        return {name: with_load_id(each, load_id) for name, each in frames.items()}

    # every table exists from the first load on, rows or not, so that views and queries can rely on it
    yield frame({name: [] for name in tables if not column_types(schema, name)})
    state = SqlWarehouseState(dlt.current.pipeline(), schema.name)
    async for rows in sweep.run(state, endpoints or endpoints_for(tables), tables):
        yield frame({name: table_rows for name, table_rows in rows.items() if table_rows})


def schema_framer(schema: Schema) -> Framer:
    """What makes Arrow tables of rows with the columns and names of a dlt schema."""
    return Framer(partial(column_types, schema), schema.naming.normalize_path)


def column_types(schema: Schema, table: str) -> dict[str, str]:
    """The columns of a table that a dlt schema knows, with dlt's data types; none of a table it lacks."""
    columns = schema.tables[table]["columns"] if table in schema.tables else {}
    return {name: str(hints["data_type"]) for name, hints in columns.items() if "data_type" in hints}


def endpoints_for(tables: set[str]) -> tuple[str, ...]:
    """The endpoints to call when these tables are selected."""
    endpoints = []
    if tables & {"userinfo", "calendars"}:
        endpoints.append(USERINFO)
    if "account" in tables:
        endpoints.append(ACCOUNT)
    if tables & {"profiles", "profile_changes"} and USERINFO not in endpoints:
        endpoints.append(PROFILES)
    return tuple(endpoints) or (USERINFO,)


def _table_resource(polled: DltResource, tables: Sequence[Table]) -> DltResource:
    """The resource of the first of these tables; it carries the others along, which belong in one package."""

    def pick(frames: Frames) -> Iterator[Any]:
        for table in tables:
            if table.name in frames:
                hints = make_hints(table_name=table.name, **_hints(table))
                yield dlt.mark.with_hints(frames[table.name], hints, create_table_variant=True)

    select: Callable[..., Iterator[Any]] = pick
    # every table has hints of its own: what a resource says holds for all its tables
    return cast("DltResource", dlt.transformer(select, data_from=polled, name=tables[0].name))


def _hints(table: Table) -> dict[str, Any]:
    """How dlt merges a table, and its descriptions."""
    columns: dict[str, Any] = {
        column.name: {"description": column.meaning} | ({"nullable": False} if column.required else {})
        for column in table.columns
    }
    if table.newest is not None:
        # should one load hold a row twice, the newest one stays
        columns[table.newest]["dedup_sort"] = "desc"
    disposition = {"disposition": "merge", "strategy": "delete-insert"}
    if table.grows_by is not None:
        recent = f"{table.grows_by} >= (SELECT MIN({table.grows_by}) FROM {{staging_table}})"  # noqa: S608 - our own names
        disposition["destination_scope"] = (
            f"{recent} AND {table.key[0]} IN (SELECT {table.key[0]} FROM {{staging_table}})"  # noqa: S608 - our own names
        )
    return {
        "primary_key": list(table.key),
        "columns": columns,
        "write_disposition": disposition,
        "additional_table_hints": {"description": table.description},
    }
