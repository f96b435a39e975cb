"""Every view in DuckDB, in full scans of `polls`: an aggregate that reads all its columns, timed beside them.

A synthetic warehouse is polled every six hours; 2 % of the polls fail, now and then a token is dark for ten
runs, and every profile changes a few times. All rows and columns of a view are computed. Times are CPU time,
so that other work on the machine counts little. `CRONOFY_BENCHMARK_SCALE=0.01` makes it a hundred times
smaller.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.views import PUBLIC_VIEWS, TABLES, create_views
from sources.cronofy import tables

SCALE = float(os.environ.get("CRONOFY_BENCHMARK_SCALE", "1"))
PROFILES, POLLS, CHANGES = (round(SCALE * size) for size in (100_000, 10_000_000, 500_000))
HOLD_SECONDS, ROUNDS = 86_400.0, 3
DATASET = "cronofy"


def measure() -> list[dict[str, Any]]:
    """One row a view: its rows, CPU seconds and the ratio to a scan of `polls`."""
    with (
        tempfile.TemporaryDirectory() as directory,
        duckdb.connect(Path(directory) / "warehouse.duckdb") as connection,
    ):
        _generate(connection)

        def execute(statement: str) -> None:
            connection.execute(statement)

        create_views(execute, "duckdb", DATASET, HOLD_SECONDS)
        names = ("polls", *PUBLIC_VIEWS)
        queries = {name: _computes_everything(connection, name) for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        counts: dict[str, int] = {}
        for _round in range(ROUNDS):
            for name, query in queries.items():
                started = time.process_time()
                rows = connection.execute(query).fetchall()
                seconds[name].append(time.process_time() - started)
                counts[name] = rows[0][0]
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return [
        {
            "view": "scan of polls" if name == "polls" else name,
            "rows": counts[name],
            "CPU seconds": median,
            "scans of polls": median / medians["polls"],
        }
        for name, median in medians.items()
    ]


def _computes_everything(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """A query that counts the rows and adds up every number, and has to look at every other value."""
    described = connection.execute(f"DESCRIBE {DATASET}.{name}").fetchall()
    columns = [
        f'sum("{column}")' if kind in {"BIGINT", "DOUBLE"} else f'max("{column}")'
        for column, kind, *_ in described
    ]
    return f"SELECT count(*), {', '.join(columns)} FROM {DATASET}.{name}"


def _generate(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"SET TimeZone = 'UTC'; CREATE SCHEMA {DATASET}; USE {DATASET}")
    for table in TABLES:
        schema = tables.TABLES[table].schema.append(pa.field("_dlt_load_id", pa.string()))
        connection.register("empty_rows", schema.empty_table())
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM empty_rows")
        connection.unregister("empty_rows")
    runs = POLLS // PROFILES
    connection.execute(f"INSERT INTO polls BY NAME {SYNTHETIC_POLLS}", {"accounts": PROFILES, "runs": runs})
    each = CHANGES // PROFILES
    connection.execute(f"INSERT INTO profile_changes BY NAME {SYNTHETIC_CHANGES}", {"each": each})
    connection.execute(f"INSERT INTO userinfo BY NAME {SYNTHETIC_USERINFO}")
    connection.execute(
        "INSERT INTO account BY NAME SELECT token_key, account_id, email, name, observed_at FROM userinfo"
    )


# one account a profile, as long and as random as real keys are, in the order in which loads write them
SYNTHETIC_POLLS = """
WITH drawn AS (
    SELECT
        run, account, hash(run * 1000003 + account) AS luck,
        hash(account * 31 + run // 10) % 50 = 0 AS dark,
        TIMESTAMPTZ '2025-06-15 00:00:00+00' + to_hours(6 * run)
            + to_microseconds((hash(account * 7919 + run) % 900000000)::BIGINT) AS polled_at
    FROM (SELECT unnest(range($runs)) AS run)
    CROSS JOIN (SELECT unnest(range($accounts)) AS account)
),
judged AS (
    SELECT
        *,
        CASE WHEN dark THEN 'token_rejected' WHEN luck % 50 = 0 THEN 'server_error' ELSE 'ok' END AS outcome
    FROM drawn
)
SELECT
    md5(run || '-' || account) AS poll_id,
    'run_' || lpad(run::VARCHAR, 6, '0') AS run_id,
    'tok_' || left(md5(account::VARCHAR), 16) AS token_key,
    'acc_' || left(md5('account' || account), 20) AS account_id,
    'userinfo' AS endpoint,
    'us' AS data_center,
    polled_at - to_milliseconds(150) AS requested_at,
    polled_at,
    outcome,
    CASE outcome WHEN 'ok' THEN 200 WHEN 'token_rejected' THEN 401 ELSE 500 END AS http_status,
    1 AS attempts,
    100 + luck % 200 AS latency_ms,
    CASE WHEN outcome = 'ok' THEN 1 END AS profiles,
    CASE WHEN outcome = 'ok' THEN 0 END AS disconnected,
    CASE WHEN outcome = 'ok' THEN 0 END AS conferencing_profiles,
    CASE WHEN outcome = 'ok' THEN 0 END AS conferencing_disconnected,
    '1750000000.' || run AS _dlt_load_id
FROM judged
ORDER BY run, luck
"""

# the first ok poll of an account sees its profile, some others find it changed
SYNTHETIC_CHANGES = """
WITH shuffled AS (
    SELECT
        account_id, token_key, run_id, polled_at,
        row_number() OVER (PARTITION BY account_id ORDER BY hash(poll_id)) AS draw,
        min(polled_at) OVER (PARTITION BY account_id) AS first_at
    FROM polls
    WHERE outcome = 'ok'
),
numbered AS (
    SELECT *, row_number() OVER (PARTITION BY account_id ORDER BY polled_at) AS number
    FROM shuffled
    WHERE polled_at = first_at OR draw < $each
),
states AS (
    SELECT
        *,
        CASE
            WHEN number % 2 = 1 THEN 'connected'
            WHEN hash(account_id) % 10 = 0 AND number = 4 THEN 'removed'
            ELSE 'disconnected'
        END AS state
    FROM numbered
)
SELECT
    md5(account_id || polled_at) AS change_id,
    token_key,
    account_id,
    'calendar' AS profile_type,
    'pro_' || left(md5(account_id), 20) AS profile_id,
    polled_at AS observed_at,
    lag(polled_at) OVER changes AS previous_poll_at,
    state,
    lag(state) OVER changes AS previous_state,
    CASE number WHEN 1 THEN 'first_seen' ELSE state END AS kind,
    ['google', 'exchange', 'apple', 'live_connect'][1 + (hash(account_id) % 4)::INTEGER] AS provider_name,
    ['gsuite', 'google', 'office365', 'icloud', 'outlook_com'][1 + (hash(account_id) % 5)::INTEGER]
        AS provider_service,
    account_id || '@example.com' AS profile_name,
    CASE state WHEN 'disconnected' THEN 'https://app.cronofy.com/relink/' || md5(account_id) END
        AS profile_relink_url,
    run_id
FROM states
WINDOW changes AS (PARTITION BY account_id ORDER BY polled_at)
ORDER BY observed_at
"""

SYNTHETIC_USERINFO = """
SELECT
    token_key,
    account_id,
    'account' AS type,
    account_id || '@example.com' AS email,
    'Name of ' || account_id AS name,
    min(polled_at) AS observed_at
FROM polls
GROUP BY token_key, account_id
"""
