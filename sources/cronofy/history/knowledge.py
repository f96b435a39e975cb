"""Knowledge: what the warehouse knows, read as far as one batch of polls needs it.

The warehouse is the checkpoint. There is no state file and nothing in dlt's state: each table is
compared with its own rows only, so a table that missed a load catches up by itself.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import dlt
import pyarrow as pa
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from ..hazard import STATES, Histories, collect_histories
from ..tables import ACCOUNT, CALENDARS, POLLS, PROFILE_CHANGES, PROFILES, TABLES, TIME, USERINFO, Table
from .changes import ProfileState, State
from .late import LoggedChange, SampledHistories, SampledHistory
from .payloads import CALENDAR, CONFERENCING, PROFILE_TEXTS, PROFILE_TYPES
from .privacy import PersonalData, Protection

Row = dict[str, Any]


class StoredRows:
    """Rows as they were read, in Arrow, made into dictionaries when one of them is wanted as a whole."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    @cached_property
    def rows(self) -> list[Row]:
        """All of them."""
        rows: list[Row] = self._batch.to_pylist()
        return rows


class StoredRow(Mapping[str, Any]):
    """One of them; what comparing needs is at hand.

    Nearly all rows are found unchanged, and then most of their columns are never looked at.
    """

    __slots__ = ("_compared", "_index", "_stored")

    def __init__(self, compared: Row, stored: StoredRows, index: int) -> None:
        self._compared = compared
        self._stored = stored
        self._index = index

    def __getitem__(self, name: str) -> Any:
        return self._compared[name] if name in self._compared else self._row[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def _row(self) -> Row:
        return self._stored.rows[self._index]


KnownRow = Mapping[str, Any]

# what tells whether a row of a table is still the same, and whether it is still listed
COMPARED = ("token_key", "account_id", "content_hash")
COMPARED_PROFILE = (*COMPARED, "profile_type", "profile_id", "state")
COMPARED_CALENDAR = (*COMPARED, "calendar_id", "profile_id", "removed_at")

EPOCH = datetime.fromtimestamp(0, UTC)

# the columns of `profile_changes` that are fields of `ProfileState`, in their order there, beside the state
STATE_COLUMNS = (
    "provider_name",
    "provider_service",
    "profile_name",
    "profile_initial_sync_required",
    "profile_relink_url",
)

# a poll is a sample of the profiles of a type where that column is not null
SAMPLE_COLUMNS = ((CALENDAR, "profiles"), (CONFERENCING, "conferencing_profiles"))

# parameters of one IN list; every warehouse dlt reaches takes this many
MAX_PARAMETERS = 2000
ROWS_PER_FETCH, ROWS_PER_BATCH = 10_000, 1_000

# A package that was killed half-way and then lost with its working directory may have left polls without
# the changes they showed. dlt lists complete packages only; polls of others are no evidence.
LOADS = "_dlt_loads"
COMPLETE = "_dlt_load_id IN (SELECT load_id FROM {loads} WHERE status = 0)"

# One row per token and account, so that a warehouse that knows very many answers with few.
NEWEST_POLLS = f"""
    SELECT token_key, account_id,
           MAX(CASE WHEN endpoint <> '{ACCOUNT.name}' AND outcome = 'ok' THEN polled_at END) AS ok_at,
           MAX(CASE WHEN endpoint <> '{ACCOUNT.name}' THEN polled_at END) AS attempted_at,
           MAX(CASE WHEN endpoint = '{ACCOUNT.name}' THEN polled_at END) AS account_read_at
    FROM {{table}} WHERE outcome <> 'skipped' AND {{complete}}
    GROUP BY token_key, account_id
"""  # noqa: S608 - our own names

# One row per account, provider and instant within the window; all before it are one row, whose instant is
# null. For each state: how many profiles entered it less those that left it, and how many left it.
CHANGES_BY_PROVIDER = """
    SELECT changes.*, samples.samples, samples.first_at, samples.last_at
    FROM (
        SELECT account_id, provider, seen_at, {states}
        FROM (
            SELECT account_id, COALESCE(provider_service, provider_name) AS provider, state, previous_state,
                   CASE WHEN observed_at > %s THEN observed_at END AS seen_at
            FROM {{table}} WHERE kind <> 'attributes'
        ) told
        GROUP BY account_id, provider, seen_at
    ) changes
    INNER JOIN (
        SELECT account_id, COUNT(*) AS samples, MIN(polled_at) AS first_at, MAX(polled_at) AS last_at
        FROM {{polls}}
        WHERE outcome = 'ok' AND (profiles IS NOT NULL OR conferencing_profiles IS NOT NULL)
              AND polled_at > %s AND {{complete}}
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
class Evidence:
    """When a token was last polled and what account it belongs to."""

    account_id: str | None = None
    last_ok_at: datetime | None = None
    last_attempt_at: datetime | None = None
    account_read_at: datetime | None = None
    named_at: datetime | None = None

    def add(
        self,
        account_id: str | None,
        ok_at: datetime | None,
        attempted_at: datetime | None,
        account_read_at: datetime | None,
    ) -> None:
        """Take in what is known of one account: when it was ok and attempted, and `/v1/account` attempted."""
        # mostly all is well: one object for both instants
        self.last_ok_at = _later(self.last_ok_at, attempted_at if ok_at == attempted_at else ok_at)
        self.last_attempt_at = _later(self.last_attempt_at, attempted_at)
        self.account_read_at = _later(self.account_read_at, account_read_at)
        # a token may be authorized again, for another account: the newest name counts
        named_at = _later(attempted_at, account_read_at)
        if account_id is not None and named_at == _later(self.named_at, named_at):
            self.account_id, self.named_at = account_id, named_at


@dataclass(slots=True)
class TokenContent:
    """The current-state rows of one token."""

    userinfo: KnownRow | None = None
    account: KnownRow | None = None
    profiles: dict[tuple[str, str], KnownRow] = field(default_factory=dict)
    calendars: dict[str, KnownRow] = field(default_factory=dict)


# profile_type → profile_id → last known state
AccountHistory = dict[str, dict[str, ProfileState]]
# profile_type → instant of the account's newest sample
LastSamples = dict[str, datetime]


class Knowledge(Protocol):
    """What change capture and planning ask of a warehouse."""

    def connected(self) -> AbstractContextManager[None]:
        """Keep one connection open for the queries of a `with` block, and no longer."""
        ...

    def evidence(self) -> dict[str, Evidence]:
        """By token_key, for every token that was ever polled."""
        ...

    def token_contents(self, token_keys: Sequence[str], tables: set[str]) -> dict[str, TokenContent]:
        """By token_key; tokens without rows are missing."""
        ...

    def account_histories(self, account_ids: Sequence[str]) -> dict[str, AccountHistory]:
        """By account_id; accounts without changes are missing."""
        ...

    def last_samples(self, account_ids: Sequence[str]) -> dict[str, LastSamples]:
        """By account_id; accounts without samples are missing."""
        ...

    def ok_after(self, token_keys: Sequence[str], since: datetime) -> dict[tuple[str, str], datetime]:
        """The newest ok poll after that instant, by token_key and endpoint."""
        ...

    def sampled_histories(self, account_ids: Sequence[str], since: datetime) -> SampledHistories:
        """All changes of these accounts, and their samples from the last one before that instant on."""
        ...


class WarehouseKnowledge:
    """Knowledge read through the dataset of a dlt pipeline, in bounded pieces."""

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

    def evidence(self) -> dict[str, Evidence]:
        """By token_key, for every token that was ever polled; one pass over `polls`."""
        found: defaultdict[str, Evidence] = defaultdict(Evidence)
        for batch in self._batches(POLLS, NEWEST_POLLS):
            names, instants = batch.columns[:2], batch.columns[2:]
            columns = [column.to_pylist() for column in names] + [_instants(column) for column in instants]
            for token_key, *known in zip(*columns, strict=True):
                found[token_key].add(*known)
        found.default_factory = None  # a plain one from here on; a copy would take its time and room
        return found

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
        found: list[datetime] = []
        for batch in self._batches(POLLS, recent, [since]):
            instants = batch.column("polled_at").to_pylist()
            for name in {"attempts", "refreshes"} & set(batch.schema.names):
                for instant, requests in zip(instants, batch.column(name).to_pylist(), strict=True):
                    found += [instant] * (requests or 0)
        return found

    def change_histories(self, since: datetime) -> Histories:
        """What the profiles of each account did after that instant; one pass over both logs."""
        batches = self._batches(PROFILE_CHANGES, CHANGES_BY_PROVIDER, [since] * 2)
        return collect_histories(row for batch in batches for row in batch.to_pylist())

    def token_contents(self, token_keys: Sequence[str], tables: set[str]) -> dict[str, TokenContent]:
        """The current-state rows of these tokens, from the wanted tables."""
        contents: dict[str, TokenContent] = defaultdict(TokenContent)
        if USERINFO.name in tables:
            for row in self._stored(USERINFO, COMPARED, token_keys):
                contents[row["token_key"]].userinfo = row
        if ACCOUNT.name in tables:
            for row in self._stored(ACCOUNT, COMPARED, token_keys):
                contents[row["token_key"]].account = row
        if PROFILES.name in tables:
            for row in self._stored(PROFILES, COMPARED_PROFILE, token_keys):
                contents[row["token_key"]].profiles[row["profile_type"], row["profile_id"]] = row
        if CALENDARS.name in tables:
            for row in self._stored(CALENDARS, COMPARED_CALENDAR, token_keys):
                contents[row["token_key"]].calendars[row["calendar_id"]] = row
        return contents

    def _stored(
        self, table: Table, compared: Sequence[str], token_keys: Sequence[str]
    ) -> Iterator[StoredRow]:
        query = "SELECT * FROM {table} WHERE token_key IN ({values})"
        for batch in self._batches_in(table, query, token_keys):
            stored = StoredRows(batch)
            values = [batch.column(name).to_pylist() for name in compared]
            for index, row in enumerate(zip(*values, strict=True)):
                yield StoredRow(dict(zip(compared, row, strict=True)), stored, index)

    def account_histories(self, account_ids: Sequence[str]) -> dict[str, AccountHistory]:
        """The newest change of every profile of these accounts; at one instant disconnected wins."""
        histories: dict[str, AccountHistory] = {}
        newest_first = f"""
            SELECT account_id, profile_type, profile_id, state, {", ".join(STATE_COLUMNS)}
            FROM (
                SELECT t.*, ROW_NUMBER() OVER (
                    PARTITION BY account_id, profile_type, profile_id
                    ORDER BY observed_at DESC,
                             CASE state WHEN 'disconnected' THEN 0 WHEN 'connected' THEN 1 ELSE 2 END
                ) AS newness
                FROM {{table}} t WHERE account_id IN ({{values}})
            ) ranked WHERE newness = 1
        """  # noqa: S608 - our own names
        for batch in self._batches_in(PROFILE_CHANGES, newest_first, account_ids):
            columns = (column.to_pylist() for column in batch.columns)
            for account_id, profile_type, profile_id, state, *attributes in zip(*columns, strict=True):
                history = histories.setdefault(account_id, {})
                history.setdefault(profile_type, {})[profile_id] = ProfileState(State(state), *attributes)
        return histories

    def last_samples(self, account_ids: Sequence[str]) -> dict[str, LastSamples]:
        """When each profile type of these accounts was last sampled.

        A change says so as well as a poll: a load that was killed in between has left changes without polls.
        """
        found: defaultdict[str, LastSamples] = defaultdict(dict)
        polled = (
            "SELECT account_id, MAX(CASE WHEN profiles IS NOT NULL THEN polled_at END) AS calendar,"
            " MAX(CASE WHEN conferencing_profiles IS NOT NULL THEN polled_at END) AS conferencing"
            " FROM {table} WHERE outcome = 'ok' AND account_id IN ({values}) AND {complete}"
            " GROUP BY account_id"
        )
        for batch in self._batches_in(POLLS, polled, account_ids):
            for row in batch.to_pylist():
                known = {kind: row[kind] for kind in PROFILE_TYPES if row[kind] is not None}
                found[row["account_id"]] = known
        changed = (
            "SELECT account_id, profile_type, MAX(observed_at) AS observed_at FROM {table}"
            " WHERE account_id IN ({values}) AND {complete} GROUP BY account_id, profile_type"
        )
        for batch in self._batches_in(PROFILE_CHANGES, changed, account_ids):
            columns = (column.to_pylist() for column in batch.columns)
            for account_id, kind, observed_at in zip(*columns, strict=True):
                samples = found[account_id]
                samples[kind] = max(samples.get(kind, observed_at), observed_at)
        return dict(found)

    def outcomes_of(self, run_id: str) -> dict[tuple[str, str], str]:
        """What came of the polls of a run that are loaded, by token_key and endpoint."""
        query = "SELECT token_key, endpoint, outcome FROM {table} WHERE run_id = {values} AND {complete}"
        found: dict[tuple[str, str], str] = {}
        for batch in self._batches(POLLS, query, [run_id]):
            columns = (column.to_pylist() for column in batch.columns)
            found.update(((key, endpoint), outcome) for key, endpoint, outcome in zip(*columns, strict=True))
        return found

    def newest_evidence_at(self) -> datetime | None:
        """When the newest answer came, polls of a killed load included of which only changes are there."""
        newest = None
        for table, query in (
            (POLLS, "SELECT MAX(polled_at) AS newest FROM {table} WHERE outcome <> 'skipped' AND {complete}"),
            (PROFILE_CHANGES, "SELECT MAX(observed_at) AS newest FROM {table}"),
        ):
            for batch in self._batches(table, query):
                newest = _later(newest, _instants(batch.column(0))[0])
        return newest

    def ok_after(self, token_keys: Sequence[str], since: datetime) -> dict[tuple[str, str], datetime]:
        """The newest ok poll after that instant, by token_key and endpoint, of these tokens."""
        query = (
            "SELECT token_key, endpoint, MAX(polled_at) AS ok_at FROM {table}"
            " WHERE polled_at > {first} AND outcome = 'ok' AND token_key IN ({values}) AND {complete}"
            " GROUP BY token_key, endpoint"
        )
        return {
            (key, endpoint): ok_at
            for batch in self._batches_in(POLLS, query, token_keys, since)
            for key, endpoint, ok_at in zip(
                batch.column(0).to_pylist(),
                batch.column(1).to_pylist(),
                _instants(batch.column(2)),
                strict=True,
            )
            if ok_at is not None
        }

    def sampled_histories(self, account_ids: Sequence[str], since: datetime) -> SampledHistories:
        """All changes of these accounts, and their samples from the last one before that instant on."""
        found: defaultdict[tuple[str, str], SampledHistory] = defaultdict(SampledHistory)
        for row in self._samples_around(account_ids, since):
            for profile_type, column in SAMPLE_COLUMNS:
                if row[column] is not None:
                    found[row["account_id"], profile_type].instants.add(row["polled_at"])
        changes = "SELECT * FROM {table} WHERE account_id IN ({values})"
        for batch in self._batches_in(PROFILE_CHANGES, changes, account_ids):
            for row in batch.to_pylist():
                state = ProfileState(State(row["state"]), *(row[name] for name in STATE_COLUMNS))
                logged = LoggedChange(row, row["profile_id"], row["observed_at"], state)
                history = found[row["account_id"], row["profile_type"]]
                history.add(logged)
                # its poll may be missing, if the load was killed in between
                history.instants.add(row["observed_at"])
        return dict(found)

    def _samples_around(self, account_ids: Sequence[str], since: datetime) -> Iterator[Row]:
        after = (
            "SELECT account_id, polled_at, profiles, conferencing_profiles FROM {table}"
            " WHERE polled_at >= {first} AND outcome = 'ok' AND account_id IN ({values}) AND {complete}"
        )
        before = (
            "SELECT account_id, MAX(polled_at) AS polled_at, profiles, conferencing_profiles FROM ("
            " SELECT account_id, polled_at, CASE WHEN profiles IS NOT NULL THEN 0 END AS profiles,"
            " CASE WHEN conferencing_profiles IS NOT NULL THEN 0 END AS conferencing_profiles FROM {table}"
            " WHERE polled_at < {first} AND outcome = 'ok' AND account_id IN ({values}) AND {complete}"
            ") earlier GROUP BY account_id, profiles, conferencing_profiles"
        )
        for query in (after, before):
            for batch in self._batches_in(POLLS, query, account_ids, since):
                yield from batch.to_pylist()

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
                    polls=self._client.make_qualified_table_name(POLLS.name),
                    complete=COMPLETE.format(loads=self._client.make_qualified_table_name(LOADS)),
                )
                with self._client.execute_query(text, *([first] if first else []), *values) as cursor:
                    for found in cursor.iter_arrow(chunk_size=ROWS_PER_FETCH):
                        yield from found.to_batches(max_chunksize=ROWS_PER_BATCH)
        except (DatabaseUndefinedRelation, DestinationUndefinedEntity):
            # no such table yet: nothing was ever loaded
            return


def protected_content(content: TokenContent, personal_data: PersonalData) -> TokenContent:
    """The rows of one token as they would have been stored under these settings."""
    if personal_data.kept:
        return content
    single = [row for row in (content.userinfo, content.account) if row is not None]
    rows = [dict(row) for row in (*single, *content.profiles.values(), *content.calendars.values())]
    protection = Protection(personal_data.protect_stored, rows)

    def protected(table: Table, row: KnownRow) -> Row:
        return protection.row(dict(row), documented=table.schema.names)

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


def protected_log(history: SampledHistory, personal_data: PersonalData) -> SampledHistory:
    """The same of a history that can be read at any instant."""
    if personal_data.kept:
        return history
    protection = Protection(personal_data.protect_stored)
    return SampledHistory(
        history.instants,
        {key: replace(each, now=_protected_state(each.now, protection)) for key, each in history.log.items()},
    )


def _protected_state(state: ProfileState, protection: Protection) -> ProfileState:
    texts: Row = {name: getattr(state, name) for name in PROFILE_TEXTS}
    nothing: Row = dict.fromkeys(PROFILE_TEXTS)
    return replace(state, **(nothing | protection.columns(texts)))


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _instants(column: pa.Array) -> list[datetime | None]:
    """The instants of a column; Arrow itself looks up the time zone of each, and takes ten times as long."""
    microseconds = column.cast(TIME).cast(pa.int64()).to_pylist()
    return [None if each is None else EPOCH + timedelta(microseconds=each) for each in microseconds]
