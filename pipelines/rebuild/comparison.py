"""Comparing the evidence that is kept with what polls and changes say."""

# ruff: noqa: S608 - names are our own

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.records import FAILURES
from dlt_cronofy.source.tables import COVERAGE, RUNS, TABLES, TOKEN_STATUS

from .replacement import find_horizon, worked_out
from .warehouse_sql import ALL, PART_KEYS, Part, WarehouseSql

# what polls and changes tell, besides the key
COMPARED: dict[str, tuple[str, ...]] = {
    TOKEN_STATUS.name: (
        "account_id",
        "endpoint",
        "last_polled_at",
        "last_ok_at",
        "last_outcome",
        "failing_since",
        "consecutive_failures",
        "account_polled_at",
        "account_ok_at",
        "profiles_polled_at",
        "profiles_ok_at",
    ),
    COVERAGE.name: ("last_sample_at", "samples"),
    RUNS.name: (
        "polled",
        "ok",
        "failed",
        "skipped",
        *FAILURES,
        "requests",
        "changes",
        "first_polled_at",
        "last_polled_at",
    ),
}

Key = tuple[Any, ...]

MISSING, UNEXPLAINED, REPEATED = "missing", "not explained by polls", "there more than once"


@dataclass(frozen=True)
class Difference:
    """A column in which a row of the evidence is not as worked out, or a problem of the whole row."""

    table: str
    key: tuple[tuple[str, Any], ...]
    column: str | None = None
    kept: Any = None
    worked_out: Any = None
    problem: str | None = None

    def __str__(self) -> str:
        row = f"{self.table} {', '.join(f'{name} {_shown(value)}' for name, value in self.key)}"
        if self.problem is not None:
            return f"{row}: {self.problem}"
        return f"{row}: {self.column} is {_shown(self.kept)}, worked out {_shown(self.worked_out)}"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: times as text."""
        row = {"table": self.table, "key": {name: _as_json(value) for name, value in self.key}}
        if self.problem is not None:
            return row | {"problem": self.problem}
        values = {"kept": _as_json(self.kept), "worked_out": _as_json(self.worked_out)}
        return row | {"column": self.column} | values


def differences(client: SqlClientBase[Any], hold: timedelta) -> list[Difference]:
    """In what the evidence that is kept is not what polls and changes say; only reads."""
    sql = WarehouseSql(client)
    horizon = find_horizon(sql)
    with sql.without_nested_loops():
        return [
            difference
            for table in PART_KEYS
            for unequal in unequal_rows(sql, table, hold, horizon)
            for difference in _differences(table, sql.fetch(unequal))
        ]


def unequal_rows(
    sql: WarehouseSql, table: str, hold: timedelta, horizon: datetime | None, only: Part = ALL
) -> Iterator[str]:
    """Queries, one a part: the rows that do not stand once on each side, and how often on each."""
    columns = ", ".join((*TABLES[table].key, *COMPARED[table]))
    for part, query in worked_out(sql, table, hold, horizon, only):
        yield f"""
            SELECT sum(kept) AS times_kept, sum(worked_out) AS times_worked_out, {columns}
            FROM (
                SELECT 1 AS kept, 0 AS worked_out, {columns}
                FROM ({sql.rows_of(table, Part(part.condition))}) AS kept_rows
                UNION ALL
                SELECT 0 AS kept, 1 AS worked_out, {columns}
                FROM ({query}) AS worked_out_rows
            ) AS sides
            GROUP BY {columns}
            HAVING sum(kept) <> sum(worked_out) OR sum(kept) > 1
        """


def _differences(table: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[Difference]:
    """What is wrong with the row of each key, in the order of the keys."""
    width = len(TABLES[table].key)
    kept: dict[Key, list[Key]] = {}
    worked_out: dict[Key, list[Key]] = {}
    for times_kept, times_worked_out, *values in rows:
        key, rest = tuple(values[:width]), tuple(values[width:])
        kept.setdefault(key, []).extend([rest] * int(times_kept))
        worked_out.setdefault(key, []).extend([rest] * int(times_worked_out))
    for key in sorted(kept, key=str):
        row = tuple(zip(TABLES[table].key, key, strict=True))
        if len(kept[key]) == 1 and worked_out[key]:
            for column, old, new in zip(COMPARED[table], kept[key][0], worked_out[key][0], strict=True):
                if old != new:
                    yield Difference(table, row, column, old, new)
        else:
            problem = REPEATED if kept[key][1:] else UNEXPLAINED if kept[key] else MISSING
            yield Difference(table, row, problem=problem)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".removesuffix(".000000")
    return "null" if value is None else str(value)


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
