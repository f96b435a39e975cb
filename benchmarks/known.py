"""A DuckDB warehouse that knows very many profiles: the tables of a real load, filled by SQL.

A first load of a few tokens makes the tables, and is then made a month old, so that the next load polls these
tokens first and finds them as they were. All other rows are made in the order in which loads write them.
"""

from datetime import timedelta
from pathlib import Path

import duckdb

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild.command import rebuild_evidence
from dlt_cronofy.warehouse.pipeline import duckdb_file, open_pipeline

from .server import write_tokens
from .throughput import settings, token

# each token is polled so often, every five days, and once more for /v1/account
USERINFO_POLLS = 3
ENTRIES = range(USERINFO_POLLS + 1)


def know(url: str, tokens: int, loaded: int, directory: Path, token_file: str) -> None:
    """Make a warehouse, a working folder and a token file in that directory.

    Args:
        url: of the server that answers the tokens.
        tokens: how many the warehouse knows and the file holds; each has two profiles of one calendar.
        loaded: how many of them the real load reads.
        directory: an empty one.
        token_file: the name of the token file.
    """
    pipeline = open_pipeline("duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=directory)
    options = LoadOptions(every=timedelta(0))
    Load(pipeline, settings(url), [token(number) for number in range(loaded)], options).run()
    file = duckdb_file(pipeline)
    assert file is not None
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET TimeZone = 'UTC'; USE cronofy.cronofy")
        connection.execute(AGED)
        for statement in SYNTHETIC.split(";"):
            connection.execute(statement.format(first=loaded, tokens=tokens, entries=len(ENTRIES)))
        connection.execute("CHECKPOINT")
    # the polls are those of real loads; their evidence is worked out from them
    rebuild_evidence(pipeline, settings(url).hold)
    write_tokens(directory / token_file, tokens)


AGED = """
UPDATE polls SET polled_at = polled_at - to_days(30), requested_at = requested_at - to_days(30);
UPDATE profile_changes SET observed_at = observed_at - to_days(30)
"""

# the two packages of each run are one here
SYNTHETIC = """
CREATE TEMP TABLE runs AS
SELECT
    entry, entry = {entries} - 1 AS reads_account, now() - to_days(25 - 5 * entry) AS began_at,
    'run_' || entry AS run_id, '1750000000.' || entry AS _dlt_load_id
FROM (SELECT unnest(range({entries})) AS entry);

INSERT INTO _dlt_loads BY NAME
SELECT _dlt_load_id AS load_id, schema_name, status, inserted_at, schema_version_hash
FROM runs CROSS JOIN (SELECT * EXCLUDE (load_id) FROM _dlt_loads LIMIT 1);

CREATE TEMP TABLE known AS
SELECT 'key_' || number AS token_key, 'acc_' || lpad(number::VARCHAR, 24, '0') AS account_id, number
FROM (SELECT unnest(range({first}, {tokens})) AS number);

CREATE TEMP TABLE known_profiles AS
SELECT
    *,
    'pro_' || lpad(number::VARCHAR, 24, '0') || '_' || letter AS profile_id,
    began_at + to_milliseconds(number) AS observed_at
FROM known CROSS JOIN (SELECT unnest(['a', 'b']) AS letter) CROSS JOIN (FROM runs LIMIT 1);

INSERT INTO polls BY NAME
SELECT
    md5(entry || '-' || number) AS poll_id, run_id, token_key, account_id,
    CASE WHEN reads_account THEN 'account' ELSE 'userinfo' END AS endpoint,
    'us' AS data_center,
    began_at + to_milliseconds(number - 50) AS requested_at,
    began_at + to_milliseconds(number) AS polled_at,
    CASE WHEN reads_account THEN 'bad_payload' ELSE 'ok' END AS outcome,
    200 AS http_status, 1 AS attempts, 0 AS refreshes, 50 AS latency_ms,
    CASE WHEN NOT reads_account THEN 2 END AS profiles,
    CASE WHEN NOT reads_account THEN 0 END AS disconnected,
    CASE WHEN NOT reads_account THEN 0 END AS conferencing_profiles,
    CASE WHEN NOT reads_account THEN 0 END AS conferencing_disconnected,
    _dlt_load_id
FROM runs CROSS JOIN known
ORDER BY entry, number;

INSERT INTO userinfo BY NAME
SELECT
    token_key, account_id, 'account' AS type, 'user' || number || '@example.com' AS email,
    'User ' || number AS name, 'Europe/London' AS zoneinfo, 'read_write' AS scope, 'active' AS status,
    began_at + to_milliseconds(number) AS observed_at, md5(token_key) AS content_hash, run_id, _dlt_load_id
FROM known CROSS JOIN (FROM runs LIMIT 1);

INSERT INTO profiles BY NAME
SELECT
    token_key, 'calendar' AS profile_type, profile_id, account_id, 'google' AS provider_name,
    'gsuite' AS provider_service, 'user' || number || '@example.com' AS profile_name,
    true AS profile_connected, false AS profile_initial_sync_required, 'connected' AS state, observed_at,
    md5(profile_id) AS content_hash, run_id, _dlt_load_id
FROM known_profiles;

INSERT INTO profile_changes BY NAME
SELECT
    md5(profile_id || observed_at) AS change_id, token_key, account_id, 'calendar' AS profile_type,
    profile_id, observed_at, 'connected' AS state, 'first_seen' AS kind, 'google' AS provider_name,
    'gsuite' AS provider_service, 'user' || number || '@example.com' AS profile_name,
    false AS profile_initial_sync_required, run_id, _dlt_load_id
FROM known_profiles;

INSERT INTO calendars BY NAME
SELECT
    token_key, 'cal_' || lpad(number::VARCHAR, 24, '0') || '_' || letter AS calendar_id, account_id,
    profile_id, 'Calendar' AS calendar_name, false AS calendar_readonly, false AS calendar_deleted,
    true AS calendar_primary, true AS calendar_integrated_conferencing_available,
    true AS calendar_attachments_available, 'sandbox' AS permission_level, observed_at,
    md5('calendar' || profile_id) AS content_hash, run_id, _dlt_load_id
FROM known_profiles
"""
