"""Weeks of hourly polls in a DuckDB warehouse, made by SQL from one real load.

The real load makes the tables and what is known of tokens and profiles. Its polls are replaced by those of
the weeks, one an hour and token, in the order in which loads write them; the answers end as they began. In a
week

- 2 % of the tokens have a profile that breaks, and is relinked half a day to four days later;
- 1 % of the tokens are refused for one to four days, which leaves a gap in what is known;
- 2 % of the other polls fail for once.

The evidence is what `rebuild` would work out, but for how old a run's oldest evidence was.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from dlt_cronofy.source.records import FAILURES
from dlt_cronofy.warehouse.duckdb_file import ROWS_PER_GROUP
from dlt_cronofy.warehouse.pipeline import DEFAULT_DATASET

HOURS = 168


def live_through(file: Path, tokens: int, weeks: int) -> None:
    """Put so many weeks, which end now, in the place of the one load of these tokens that the file holds."""
    hours = HOURS * weeks
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours)
    gaps = {
        "tokens": tokens,
        "weeks": weeks,
        "hours": hours,
        "start": f"TIMESTAMPTZ '{start.isoformat()}'",
        "failures": ", ".join(f"count(*) FILTER (outcome = '{each}') AS {each}" for each in FAILURES),
    }
    with duckdb.connect(config=bounds(file)) as connection:
        connection.execute(f"ATTACH '{file}' AS warehouse (ROW_GROUP_SIZE {ROWS_PER_GROUP})")
        connection.execute(
            f"SET enable_progress_bar = false; SET TimeZone = 'UTC'; USE warehouse.{DEFAULT_DATASET}"
        )
        for statement in (*_statements(SETTING), *(POLLS for _ in range(weeks)), *_statements(REST)):
            connection.execute(statement.format(**gaps))
        connection.execute("CHECKPOINT")


def bounds(file: Path) -> dict[str, Any]:
    """A configuration of DuckDB that leaves room for others, and puts on disk what that does not hold."""
    return {"memory_limit": "6GB", "threads": "2", "temp_directory": str(file.parent / "spilled")}


def _statements(script: str) -> list[str]:
    return re.split(r";\n+", script.strip())


# what happens to a token in an hour of the history: `run` counts hours, `hour` those of the week
SETTING = """
CREATE TEMP MACRO luck(number, run, kind) AS hash(number::BIGINT, run::BIGINT, kind);

CREATE TEMP MACRO fails(number, run) AS run > 0 AND luck(number, run, 'poll') % 50 = 0;

CREATE TEMP MACRO goes_dark(number, week) AS luck(number, week, 'dark') % 100 = 0;

CREATE TEMP MACRO dark_from(number, week) AS (6 + luck(number, week, 'dark') // 100 % 60)::BIGINT;

CREATE TEMP MACRO dark_until(number, week) AS
    dark_from(number, week) + (26 + luck(number, week, 'dark') // 6000 % 64)::BIGINT;

CREATE TEMP MACRO is_dark(number, week, hour) AS
    goes_dark(number, week) AND hour >= dark_from(number, week) AND hour < dark_until(number, week);

CREATE TEMP MACRO breaks(number, week) AS
    number % 20 <> 0 AND luck(number, week, 'break') % 50 = 0 AND NOT goes_dark(number, week);

CREATE TEMP MACRO broken_from(number, week) AS (6 + luck(number, week, 'break') // 50 % 60)::BIGINT;

CREATE TEMP MACRO broken_until(number, week) AS
    broken_from(number, week) + (12 + luck(number, week, 'break') // 3000 % 80)::BIGINT;

CREATE TEMP MACRO is_broken(number, week, hour) AS
    breaks(number, week) AND hour >= broken_from(number, week) AND hour < broken_until(number, week);

CREATE TEMP MACRO polled_at(number, run) AS
    {start} + to_hours(run) + to_microseconds((100000 * number + luck(number, run, 'time') % 100000)::BIGINT);

CREATE TEMP MACRO token_key(number) AS 'key_' || number;

CREATE TEMP MACRO account_id(number) AS 'acc_' || lpad(number::VARCHAR, 24, '0');

CREATE TEMP MACRO number_of(token_key) AS split_part(token_key, '_', 2)::BIGINT;

CREATE TEMP TABLE lived AS
SELECT
    run,
    {start} + to_hours(run) AS began_at,
    strftime(began_at, '%Y%m%dT%H%M%SZ') || '-' || left(md5(run::VARCHAR), 8) AS run_id,
    epoch(began_at)::BIGINT || '.' || left((hash(run) % 10000000)::VARCHAR, 7) AS _dlt_load_id
FROM range({hours}) AS hours (run);

CREATE TEMP MACRO first_run_id() AS (SELECT min(run_id) FROM lived);

CREATE TEMP TABLE next_week AS SELECT 0::BIGINT AS week;

INSERT INTO _dlt_loads BY NAME
SELECT _dlt_load_id AS load_id, schema_name, status, inserted_at, schema_version_hash
FROM lived CROSS JOIN (SELECT * EXCLUDE (load_id) FROM _dlt_loads LIMIT 1);

DELETE FROM polls
"""

# one week; rows leave the join in the order of `range`
POLLS = """
WITH numbered AS (
    SELECT
        place % {tokens} AS number, week, place // {tokens} AS hour, 168 * week + place // {tokens} AS run
    FROM range(168 * {tokens}) AS places (place) CROSS JOIN next_week
),
judged AS (
    SELECT
        *,
        CASE
            WHEN is_dark(number, week, hour) THEN 'token_rejected'
            WHEN fails(number, run) THEN 'server_error'
            ELSE 'ok'
        END AS outcome,
        CASE
            WHEN number % 20 = 0 THEN 2
            WHEN is_broken(number, week, hour) THEN 1
            ELSE 0
        END AS disconnected,
        (20 + luck(number, run, 'latency') % 200)::BIGINT AS latency_ms
    FROM numbered
)
INSERT INTO polls BY NAME
SELECT
    md5(run || '-' || number) AS poll_id,
    run_id,
    token_key(number) AS token_key,
    account_id(number) AS account_id,
    'userinfo' AS endpoint,
    'us' AS data_center,
    polled_at(number, run) - to_milliseconds(latency_ms) AS requested_at,
    polled_at(number, run) AS polled_at,
    outcome,
    CASE outcome WHEN 'ok' THEN 200 WHEN 'token_rejected' THEN 401 ELSE 503 END AS http_status,
    1 AS attempts,
    0 AS refreshes,
    latency_ms,
    CASE WHEN outcome = 'ok' THEN 2 END AS profiles,
    CASE WHEN outcome = 'ok' THEN disconnected END AS disconnected,
    CASE WHEN outcome = 'ok' THEN 0 END AS conferencing_profiles,
    CASE WHEN outcome = 'ok' THEN 0 END AS conferencing_disconnected,
    _dlt_load_id
FROM judged INNER JOIN lived USING (run);
UPDATE next_week SET week = week + 1
"""

REST = """
UPDATE userinfo SET observed_at = polled_at(number_of(token_key), 0), run_id = first_run_id();

UPDATE calendars SET observed_at = polled_at(number_of(token_key), 0), run_id = first_run_id();

UPDATE profile_changes SET observed_at = polled_at(number_of(token_key), 0), run_id = first_run_id();

WITH outages AS (
    SELECT
        number,
        168 * week + broken_from(number, week) AS down_from,
        168 * week + broken_until(number, week) AS down_until
    FROM range({tokens}) AS numbers (number) CROSS JOIN range({weeks}) AS weeks (week)
    WHERE breaks(number, week)
),
happened AS (
    SELECT number, 'disconnected' AS state, 'connected' AS previous_state, down_from AS run FROM outages
    UNION ALL
    SELECT number, 'connected' AS state, 'disconnected' AS previous_state, down_until AS run FROM outages
),
seen AS (
    SELECT
        number, state, previous_state,
        list_filter(range(run, run + 12), lambda each: NOT fails(number, each))[1] AS run,
        list_filter(range(run - 6, run), lambda each: NOT fails(number, each))[-1] AS previous_run
    FROM happened
)
INSERT INTO profile_changes BY NAME
SELECT
    md5(number || '-' || run) AS change_id,
    token_key(number) AS token_key,
    account_id(number) AS account_id,
    'calendar' AS profile_type,
    'pro_' || lpad(number::VARCHAR, 24, '0') || '_a' AS profile_id,
    polled_at(number, run) AS observed_at,
    polled_at(number, previous_run) AS previous_poll_at,
    state,
    previous_state,
    state AS kind,
    'google' AS provider_name,
    'gsuite' AS provider_service,
    'user' || number || '@example.com' AS profile_name,
    false AS profile_initial_sync_required,
    CASE state WHEN 'disconnected' THEN 'https://app.cronofy.com/relink/' || md5(change_id) END
        AS profile_relink_url,
    run_id,
    _dlt_load_id
FROM seen INNER JOIN lived USING (run)
ORDER BY observed_at;

UPDATE profiles
SET observed_at = newest.observed_at, run_id = newest.run_id
FROM (
    SELECT token_key, profile_id, max(observed_at) AS observed_at, max(run_id) AS run_id
    FROM profile_changes
    GROUP BY ALL
) AS newest
WHERE profiles.token_key = newest.token_key AND profiles.profile_id = newest.profile_id;

UPDATE token_status
SET
    last_polled_at = newest.last_polled_at,
    last_ok_at = newest.last_ok_at,
    last_outcome = newest.last_outcome,
    failing_since = newest.failing_since,
    consecutive_failures = newest.consecutive_failures,
    run_id = newest.run_id
FROM (
    SELECT
        token_key,
        max(polled_at) AS last_polled_at,
        max(ok_at) AS last_ok_at,
        arg_max(outcome, polled_at) AS last_outcome,
        min(polled_at) FILTER (polled_at > ok_at) AS failing_since,
        count(*) FILTER (polled_at > ok_at) AS consecutive_failures,
        max(run_id) AS run_id
    FROM (
        SELECT *, max(polled_at) FILTER (outcome = 'ok') OVER (PARTITION BY token_key) AS ok_at
        FROM polls
        WHERE polled_at >= (SELECT max(began_at) FROM lived) - to_hours(6)
    )
    GROUP BY token_key
) AS newest
WHERE token_status.token_key = newest.token_key;

DELETE FROM coverage;

-- samples of one day are no further apart than `hold`
WITH days AS (
    SELECT
        account_id, min(polled_at) AS first_at, max(polled_at) AS last_at, count(*) AS samples
    FROM polls
    WHERE outcome = 'ok'
    GROUP BY account_id, epoch_us(polled_at) // 86400000000
),
marked AS (
    SELECT
        *,
        first_at - lag(last_at) OVER (PARTITION BY account_id ORDER BY first_at) > to_hours(24) AS is_far
    FROM days
),
numbered AS (
    SELECT
        *,
        count(*) FILTER (is_far) OVER (PARTITION BY account_id ORDER BY first_at) AS span
    FROM marked
),
spans AS (
    SELECT
        account_id, min(first_at) AS first_sample_at, max(last_at) AS last_sample_at, sum(samples) AS samples
    FROM numbered
    GROUP BY account_id, span
)
INSERT INTO coverage BY NAME
SELECT
    account_id, unnest(['calendar', 'conferencing']) AS profile_type,
    first_sample_at, last_sample_at, samples, run_id, _dlt_load_id
FROM spans INNER JOIN lived ON run = floor(epoch(last_sample_at - {start}) / 3600);

CREATE TEMP TABLE version AS SELECT version FROM runs;

DELETE FROM runs;

WITH changed AS (
    SELECT run_id, count(*) AS changes FROM profile_changes GROUP BY run_id
)
INSERT INTO runs BY NAME
SELECT
    run_id,
    any_value(began_at) AS started_at,
    max(polled_at) AS finished_at,
    count(*) AS tokens,
    count(*) AS due,
    count(*) AS polled,
    count(*) FILTER (outcome = 'ok') AS ok,
    count(*) FILTER (outcome <> 'ok') AS failed,
    0 AS skipped,
    {failures},
    count(*) AS requests,
    coalesce(any_value(changes), 0) AS changes,
    min(polled_at) AS first_polled_at,
    max(polled_at) AS last_polled_at,
    (SELECT min(version) FROM version) AS version,
    any_value(lived._dlt_load_id) AS _dlt_load_id
FROM polls INNER JOIN lived USING (run_id) LEFT JOIN changed USING (run_id)
GROUP BY run_id
"""
