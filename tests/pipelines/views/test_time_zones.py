"""A view says the same in every session: a BI tool may think in any time zone."""

import pytest

from dlt_cronofy.views import PUBLIC_VIEWS
from tests.pipelines.views.warehouse import DATASET, DUCKDB_TIME_ZONE, POSTGRES_TIME_ZONE, Warehouse, fill
from tests.pipelines.views.worlds import crowd

OWN = {"duckdb": DUCKDB_TIME_ZONE, "postgres": POSTGRES_TIME_ZONE}
# with summer time, and a day ahead; the other tests run half an hour off
ZONES = ("America/New_York", "Pacific/Kiritimati")


@pytest.fixture(scope="module")
def filled(warehouse: Warehouse) -> Warehouse:
    fill(warehouse, crowd(0).tables())
    return warehouse


@pytest.mark.parametrize("view", PUBLIC_VIEWS)
def test_a_view_does_not_depend_on_the_time_zone(filled: Warehouse, view: str) -> None:
    rows = {}
    try:
        for zone in ("UTC", *ZONES):
            filled.execute(f"SET TimeZone = '{zone}'")
            rows[zone] = sorted(filled.query(f"SELECT * FROM {DATASET}.{view}"), key=repr)
    finally:
        filled.execute(f"SET TimeZone = '{OWN[filled.dialect]}'")
    # what is drawn need not hold as many outages at once
    assert rows["UTC"] or view in ("needs_relink", "mass_events")
    for zone in ZONES:
        assert rows[zone] == rows["UTC"], zone
