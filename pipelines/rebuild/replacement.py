"""Working out evidence, and putting it in the place of what is kept.

What is worked out goes to temporary tables first, part by part. Then it replaces the rows of the evidence
tables, in one transaction where the warehouse has them: a kill leaves the old rows or the new ones.
"""

# ruff: noqa: S608 - names are our own or come from the warehouse's catalog

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import COVERAGE, LOAD_ID, RUNS, TABLES, TOKEN_STATUS

from .horizon import find_horizon
from .parts import Scope, parts
from .warehouse_sql import ALL, Part, WarehouseSql

# what stands for dlt's load in rows that no load wrote
NO_LOAD = "rebuild"
IDS_PER_STATEMENT = 500
AGES = "evidence_ages"
AGE_COLUMNS = ("oldest_evidence_at", "oldest_evidence_age_seconds")

# whose rows a part of a table is
PART_KEYS = {COVERAGE.name: "account_id", TOKEN_STATUS.name: "token_key", RUNS.name: "run_id"}


def rebuild(
    client: SqlClientBase[Any],
    hold: timedelta | float,
    only: Scope | None = None,
    polls_per_part: int | None = None,
) -> None:
    """Replace the rows of `token_status`, `coverage` and `runs` by what polls and changes say.

    Args:
        client: an open one, which may write.
        hold: how long one sample is trusted, a length of time or seconds.
        only: replace only these accounts' rows of `coverage` and these tokens' rows of `token_status`.
        polls_per_part: about how many polls are worked out at a time; None for what suits the warehouse.
    """
    sql = WarehouseSql(client)
    sql.create_missing([*PART_KEYS])
    work = Replacement(sql, as_length(hold), find_horizon(sql), polls_per_part)
    with sql.without_nested_loops(), ExitStack() as stack:
        if only is None:
            for table in PART_KEYS:
                work.work_out(stack, table)
        else:
            scope = stack.enter_context(scope_table(sql))
            scope.add("account_id", only.accounts)
            scope.add("token_key", only.tokens)
            for table in (COVERAGE.name, TOKEN_STATUS.name):
                work.work_out(stack, table, scope.part(PART_KEYS[table]))
        work.replace()


def as_length(hold: timedelta | float) -> timedelta:
    """A length of time.

    Raises:
        ValueError: it is none.
    """
    length = hold if isinstance(hold, timedelta) else timedelta(seconds=hold)
    if length <= timedelta(0):
        raise ValueError("hold must be positive")
    return length


@dataclass
class Replacement:
    """What was worked out of each table, and takes the place of its rows at the end.

    Attributes:
        hold: how long one sample is trusted.
        horizon: from when on all polls are kept; None where none was ever deleted.
        polls_per_part: about how many polls are worked out at a time; None for what suits the warehouse.
    """

    sql: WarehouseSql
    hold: timedelta
    horizon: datetime | None = None
    polls_per_part: int | None = None
    _worked_out: dict[str, tuple[Part, str]] = field(default_factory=dict)

    def work_out(self, stack: ExitStack, table: str, only: Part = ALL) -> None:
        """Work out the rows of a table that a part has; they are kept until the stack is left."""
        sql = self.sql
        ages = None
        if table == RUNS.name and only is ALL:
            ages = stack.enter_context(sql.temporary_table(AGES, sql.query(AGES)))
            self._work_out_ages(ages)
        stage = stack.enter_context(sql.temporary_table(table, f"SELECT * FROM {sql.table(table)}"))
        for part in parts(sql, PART_KEYS[table], only, self.polls_per_part):
            sql.insert(stage, sql.columns(table), self._complete_rows(table, part, ages))
        self._worked_out[table] = only, stage

    def replace(self, *afterwards: str) -> None:
        """Put what was worked out in the place of what is there, and run further statements with it."""
        sql = self.sql
        with sql.transaction():
            for table, (only, stage) in self._worked_out.items():
                sql.execute(f"DELETE FROM {sql.table(table)} WHERE {only.condition}")
                columns = sql.columns(table)
                sql.insert(sql.table(table), columns, f"SELECT {', '.join(columns)} FROM {stage}")
            for statement in afterwards:
                sql.execute(statement)

    def _complete_rows(self, table: str, part: Part, ages: str | None) -> str:
        """Rows with all columns of a table: what no poll can tell is that of the row that is kept."""
        sql = self.sql
        selected = ", ".join(self._column(table, name, ages) for name in sql.stored[table])
        same = " AND ".join(f"kept.{name} = worked_out.{name}" for name in TABLES[table].key)
        rows = (
            f"SELECT {selected} FROM ({sql.query(table, part, self.hold, self.horizon)}) AS worked_out"
            f" LEFT JOIN ({sql.kept_rows(table)}) AS kept ON {same}"
        )
        if ages is not None:
            rows += f" LEFT JOIN ({_oldest(ages)}) AS ages ON ages.run_id = worked_out.run_id"
        return rows

    def _column(self, table: str, name: str, ages: str | None) -> str:
        """Where a column of a table comes from."""
        kept = f"kept.{self.sql.column(table, name)}"
        if name in self.sql.columns_of(table):
            return f"worked_out.{name}"
        if name == LOAD_ID:
            return f"coalesce({kept}, '{NO_LOAD}')"
        if name in AGE_COLUMNS and ages is not None:
            # where polls are deleted, the kept row may know of older evidence than those that are left
            return f"ages.{name}" if self.horizon is None else f"coalesce({kept}, ages.{name})"
        return kept

    def _work_out_ages(self, ages: str) -> None:
        columns = ("run_id", *AGE_COLUMNS)
        for part in parts(self.sql, "token_key", polls_per_part=self.polls_per_part):
            found = f"SELECT {', '.join(columns)} FROM ({self.sql.query(AGES, part)}) AS found"
            self.sql.insert(ages, columns, found)


def _oldest(ages: str) -> str:
    """The ages of all parts, one row a run."""
    return (
        "SELECT run_id, min(oldest_evidence_at) AS oldest_evidence_at,"
        " max(oldest_evidence_age_seconds) AS oldest_evidence_age_seconds"
        f" FROM {ages} GROUP BY run_id"
    )


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
            values = ", ".join(["(%s, %s)"] * len(chunk))
            parameters = [value for each in chunk for value in (kind, each)]
            self.sql.execute(f"INSERT INTO {self.name} (id_of, id) VALUES {values}", *parameters)

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
