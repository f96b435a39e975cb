"""Working out evidence, and putting it in the place of what is kept.

What is worked out goes to temporary tables first. Then it replaces the rows of the evidence tables, in one
transaction where the warehouse has them: a kill leaves the old rows or the new ones.
"""

# ruff: noqa: S608 - names are our own or come from the warehouse's catalog

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import LOAD_ID, POLLS, PROFILE_CHANGES, RUNS, TABLES, TOKEN_STATUS
from dlt_cronofy.warehouse.duckdb_file import literal

from .warehouse_sql import ALL, DUCKDB, NO_LOAD, PART_KEYS, Part, WarehouseSql, columns_of

# DuckDB keeps the windows and groups of a query in memory, so that a long log is worked out part by part.
# Parts of all of it are of time or of runs, which DuckDB finds without reading the others. PostgreSQL puts
# windows and groups on disk.
IN_PARTS = {DUCKDB}
POLLS_PER_PART = 1_000_000

IDS_PER_STATEMENT = 500
AGES = "evidence_ages"
AGE_COLUMNS = ("oldest_evidence_at", "oldest_evidence_age_seconds")
DIGESTS = ("userinfo_digest", "account_digest", "profiles_digest")
# what AGES reads of a poll
ANSWER = "run_id, token_key, endpoint, polled_at, outcome, is_late"
MICROSECOND = timedelta(microseconds=1)


def rebuild(client: SqlClientBase[Any], hold: timedelta, tokens: Collection[str] | None = None) -> None:
    """Replace the evidence, or only these tokens' rows of `token_status`, by what polls and changes say."""
    sql = WarehouseSql(client)
    sql.create_missing(PART_KEYS)
    with sql.without_nested_loops(), scope_table(sql) as scope:
        only = dict.fromkeys(PART_KEYS, ALL)
        if tokens is not None:
            scope.add("token_key", tokens)
            only = {TOKEN_STATUS.name: scope.part("token_key")}
        replace_rows(sql, hold, find_horizon(sql), only)


def find_horizon(sql: WarehouseSql) -> datetime | None:
    """The time from which on all polls are kept, where older ones were deleted; None where none were."""
    for polled_at, is_left in sql.fetch(sql.query("horizon")):
        horizon: datetime = polled_at if is_left else polled_at + MICROSECOND
        return horizon
    return None


def replace_rows(
    sql: WarehouseSql,
    hold: timedelta,
    horizon: datetime | None,
    only: Mapping[str, Part],
    *afterwards: str,
) -> None:
    """Work out rows of evidence tables from the horizon on (None: from all polls), and swap them in."""
    with ExitStack() as stack:
        stages = {}
        for table, rows in only.items():
            ages = _work_out_ages(sql, stack) if table == RUNS.name and rows is ALL else None
            stages[table] = stack.enter_context(
                sql.temporary_table(table, f"SELECT * FROM {sql.table(table)}")
            )
            for _part, query in worked_out(sql, table, hold, horizon, rows):
                complete = _complete_rows(sql, table, query, ages, horizon)
                sql.insert(stages[table], sql.columns(table), complete)
        swap(sql, only, stages, afterwards)


def swap(
    sql: WarehouseSql, only: Mapping[str, Part], stages: Mapping[str, str], afterwards: Collection[str]
) -> None:
    """Put what stands in temporary tables in the place of what is there, all at once."""
    with sql.transaction():
        for table, stage in stages.items():
            sql.execute(f"DELETE FROM {sql.table(table)} WHERE {only[table].condition}")
            columns = sql.columns(table)
            sql.insert(sql.table(table), columns, f"SELECT {', '.join(columns)} FROM {stage}")
        for statement in afterwards:
            sql.execute(statement)


def worked_out(
    sql: WarehouseSql, table: str, hold: timedelta, horizon: datetime | None, only: Part = ALL
) -> Iterator[tuple[Part, str]]:
    """Queries that together are what polls and changes say of an evidence table, each with its part.

    A query can be used until the next one is asked for.
    """
    if only is ALL and sql.dialect in IN_PARTS and table == RUNS.name:
        found = parts_of_runs(sql)
    elif only is ALL and sql.dialect in IN_PARTS and horizon is None:
        with ExitStack() as stack:
            yield ALL, f"SELECT * FROM {_step_by_step(sql, stack, table, hold)}"
        return
    else:
        found = parts(sql, PART_KEYS[table], only)
    for part in found:
        yield part, sql.query(table, part, hold, horizon)


def _step_by_step(sql: WarehouseSql, stack: ExitStack, table: str, hold: timedelta) -> str:
    """A temporary table of what the log says, read in the order of time.

    Each step knows of the earlier ones what a warehouse knows of polls that were deleted: their rows.
    """
    found = ""
    so_far: dict[str, str] = {}
    for number, (start, part) in enumerate(parts_of_time(sql)):
        # instead of deleting rows, which would keep their room
        found = stack.enter_context(sql.temporary_table(f"{table}_{number % 2}", sql.query(table)))
        sql.insert(found, columns_of(table), sql.query(table, part, hold, start, so_far))
        so_far = {table: f"SELECT * FROM {found}"}
    return found


def parts_of_time(sql: WarehouseSql) -> Iterator[tuple[datetime | None, Part]]:
    """Parts of the log, one after the other, of about so many polls; with the start of each but the first."""
    hours = sql.fetch(
        f"SELECT date_trunc('hour', polled_at) AS hour, count(*) FROM ({sql.rows_of(POLLS.name)}) AS polls"
        " WHERE polled_at IS NOT NULL GROUP BY hour ORDER BY hour"
    )
    for start, end in pairwise((None, *_cuts(hours), None)):
        yield (
            start,
            Part(
                by_table={
                    table.name: _between(
                        str(table.grows_by), *(each and sql.instant(each) for each in (start, end))
                    )
                    for table in (POLLS, PROFILE_CHANGES)
                }
            ),
        )


def parts_of_runs(sql: WarehouseSql) -> Iterator[Part]:
    """Parts of about so many polls; names of runs begin with the time, so each is of one part of the log."""
    runs = sql.fetch(
        f"SELECT run_id, count(*) FROM ({sql.rows_of(POLLS.name)}) AS polls"
        " WHERE run_id IS NOT NULL GROUP BY run_id ORDER BY run_id"
    )
    for first, end in pairwise((None, *map(literal, _cuts(runs)), None)):
        yield Part(_between("run_id", first, end))


def _cuts(counts: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Where parts begin, but for the first one."""
    polls = 0
    for value, number in counts:
        if polls >= POLLS_PER_PART:
            yield value
            polls = 0
        polls += number


def _between(column: str, start: str | None, end: str | None) -> str:
    bounds = (f"{column} >= {start}" if start else None, f"{column} < {end}" if end else None)
    return " AND ".join(filter(None, bounds)) or "1 = 1"


def parts(sql: WarehouseSql, key: str, only: Part = ALL) -> Iterator[Part]:
    """Parts that together are `only`, each of some values of the key, with about so many polls."""
    if sql.dialect not in IN_PARTS:
        yield only
        return
    ((polls,),) = sql.fetch(f"SELECT count(*) FROM ({sql.rows_of(POLLS.name, only)}) AS polls")
    number = polls // POLLS_PER_PART + 1
    for each in range(number):
        yield Part(f"{only.condition} AND hash({key}) % {number} = {each}", only.by_table)


def _complete_rows(
    sql: WarehouseSql, table: str, worked_out: str, ages: str | None, horizon: datetime | None
) -> str:
    """Rows with all columns of a table: what no poll can tell is that of the row that is kept."""

    def source(name: str) -> str:
        kept = f"kept.{sql.column(table, name)}"
        if name in columns_of(table):
            return f"worked_out.{name}"
        if name == LOAD_ID:
            return f"coalesce({kept}, '{NO_LOAD}')"
        if name in DIGESTS:
            return "NULL"  # so that the next answer is compared with what the warehouse holds
        if name in AGE_COLUMNS and ages is not None:
            # where polls are deleted, the kept row may know of older evidence than those that are left
            return f"ages.{name}" if horizon is None else f"coalesce({kept}, ages.{name})"
        return kept

    same = " AND ".join(f"kept.{name} = worked_out.{name}" for name in TABLES[table].key)
    rows = (
        f"SELECT {', '.join(map(source, sql.stored[table]))} FROM ({worked_out}) AS worked_out"
        f" LEFT JOIN ({sql.kept_rows(table)}) AS kept ON {same}"
    )
    if ages is None:
        return rows
    oldest = (
        "SELECT run_id, min(oldest_evidence_at) AS oldest_evidence_at,"
        f" max(oldest_evidence_age_seconds) AS oldest_evidence_age_seconds FROM {ages} GROUP BY run_id"
    )
    return f"{rows} LEFT JOIN ({oldest}) AS ages ON ages.run_id = worked_out.run_id"


def _work_out_ages(sql: WarehouseSql, stack: ExitStack) -> str:
    """A temporary table of how old the evidence was that each run found; a run may have several rows."""
    ages = stack.enter_context(sql.temporary_table(AGES, sql.query(AGES)))
    if sql.dialect not in IN_PARTS:
        sql.insert(ages, columns_of(AGES), sql.query(AGES))
        return ages
    earlier = ""  # ok polls: the newest of each token and endpoint, without a run
    for number, (_start, part) in enumerate(parts_of_time(sql)):
        polls = f"SELECT {ANSWER} FROM ({sql.rows_of(POLLS.name, part)}) AS polls{earlier}"
        query = sql.query(AGES, instead={POLLS.name: polls})
        sql.insert(ages, columns_of(AGES), f"SELECT * FROM ({query}) AS ages WHERE run_id <> ''")
        newest = (
            "SELECT '' AS run_id, token_key, endpoint, max(polled_at) AS polled_at, outcome, FALSE AS is_late"
            f" FROM ({polls}) AS polls WHERE outcome = 'ok' AND coalesce(is_late, FALSE) = FALSE"
            " GROUP BY token_key, endpoint, outcome"
        )
        kept = stack.enter_context(sql.temporary_table(f"{AGES}_{number % 2}", newest))
        sql.insert(kept, ANSWER.split(", "), newest)
        earlier = f" UNION ALL SELECT {ANSWER} FROM {kept}"
    return ages


@dataclass
class ScopeTable:
    """Ids in a temporary table: those of accounts, tokens and runs, each kind by its name."""

    sql: WarehouseSql
    name: str

    def add(self, kind: str, ids: Collection[str]) -> None:
        """Put ids in, so many at a time."""
        ordered = sorted(set(ids))
        for start in range(0, len(ordered), IDS_PER_STATEMENT):
            chunk = ordered[start : start + IDS_PER_STATEMENT]
            values = ", ".join([f"('{kind}', %s)"] * len(chunk))
            self.sql.execute(f"INSERT INTO {self.name} (id_of, id) VALUES {values}", *chunk)

    def add_rows(self, kind: str, rows: str, column: str) -> None:
        """Put the ids in that stand in a column of a query."""
        found = f"SELECT DISTINCT '{kind}' AS id_of, {column} AS id FROM ({rows}) AS found"
        self.sql.insert(self.name, ("id_of", "id"), f"{found} WHERE {column} IS NOT NULL")

    def ids(self, kind: str) -> str:
        """The ids of one kind."""
        return f"SELECT id FROM {self.name} WHERE id_of = '{kind}'"

    def part(self, key: str, by_table: Mapping[str, str] | None = None, kind: str | None = None) -> Part:
        """The rows of these accounts, tokens or runs, or of those of one kind."""
        return Part(f"{key} IN ({self.ids(kind or key)})", by_table or {})


@contextmanager
def scope_table(sql: WarehouseSql) -> Iterator[ScopeTable]:
    """An empty one, until the end."""
    shape = f"SELECT token_key AS id_of, token_key AS id FROM ({sql.rows_of(TOKEN_STATUS.name)}) AS tokens"
    with sql.temporary_table("scope", shape) as name:
        yield ScopeTable(sql, name)
