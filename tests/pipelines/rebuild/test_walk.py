"""Worlds drawn at random: on both engines the SQL says what walking the rows says."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from dlt_cronofy.rebuild import differences, rebuild
from dlt_cronofy.rebuild.warehouse_sql import ALL, PART_KEYS, WarehouseSql
from tests.pipelines.rebuild import walk
from tests.pipelines.rebuild.warehouse import Row, Tables
from tests.pipelines.views.worlds import World, crowd, each_crowd, examples, worlds

HOLD = timedelta(hours=24)
OUTCOMES = ("plan_required", "provider_locked", "network_error", "bad_payload")


def rows_of(world: World, seed: int = 0) -> dict[str, list[Row]]:
    """The raw rows of a world, with what its polls leave out: data center, requests, late polls, few runs.

    Rows that repeat stay the same.
    """
    tables = world.tables()
    drawn: dict[str, Row] = {}
    polls = sorted(tables["polls"], key=lambda row: (row["polled_at"], row["poll_id"]))
    for row in polls:
        chance = random.Random(f"{seed}/{row['poll_id']}")
        drawn[row["poll_id"]] = {
            "attempts": 0 if row["outcome"] == "skipped" else chance.randint(1, 4),
            "refreshes": chance.choice([None, 0, 0, 1]),
            "is_late": chance.choice([None, False, False, False, False, False, True]),
            "data_center": chance.choice(["us", "de"]),
        }
        if row["outcome"] == "forbidden":
            drawn[row["poll_id"]]["outcome"] = chance.choice(OUTCOMES)
        if row["outcome"] not in ("ok", "skipped") and chance.random() < 0.3:
            drawn[row["poll_id"]]["account_id"] = "acc_1"
    late = {key for key, values in drawn.items() if values["is_late"]}
    late_changes = {
        (row["account_id"], row["polled_at"]) for row in tables["polls"] if row["poll_id"] in late
    }
    return {
        "polls": [row | drawn[row["poll_id"]] | {"run_id": run_of(row["run_id"])} for row in tables["polls"]],
        "profile_changes": [
            row | {"run_id": run_of(row["run_id"])}
            for row in tables["profile_changes"]
            if (row["account_id"], row["observed_at"]) not in late_changes
        ],
    }


def run_of(name: str) -> str:
    """One run for several polls."""
    return f"run_{int(name.removeprefix('run_')) // 4:03}"


def assert_walked(tables: Tables, raw: dict[str, list[Row]], hold: timedelta = HOLD) -> None:
    """The evidence is what walking the rows says, column by column."""
    polls, changes = raw["polls"], raw["profile_changes"]
    expected = {
        "coverage": walk.coverage(polls, changes, hold),
        "token_status": walk.token_status(polls),
        "runs": walk.runs(polls, changes),
    }
    keys = {"coverage": ("account_id", "profile_type", "first_sample_at"), "token_status": ("token_key",)}
    sampled_by = {(row.get("account_id"), row["polled_at"], row["run_id"]) for row in polls}
    sampled_by |= {(row["account_id"], row["observed_at"], row["run_id"]) for row in changes}
    for row in tables.rows("coverage"):
        assert (row["account_id"], row["last_sample_at"], row["run_id"]) in sampled_by
    for table, rows in expected.items():
        key = keys.get(table, ("run_id",))
        assert by_key(part_of(tables.rows(table), rows), key) == by_key(rows, key)


def part_of(actual: list[Row], expected: list[Row]) -> list[Row]:
    columns = expected[0].keys() if expected else set()
    return [{name: row[name] for name in columns} for row in actual]


def by_key(rows: list[Row], key: tuple[str, ...]) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row[name] for name in key): row for row in rows}
    assert len(found) == len(rows)
    return found


@each_crowd(2)
def test_evidence_is_what_walking_the_rows_says(tables: Tables, number: int) -> None:
    """Worlds of each engine; a difference names its account, which names its world."""
    raw = rows_of(crowd(number), number)
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    assert_walked(tables, raw)
    assert differences(tables.client, HOLD) == []


@pytest.mark.long
@examples(5)
@given(world=worlds(max_polls=8))
def test_evidence_of_a_world_of_its_own_in_small_parts(tables: Tables, world: World) -> None:
    """Where nothing but one small world is there, parts are of a poll or two, and some have nothing."""
    raw = rows_of(world)
    tables.fill(raw)
    with polls_per_part(2):
        rebuild(tables.client, HOLD)
    assert_walked(tables, raw)
    with polls_per_part(3):
        assert differences(tables.client, HOLD) == []


@pytest.mark.parametrize("table", PART_KEYS)
def test_joins_are_by_equality(duckdb_tables: Tables, table: str) -> None:
    """What compares every kept row with every poll takes minutes for 100,000 tokens."""
    raw = rows_of(crowd(0))
    duckdb_tables.fill(raw)
    rebuild(duckdb_tables.client, HOLD)
    middle = sorted(row["polled_at"] for row in raw["polls"])[len(raw["polls"]) // 2]
    query = WarehouseSql(duckdb_tables.client).query(table, ALL, HOLD, middle)
    plan = duckdb_tables.client.execute_sql(f"EXPLAIN {query}")
    joins = set(re.findall(r"\w+_JOIN|CROSS_PRODUCT", str(plan)))
    assert joins <= {"HASH_JOIN"}


@contextmanager
def polls_per_part(number: int) -> Iterator[None]:
    """Have DuckDB work out so few polls at a time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dlt_cronofy.rebuild.replacement.POLLS_PER_PART", number)
        yield


@pytest.mark.sampled(1)
@pytest.mark.parametrize("hold", [timedelta(hours=6), timedelta(hours=31), timedelta(microseconds=1)])
def test_another_hold_applies_to_the_past(tables: Tables, hold: timedelta) -> None:
    raw = rows_of(crowd(0))
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    rebuild(tables.client, hold)
    assert_walked(tables, raw, hold)
    assert differences(tables.client, hold) == []
    assert {each.table for each in differences(tables.client, HOLD)} == {"coverage"}


@pytest.mark.sampled(1)
def test_repetition_and_order_of_rows_change_nothing(tables: Tables) -> None:
    evidence = []
    for seed in (None, 1):
        tables.fill(rows_of(World(crowd(1).polls, seed)))
        rebuild(tables.client, HOLD)
        evidence.append(without_runs_of_samples(tables.evidence()))
        rebuild(tables.client, HOLD)
        evidence.append(without_runs_of_samples(tables.evidence()))
    assert all(each == evidence[0] for each in evidence)


def without_runs_of_samples(evidence: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Of simultaneous samples any may be the one whose run is named."""
    coverage = [{name: row[name] for name in row.keys() - {"run_id"}} for row in evidence["coverage"]]
    return evidence | {"coverage": coverage}
