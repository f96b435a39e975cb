"""CPU time of every view in DuckDB at 10,000, 100,000 and 1,000,000 profiles, and how it grows with them.

A synthetic warehouse is polled every six hours, eight times in all; 2 % of the polls fail, as many tokens are
dark for all of these runs, and every tenth profile changes a few times. All rows and columns of a view are
computed. Times are CPU time, so that other work on the machine counts little: the median of three rounds, of
the largest warehouse one. Slopes are exponents from one size to the next: 1 is linear. The last column is in
full scans of the largest `polls`, an aggregate that reads all its columns.
`CRONOFY_BENCHMARK_SCALE=0.01` makes all sizes a hundred times smaller.
"""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from dlt_cronofy.source import tables
from dlt_cronofy.views import PUBLIC_VIEWS, TABLES, create_views

SCALE = float(os.environ.get("CRONOFY_BENCHMARK_SCALE", "1"))
# profiles → rounds
SIZES = {round(SCALE * size): rounds for size, rounds in ((10_000, 3), (100_000, 1), (1_000_000, 1))}
POLLS_EACH, CHANGES_EACH = 4, 4
HOLD_SECONDS = 86_400.0
DATASET = "cronofy"
SCAN = "polls"

# what was queried → (its rows, CPU seconds)
Measured = dict[str, tuple[int, float]]


def measure() -> list[dict[str, Any]]:
    """One row a view: its rows and CPU seconds by size, slopes, and the ratio to a scan of `polls`."""
    by_size = {profiles: _measured(profiles, rounds) for profiles, rounds in SIZES.items()}
    largest = by_size[max(SIZES)]
    return [
        {
            "view": "scan of polls" if name == SCAN else name,
            "rows": largest[name][0],
            **{f"CPU s at {profiles:,}": found[name][1] for profiles, found in by_size.items()},
            **{
                f"slope to {more:,}": _slope(less, by_size[less][name][1], more, by_size[more][name][1])
                for less, more in pairwise(by_size)
            },
            "scans of polls": largest[name][1] / largest[SCAN][1],
        }
        for name in (SCAN, *PUBLIC_VIEWS)
    ]


def _slope(less: int, less_seconds: float, more: int, more_seconds: float) -> float:
    return math.log(more_seconds / less_seconds) / math.log(more / less)


def _measured(profiles: int, rounds: int) -> Measured:
    """Every view of a new warehouse of that many profiles."""
    with _warehouse(profiles) as connection:
        queries = {name: computes_everything(connection, name) for name in (SCAN, *PUBLIC_VIEWS)}
        seconds: dict[str, list[float]] = {name: [] for name in queries}
        counts: dict[str, int] = {}
        for _round in range(rounds):
            for name, query in queries.items():
                started = time.process_time()
                rows = connection.execute(query).fetchall()
                seconds[name].append(time.process_time() - started)
                counts[name] = rows[0][0]
    return {name: (counts[name], statistics.median(found)) for name, found in seconds.items()}


@contextmanager
def _warehouse(profiles: int) -> Iterator[duckdb.DuckDBPyConnection]:
    with (
        tempfile.TemporaryDirectory() as directory,
        duckdb.connect(Path(directory) / "warehouse.duckdb") as connection,
    ):
        _generate(connection, profiles)

        def execute(statement: str) -> None:
            connection.execute(statement)

        create_views(execute, "duckdb", DATASET, HOLD_SECONDS)
        yield connection


def computes_everything(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """A query that counts the rows and adds up every number, and has to look at every other value."""
    described = connection.execute(f"DESCRIBE {DATASET}.{name}").fetchall()
    columns = [
        f'sum("{column}")' if kind in {"BIGINT", "DOUBLE"} else f'max("{column}")'
        for column, kind, *_ in described
    ]
    return f"SELECT count(*), {', '.join(columns)} FROM {DATASET}.{name}"


def _generate(connection: duckdb.DuckDBPyConnection, profiles: int) -> None:
    connection.execute(f"SET TimeZone = 'UTC'; CREATE SCHEMA {DATASET}; USE {DATASET}")
    for table in TABLES:
        schema = tables.TABLES[table].schema.append(pa.field("_dlt_load_id", pa.string()))
        connection.register("empty_rows", schema.empty_table())
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM empty_rows")
        connection.unregister("empty_rows")
    size = {"accounts": profiles, "runs": POLLS_EACH}
    connection.execute(f"INSERT INTO polls BY NAME {SYNTHETIC_POLLS}", size)
    connection.execute(f"INSERT INTO profile_changes BY NAME {SYNTHETIC_CHANGES}", {"each": CHANGES_EACH})
    connection.execute(f"INSERT INTO userinfo BY NAME {SYNTHETIC_USERINFO}")
    connection.execute(
        "INSERT INTO account BY NAME SELECT token_key, account_id, email, name, observed_at FROM userinfo"
    )
    connection.execute(f"INSERT INTO coverage BY NAME {SYNTHETIC_COVERAGE}", {"hold": HOLD_SECONDS})
    connection.execute(f"INSERT INTO token_status BY NAME {SYNTHETIC_STATUS}")
    connection.execute(f"INSERT INTO runs BY NAME {SYNTHETIC_RUNS}")


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
    ORDER BY run, luck
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
"""

# the first ok poll of an account sees its profile; of every tenth some others find it changed
SYNTHETIC_CHANGES = """
WITH firsts AS (
    SELECT account_id, min(polled_at) AS first_at FROM polls WHERE outcome = 'ok' GROUP BY account_id
),
shuffled AS (
    SELECT
        account_id, token_key, run_id, polled_at, first_at,
        row_number() OVER (PARTITION BY account_id ORDER BY hash(poll_id)) AS draw
    FROM polls
    INNER JOIN firsts USING (account_id)
    WHERE outcome = 'ok' AND (polled_at = first_at OR hash(account_id) % 10 = 0)
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
            WHEN hash(account_id) % 100 = 0 AND number = 4 THEN 'removed'
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

# all ok polls list both types
SYNTHETIC_COVERAGE = """
WITH samples AS (
    SELECT
        account_id, polled_at,
        polled_at - lag(polled_at) OVER (PARTITION BY account_id ORDER BY polled_at) > to_seconds($hold)
            AS is_far
    FROM polls
    WHERE outcome = 'ok'
),
spans AS (
    SELECT
        account_id, polled_at,
        count(*) FILTER (WHERE is_far) OVER (PARTITION BY account_id ORDER BY polled_at) AS span
    FROM samples
)
SELECT
    account_id,
    unnest(['calendar', 'conferencing']) AS profile_type,
    min(polled_at) AS first_sample_at,
    max(polled_at) AS last_sample_at,
    count(*) AS samples
FROM spans
GROUP BY account_id, span
"""

SYNTHETIC_STATUS = """
SELECT
    token_key,
    max(account_id) AS account_id,
    'userinfo' AS endpoint,
    max(polled_at) AS last_polled_at,
    max(polled_at) FILTER (WHERE outcome = 'ok') AS last_ok_at,
    arg_max(outcome, polled_at) AS last_outcome,
    0 AS consecutive_failures
FROM polls
GROUP BY token_key
"""

SYNTHETIC_RUNS = """
SELECT
    run_id,
    count(*) AS polled,
    count(*) FILTER (WHERE outcome = 'ok') AS ok,
    count(*) FILTER (WHERE outcome <> 'ok') AS failed,
    0 AS skipped,
    count(*) FILTER (WHERE outcome = 'token_rejected') AS token_rejected,
    count(*) FILTER (WHERE outcome = 'server_error') AS server_error,
    min(polled_at) AS first_polled_at,
    max(polled_at) AS last_polled_at
FROM polls
GROUP BY run_id
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
