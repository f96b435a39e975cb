"""Healing: what killed runs left half done, and late polls.

A load writes polls and evidence table by table. A kill between two tables leaves evidence without polls, or
polls without evidence, and a run without its end. The next load works out again what such runs touched.
"""

# ruff: noqa: S608 - names are our own, values are literals of the dialect

import re
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import COVERAGE, LOAD_ID, POLLS, PROFILE_CHANGES, RUNS, TOKEN_STATUS

from .doubts import add_doubtful, doubtful, rows_since
from .horizon import find_horizon
from .replacement import NO_LOAD, PART_KEYS, Replacement, ScopeTable, as_length, scope_table
from .warehouse_sql import Part, WarehouseSql

KILLED = "killed"
DIGESTS = ("userinfo_digest", "account_digest", "profiles_digest")
# counts do not depend on it
ANY_HOLD = timedelta(days=1)
# how a load names its run: its start in UTC, and something of its own
RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-.+")
# clocks of machines differ, but not by that much
MOST_BEHIND = timedelta(hours=1)

# which tables besides polls say what a run touched
NAMING = {
    "account_id": (PROFILE_CHANGES.name, TOKEN_STATUS.name, COVERAGE.name),
    "token_key": (PROFILE_CHANGES.name, TOKEN_STATUS.name),
}


def heal(
    client: SqlClientBase[Any],
    hold: timedelta | float,
    run_ids: Collection[str],
    polls_per_part: int | None = None,
) -> None:
    """Put right what some runs touched, and say of those without an end that they were killed.

    Looks at the rows of `coverage` of every account and at those of `token_status` of every token that any
    table names under these runs or that was polled since they began. Those that are not right are worked out
    again, as are the runs' own counts; the digests of all go. All at once, where the warehouse has
    transactions.

    Args:
        client: an open one, which may write.
        hold: how long one sample is trusted, a length of time or seconds.
        run_ids: of runs that were killed, or whose polls arrived late.
        polls_per_part: about how many polls are worked out at a time; None for what suits the warehouse.
    """
    if not run_ids:
        return
    sql = WarehouseSql(client)
    sql.create_missing([*PART_KEYS])
    work = Replacement(sql, as_length(hold), find_horizon(sql), polls_per_part)
    since = _since(sql, run_ids)
    with sql.without_nested_loops(), ExitStack() as stack:
        scope = stack.enter_context(scope_table(sql))
        scope.add("run_id", run_ids)
        _add_missing_runs(sql, scope)
        _add_touched(sql, scope, since)
        add_doubtful(work, scope, first_start(run_ids))
        for table in (COVERAGE.name, TOKEN_STATUS.name):
            key = PART_KEYS[table]
            work.work_out(stack, table, scope.part(key, kind=doubtful(key)))
        work.work_out(stack, RUNS.name, scope.part("run_id", since))
        work.replace(*_afterwards(sql, scope))


def recount_run(client: SqlClientBase[Any], run_id: str) -> None:
    """Count a run's polls and changes again; what else its row says stays.

    Args:
        client: an open one, which may write.
        run_id: of a run of which no poll was deleted yet; it gets a row if it has none.
    """
    _recount(WarehouseSql(client), [run_id], horizon=None)


def recount_runs(client: SqlClientBase[Any], run_ids: Collection[str]) -> None:
    """Count the polls and changes of runs again; those of which polls were deleted as too old stay."""
    if run_ids:
        sql = WarehouseSql(client)
        _recount(sql, run_ids, find_horizon(sql))


def _recount(sql: WarehouseSql, run_ids: Collection[str], horizon: datetime | None) -> None:
    sql.create_missing([RUNS.name])
    with sql.without_nested_loops(), ExitStack() as stack:
        scope = stack.enter_context(scope_table(sql))
        scope.add("run_id", run_ids)
        _add_missing_runs(sql, scope)
        work = Replacement(sql, ANY_HOLD, horizon)
        work.work_out(stack, RUNS.name, scope.part("run_id", _since(sql, run_ids)))
        work.replace()


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

    def has(table: str, condition: str = "1 = 1") -> bool:
        return bool(sql.fetch(f"SELECT 1 AS found FROM ({sql.rows_of(table, Part(condition))}) AS t LIMIT 1"))

    if not has(POLLS.name):
        return False
    if not has(RUNS.name) or not has(TOKEN_STATUS.name, "endpoint IS NOT NULL"):
        return True
    return not has(COVERAGE.name) and has(PROFILE_CHANGES.name)


def first_start(run_ids: Collection[str]) -> datetime | None:
    """When the first of these runs began; None where a name does not say it."""
    starts = []
    for run_id in run_ids:
        named = RUN_ID.fullmatch(run_id)
        if named is None:
            return None
        try:
            starts.append(datetime.strptime(named[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
        except ValueError:
            return None
    return min(starts, default=None)


def _since(sql: WarehouseSql, run_ids: Collection[str]) -> dict[str, str]:
    """What holds for the rows that these runs wrote, of those tables that grow."""
    start = first_start(run_ids)
    return rows_since(sql, start - MOST_BEHIND if start is not None else None)


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
