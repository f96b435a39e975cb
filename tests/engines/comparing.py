"""What is the same on two engines: the rows of every view, over the worlds of the tests of the views."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Protocol

import pytest

from dlt_cronofy.views import VIEWS
from tests.pipelines.views.evidence import HOLD, evidence
from tests.pipelines.views.histories import history
from tests.pipelines.views.test_cases import ACCOUNTS, INTERVALS, OUTAGES, TOKENS
from tests.pipelines.views.test_worklist import WORLD
from tests.pipelines.views.warehouse import DATASET, DuckDBWarehouse, Row, create_tables, create_views, fill
from tests.pipelines.views.worlds import crowd, side_by_side

Tables = dict[str, list[Row]]
Rows = list[tuple[Any, ...]]
Compared = dict[str, tuple[Rows, Rows]]

# by name: a table's rows, and how long a sample is trusted
WORLDS: dict[str, timedelta] = {
    "twenty drawn worlds": HOLD,
    "twenty others": HOLD,
    "the cases to be checked by eye": HOLD,
    "the same with a hold of a fraction": timedelta(seconds=5400.25),
    "one of each reason": HOLD,
    "nothing": HOLD,
}


@cache
def tables_of(world: str) -> Tables:
    """The raw rows of a world, evidence included."""
    if world == "nothing":
        return {}
    if world == "one of each reason":
        return WORLD
    if world.startswith("twenty"):
        tables = crowd(list(WORLDS).index(world)).tables()
    else:
        texts = [*(text for text, _ in (*INTERVALS.values(), *OUTAGES.values(), *TOKENS.values()))]
        tables = side_by_side([history(text) for text in (*texts, *ACCOUNTS.values())]).tables()
    return {**evidence(tables, WORLDS[world]), **tables}


@cache
def expected(world: str) -> dict[str, Rows]:
    """What DuckDB's views hold."""
    warehouse = DuckDBWarehouse()
    create_tables(warehouse)
    create_views(warehouse, WORLDS[world].total_seconds())
    fill(warehouse, tables_of(world), WORLDS[world])
    return {view: warehouse.query(f"SELECT * FROM {DATASET}.{view}") for view in VIEWS}


class Engine(Protocol):
    """What the tests ask of a warehouse."""

    def fill(self, tables: Tables) -> None:
        """Put these rows in the place of all that are there."""

    def results(self, hold: timedelta) -> dict[str, Rows]:
        """The rows of every view."""


def compare(engine: Engine, world: str) -> Compared:
    """The rows of each view over a world, and what DuckDB's view holds."""
    engine.fill(tables_of(world))
    actual = engine.results(WORLDS[world])
    return {view: (actual[view], rows) for view, rows in expected(world).items()}


def assert_same(actual: Rows, reference: Rows) -> None:
    """The same rows in any order, and values of the same types; sums may differ in their last digits."""
    assert len(actual) == len(reference)
    for mine, other in zip(sorted(actual, key=_order), sorted(reference, key=_order), strict=True):
        assert list(map(type, mine)) == list(map(type, other)), (mine, other)
        assert mine == tuple(map(_nearly, other))


def _order(row: tuple[Any, ...]) -> tuple[str, list[float]]:
    """Rows that differ in the last digits only stay in one order."""
    numbers = [value for value in row if isinstance(value, float)]
    return repr([value for value in row if not isinstance(value, float)]), [round(n, 3) for n in numbers]


def _nearly(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value


def in_utc(row: Iterable[Any]) -> tuple[Any, ...]:
    """The values of a row, instants in UTC."""
    return tuple(value.astimezone(UTC) if isinstance(value, datetime) else value for value in row)
