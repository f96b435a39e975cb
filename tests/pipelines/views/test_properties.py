"""What holds in every world, whatever the oracle thinks of it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from dlt_cronofy.views import PUBLIC_VIEWS
from tests.pipelines.views.warehouse import Warehouse, fill, read
from tests.pipelines.views.worlds import World, crowd, each_crowd

# crowds of drawn worlds; the rest of them meets the oracle
SOME = each_crowd(1, 3)
INTERVALS = ("account_id", "profile_type", "profile_id", "start_at", "end_at", "state")


def intervals_by_profile(warehouse: Warehouse) -> dict[Any, list[tuple[datetime, datetime, str]]]:
    found = defaultdict(list)
    for *key, start_at, end_at, state in read(warehouse, "profile_intervals", INTERVALS):
        found[tuple(key)].append((start_at, end_at, state))
    return {key: sorted(intervals) for key, intervals in found.items()}


@SOME
def test_intervals_neither_overlap_nor_leave_holes_and_are_maximal(warehouse: Warehouse, number: int) -> None:
    world = crowd(number)
    fill(warehouse, world.tables())
    for intervals in intervals_by_profile(warehouse).values():
        assert all(start_at < end_at for start_at, end_at, _ in intervals)
        for (_, end_at, state), (next_start_at, _, next_state) in pairwise(intervals):
            assert end_at == next_start_at
            assert state != next_state
        assert intervals[-1][1] == world.as_of


@SOME
def test_daily_seconds_add_up_to_the_intervals(warehouse: Warehouse, number: int) -> None:
    fill(warehouse, crowd(number).tables())
    states = ("connected", "disconnected", "unknown", "removed")
    columns = ", ".join(f"sum({state}_seconds)" for state in states)
    per_profile, per_provider = (
        warehouse.query(f"SELECT {columns} FROM cronofy.{view}")[0]
        for view in ("connectivity_daily", "provider_daily")
    )
    lengths: dict[str, float] = defaultdict(float)
    for *_, start_at, end_at, state in read(warehouse, "profile_intervals", INTERVALS):
        lengths[state] += (end_at - start_at).total_seconds()
    expected = pytest.approx([lengths[state] for state in states], abs=1e-3)
    assert [seconds or 0 for seconds in per_profile] == expected
    assert [seconds or 0 for seconds in per_provider] == expected


@SOME
def test_days_of_groups_are_those_of_their_profiles_added_up(warehouse: Warehouse, number: int) -> None:
    fill(warehouse, crowd(number).tables())
    # the accounts of a world have different customers, or none
    warehouse.execute("UPDATE cronofy.token_status SET customer = nullif(right(account_id, 1), '3')")
    was_there = "CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN account_id END"
    seconds = [f"{state}_seconds" for state in ("connected", "disconnected", "unknown", "removed")]
    counts = [f"count(DISTINCT {was_there}) AS accounts", f"count({was_there}) AS profiles"]
    # to the microsecond
    exact = [f"CAST(sum(CAST({each} AS DECIMAL(18, 6))) AS DOUBLE PRECISION) AS {each}" for each in seconds]
    profiles = "cronofy.connectivity_daily LEFT JOIN cronofy._accounts USING (account_id)"
    for view, group, columns in (
        ("provider_daily", "provider", ["profiles"]),
        ("customer_daily", "customer", ["accounts", "profiles"]),
    ):
        keys, values = f"{group}, day", ", ".join([*columns, *seconds])
        added_up = f"SELECT {keys}, {', '.join([*counts, *exact])} FROM {profiles} GROUP BY {keys}"
        expected = warehouse.query(f"SELECT {keys}, {values} FROM ({added_up}) AS added_up ORDER BY {keys}")
        assert warehouse.query(f"SELECT {keys}, {values} FROM cronofy.{view} ORDER BY {keys}") == expected


@pytest.mark.long
@SOME
def test_order_and_repetition_of_rows_change_no_view(warehouse: Warehouse, number: int) -> None:
    """But poll_log, which is the table: loads merge its rows by their keys."""
    answers = []
    for seed in (None, 1):
        fill(warehouse, World(crowd(number).polls, seed).tables())
        answers.append({view: read(warehouse, view, "*") for view in PUBLIC_VIEWS if view != "poll_log"})
    assert answers[0] == answers[1]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("number", "share"), [(1, 0.4), (0, 0.8)])
def test_the_past_does_not_change(warehouse: Warehouse, number: int, share: float) -> None:
    world = crowd(number)
    then = world.polls[int(share * len(world.polls))].polled_at
    fill(warehouse, world.tables())
    today = intervals_by_profile(warehouse)
    fill(warehouse, world.until(then).tables())
    remembered = {
        key: [
            (start_at, min(end_at, then), state) for start_at, end_at, state in intervals if start_at < then
        ]
        for key, intervals in today.items()
    }
    assert intervals_by_profile(warehouse) == {key: kept for key, kept in remembered.items() if kept}


# the inputs have about a thousand rows
MOST_ROWS_OF_A_STEP = 100_000


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for step in plan.get("Plans", ()):
        yield from steps(step)


def rows_read(step: dict[str, Any]) -> float:
    removed = step.get("Rows Removed by Filter", 0) + step.get("Rows Removed by Join Filter", 0)
    return float(step["Actual Rows"] + removed) * int(step["Actual Loops"])


def assert_no_step_reads_too_much(postgres_warehouse: Warehouse, views: Iterable[str]) -> None:
    for view in views:
        ((explained,),) = postgres_warehouse.query(
            f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM cronofy.{view}"
        )
        most = max(steps(explained[0]["Plan"]), key=rows_read)
        assert rows_read(most) < MOST_ROWS_OF_A_STEP, (view, most["Node Type"], rows_read(most))


def test_postgres_works_nothing_out_for_each_row(postgres_warehouse: Warehouse) -> None:
    """It does where it expects a single row: all days, or the newest time of all runs, once more for each."""
    fill(postgres_warehouse, crowd(0).tables())
    assert_no_step_reads_too_much(postgres_warehouse, PUBLIC_VIEWS)


# every tenth account has a profile that is down
OUTAGES = """
INSERT INTO cronofy.runs (run_id, last_polled_at) VALUES ('run', TIMESTAMPTZ '2026-03-02');
INSERT INTO cronofy.userinfo (token_key, account_id, observed_at)
SELECT 'key' || n, 'acc' || n, TIMESTAMPTZ '2026-03-01' FROM generate_series(1, 3000) n;
INSERT INTO cronofy.coverage (account_id, profile_type, first_sample_at, last_sample_at, samples)
SELECT 'acc' || n, 'calendar', TIMESTAMPTZ '2026-03-01', TIMESTAMPTZ '2026-03-02', 24
FROM generate_series(1, 3000) n;
INSERT INTO cronofy.profile_changes (account_id, profile_type, profile_id, observed_at, state)
SELECT 'acc' || n, 'calendar', 'pro' || n || p, TIMESTAMPTZ '2026-03-01',
       CASE WHEN p = 1 AND n % 10 = 0 THEN 'disconnected' ELSE 'connected' END
FROM generate_series(1, 3000) n, generate_series(1, 2) p;
ANALYZE
"""


def test_postgres_finds_the_partners_of_all_outages_at_once(postgres_warehouse: Warehouse) -> None:
    """Where it expects hardly any open outage, it looks through all profiles for each."""
    fill(postgres_warehouse, {})
    for statement in OUTAGES.split(";"):
        postgres_warehouse.execute(statement)
    outages_joined = ("outages", "needs_relink", "needs_action", "profile_health")
    assert_no_step_reads_too_much(postgres_warehouse, outages_joined)
