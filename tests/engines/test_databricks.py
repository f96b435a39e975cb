"""Databricks' views on Spark: they say what DuckDB's say."""

from collections.abc import Iterator

import pytest

from dlt_cronofy import views
from tests.pipelines.views.evidence import HOLD
from tests.pipelines.views.warehouse import DATASET

from .comparing import WORLDS, Compared, assert_same, compare, expected, tables_of
from .spark import SparkWarehouse

pytestmark = pytest.mark.warehouses


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkWarehouse]:
    warehouse = SparkWarehouse(tmp_path_factory.mktemp("spark"))
    yield warehouse
    warehouse.close()


@pytest.fixture(scope="module", params=WORLDS)
def compared(request: pytest.FixtureRequest, spark: SparkWarehouse) -> Compared:
    """What the views hold on both engines, over one world."""
    return compare(spark, request.param)


@pytest.mark.parametrize("view", views.VIEWS)
def test_a_view_says_what_it_says_in_duckdb(compared: Compared, view: str) -> None:
    assert_same(*compared[view])


def test_the_views_are_created_with_their_comments(spark: SparkWarehouse) -> None:
    world = "one of each reason"
    spark.fill(tables_of(world))
    views.create_views(spark.execute, spark.dialect, DATASET, HOLD.total_seconds())
    assert_same(spark.query(f"SELECT * FROM {DATASET}.needs_action"), expected(world)["needs_action"])
    described = {row[0]: row[2] for row in spark.query(f"DESCRIBE TABLE {DATASET}.needs_action")}
    assert described["reason"]
