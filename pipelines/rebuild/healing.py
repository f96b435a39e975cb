"""Healing: what killed runs left half done, and late polls.

A load writes polls and evidence table by table. A kill between two tables leaves evidence without polls, or
polls without evidence, and a run without its end. The next load works out again what such runs touched.
"""

import re
from collections.abc import Collection
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from sources.cronofy.tables import COVERAGE, LOAD_ID, POLLS, PROFILE_CHANGES, RUNS, TOKEN_STATUS

from .horizon import find_horizon
from .parts import any_row, one_of
from .replacement import NO_LOAD, PART_KEYS, Replacement, ScopeTable, as_length, named, scope_table
from .warehouse_sql import ALL, Part, WarehouseSql, instant

KILLED = "killed"
# counts do not depend on it
ANY_HOLD = timedelta(days=1)
# how a load names its run: its start in UTC, and something of its own
RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-.+")
# clocks of machines differ, but not by that much
MOST_BEHIND = timedelta(hours=1)

# which tables besides polls say what a run touched; the column by which those grow of which a part will do
NAMING = {
    "account_id": (PROFILE_CHANGES.name, TOKEN_STATUS.name, COVERAGE.name),
    "token_key": (PROFILE_CHANGES.name, TOKEN_STATUS.name),
}
GROWS_BY = {POLLS.name: "polled_at", PROFILE_CHANGES.name: "observed_at"}


def heal(
    client: SqlClientBase[Any],
    hold: timedelta | float,
    run_ids: Collection[str],
    polls_per_part: int | None = None,
) -> None:
    """Work out again what some runs touched, and say of those without an end that they were killed.

    Replaces the rows of `coverage` of every account and those of `token_status` of every token that any table
    names under these runs or that was polled since they began, and the runs' own counts. All at once, where
    the warehouse has transactions.

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
    since = earliest_poll(run_ids)
    with ExitStack() as stack, scope_table(sql) as scope:
        scope.add("run_id", set(run_ids))
        _add_missing_runs(sql, scope)
        for key, tables in NAMING.items():
            scope.add_rows(key, _polled(sql, key, since))
            for table in tables:
                scope.add_rows(key, _named(sql, scope, table, key, since))
        work = Replacement(sql, as_length(hold), find_horizon(sql), polls_per_part)
        work.work_out(stack, COVERAGE.name, scope.part("account_id"))
        work.work_out(stack, TOKEN_STATUS.name, scope.part("token_key"))
        work.work_out(stack, RUNS.name, scope.part("run_id", _since(since)))
        work.replace(_say_killed(sql, scope))


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
    with ExitStack() as stack, scope_table(sql) as scope:
        scope.add("run_id", set(run_ids))
        _add_missing_runs(sql, scope)
        work = Replacement(sql, ANY_HOLD, horizon)
        work.work_out(stack, RUNS.name, scope.part("run_id", _since(earliest_poll(run_ids))))
        work.replace()


def unfinished_runs(client: SqlClientBase[Any]) -> list[str]:
    """The runs that a load must heal: without an end, or without a row though they wrote something.

    Runs that are under way are among them.
    """
    sql = WarehouseSql(client)
    unfinished = (
        exp.select("run_id")
        .from_(named(sql.rows_of(RUNS.name), "runs"))
        .where("finished_at IS NULL", "(stopped_by IS NULL OR stopped_by <> 'killed')")
    )
    unknown = [
        exp.select("written.run_id")
        .from_(named(sql.rows_of(table), "written"))
        .join(named(sql.rows_of(RUNS.name), "runs"), on="written.run_id = runs.run_id", join_type="left")
        .where("written.run_id IS NOT NULL", "runs.run_id IS NULL")
        for table in (PROFILE_CHANGES.name, TOKEN_STATUS.name, COVERAGE.name)
    ]
    return sorted(run_id for (run_id,) in sql.fetch(exp.union(unfinished, *unknown, distinct=True)))


def is_needed(client: SqlClientBase[Any]) -> bool:
    """Whether the warehouse has polls of a release that kept no evidence."""
    sql = WarehouseSql(client)

    def has(table: str, *conditions: str) -> bool:
        return any_row(sql, exp.select("1").from_(sql.rows_of(table).subquery("t")).where(*conditions))

    if not has(POLLS.name):
        return False
    if not has(RUNS.name) or not has(TOKEN_STATUS.name, "endpoint IS NOT NULL"):
        return True
    return not has(COVERAGE.name) and has(PROFILE_CHANGES.name)


def earliest_poll(run_ids: Collection[str]) -> datetime | None:
    """A time before the first poll of any of these runs; None where a name does not say when it began."""
    starts = []
    for run_id in run_ids:
        named = RUN_ID.fullmatch(run_id)
        if named is None:
            return None
        try:
            starts.append(datetime.strptime(named[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
        except ValueError:
            return None
    return min(starts) - MOST_BEHIND if starts else None


def _since(since: datetime | None) -> dict[str, exp.Expr]:
    """What holds for the rows of those tables that grow, as long as the runs are there."""
    if since is None:
        return {}
    return {table: exp.column(column) >= instant(since) for table, column in GROWS_BY.items()}


def _polled(sql: WarehouseSql, key: str, since: datetime | None) -> exp.Select:
    """What was polled since the first of the runs began, by any run.

    A run that was under way beside a killed one has built on evidence that nothing explains any more, and its
    rows name that run only.
    """
    rows = sql.rows_of(POLLS.name, Part(by_table=_since(since))).subquery("polls")
    return exp.select(f"{key} AS id").distinct().from_(rows)


def _named(sql: WarehouseSql, scope: ScopeTable, table: str, key: str, since: datetime | None) -> exp.Select:
    part = Part(one_of("run_id", scope.ids("run_id")), _since(since))
    rows = sql.rows_of(table, part).subquery("named")
    return exp.select(f"{key} AS id").distinct().from_(rows)


def _add_missing_runs(sql: WarehouseSql, scope: ScopeTable) -> None:
    """A row without an end for each of the runs that has none."""
    known = exp.select("run_id").from_(sql.rows_of(RUNS.name, ALL).subquery("runs"))
    missing = scope.ids("run_id").where(exp.not_(exp.column("id").isin(query=known)))
    columns, values = ["run_id"], ["id"]
    if LOAD_ID in sql.stored[RUNS.name]:
        columns.append(LOAD_ID)
        values.append(f"'{NO_LOAD}'")
    rows = exp.select(*values).from_(missing.subquery("missing"))
    sql.insert(sql.table(RUNS.name), [sql.column(RUNS.name, each) for each in columns], rows)


def _say_killed(sql: WarehouseSql, scope: ScopeTable) -> exp.Update:
    return exp.update(
        sql.table(RUNS.name),
        {"stopped_by": KILLED},
        where=exp.and_(one_of("run_id", scope.ids("run_id")), "finished_at IS NULL"),
    )
