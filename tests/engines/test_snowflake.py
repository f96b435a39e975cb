"""Snowflake's tables, merges and views on fakesnow: they hold what DuckDB's hold."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.sandbox import MovableClock, build_world, serve
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.dataset import query_rows, sql_client
from tests.acceptance.place import TABLES, Place
from tests.acceptance.test_postgres import START, Warehouse, load_all

from .comparing import WORLDS, Compared, Rows, assert_same, compare
from .snowflake import CREDENTIALS, SnowflakeWarehouse, snowflake

pytestmark = pytest.mark.warehouses


@pytest.fixture(scope="module")
def warehouse() -> Iterator[SnowflakeWarehouse]:
    with snowflake():
        warehouse = SnowflakeWarehouse()
        yield warehouse
        warehouse.close()


@pytest.fixture(scope="module", params=WORLDS)
def compared(request: pytest.FixtureRequest, warehouse: SnowflakeWarehouse) -> Compared:
    """What the views hold on both engines, over one world."""
    return compare(warehouse, request.param)


# fakesnow has sums of decimals as floating-point numbers, which internal views show
@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_a_view_says_what_it_says_in_duckdb(compared: Compared, view: str) -> None:
    actual, reference = compared[view]
    assert_same(whole_numbers(actual), whole_numbers(reference))


def whole_numbers(rows: Rows) -> Rows:
    """Decimals without a fraction as integers, as Snowflake's own connector has them."""
    return [tuple(map(_whole_number, row)) for row in rows]


def _whole_number(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) and value % 1 == 0 else value


@dataclass(frozen=True)
class Played:
    """A Snowflake and a DuckDB file after the same loads, and where the sandbox still answers."""

    snowflake: Warehouse
    duckdb: Warehouse
    written: dict[str, list[dict[str, int]]]

    def command(self, *arguments: str, **environment: str) -> str:
        """What a command prints that is configured as people configure it."""
        settings = self.snowflake.place.environment(
            DESTINATION_TYPE="snowflake", DESTINATION__SNOWFLAKE__CREDENTIALS=CREDENTIALS, **environment
        )
        finished = CliRunner().invoke(cli, arguments, env=settings, catch_exceptions=False)
        assert finished.exit_code == 0, finished.output
        return finished.stdout

    def rows(self, relation: str) -> tuple[Rows, Rows]:
        """What a table or view holds in both, but for what tells two loads of one instant apart."""
        return tuple(map(whole_numbers, (self._rows(self.snowflake, relation), self._rows(self.duckdb, relation))))

    def _rows(self, warehouse: Warehouse, relation: str) -> Rows:
        return [tuple(sorted(comparable(row, RACY.get(relation, set())).items())) for row in warehouse.found(relation)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Three loads of a changing world into both; then the world stands still."""
    clock, world = MovableClock(START), build_world(accounts=20, seed=5, start=START, days=14)
    with ExitStack() as stack:
        stack.enter_context(snowflake())
        server = stack.enter_context(serve(world, clock=clock))
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        both = {
            name: Warehouse(name, Place(tmp_path_factory.mktemp(name), server.base_url))
            for name in ("snowflake", "duckdb")
        }
        written = load_all(world, clock, both)
        yield Played(both["snowflake"], both["duckdb"], written)
