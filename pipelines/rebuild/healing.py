"""Healing: what killed runs left half done, late polls, and times of a clock that was ahead.

A load writes polls and evidence table by table. A kill between two tables leaves evidence without polls, or
polls without evidence, and a run without its end. The next load works out again what such runs touched.

To work a row out takes all polls of its account or token. To see that it is right takes recent ones only:
what it says of the time before was right before the runs began. A run polls nothing twice. So the newest poll
that a row knows of is the one that may be lost, or there is a newer one that is not in the row yet. Either
shows, unless another run has built on it.
"""

# ruff: noqa: S608 - names are our own, values are literals of the dialect

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import COVERAGE, LOAD_ID, POLLS, PROFILE_CHANGES, RUNS, TOKEN_STATUS

from .comparison import unequal_rows
from .replacement import DIGESTS, ScopeTable, find_horizon, replace_rows, scope_table
from .warehouse_sql import BEGINNING, NO_LOAD, PART_KEYS, Part, WarehouseSql

KILLED = "killed"
# counts do not depend on it
ANY_HOLD = timedelta(days=1)
# how a load names its run: its start in UTC, and something of its own
RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-.+")
# clocks of machines differ, but not by that much
MOST_BEHIND = timedelta(hours=1)
# so long before the runs began polls are recent: all that is polled daily was polled
RECENT = timedelta(days=2)
# a run that was under way beside them polled later than that, by any clock
BESIDE = timedelta(minutes=5)
# by these columns the tables grow of which a part will do
GROWS_BY = {POLLS.name: "polled_at", PROFILE_CHANGES.name: "observed_at"}

# which tables besides polls say what a run touched
NAMING = {
    "account_id": (PROFILE_CHANGES.name, TOKEN_STATUS.name, COVERAGE.name),
    "token_key": (PROFILE_CHANGES.name, TOKEN_STATUS.name),
}


def heal(client: SqlClientBase[Any], hold: timedelta, run_ids: Collection[str]) -> None:
    """Put right what some runs touched, and say of those without an end that they were killed.

    Looks at the rows of `coverage` of every account and at those of `token_status` of every token that any
    table names under these runs or that was polled since they began. Those that are not right are worked out
    again, as are the runs' own counts; the digests of all go. All at once, where the warehouse has
    transactions.

    The runs were killed, or their polls arrived late.
    """
    if not run_ids:
        return
    sql = WarehouseSql(client)
    sql.create_missing(PART_KEYS)
    horizon, started_at = find_horizon(sql), first_start(run_ids)
    since = _since(sql, started_at, MOST_BEHIND)
    with sql.without_nested_loops(), scope_table(sql) as scope:
        scope.add("run_id", run_ids)
        _add_missing_runs(sql, scope)
        _add_touched(sql, scope, since)
        only = {RUNS.name: scope.part("run_id", since)}
        for table in (COVERAGE.name, TOKEN_STATUS.name):
            _add_doubtful(scope, table, hold, horizon, started_at)
            only[table] = scope.part(PART_KEYS[table], kind=table)
        replace_rows(sql, hold, horizon, only, *_afterwards(sql, scope))


def recount_run(client: SqlClientBase[Any], run_id: str) -> None:
    """Count a run again of which no poll was deleted yet; what else its row says stays. It may have none."""
    sql = WarehouseSql(client)
    sql.create_missing([RUNS.name])
    with sql.without_nested_loops(), scope_table(sql) as scope:
        scope.add("run_id", [run_id])
        _add_missing_runs(sql, scope)
        its_rows = scope.part("run_id", _since(sql, first_start([run_id]), MOST_BEHIND))
        replace_rows(sql, ANY_HOLD, None, {RUNS.name: its_rows})


def void_after(client: SqlClientBase[Any], hold: timedelta, horizon: datetime) -> None:
    """Have polls of a clock that was ahead tell nothing, remove the changes they showed, and heal."""
    sql = WarehouseSql(client)
    runs: set[str] = set()
    with sql.transaction():
        for table, change in (
            (POLLS.name, "UPDATE {} SET is_late = TRUE"),
            (PROFILE_CHANGES.name, "DELETE FROM {}"),
        ):
            name, ahead = sql.table(table), f"{GROWS_BY[table]} > {sql.instant(horizon)}"
            runs |= {run_id for (run_id,) in sql.fetch(f"SELECT DISTINCT run_id FROM {name} WHERE {ahead}")}
            sql.execute(f"{change.format(name)} WHERE {ahead}")
    heal(client, hold, [run_id for run_id in runs if run_id is not None])


def unfinished_runs(client: SqlClientBase[Any]) -> list[str]:
    """The runs that a load must heal: without an end, or without a row though they wrote something.

    Runs that are under way are among them.
    """
    sql = WarehouseSql(client)
    runs = sql.rows_of(RUNS.name)
    written = " UNION ALL ".join(
        f"SELECT DISTINCT run_id FROM ({sql.rows_of(table)}) AS written_{table}"
        for table in (PROFILE_CHANGES.name, TOKEN_STATUS.name, COVERAGE.name)
    )
    rows = sql.fetch(
        f"SELECT run_id FROM ({runs}) AS runs"
        f" WHERE finished_at IS NULL AND (stopped_by IS NULL OR stopped_by <> '{KILLED}')"
        f" UNION ALL SELECT written.run_id FROM ({written}) AS written"
        f" LEFT JOIN ({runs}) AS runs ON written.run_id = runs.run_id"
        " WHERE written.run_id IS NOT NULL AND runs.run_id IS NULL"
    )
    return sorted({run_id for (run_id,) in rows})


def is_needed(client: SqlClientBase[Any]) -> bool:
    """Whether the warehouse has polls of a release that kept no evidence."""
    sql = WarehouseSql(client)
    if not sql.has(POLLS.name):
        return False
    if not sql.has(RUNS.name) or not sql.has(TOKEN_STATUS.name, "endpoint IS NOT NULL"):
        return True
    return not sql.has(COVERAGE.name) and sql.has(PROFILE_CHANGES.name)


def first_start(run_ids: Collection[str]) -> datetime | None:
    """When the first of these runs began; None where a name does not say it."""
    try:
        return min(
            datetime.strptime(RUN_ID.sub(r"\1", run_id), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            for run_id in run_ids
        )
    except ValueError:
        return None


def _since(sql: WarehouseSql, started_at: datetime | None, before: timedelta) -> dict[str, str]:
    """What holds for rows from so long before the start on, of the tables that grow; all where it is None."""
    if started_at is None:
        return {}
    return {table: f"{column} >= {sql.instant(started_at - before)}" for table, column in GROWS_BY.items()}


def _add_touched(sql: WarehouseSql, scope: ScopeTable, since: Mapping[str, str]) -> None:
    """The accounts and tokens that the runs touched, and all that were polled since the first of them began.

    A run that was under way beside a killed one has built on evidence that nothing explains any more, and its
    rows name that run only.
    """
    of_runs = scope.part("run_id", since)
    for key, tables in NAMING.items():
        scope.add_rows(key, sql.rows_of(POLLS.name, Part(by_table=since)), key)
        for table in tables:
            scope.add_rows(key, sql.rows_of(table, of_runs), key)


def _add_doubtful(
    scope: ScopeTable, table: str, hold: timedelta, horizon: datetime | None, started_at: datetime | None
) -> None:
    """Add the touched accounts or tokens whose rows may be wrong; all, where no start is known."""
    sql, key = scope.sql, PART_KEYS[table]
    if started_at is None:
        scope.add_rows(table, scope.ids(key), "id")
        return
    # polled by another run since, or by several
    polls = sql.rows_of(POLLS.name, Part(by_table=_since(sql, started_at, BESIDE)))
    scope.add_rows(
        table,
        f"SELECT {key} FROM ({polls}) AS polls GROUP BY {key} HAVING count(DISTINCT run_id) > 1"
        f" OR max(CASE WHEN run_id IN ({scope.ids('run_id')}) THEN 0 ELSE 1 END) = 1",
        key,
    )
    # not what they would be if all polls that are not recent were deleted
    recent = max(started_at - RECENT, horizon or BEGINNING)
    touched = scope.part(key, _since(sql, recent, timedelta(0)))
    for unequal in unequal_rows(sql, table, hold, recent, touched):
        scope.add_rows(table, unequal, key)
    if table == TOKEN_STATUS.name:
        # tokens all of whose polls were skipped: their rows do not say when that was
        untried = f"{touched.condition} AND endpoint IS NOT NULL AND last_polled_at IS NULL"
        scope.add_rows(table, sql.rows_of(table, Part(untried)), key)


def _afterwards(sql: WarehouseSql, scope: ScopeTable) -> tuple[str, str]:
    """Runs without an end were killed; what they wrote of an answer may not have arrived."""
    runs, tokens = scope.part("run_id").condition, scope.part("token_key").condition
    no_digests = ", ".join(f"{name} = NULL" for name in DIGESTS)
    return (
        f"UPDATE {sql.table(RUNS.name)} SET stopped_by = '{KILLED}' WHERE {runs} AND finished_at IS NULL",
        f"UPDATE {sql.table(TOKEN_STATUS.name)} SET {no_digests} WHERE {tokens}",
    )


def _add_missing_runs(sql: WarehouseSql, scope: ScopeTable) -> None:
    """A row without an end for each of the runs that has none."""
    columns = [sql.column(RUNS.name, "run_id"), sql.column(RUNS.name, LOAD_ID)]
    missing = (
        f"SELECT ids.id, '{NO_LOAD}' FROM ({scope.ids('run_id')}) AS ids"
        f" LEFT JOIN ({sql.rows_of(RUNS.name)}) AS runs ON ids.id = runs.run_id WHERE runs.run_id IS NULL"
    )
    sql.insert(sql.table(RUNS.name), columns, missing)
