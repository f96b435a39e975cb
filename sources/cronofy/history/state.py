"""WarehouseState: what the warehouse knows, read where one batch of polls needs it.

The warehouse is the checkpoint. There is no state file and nothing in dlt's state: each table is
compared with its own rows only, so a table that missed a load catches up by itself.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import dlt
import pyarrow as pa
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from ..destinations import written_names
from ..planning.change_rates import STATES, Histories, collect_histories
from ..planning.plan import LastPoll
from ..privacy import PersonalData, Protection
from ..tables import (
    ACCOUNT,
    CALENDARS,
    COVERAGE,
    POLLS,
    PROFILE_CHANGES,
    PROFILES,
    RUNS,
    TABLES,
    TIME,
    TOKEN_STATUS,
    USERINFO,
    Row,
    Table,
    arrow_type,
)
from .diff import ProfileState, State
from .digest_support import COUNTED, unsupported_queries

EPOCH = datetime.fromtimestamp(0, UTC)

# the columns of `profile_changes` that are fields of `ProfileState`, in their order there, beside the state
STATE_COLUMNS = (
    "provider_name",
    "provider_service",
    "profile_name",
    "profile_initial_sync_required",
    "profile_relink_url",
)

# what they share is enough for the queries here
UNDERSTANDS_DUCKDB = {"duckdb", "postgres"}

# parameters of one IN list; every warehouse dlt reaches takes this many
MAX_PARAMETERS = 2000
ROWS_PER_FETCH, ROWS_PER_BATCH = 10_000, 1_000

# the columns of `token_status` that planning reads
PLANNED_BY = (
    "token_key",
    "account_id",
    "endpoint",
    "last_polled_at",
    "last_ok_at",
    "account_polled_at",
    "profiles_polled_at",
    "profiles_ok_at",
)

# dlt's own table of loads
LOADS = "_dlt_loads"

# One row per account, provider and instant within the window; all before it are one row, whose instant is
# null. For each state: how many profiles entered it less those that left it, and how many left it.
CHANGES_BY_PROVIDER = """
    SELECT changes.*, samples.samples, samples.sampled_from, samples.first_at, samples.last_at
    FROM (
        SELECT account_id, provider, seen_at, {states}
        FROM (
            SELECT account_id, COALESCE(provider_service, provider_name) AS provider, state, previous_state,
                   CASE WHEN observed_at > %s THEN observed_at END AS seen_at
            FROM {{table}} WHERE kind <> 'attributes'
        ) seen
        GROUP BY account_id, provider, seen_at
    ) changes
    INNER JOIN (
        SELECT account_id, MAX(samples) AS samples, MIN(first_sample_at) AS sampled_from,
               MIN(CASE WHEN first_sample_at > %s THEN first_sample_at ELSE %s END) AS first_at,
               MAX(last_sample_at) AS last_at
        FROM (
            SELECT account_id, profile_type, SUM(samples) AS samples, MIN(first_sample_at) AS first_sample_at,
                   MAX(last_sample_at) AS last_sample_at
            FROM {{coverage}}
            WHERE last_sample_at > %s
            GROUP BY account_id, profile_type
        ) spans
        GROUP BY account_id
    ) samples ON changes.account_id = samples.account_id
    ORDER BY changes.account_id, changes.provider
""".format(  # noqa: S608 - our own names
    states=", ".join(
        f"SUM(CASE WHEN state = '{state}' THEN 1 ELSE 0 END)"
        f" - SUM(CASE WHEN previous_state = '{state}' THEN 1 ELSE 0 END) AS {state},"
        f" SUM(CASE WHEN previous_state = '{state}' THEN 1 ELSE 0 END) AS left_{state}"
        for state in STATES
    )
)


@dataclass(slots=True)
class TokenContent:
    """The current-state rows of one token."""

    userinfo: Row | None = None
    account: Row | None = None
    profiles: dict[tuple[str, str], Row] = field(default_factory=dict)
    calendars: dict[str, Row] = field(default_factory=dict)


# profile_type → profile_id → last known state
AccountHistory = dict[str, dict[str, ProfileState]]


class WarehouseState(Protocol):
    """What change capture and planning ask of a warehouse."""

    def connected(self) -> AbstractContextManager[None]:
        """Keep one connection open for the queries of a `with` block, and no longer."""
        ...

    def last_polls(self) -> dict[str, LastPoll]:
        """By token_key, for every token that was ever polled."""
        ...

    def unsupported_digests(self, tables: set[str]) -> set[str]:
        """Tokens whose digests speak for rows that the wanted tables do not hold."""
        ...

    def statuses(self, token_keys: Sequence[str]) -> dict[str, Row]:
        """The rows of `token_status` of these tokens, by token_key."""
        ...

    def statuses_of_accounts(self, account_ids: Sequence[str]) -> dict[str, Row]:
        """The rows of `token_status` of all tokens of these accounts, by token_key."""
        ...

    def newest_spans(self, account_ids: Sequence[str]) -> dict[tuple[str, str], Row]:
        """The newest row of `coverage` of each profile type of these accounts."""
        ...

    def store_rows(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """These columns of all rows of `token_status`."""
        ...

    def token_contents(self, token_keys: Sequence[str], tables: set[str]) -> dict[str, TokenContent]:
        """By token_key; tokens without rows are missing."""
        ...

    def account_histories(self, account_ids: Sequence[str], until: datetime) -> dict[str, AccountHistory]:
        """By account_id, without changes after that instant; accounts without changes are missing."""
        ...


class SqlWarehouseState:
    """WarehouseState read through the dataset of a dlt pipeline, in bounded pieces."""

    def __init__(self, pipeline: dlt.Pipeline, schema_name: str) -> None:
        # whatever the working directory knows or lost: the warehouse itself is asked
        self._dataset = pipeline.dataset(schema=Schema(schema_name))
        self._client: SqlClientBase[Any] | None = None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """One connection for several queries; DuckDB locks its file while one is open."""
        if self._client is not None:
            yield
            return
        with self._dataset.sql_client as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    def last_polls(self) -> dict[str, LastPoll]:
        """By token_key, for every token that was ever polled; one pass over `token_status`."""
        found: dict[str, LastPoll] = {}
        query = f"SELECT {', '.join(PLANNED_BY)} FROM {{table}} WHERE endpoint IS NOT NULL"  # noqa: S608
        for batch in self._batches(TOKEN_STATUS, query):
            names, instants = batch.columns[:3], batch.columns[3:]
            columns = [column.to_pylist() for column in names] + [_instants(column) for column in instants]
            for token_key, account_id, endpoint, *polled in zip(*columns, strict=True):
                found[token_key] = _last_polls(account_id, endpoint, *polled)
        return found

    def lacks_evidence(self) -> bool:
        """Whether there are polls of a release that kept no evidence of them."""
        return self._has(POLLS) and not self._has(TOKEN_STATUS)

    def unsupported_digests(self, tables: set[str]) -> set[str]:
        """Tokens whose digests speak for rows that are not there: dropped, emptied, never selected or lost.

        A digest says how many rows of each table it speaks for; they are counted here.
        """
        wanted = tables & set(COUNTED)
        missing = {name for name in wanted if not self._has(TABLES[name])}
        return {
            token_key
            for query in unsupported_queries(wanted, missing)
            for batch in self._batches(TOKEN_STATUS, self._in_dialect(query))
            for token_key in batch.column(0).to_pylist()
        }

    def _in_dialect(self, query: str) -> str:
        """A query in DuckDB's dialect as the warehouse understands it; placeholders in braces stay."""
        with self.connected():
            assert self._client is not None
            dialect = str(self._client.capabilities.sqlglot_dialect)
        if dialect in UNDERSTANDS_DUCKDB:
            return query
        import sqlglot

        # a name in braces would be no table
        marked = query.replace("{", "marked_").replace("}", "_marked")
        (translated,) = sqlglot.transpile(marked, read="duckdb", write=dialect)
        return re.sub(r"marked_(\w+?)_marked", r"{\1}", translated)

    def _has(self, table: Table) -> bool:
        """Whether the warehouse has that table."""
        # one row, without a look at any of its own
        return any(True for _ in self._batches(table, "SELECT COUNT(*) AS n FROM {table} WHERE 1 = 0"))

    def statuses(self, token_keys: Sequence[str]) -> dict[str, Row]:
        """The rows of `token_status` of these tokens, by token_key."""
        query = "SELECT * FROM {table} WHERE token_key IN ({values})"
        return {row["token_key"]: row for row in self._rows_in(TOKEN_STATUS, query, token_keys)}

    def store_rows(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """These columns of all rows of `token_status`; one that the table lacks is null."""
        with self.connected():
            there = self._column_names(TOKEN_STATUS)
            assert self._client is not None
            selected = [self._client.escape_column_name(name) for name in columns if name in there]
            query = f"SELECT {', '.join(selected)} FROM {{table}}"  # noqa: S608 - quoted
            for batch in self._batches(TOKEN_STATUS, query) if selected else ():
                values = map(_values, batch.columns)
                found = [next(values) if name in there else [None] * batch.num_rows for name in columns]
                yield from zip(*found, strict=True)

    def _column_names(self, table: Table) -> set[str]:
        """The columns of a table that has rows; none of one that has not."""
        one_row = self._batches(table, "SELECT * FROM {table} LIMIT 1")
        return {name for batch in one_row for name in batch.schema.names}

    def statuses_of_accounts(self, account_ids: Sequence[str]) -> dict[str, Row]:
        """The rows of `token_status` of all tokens of these accounts, by token_key."""
        query = "SELECT * FROM {table} WHERE account_id IN ({values})"
        return {row["token_key"]: row for row in self._rows_in(TOKEN_STATUS, query, account_ids)}

    def newest_spans(self, account_ids: Sequence[str]) -> dict[tuple[str, str], Row]:
        """The newest row of `coverage` of each profile type of these accounts."""
        query = """
            SELECT * FROM (
                SELECT t.*, ROW_NUMBER() OVER (
                    PARTITION BY account_id, profile_type ORDER BY first_sample_at DESC
                ) AS newness
                FROM {table} t WHERE account_id IN ({values})
            ) ranked WHERE newness = 1
        """
        return {
            (row["account_id"], row["profile_type"]): row
            for row in self._rows_in(COVERAGE, query, account_ids)
            if row.pop("newness")
        }

    def check_access(self) -> None:
        """Make sure that all tables can be read: a missing right shows before anything is polled.

        Raises:
            DestinationException: what the warehouse says of a table that cannot be read.
        """
        for table in TABLES.values():
            for _ in self._batches(table, "SELECT * FROM {table} WHERE 1 = 0"):
                pass

    def requests_since(self, since: datetime) -> list[datetime]:
        """When requests were answered after that instant; all requests for one poll count as its answer."""
        # all columns: one that is new is missing in an older warehouse
        recent = "SELECT * FROM {table} WHERE polled_at > {values}"
        found: list[datetime | None] = []
        for batch in self._batches(POLLS, recent, [since]):
            instants = _instants(batch.column("polled_at"))
            for name in {"attempts", "refreshes"} & set(batch.schema.names):
                for instant, requests in zip(instants, batch.column(name).to_pylist(), strict=True):
                    found += [instant] * (requests or 0)
        return [instant for instant in found if instant is not None]

    def change_histories(self, since: datetime) -> Histories:
        """What the profiles of each account did after that instant; one pass over both logs."""
        batches = self._batches(PROFILE_CHANGES, CHANGES_BY_PROVIDER, [since] * 4)
        return collect_histories(row for batch in batches for row in batch.to_pylist())

    def token_contents(self, token_keys: Sequence[str], tables: set[str]) -> dict[str, TokenContent]:
        """The current-state rows of these tokens, from the wanted tables."""
        contents: dict[str, TokenContent] = defaultdict(TokenContent)
        query = "SELECT * FROM {table} WHERE token_key IN ({values})"
        if USERINFO.name in tables:
            for row in self._rows_in(USERINFO, query, token_keys):
                contents[row["token_key"]].userinfo = row
        if ACCOUNT.name in tables:
            for row in self._rows_in(ACCOUNT, query, token_keys):
                contents[row["token_key"]].account = row
        if PROFILES.name in tables:
            for row in self._rows_in(PROFILES, query, token_keys):
                contents[row["token_key"]].profiles[row["profile_type"], row["profile_id"]] = row
        if CALENDARS.name in tables:
            for row in self._rows_in(CALENDARS, query, token_keys):
                contents[row["token_key"]].calendars[row["calendar_id"]] = row
        return contents

    def account_histories(self, account_ids: Sequence[str], until: datetime) -> dict[str, AccountHistory]:
        """The newest change of every profile of these accounts; at one instant disconnected wins.

        A change after `until` was seen by a clock that was wrong.
        """
        histories: dict[str, AccountHistory] = {}
        newest_first = f"""
            SELECT account_id, profile_type, profile_id, state, {", ".join(STATE_COLUMNS)}
            FROM (
                SELECT t.*, ROW_NUMBER() OVER (
                    PARTITION BY account_id, profile_type, profile_id
                    ORDER BY observed_at DESC,
                             CASE state WHEN 'disconnected' THEN 0 WHEN 'connected' THEN 1 ELSE 2 END
                ) AS newness
                FROM {{table}} t WHERE observed_at <= {{first}} AND account_id IN ({{values}})
            ) ranked WHERE newness = 1
        """  # noqa: S608 - our own names
        for batch in self._batches_in(PROFILE_CHANGES, newest_first, account_ids, until):
            columns = (column.to_pylist() for column in batch.columns)
            for account_id, profile_type, profile_id, state, *attributes in zip(*columns, strict=True):
                history = histories.setdefault(account_id, {})
                history.setdefault(profile_type, {})[profile_id] = ProfileState(State(state), *attributes)
        return histories

    def outcomes_of(self, run_id: str, since: datetime) -> dict[tuple[str, str], str]:
        """How the loaded polls of a run ended, by token_key and endpoint; none is older than `since`."""
        query = """
            SELECT token_key, endpoint, outcome FROM {table} WHERE polled_at >= {first} AND run_id = {values}
        """
        found: dict[tuple[str, str], str] = {}
        for batch in self._batches(POLLS, query, [run_id], since):
            columns = (column.to_pylist() for column in batch.columns)
            found.update(((key, endpoint), outcome) for key, endpoint, outcome in zip(*columns, strict=True))
        return found

    def run(self, run_id: str) -> Row | None:
        """The row of `runs` of a run; None where there is none."""
        rows = self._rows_in(RUNS, "SELECT * FROM {table} WHERE run_id IN ({values})", [run_id])
        return next(iter(rows), None)

    def newest_poll_at(self) -> datetime | None:
        """When the newest poll was, which the views call as_of."""
        newest = None
        for batch in self._batches(RUNS, "SELECT MAX(last_polled_at) AS newest FROM {table}"):
            newest = _later(newest, _instants(batch.column(0))[0])
        return newest

    def _rows_in(self, table: Table, query: str, values: Sequence[str]) -> Iterator[Row]:
        for batch in self._batches_in(table, query, values):
            yield from as_rows(batch)

    def _batches_in(
        self, table: Table, query: str, values: Sequence[str], first: datetime | None = None
    ) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(values), MAX_PARAMETERS):
            yield from self._batches(table, query, values[start : start + MAX_PARAMETERS], first)

    def _batches(
        self, table: Table, query: str, values: Sequence[str | datetime] = (), first: datetime | None = None
    ) -> Iterator[pa.RecordBatch]:
        placeholders = ", ".join(["%s"] * len(values))
        try:
            with self.connected():
                assert self._client is not None
                text = query.format(
                    table=self._client.make_qualified_table_name(table.name),
                    values=placeholders,
                    first="%s",
                    **{name: self._client.make_qualified_table_name(name) for name in TABLES},
                )
                with self._client.execute_query(text, *([first] if first else []), *values) as cursor:
                    for found in cursor.iter_arrow(chunk_size=ROWS_PER_FETCH):
                        named = found.rename_columns(written_names(self._client, found.column_names))
                        yield from named.to_batches(max_chunksize=ROWS_PER_BATCH)
        except (DatabaseUndefinedRelation, DestinationUndefinedEntity):
            # no such table yet: nothing was ever loaded
            return


def protected_content(content: TokenContent, personal_data: PersonalData) -> TokenContent:
    """The rows of one token as they would have been stored under these settings."""
    if personal_data.kept:
        return content
    single = [row for row in (content.userinfo, content.account) if row is not None]
    rows = [*single, *content.profiles.values(), *content.calendars.values()]
    protection = Protection(personal_data.protect_stored, rows)

    def protected(table: Table, row: Row) -> Row:
        return protection.row(row, documented=table.names)

    return TokenContent(
        content.userinfo and protected(USERINFO, content.userinfo),
        content.account and protected(ACCOUNT, content.account),
        {key: protected(PROFILES, row) for key, row in content.profiles.items()},
        {key: protected(CALENDARS, row) for key, row in content.calendars.items()},
    )


def protected_history(history: AccountHistory, personal_data: PersonalData) -> AccountHistory:
    """Profile states as they would have been stored under these settings: a new setting is no change."""
    if personal_data.kept:
        return history
    protection = Protection(personal_data.protect_stored)
    return {
        profile_type: {
            profile_id: _protected_state(state, protection) for profile_id, state in states.items()
        }
        for profile_type, states in history.items()
    }


def _protected_state(state: ProfileState, protection: Protection) -> ProfileState:
    texts: Row = {name: text for name in STATE_COLUMNS if isinstance(text := getattr(state, name), str)}
    nothing: Row = dict.fromkeys(texts)
    return replace(state, **(nothing | protection.columns(texts)))


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _instants(column: pa.Array) -> list[datetime | None]:
    """The instants of a column; Arrow itself looks up the time zone of each, and takes ten times as long."""
    if column.type != arrow_type(TIME):
        column = column.cast(arrow_type(TIME))
    # a cast to int64 imports Arrow's computing first
    microseconds = column.view(pa.int64()).to_pylist()
    return [None if each is None else EPOCH + timedelta(microseconds=each) for each in microseconds]


def as_rows(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch as dictionaries, times in UTC."""
    names = batch.schema.names
    columns = [_values(column) for column in batch.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pa.Array) -> list[Any]:
    return _instants(column) if pa.types.is_timestamp(column.type) else list(column.to_pylist())


def _last_polls(
    account_id: str | None,
    endpoint: str,
    polled_at: datetime | None,
    ok_at: datetime | None,
    account_polled_at: datetime | None,
    profiles_polled_at: datetime | None,
    profiles_ok_at: datetime | None,
) -> LastPoll:
    if endpoint == ACCOUNT.name:
        polled_at = ok_at = None
    attempted_at = _later(polled_at, profiles_polled_at)
    ok_at = _later(ok_at, profiles_ok_at)
    # mostly all is well: one object for both instants
    return LastPoll(
        account_id, attempted_at if ok_at == attempted_at else ok_at, attempted_at, account_polled_at
    )
