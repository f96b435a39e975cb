"""Snowflake's views on fakesnow: they say what DuckDB's say."""

from collections.abc import Iterator

import pytest

from dlt_cronofy.views import PUBLIC_VIEWS
from tests.acceptance.test_postgres import plain

from .comparing import WORLDS, Compared, Rows, assert_same, compare
from .snowflake import SnowflakeWarehouse, snowflake

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
    assert_same(whole_numbers(actual), reference)


def whole_numbers(rows: Rows) -> Rows:
    """Decimals without a fraction as integers, as Snowflake's own connector has them."""
    return [tuple(map(plain, row)) for row in rows]
