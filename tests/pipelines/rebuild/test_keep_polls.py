"""Old polls are deleted, and the evidence stays: kept of the time before, worked out of the time after."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from dlt_cronofy.rebuild import differences, drop_old_polls, heal, rebuild, unfinished_runs
from dlt_cronofy.rebuild.replacement import find_horizon
from dlt_cronofy.rebuild.warehouse_sql import WarehouseSql
from dlt_cronofy.source.tables import TABLES
from tests.pipelines.rebuild.test_healing import named
from tests.pipelines.rebuild.test_walk import HOLD, polls_per_part, rows_of
from tests.pipelines.rebuild.warehouse import Row, Tables
from tests.pipelines.views.worlds import crowd

FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
# what a run found when it polled cannot be known of one that is new where polls are gone
FOUND = ("oldest_evidence_at", "oldest_evidence_age_seconds", "_dlt_load_id")


def raw_rows(number: int) -> dict[str, list[Row]]:
    return named(rows_of(crowd(number), number))


def until(raw: dict[str, list[Row]], instant: datetime) -> dict[str, list[Row]]:
    return {
        "polls": [row for row in raw["polls"] if row["polled_at"] <= instant],
        "profile_changes": [row for row in raw["profile_changes"] if row["observed_at"] <= instant],
    }


def after(raw: dict[str, list[Row]], instant: datetime) -> dict[str, list[Row]]:
    earlier = until(raw, instant)
    return {table: [row for row in rows if row not in earlier[table]] for table, rows in raw.items()}


def instants_of(raw: dict[str, list[Row]]) -> list[datetime]:
    return sorted({row["polled_at"] for row in raw["polls"]})


def ends_of_runs(raw: dict[str, list[Row]]) -> list[datetime]:
    return sorted({row["run_id"]: row["polled_at"] for row in by_time(raw["polls"])}.values())


def by_time(polls: list[Row]) -> list[Row]:
    return sorted(polls, key=lambda row: row["polled_at"])


def comparable(tables: Tables) -> dict[str, list[Row]]:
    return {
        table: [{name: row[name] for name in row.keys() - set(FOUND)} for row in rows]
        for table, rows in tables.evidence().items()
    }


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", range(4, 8))
def test_without_old_polls_nothing_changes(tables: Tables, number: int) -> None:
    raw = raw_rows(number)
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    evidence = tables.evidence()
    chance, instants = random.Random(number), instants_of(raw)
    for cut in (*sorted(chance.sample(instants, 2)), FAR_AHEAD):
        while drop_old_polls(tables.client, cut, 200):
            pass
        assert differences(tables.client, HOLD) == []
        with polls_per_part(chance.choice([10**6, 300])):
            rebuild(tables.client, HOLD)
        assert tables.evidence() == evidence
    assert tables.rows("polls") == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", range(4, 8))
def test_what_is_new_continues_what_is_kept(tables: Tables, number: int) -> None:
    """Evidence of some time is kept, older polls are deleted, newer ones arrive: as if all were there."""
    raw = raw_rows(number)
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    expected = comparable(tables)
    instants = instants_of(raw)
    for seed in range(3):
        chance = random.Random(f"{number}/{seed}")
        known_until = chance.choice(ends_of_runs(raw))
        cut = chance.choice([at for at in instants if at <= known_until])
        tables.fill(until(raw, known_until))
        rebuild(tables.client, HOLD)
        drop_old_polls(tables.client, cut, 10**6)
        for table, rows in after(raw, known_until).items():
            tables.insert(table, rows)
        rebuild(tables.client, HOLD)
        assert comparable(tables) == expected
        assert differences(tables.client, HOLD) == []


@pytest.mark.sampled(1)
def test_what_polls_still_tell_is_compared(tables: Tables) -> None:
    raw = raw_rows(4)
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    instants = instants_of(raw)
    cut = instants[len(instants) // 2]
    drop_old_polls(tables.client, cut, 10**6)
    horizon = find_horizon(WarehouseSql(tables.client))
    assert horizon == min(
        row["polled_at"] for row in raw["polls"] if row["polled_at"] >= cut and not row["is_late"]
    )
    kept = tables.evidence()
    for table, column, time in (
        ("coverage", "samples", "first_sample_at"),
        ("coverage", "last_sample_at", "last_sample_at"),
        ("token_status", "last_ok_at", "last_ok_at"),
        ("token_status", "consecutive_failures", "failing_since"),
        ("runs", "ok", "started_at"),
    ):
        change = f"{column} - INTERVAL '1 hour'" if column.endswith("_at") else f"{column} + 1"
        tables.execute(f"UPDATE {tables.name(table)} SET {column} = {change} WHERE {time} >= %s", horizon)
        changed = [row for row in kept[table] if row[time] is not None and row[time] >= horizon]
        found = differences(tables.client, HOLD)
        named_rows = [dict(each.key) for each in found if each.column == column]
        assert changed
        assert named_rows == [{name: row[name] for name in TABLES[table].key} for row in changed]
        tables.execute(f"DELETE FROM {tables.name(table)}")
        tables.insert(table, kept[table])


@pytest.mark.sampled(1)
def test_a_token_without_polls_has_no_evidence_of_later_ones(tables: Tables) -> None:
    raw = raw_rows(4)
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    drop_old_polls(tables.client, instants_of(raw)[-1], 10**6)
    polled = {row["token_key"] for row in tables.rows("polls")}
    token = min(row["token_key"] for row in tables.rows("token_status") if row["token_key"] not in polled)
    for column in ("account_ok_at", "profiles_polled_at", "last_polled_at"):
        kept = tables.rows("token_status")
        update = f"UPDATE {tables.name('token_status')} SET {column} = %s WHERE token_key = %s"
        tables.execute(update, FAR_AHEAD, token)
        found = differences(tables.client, HOLD)
        assert {dict(each.key)["token_key"] for each in found} == {token}
        assert (column, FAR_AHEAD, None) in {(each.column, each.kept, each.worked_out) for each in found}
        tables.execute(f"DELETE FROM {tables.name('token_status')}")
        tables.insert("token_status", kept)


def test_no_horizon_where_nothing_was_deleted(tables: Tables) -> None:
    raw = raw_rows(5)
    tables.fill(raw)
    sql = WarehouseSql(tables.client)
    assert find_horizon(sql) is None
    rebuild(tables.client, HOLD)
    assert find_horizon(sql) is None
    # a row that is wrong is no witness, nor is one of a run whose polls may never have arrived
    oldest = min(row["run_id"] for row in raw["polls"])
    tables.execute(
        f"UPDATE {tables.name('runs')} SET first_polled_at = first_polled_at - INTERVAL '1 year'"
        " WHERE run_id = %s",
        oldest,
    )
    assert find_horizon(sql) is None
    tables.execute(
        f"UPDATE {tables.name('runs')} SET finished_at = NULL, polled = polled + 1 WHERE run_id = %s", oldest
    )
    assert find_horizon(sql) is None


def test_a_first_run_that_lost_its_polls_leaves_no_evidence(tables: Tables) -> None:
    """Nothing is left of what it polled: that looks like polls that were deleted, and is not."""
    raw = raw_rows(6)
    tables.fill(raw)
    rebuild(tables.client, HOLD)
    tables.execute(f"UPDATE {tables.name('runs')} SET finished_at = NULL")
    for table in ("polls", "profile_changes"):
        tables.execute(f"DELETE FROM {tables.name(table)}")
    heal(tables.client, HOLD, unfinished_runs(tables.client))
    assert tables.rows("coverage") == []
    assert {row["last_polled_at"] for row in tables.rows("token_status")} == {None}
    assert {(row["polled"], row["last_polled_at"]) for row in tables.rows("runs")} == {(0, None)}
    assert differences(tables.client, HOLD) == []


def test_about_so_many_polls_go_at_once_and_no_half_of_an_instant(tables: Tables) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    instants = [start + timedelta(hours=hour) for hour in (0, 1, 1, 1, 2, 3, 3, 4)]
    polls: list[Row] = [
        {"poll_id": str(number), "run_id": "r", "token_key": "t", "outcome": "ok", "polled_at": at}
        for number, at in enumerate(instants)
    ]
    random.Random(1).shuffle(polls)
    tables.fill({"polls": polls})
    before = start + timedelta(hours=3)
    assert drop_old_polls(tables.client, before, 2) == 4
    assert drop_old_polls(tables.client, before, 2) == 1
    assert drop_old_polls(tables.client, before, 2) == 0
    assert [row["polled_at"] for row in tables.rows("polls")] == instants[5:]
    assert drop_old_polls(tables.client, start, 10) == 0


def test_dropping_needs_no_polls(tables: Tables) -> None:
    tables.fill({})
    assert drop_old_polls(tables.client, FAR_AHEAD, 10) == 0
    assert find_horizon(WarehouseSql(tables.client)) is None
