"""Doubts: which rows of those that killed runs touched do not fit the recent polls.

To work a row out takes all polls of its account or token. To see that it is right takes recent ones only:
what it says of the time before was right before the runs began. A run polls nothing twice. So the newest poll
that a row knows of is the one that may be lost, or there is a newer one that is not in the row yet. Either
shows, unless another run has built on it.
"""

# ruff: noqa: S608 - names are our own, values are literals of the dialect

from collections.abc import Mapping
from datetime import datetime, timedelta

from dlt_cronofy.source.tables import COVERAGE, POLLS, PROFILE_CHANGES, TOKEN_STATUS

from .comparison import unequal_rows
from .parts import parts
from .replacement import PART_KEYS, Replacement, ScopeTable
from .warehouse_sql import Part, WarehouseSql

# by these columns the tables grow of which a part will do
GROWS_BY = {POLLS.name: "polled_at", PROFILE_CHANGES.name: "observed_at"}
# so long before the runs began polls are recent: all that is polled daily was polled
RECENT = timedelta(days=2)
# a run that was under way beside them polled later than that, by whatever clock
BESIDE = timedelta(minutes=5)


def rows_since(sql: WarehouseSql, since: datetime | None) -> dict[str, str]:
    """What holds for the rows of the tables that grow which are not older than that, or for all."""
    if since is None:
        return {}
    return {table: f"{column} >= {sql.instant(since)}" for table, column in GROWS_BY.items()}


def doubtful(key: str) -> str:
    """What ids of accounts or tokens are in a scope whose rows are to be worked out."""
    return f"doubtful {key}"


def add_doubtful(work: Replacement, scope: ScopeTable, started_at: datetime | None) -> None:
    """Find the doubtful ones among the accounts and tokens of a scope.

    Args:
        work: how evidence is worked out.
        scope: has the accounts and tokens that the runs touched, and the runs.
        started_at: when the first of the runs began; where that is not known, all are doubtful.
    """
    tables = (COVERAGE.name, TOKEN_STATUS.name)
    if started_at is None:
        for table in tables:
            scope.add_rows(doubtful(PART_KEYS[table]), scope.ids(PART_KEYS[table]), "id")
        return
    for table in tables:
        _add_built_on(work.sql, scope, PART_KEYS[table], rows_since(work.sql, started_at - BESIDE))
        _add_unequal(work, scope, table, started_at - RECENT)
    _add_never_tried(work.sql, scope)


def _add_built_on(sql: WarehouseSql, scope: ScopeTable, key: str, since: Mapping[str, str]) -> None:
    """Those that were polled by another run since, or by several."""
    scope.add_rows(
        doubtful(key),
        f"SELECT {key} FROM ({sql.rows_of(POLLS.name, Part(by_table=since))}) AS polls GROUP BY {key}"
        " HAVING count(DISTINCT run_id) > 1"
        f" OR max(CASE WHEN run_id IN ({scope.ids('run_id')}) THEN 0 ELSE 1 END) = 1",
        key,
    )


def _add_never_tried(sql: WarehouseSql, scope: ScopeTable) -> None:
    """Tokens all of whose polls were skipped: their rows do not say when that was."""
    key = PART_KEYS[TOKEN_STATUS.name]
    condition = f"{scope.part(key).condition} AND endpoint IS NOT NULL AND last_polled_at IS NULL"
    scope.add_rows(doubtful(key), sql.rows_of(TOKEN_STATUS.name, Part(condition)), key)


def _add_unequal(work: Replacement, scope: ScopeTable, table: str, recent: datetime) -> None:
    """Those whose rows are not what they would be if all polls that are not recent were deleted."""
    sql, key = work.sql, PART_KEYS[table]
    horizon = recent if work.horizon is None else max(recent, work.horizon)
    touched = scope.part(key, rows_since(sql, horizon))
    for part in parts(sql, key, touched, work.polls_per_part):
        kept = sql.rows_of(table, Part(part.condition))
        worked_out = sql.query(table, part, work.hold, horizon)
        scope.add_rows(doubtful(key), unequal_rows(table, kept, worked_out), key)
