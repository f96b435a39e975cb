"""Loads who is connected through Cronofy, and keeps the history that Cronofy's identity API does not have."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast

import dlt
import pyarrow as pa
from dlt.common.schema.typing import TMergeDispositionDict
from dlt.common.storages.load_package import load_package_state
from dlt.extract import DltResource

from .destinations import check_destination
from .history.frames import dlt_type, to_arrow
from .history.knowledge import WarehouseKnowledge
from .settings import (
    ACCOUNT,
    CONFIG_SECTIONS,
    DEFAULT_ENDPOINTS,
    PROFILES,
    USERINFO,
    CronofyConfiguration,
    PollingSettings,
    SecretText,
    check_endpoints,
    revealed,
)
from .stores import OnRefresh, open_store, stored_tokens
from .sweep import RecordedPolls, Rows, Sweep
from .tables import TABLES, Table
from .tokens import log_unusable

SOURCE_NAME = "cronofy"


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
        max_attempts: tries of one request.
        timeout: seconds one try may take.
        personal_data: what becomes of e-mail, names and relink URLs: keep, hash or drop.
        personal_data_key: the key that hash needs.
        endpoints: overrides what `with_resources` would call: `userinfo`, `account`, `profiles`.
        on_refresh: told of every refreshed token, to write it back to a store of your own.

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
    return _resources(sweep, check_endpoints(endpoints) if endpoints is not None else None)


@dlt.source(name=SOURCE_NAME, section=SOURCE_NAME)
def prepared_source(sweep: Sweep | RecordedPolls) -> Sequence[DltResource]:
    """The same source over a prepared sweep, as the scheduled load has it; asks for no configuration.

    Args:
        sweep: what is polled, or was.
    """
    return _resources(sweep)


def _resources(sweep: Sweep | RecordedPolls, wanted: tuple[str, ...] | None = None) -> Sequence[DltResource]:
    polled = dlt.resource(_polled, name="polled", selected=False)(sweep, wanted)
    return [polled, *(_table_resource(polled, table) for table in TABLES.values())]


async def _polled(
    sweep: Sweep | RecordedPolls, endpoints: tuple[str, ...] | None
) -> AsyncIterator[dict[str, pa.Table]]:
    """Poll once for all tables; yields Arrow tables by name."""
    check_destination(dlt.current.pipeline())
    schema = dlt.current.source_schema()
    tables = set(dlt.current.source().selected_resources) & TABLES.keys()
    load_id = load_package_state()["load_id"]

    # dlt's schema learns of a column when a batch is written, which may be after the next one is framed
    known: dict[str, dict[str, str]] = {}

    def frame(rows: Rows) -> dict[str, pa.Table]:
        frames = {}
        for name, table_rows in rows.items():
            columns = known.setdefault(name, _column_types(schema.tables.get(name)))
            framed = to_arrow(TABLES[name], table_rows, load_id, columns, schema.naming.normalize_path)
            known[name] = {field.name: dlt_type(field.type) for field in framed.schema} | columns
            frames[name] = framed
        return frames

    # every table exists from the first load on, rows or not, so that views and queries can rely on it
    yield frame({name: [] for name in tables if not _column_types(schema.tables.get(name))})
    knowledge = WarehouseKnowledge(dlt.current.pipeline(), schema.name)
    async for rows in sweep.run(knowledge, endpoints or endpoints_for(tables), tables):
        yield frame({name: table_rows for name, table_rows in rows.items() if table_rows})


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


def _column_types(table: Any) -> dict[str, str]:
    columns = table["columns"] if table else {}
    return {name: str(hints["data_type"]) for name, hints in columns.items() if "data_type" in hints}


def _table_resource(polled: DltResource, table: Table) -> DltResource:
    def pick(frames: dict[str, pa.Table]) -> Iterator[pa.Table]:
        if table.name in frames:
            yield frames[table.name]

    select: Callable[..., Iterator[pa.Table]] = pick
    columns: dict[str, Any] = {column: {"nullable": False} for column in table.key}
    if "observed_at" in table.schema.names:
        # should one load hold a row twice, the newest one stays
        columns["observed_at"] = {"dedup_sort": "desc"}
    disposition: TMergeDispositionDict = {"disposition": "merge", "strategy": "delete-insert"}
    # dlt's overloads leave the disposition dictionary out, which its documentation describes
    resource = dlt.transformer(  # type: ignore[call-overload]
        select,
        data_from=polled,
        name=table.name,
        primary_key=list(table.key),
        columns=columns,
        write_disposition=disposition,
    )
    return cast("DltResource", resource)


__all__ = [
    "CONFIG_SECTIONS",
    "DEFAULT_ENDPOINTS",
    "SOURCE_NAME",
    "cronofy_source",
    "endpoints_for",
    "prepared_source",
]
