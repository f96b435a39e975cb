"""The warehouse tables: their columns, keys and how dlt writes them.

Rows reach dlt as Arrow tables built from these schemas. Times are UTC with microseconds. Schemas, hints for
dlt, the data dictionary and the comments in the warehouse all come from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .records import FAILURES, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

# dlt's data types; no Arrow types, since `dlt init` imports the source where Arrow may be missing
TEXT = "text"
BOOL = "bool"
INT = "bigint"
NUMBER = "double"
TIME = "timestamp"

Row = dict[str, Any]

# dlt's own column, in every table
LOAD_ID = "_dlt_load_id"


@dataclass(frozen=True)
class Column:
    """One column: dlt's data type, what it means, and whether it is never null."""

    name: str
    type: str
    meaning: str
    required: bool = False


@dataclass(frozen=True)
class Table:
    """One warehouse table.

    All are merged by their key, the append-only ones too: a killed load is finished by the next one, and
    then dlt may have copied a file twice. Only `delete-insert` tolerates that; `insert-only` and `upsert`
    would store or refuse the twins.

    Attributes:
        key: the columns of the primary key.
        newest: orders the rows of one key within a load; the newest one stays.
        grows_by: the column by which an append-only table grows; a merge looks no further back in it than the
            oldest new row, so that it does not cost more the longer the log is.
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    newest: str | None = None
    grows_by: str | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def schema(self) -> "pa.Schema":
        """As Arrow has it."""
        import pyarrow as pa

        return pa.schema(
            [pa.field(each.name, arrow_type(each.type), nullable=not each.required) for each in self.columns]
        )

    def with_columns(self, columns: Sequence[Column]) -> "Table":
        """The table with further columns at its end."""
        return replace(self, columns=(*self.columns, *columns))


def arrow_type(data_type: str) -> "pa.DataType":
    """How Arrow has a data type of dlt's that occurs here."""
    import pyarrow as pa

    types = {TEXT: pa.string(), BOOL: pa.bool_(), INT: pa.int64(), NUMBER: pa.float64()}
    return types[data_type] if data_type in types else pa.timestamp("us", tz="UTC")


def _required(column: Column) -> Column:
    return replace(column, required=True)


_TOKEN_KEY = Column(
    "token_key", TEXT, "stable name of the token: its key in the token store, else a hash of the token"
)
_ACCOUNT_ID = Column("account_id", TEXT, "Cronofy's id of the account (`sub`); several tokens may share one")
_TYPE = Column("type", TEXT, "account, service_account, application_calendar, …")
_EMAIL = Column("email", TEXT, "e-mail address of the account")
_NAME = Column("name", TEXT, "name of the account's holder")
_SCOPE = Column("scope", TEXT, "what the token may do")
_OBSERVED_AT = Column(
    "observed_at",
    TIME,
    "when the present content was first observed; `token_status` has when it was last confirmed",
)
_CONTENT_HASH = Column("content_hash", TEXT, "hash of the content, to tell change from repetition")
_RUN_ID = Column("run_id", TEXT, "the load it was polled in")
_PROFILE_TYPE = Column("profile_type", TEXT, "calendar or conferencing")
_PROFILE_ID = Column("profile_id", TEXT, "Cronofy's id of the profile")
_PROVIDER_NAME = Column("provider_name", TEXT, "provider: google, exchange, apple, live_connect, zoom, …")
_PROVIDER_SERVICE = Column(
    "provider_service", TEXT, "service of it: gsuite, google, office365, …; null for conferencing profiles"
)
_PROFILE_NAME = Column("profile_name", TEXT, "name of the profile, mostly an e-mail address")
_PROFILE_INITIAL_SYNC_REQUIRED = Column(
    "profile_initial_sync_required", BOOL, "whether the first synchronization is still to come"
)
_PROFILE_RELINK_URL = Column(
    "profile_relink_url", TEXT, "where the user links it again; Cronofy gives it for disconnected profiles"
)
_STATE = Column("state", TEXT, "connected, disconnected or removed")
_DATA_CENTER = Column("data_center", TEXT, "where the token lives: us, au, ca, de, sg or uk")

USERINFO = Table(
    name="userinfo",
    newest="observed_at",
    description="Current state: one row per token, as `/v1/userinfo` describes it. Written when it changes.",
    key=("token_key",),
    columns=(
        _required(_TOKEN_KEY),
        _ACCOUNT_ID,
        _TYPE,
        _EMAIL,
        _NAME,
        Column("zoneinfo", TEXT, "time zone of the account's holder"),
        _SCOPE,
        Column("status", TEXT, "status of the token's authorization"),
        Column("delegated_scope", TEXT, "scope that a service account may delegate"),
        Column("service_account_provider_name", TEXT, "provider of the service account"),
        Column("service_account_domain", TEXT, "domain that the service account serves"),
        Column("application_calendar_id", TEXT, "id that the application gave its application calendar"),
        _OBSERVED_AT,
        _CONTENT_HASH,
        _RUN_ID,
    ),
)

ACCOUNT = Table(
    name="account",
    newest="observed_at",
    description="Current state: one row per token, as `/v1/account` describes it. Written when it changes.",
    key=("token_key",),
    columns=(
        _required(_TOKEN_KEY),
        _ACCOUNT_ID,
        _EMAIL,
        _NAME,
        _SCOPE,
        Column("default_tzid", TEXT, "time zone of the account"),
        _TYPE,
        _OBSERVED_AT,
        _CONTENT_HASH,
        _RUN_ID,
    ),
)

PROFILES = Table(
    name="profiles",
    newest="observed_at",
    description="Current state: one row per token and profile, removed ones too. Written when it changes.",
    key=("token_key", "profile_type", "profile_id"),
    columns=(
        _required(_TOKEN_KEY),
        _required(_PROFILE_TYPE),
        _required(_PROFILE_ID),
        _ACCOUNT_ID,
        _PROVIDER_NAME,
        _PROVIDER_SERVICE,
        _PROFILE_NAME,
        Column(
            "provider_protocol",
            TEXT,
            "how Cronofy reads a Microsoft 365 calendar: exchange_web_services or graph_api; else null",
        ),
        Column(
            "profile_connected",
            BOOL,
            "whether Cronofy can reach the provider with it; null for a removed profile",
        ),
        _PROFILE_INITIAL_SYNC_REQUIRED,
        _PROFILE_RELINK_URL,
        Column(
            "graph_api_migration_url",
            TEXT,
            "where the user moves the profile from Exchange Web Services to Microsoft Graph",
        ),
        _STATE,
        _OBSERVED_AT,
        _CONTENT_HASH,
        _RUN_ID,
    ),
)

CALENDARS = Table(
    name="calendars",
    newest="observed_at",
    description="Current state: one row per token and calendar, removed ones too. Written when it changes.",
    key=("token_key", "calendar_id"),
    columns=(
        _required(_TOKEN_KEY),
        Column("calendar_id", TEXT, "Cronofy's id of the calendar", required=True),
        _ACCOUNT_ID,
        _PROFILE_ID,
        Column("calendar_name", TEXT, "name of the calendar"),
        Column("calendar_readonly", BOOL, "whether events in it cannot be written"),
        Column("calendar_deleted", BOOL, "whether the user deleted it at the provider"),
        Column("calendar_primary", BOOL, "whether it is the profile's main calendar"),
        Column(
            "calendar_integrated_conferencing_available",
            BOOL,
            "whether events in it can get a conference of the provider",
        ),
        Column("calendar_attachments_available", BOOL, "whether events in it can carry attachments"),
        Column("permission_level", TEXT, "what the token may do with the calendar"),
        _OBSERVED_AT,
        Column("removed_at", TIME, "when it was first missing from the list; null while it is listed"),
        _CONTENT_HASH,
        _RUN_ID,
    ),
)

PROFILE_CHANGES = Table(
    name="profile_changes",
    description="Append-only: one row per change of one profile. All history is built on it.",
    grows_by="observed_at",
    key=("change_id",),
    columns=(
        Column(
            "change_id", TEXT, "hash of account_id, profile_type, profile_id and observed_at", required=True
        ),
        _TOKEN_KEY,
        _ACCOUNT_ID,
        _PROFILE_TYPE,
        _PROFILE_ID,
        Column("observed_at", TIME, "polled_at of the poll that showed the change; it happened by then"),
        Column(
            "previous_poll_at",
            TIME,
            "newest sample of the account before it; the change is younger; null if none",
        ),
        _STATE,
        Column("previous_state", TEXT, "state before the change; null if the profile was never seen before"),
        Column(
            "kind",
            TEXT,
            "first_seen, connected, disconnected, removed, reappeared or attributes (the state stayed)",
        ),
        _PROVIDER_NAME,
        _PROVIDER_SERVICE,
        _PROFILE_NAME,
        _PROFILE_INITIAL_SYNC_REQUIRED,
        _PROFILE_RELINK_URL,
        _RUN_ID,
    ),
)

POLLS = Table(
    name="polls",
    description=(
        "Append-only: one row per attempt to read one endpoint for one token in a run, failed ones too."
    ),
    grows_by="polled_at",
    key=("poll_id",),
    columns=(
        Column("poll_id", TEXT, "hash of run_id, token_key and endpoint", required=True),
        _RUN_ID,
        _TOKEN_KEY,
        Column("account_id", TEXT, "Cronofy's id of the account (`sub`); null if it was never known"),
        Column("endpoint", TEXT, "what was read: userinfo, account or profiles"),
        Column("data_center", TEXT, "where the token lives: us, au, ca, de, sg or uk"),
        Column("requested_at", TIME, "when the last request was sent"),
        Column("polled_at", TIME, "when the answer was received"),
        Column(
            "outcome",
            TEXT,
            f"{', '.join(list(Outcome)[:-1])} or {list(Outcome)[-1]}",
        ),
        Column("http_status", INT, "status of the last answer; null if there was none"),
        Column("attempts", INT, "requests that were sent, retries included"),
        Column(
            "refreshes",
            INT,
            "requests for a new access token that were made on the way; null in polls of version 0.1",
        ),
        Column("latency_ms", INT, "milliseconds that the last request took"),
        Column(
            "profiles",
            INT,
            "calendar profiles listed; null if the answer has no such list, as for a service account",
        ),
        Column("disconnected", INT, "of those, not connected; null like profiles"),
        Column(
            "conferencing_profiles", INT, "conferencing profiles listed; null if the answer has no such list"
        ),
        Column("conferencing_disconnected", INT, "of those, not connected; null like conferencing_profiles"),
        Column(
            "is_late",
            BOOL,
            "true: it reached the warehouse after a newer poll of its token or account, and changes "
            "nothing else",
        ),
        Column("message", TEXT, "what went wrong, in words of our own; never text of the server"),
        Column(
            "server_request_id",
            TEXT,
            "Cronofy's name of the last request (header X-Request-Id), for its support; failed polls only",
        ),
    ),
)

TOKEN_STATUS = Table(
    name="token_status",
    description=(
        "Evidence: one row per token of the store, and of those that were in it. Updated by every load."
    ),
    key=("token_key",),
    columns=(
        _required(_TOKEN_KEY),
        Column("application", TEXT, "whose token it is, as the setting `application` of the load says"),
        Column(
            "account_id",
            TEXT,
            "Cronofy's id of the account (`sub`), as its newest poll names it; null if none did",
        ),
        _DATA_CENTER,
        Column(
            "customer", TEXT, "label of the token store: whose user it is; null if the store does not say"
        ),
        Column(
            "left_at", TIME, "when a load first missed it in the token store; null while the store has it"
        ),
        Column(
            "has_token",
            BOOL,
            "false: a user who has not connected yet, with neither access nor refresh token",
        ),
        Column(
            "endpoint",
            TEXT,
            "the endpoint it is judged by: userinfo, else the first of account and profiles that was polled",
        ),
        Column("last_polled_at", TIME, "newest attempt to read that endpoint; null if there was none"),
        Column("last_ok_at", TIME, "newest ok poll of that endpoint; null if there was none"),
        Column("last_outcome", TEXT, "outcome of the newest attempt"),
        Column(
            "failing_since", TIME, "first failed attempt after last_ok_at; null if the newest attempt was ok"
        ),
        Column("consecutive_failures", INT, "failed attempts since then"),
        Column("account_polled_at", TIME, "newest attempt to read /v1/account"),
        Column("account_ok_at", TIME, "newest ok poll of /v1/account"),
        Column("profiles_polled_at", TIME, "newest attempt to read /v1/profiles"),
        Column("profiles_ok_at", TIME, "newest ok poll of /v1/profiles"),
        Column(
            "userinfo_digest",
            TEXT,
            "recognizes an unchanged answer of /v1/userinfo: a keyed digest, and how many profiles and "
            "calendars it listed",
        ),
        Column("account_digest", TEXT, "the same of /v1/account"),
        Column("profiles_digest", TEXT, "the same of /v1/profiles"),
        Column("run_id", TEXT, "the load that changed the row last"),
    ),
)

COVERAGE = Table(
    name="coverage",
    description=(
        "Evidence: one row per account, profile_type and maximal span of samples no further apart than "
        "`hold`."
    ),
    key=("account_id", "profile_type", "first_sample_at"),
    columns=(
        _required(_ACCOUNT_ID),
        _required(_PROFILE_TYPE),
        Column("first_sample_at", TIME, "first sample of the span", required=True),
        Column(
            "last_sample_at",
            TIME,
            "last sample of the span so far; the states of the profiles are known until then, and "
            "for `hold` longer",
        ),
        Column("samples", INT, "at how many instants the profiles were sampled"),
        Column("run_id", TEXT, "the load that changed the row last"),
    ),
)

RUNS = Table(
    name="runs",
    description="Evidence: one row per load.",
    key=("run_id",),
    columns=(
        Column("run_id", TEXT, "name of the load: its start in UTC, and something of its own", required=True),
        Column("started_at", TIME, "when it started"),
        Column("finished_at", TIME, "when it had loaded everything; null while it runs, or if it was killed"),
        Column(
            "stopped_by",
            TEXT,
            "what ended it early, such as max_duration; killed: a later load found it unfinished",
        ),
        Column("tokens", INT, "tokens in the store; null where only the polls are known"),
        Column("due", INT, "of those, how many were to be polled"),
        Column("polled", INT, "polls that were attempted: ok and failed ones"),
        Column("ok", INT, "polls with outcome ok"),
        Column("failed", INT, "polls with another outcome than ok and skipped"),
        Column("skipped", INT, "polls with outcome skipped"),
        *(Column(outcome, INT, f"polls with outcome {outcome}") for outcome in FAILURES),
        Column("requests", INT, "requests that these polls took, retries and refreshes included"),
        Column("changes", INT, "rows of profile_changes that it wrote"),
        Column(
            "oldest_evidence_at",
            TIME,
            "the oldest of the newest ok polls that its tokens had when it polled them",
        ),
        Column(
            "oldest_evidence_age_seconds",
            NUMBER,
            "longest time between a poll, skipped ones included, and the newest ok poll of the "
            "same token and endpoint up to then; 0 if all were ok, null if none of the tokens was "
            "ever read",
        ),
        Column("first_polled_at", TIME, "its first poll"),
        Column("last_polled_at", TIME, "its last poll"),
        Column("version", TEXT, "version of dlt-cronofy; null if the row was worked out from polls"),
    ),
)

CONTENT = (USERINFO, ACCOUNT, PROFILES, CALENDARS, PROFILE_CHANGES)
EVIDENCE = (POLLS, TOKEN_STATUS, COVERAGE, RUNS)
TABLES: dict[str, Table] = {table.name: table for table in (*CONTENT, *EVIDENCE)}


def tables_with(token_labels: Sequence[str] | None) -> dict[str, Table]:
    """The tables, with a column of `token_status` for each label of the token store."""
    documented = set(TOKEN_STATUS.names)
    labels = [
        Column(name, TEXT, "label of the token store")
        for name in token_labels or ()
        if name not in documented
    ]
    return TABLES | {TOKEN_STATUS.name: TOKEN_STATUS.with_columns(labels)}
