"""Working out evidence, and putting it in the place of what is kept.

What is worked out goes to temporary tables first, part by part. Then it replaces the rows of the evidence
tables, in one transaction where the warehouse has them: a kill leaves the old rows or the new ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from sources.cronofy.tables import COVERAGE, LOAD_ID, RUNS, TABLES, TOKEN_STATUS

from .horizon import find_horizon
from .parts import Scope, one_of, parts
from .warehouse_sql import ALL, Part, WarehouseSql

# what stands for dlt's load in rows that no load wrote
NO_LOAD = "rebuild"
IDS_PER_STATEMENT = 500
AGES = "evidence_ages"
AGE_COLUMNS = ("oldest_evidence_at", "oldest_evidence_age_seconds")

# whose rows a part of a table is
PART_KEYS = {COVERAGE.name: "account_id", TOKEN_STATUS.name: "token_key", RUNS.name: "run_id"}

Expressions = Mapping[str, exp.Expr]


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
    if only is None:
        with ExitStack() as stack:
            for table in PART_KEYS:
                work.work_out(stack, table)
            work.replace()
        return
    with ExitStack() as stack, scope_table(sql) as scope:
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
    _done: dict[str, tuple[Part, exp.Table]] = field(default_factory=dict)

    def work_out(self, stack: ExitStack, table: str, only: Part = ALL) -> None:
        """Work out the rows of a table that a part has; they are kept until the stack is left."""
        sql, key = self.sql, PART_KEYS[table]
        instead: Expressions = {}
        ages: exp.Table | None = None
        if table == RUNS.name and only is ALL:
            ages = stack.enter_context(sql.temporary_table(AGES, sql.query(AGES)))
            self._work_out_ages(ages)
            instead = {name: self._age(name) for name in AGE_COLUMNS}
        stage = stack.enter_context(sql.temporary_table(table, exp.select("*").from_(sql.table(table))))
        for part in parts(sql, key, only, self.polls_per_part):
            rows = self._complete_rows(table, sql.query(table, part, self.hold, self.horizon), ages, instead)
            sql.insert(stage, self._columns(table), rows)
        self._done[table] = only, stage

    def replace(self, *afterwards: exp.Expr) -> None:
        """Put what was worked out in the place of what is there, and run further statements with it."""
        sql = self.sql
        with sql.transaction():
            for table, (only, stage) in self._done.items():
                condition = only.condition if only.condition is not None else exp.true()
                sql.execute(exp.delete(sql.table(table)).where(condition.copy()))
                columns = self._columns(table)
                sql.insert(sql.table(table), columns, exp.select(*map(exp.column, columns)).from_(stage))
            for statement in afterwards:
                sql.execute(statement)

    def _columns(self, table: str) -> list[exp.Identifier]:
        return [self.sql.column(table, name) for name in self.sql.stored[table]]

    def _complete_rows(
        self, table: str, worked_out: exp.Query, ages: exp.Table | None, instead: Expressions
    ) -> exp.Select:
        """Rows with all columns of a table: what no poll can tell is that of the row that is kept."""
        sql, key = self.sql, TABLES[table].key
        names = {each.alias_or_name for each in worked_out.selects}
        selected = [
            instead.get(name)
            or (exp.column(name, table="worked_out") if name in names else self._kept(table, name))
            for name in sql.stored[table]
        ]
        same = exp.and_(*(_same(name, "kept", "worked_out") for name in key))
        rows = (
            exp.select(*(each.copy() for each in selected))
            .from_(named(worked_out, "worked_out"), copy=False)
            .join(sql.kept_rows(table).subquery("kept"), on=same, join_type="left", copy=False)
        )
        if ages is not None:
            found = _same("run_id", "ages", "worked_out")
            rows.join(named(self._oldest(ages), "ages"), on=found, join_type="left", copy=False)
        return rows

    def _kept(self, table: str, name: str) -> exp.Expr:
        column = exp.column(self.sql.column(table, name), table="kept")
        if name == LOAD_ID:
            return exp.func("coalesce", column, exp.Literal.string(NO_LOAD))
        return column

    def _age(self, name: str) -> exp.Expr:
        """How old the evidence of a run was; where polls are deleted, the kept row may know of older one."""
        found = exp.column(name, table="ages")
        return found if self.horizon is None else exp.func("coalesce", exp.column(name, table="kept"), found)

    def _work_out_ages(self, ages: exp.Table) -> None:
        columns = [exp.to_identifier(name) for name in ("run_id", *AGE_COLUMNS)]
        for part in parts(self.sql, "token_key", polls_per_part=self.polls_per_part):
            rows = exp.select(*map(exp.column, columns)).from_(named(self.sql.query(AGES, part), "found"))
            self.sql.insert(ages, columns, rows)

    @staticmethod
    def _oldest(ages: exp.Table) -> exp.Select:
        return (
            exp.select(
                "run_id",
                "min(oldest_evidence_at) AS oldest_evidence_at",
                "max(oldest_evidence_age_seconds) AS oldest_evidence_age_seconds",
            )
            .from_(ages.copy())
            .group_by("run_id")
        )


@dataclass
class ScopeTable:
    """Ids in a temporary table: those of accounts, tokens and runs."""

    sql: WarehouseSql
    table: exp.Table

    def add(self, key: str, ids: "frozenset[str] | set[str] | list[str]") -> None:
        """Put ids in, so many at a time."""
        ordered = sorted(ids)
        for start in range(0, len(ordered), IDS_PER_STATEMENT):
            chunk = ordered[start : start + IDS_PER_STATEMENT]
            values = ", ".join(["(%s, %s)"] * len(chunk))
            parameters = [value for each in chunk for value in (key, each)]
            self.sql.client.execute_sql(
                f"INSERT INTO {self.sql.text(self.table)} (id_of, id) VALUES {values}",  # noqa: S608 - our own name
                *parameters,
            )

    def add_rows(self, key: str, rows: exp.Query) -> None:
        """Put the ids in that a query returns as `id`."""
        columns = [exp.to_identifier("id_of"), exp.to_identifier("id")]
        named = exp.select(exp.alias_(exp.Literal.string(key), "id_of"), "id").from_(rows.subquery("found"))
        self.sql.insert(self.table, columns, named.where("id IS NOT NULL"))

    def ids(self, key: str) -> exp.Select:
        """The ids of one kind."""
        kind = exp.column("id_of").eq(exp.Literal.string(key))
        return exp.select("id").from_(self.table.copy()).where(kind)

    def part(self, key: str, by_table: Expressions | None = None) -> Part:
        """The rows of these accounts, tokens or runs."""
        return Part(one_of(key, self.ids(key)), by_table or {})


@contextmanager
def scope_table(sql: WarehouseSql) -> Iterator[ScopeTable]:
    """An empty one, until the end."""
    text = exp.cast(exp.Literal.string(""), "TEXT")
    shape = exp.select(exp.alias_(text, "id_of"), exp.alias_(text.copy(), "id"))
    with sql.temporary_table("scope", shape) as table:
        yield ScopeTable(sql, table)


def _same(name: str, one: str, other: str) -> exp.EQ:
    return exp.column(name, table=one).eq(exp.column(name, table=other))


def named(query: exp.Expr, name: str) -> exp.Subquery:
    """A query as a relation; unlike sqlglot's own way without a copy of it, which may be long."""
    return exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(name)))
