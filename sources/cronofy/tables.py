"""The warehouse tables: their columns, keys and how dlt writes them.

Rows reach dlt as Arrow tables built from these schemas. Times are UTC with microseconds.
"""

from dataclasses import dataclass

import pyarrow as pa

TEXT = pa.string()
BOOL = pa.bool_()
INT = pa.int64()
TIME = pa.timestamp("us", tz="UTC")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


@dataclass(frozen=True)
class Table:
    """One warehouse table: Arrow schema and primary key.

    All are merged by their key, the append-only ones too: a killed load is finished by the next one, and
    then dlt may have copied a file twice. Only `delete-insert` tolerates that; `insert-only` and `upsert`
    would store or refuse the twins.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]


USERINFO = Table(
    name="userinfo",
    key=("token_key",),
    schema=pa.schema(
        [
            _required("token_key", TEXT),
            ("account_id", TEXT),
            ("type", TEXT),
            ("email", TEXT),
            ("name", TEXT),
            ("zoneinfo", TEXT),
            ("scope", TEXT),
            ("status", TEXT),
            ("delegated_scope", TEXT),
            ("service_account_provider_name", TEXT),
            ("service_account_domain", TEXT),
            ("application_calendar_id", TEXT),
            ("observed_at", TIME),
            ("content_hash", TEXT),
            ("run_id", TEXT),
        ]
    ),
)

ACCOUNT = Table(
    name="account",
    key=("token_key",),
    schema=pa.schema(
        [
            _required("token_key", TEXT),
            ("account_id", TEXT),
            ("email", TEXT),
            ("name", TEXT),
            ("scope", TEXT),
            ("default_tzid", TEXT),
            ("type", TEXT),
            ("observed_at", TIME),
            ("content_hash", TEXT),
            ("run_id", TEXT),
        ]
    ),
)

PROFILES = Table(
    name="profiles",
    key=("token_key", "profile_type", "profile_id"),
    schema=pa.schema(
        [
            _required("token_key", TEXT),
            _required("profile_type", TEXT),
            _required("profile_id", TEXT),
            ("account_id", TEXT),
            ("provider_name", TEXT),
            ("provider_service", TEXT),
            ("profile_name", TEXT),
            ("profile_connected", BOOL),
            ("profile_initial_sync_required", BOOL),
            ("profile_relink_url", TEXT),
            ("state", TEXT),
            ("observed_at", TIME),
            ("content_hash", TEXT),
            ("run_id", TEXT),
        ]
    ),
)

CALENDARS = Table(
    name="calendars",
    key=("token_key", "calendar_id"),
    schema=pa.schema(
        [
            _required("token_key", TEXT),
            _required("calendar_id", TEXT),
            ("account_id", TEXT),
            ("profile_id", TEXT),
            ("calendar_name", TEXT),
            ("calendar_readonly", BOOL),
            ("calendar_deleted", BOOL),
            ("calendar_primary", BOOL),
            ("calendar_integrated_conferencing_available", BOOL),
            ("calendar_attachments_available", BOOL),
            ("permission_level", TEXT),
            ("observed_at", TIME),
            ("removed_at", TIME),
            ("content_hash", TEXT),
            ("run_id", TEXT),
        ]
    ),
)

PROFILE_CHANGES = Table(
    name="profile_changes",
    key=("change_id",),
    schema=pa.schema(
        [
            _required("change_id", TEXT),
            ("token_key", TEXT),
            ("account_id", TEXT),
            ("profile_type", TEXT),
            ("profile_id", TEXT),
            ("observed_at", TIME),
            ("previous_poll_at", TIME),
            ("state", TEXT),
            ("previous_state", TEXT),
            ("kind", TEXT),
            ("provider_name", TEXT),
            ("provider_service", TEXT),
            ("profile_name", TEXT),
            ("profile_initial_sync_required", BOOL),
            ("profile_relink_url", TEXT),
            ("run_id", TEXT),
        ]
    ),
)

POLLS = Table(
    name="polls",
    key=("poll_id",),
    schema=pa.schema(
        [
            _required("poll_id", TEXT),
            ("run_id", TEXT),
            ("token_key", TEXT),
            ("account_id", TEXT),
            ("endpoint", TEXT),
            ("data_center", TEXT),
            ("requested_at", TIME),
            ("polled_at", TIME),
            ("outcome", TEXT),
            ("http_status", INT),
            ("attempts", INT),
            ("refreshes", INT),
            ("latency_ms", INT),
            ("profiles", INT),
            ("disconnected", INT),
            ("conferencing_profiles", INT),
            ("conferencing_disconnected", INT),
            ("message", TEXT),
        ]
    ),
)

TABLES: dict[str, Table] = {
    table.name: table for table in (USERINFO, ACCOUNT, PROFILES, CALENDARS, PROFILE_CHANGES, POLLS)
}
