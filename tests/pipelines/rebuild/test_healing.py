"""Runs that were killed half-way, wherever that was, and what heals them."""

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from dlt_cronofy.rebuild import (
    differences,
    heal,
    is_needed,
    rebuild,
    recount_run,
    replacement,
    unfinished_runs,
)
from dlt_cronofy.rebuild.healing import MOST_BEHIND, first_start
from dlt_cronofy.rebuild.warehouse_sql import WarehouseSql
from tests.pipelines.rebuild.test_walk import HOLD, polls_per_part, rows_of
from tests.pipelines.rebuild.warehouse import EVIDENCE, Row, Tables
from tests.pipelines.views.worlds import World, crowd


def named(rows: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows in runs one after the other, named as loads name them: after their starts."""
    instants = sorted({row["polled_at"] for row in rows["polls"]})
    run_ids = {}
    for number, at in enumerate(instants):
        start = instants[number - number % INSTANTS_A_RUN]
        run_ids[at] = f"{start:%Y%m%dT%H%M%SZ}-{number // INSTANTS_A_RUN:08}"
    return {
        table: [row | {"run_id": run_ids[row[column]]} for row in rows[table] if row[column] in run_ids]
        for table, column in (("polls", "polled_at"), ("profile_changes", "observed_at"))
    }


INSTANTS_A_RUN = 60


@cache
def raw() -> dict[str, list[Row]]:
    """Its newest run is the one that is killed."""
    return named(rows_of(World(crowd(3).polls, None)))


def killed_run() -> str:
    return str(max(row["run_id"] for row in raw()["polls"]))


def run_before() -> str:
    return str(max(row["run_id"] for row in without(raw(), killed_run())["polls"]))


@pytest.fixture
def finished(tables: Tables) -> Tables:
    """All runs came to their end."""
    tables.fill(raw())
    rebuild(tables.client, HOLD)
    return tables


def without(tables: dict[str, list[Row]], run_id: str) -> dict[str, list[Row]]:
    return {table: [row for row in rows if row["run_id"] != run_id] for table, rows in tables.items()}


def left_half_done(tables: Tables, arrived: set[str]) -> None:
    """As if the newest run had been killed when these tables' rows of it had arrived, and no others."""
    tables.fill(raw())
    rebuild(tables.client, HOLD)
    after = tables.evidence()
    earlier = without(raw(), killed_run())
    tables.fill(earlier)
    rebuild(tables.client, HOLD)
    for table in EVIDENCE:
        if table in arrived:
            tables.execute(f"DELETE FROM {tables.name(table)}")
            tables.insert(table, after[table])
    for table in ("polls", "profile_changes"):
        if table in arrived:
            tables.insert(table, [row for row in raw()[table] if row["run_id"] == killed_run()])
    tables.execute(f"UPDATE {tables.name('runs')} SET finished_at = NULL WHERE run_id = %s", killed_run())


def in_order(names: set[str]) -> str:
    return "+".join(sorted(names))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "arrived",
    [
        {"profile_changes"},
        {"profile_changes", "token_status"},
        {"profile_changes", "coverage"},
        {"profile_changes", "token_status", "coverage"},
        {"profile_changes", "token_status", "coverage", "runs"},
        {"profile_changes", "token_status", "coverage", "runs", "polls"},
        {"profile_changes", "polls"},
        {"profile_changes", "runs"},
        {"profile_changes", "polls", "runs"},
    ],
    ids=in_order,
)
def test_what_a_killed_run_left_is_healed(tables: Tables, arrived: set[str]) -> None:
    left_half_done(tables, arrived)
    assert unfinished_runs(tables.client) == [killed_run()]
    heal(tables.client, HOLD, [killed_run()])
    assert differences(tables.client, HOLD) == []
    (run,) = [row for row in tables.rows("runs") if row["run_id"] == killed_run()]
    assert (run["finished_at"], run["stopped_by"]) == (None, "killed")
    assert run["polled"] == (len(polls_of(killed_run())) if "polls" in arrived else 0)
    assert unfinished_runs(tables.client) == []
    healed = tables.evidence()
    heal(tables.client, HOLD, [killed_run()])
    assert tables.evidence() == healed


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "lost",
    [{"polls"}, {"polls", "profile_changes"}, {"polls", "runs"}],
    ids=in_order,
)
def test_what_another_run_built_on_lost_evidence_is_healed(tables: Tables, lost: set[str]) -> None:
    """It was under way beside the killed one, and its rows do not name that."""
    tables.fill(raw())
    rebuild(tables.client, HOLD)
    tables.execute(f"UPDATE {tables.name('runs')} SET finished_at = NULL WHERE run_id = %s", run_before())
    for table in lost:
        tables.execute(f"DELETE FROM {tables.name(table)} WHERE run_id = %s", run_before())
    assert unfinished_runs(tables.client) == [run_before()]
    assert differences(tables.client, HOLD)
    heal(tables.client, HOLD, [run_before()])
    assert differences(tables.client, HOLD) == []


def polls_of(run_id: str) -> list[Row]:
    return [row for row in raw()["polls"] if row["run_id"] == run_id and row["outcome"] != "skipped"]


def steady_polls(runs: int) -> list[Row]:
    """Hourly runs over twelve tokens: some always fail, some now and then, one is new in the last run."""
    polls: list[Row] = []
    for run in range(runs):
        start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=run)
        for token in range(12 if run == runs - 1 else 11):
            ok = token % 5 and (run + token) % 7
            polls.append(
                {
                    "poll_id": f"{run}/{token}",
                    "run_id": f"{start:%Y%m%dT%H%M%SZ}-00000000",
                    "token_key": f"tok_{token:02}",
                    "account_id": f"acc_{token // 2}",
                    "endpoint": "userinfo",
                    "polled_at": start + timedelta(seconds=token + 1),
                    "outcome": "ok" if ok else "server_error",
                    "profiles": 2 if ok else None,
                    "attempts": 1,
                }
            )
    return polls


@pytest.fixture
def steady(tables: Tables) -> Tables:
    """Many days; all is as it should be, but the last run has no end."""
    tables.fill({"polls": steady_polls(100)})
    rebuild(tables.client, HOLD)
    tables.execute(f"UPDATE {tables.name('runs')} SET finished_at = NULL WHERE run_id = %s", LAST)
    return tables


LAST = steady_polls(100)[-1]["run_id"]


def test_healing_leaves_what_the_runs_did_not_touch(steady: Tables) -> None:
    start = first_start([LAST])
    assert start is not None
    steady.execute(
        f"UPDATE {steady.name('polls')} SET token_key = 'old' WHERE polled_at < %s", start - MOST_BEHIND
    )
    rebuild(steady.client, HOLD)
    steady.execute(f"UPDATE {steady.name('token_status')} SET last_outcome = 'x', account_digest = 'd'")
    heal(steady.client, HOLD, [LAST])
    rows = {row["token_key"]: row for row in steady.rows("token_status")}
    assert (rows["old"]["last_outcome"], rows["old"]["account_digest"]) == ("x", "d")
    del rows["old"]
    assert "x" not in {row["last_outcome"] for row in rows.values()}
    assert {row["account_digest"] for row in rows.values()} == {None}


def test_what_is_right_is_not_worked_out(steady: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever polls there ever were: most of what a killed run touched fits the recent ones."""
    steady.execute(f"UPDATE {steady.name('token_status')} SET last_outcome = 'x' WHERE token_key = 'tok_03'")
    steady.execute(
        f"UPDATE {steady.name('coverage')} SET last_sample_at = last_sample_at + INTERVAL '1 second'"
        " WHERE account_id = 'acc_4'"
    )
    worked_out: list[str] = []

    def recorded(sql: WarehouseSql, only: object, stages: dict[str, str], afterwards: Any) -> None:
        for stage in stages.values():
            worked_out.extend(row[0] for row in sql.fetch(f"SELECT * FROM {stage}"))
        swap(sql, only, stages, afterwards)

    swap: Any = replacement.swap
    monkeypatch.setattr(replacement, "swap", recorded)
    heal(steady.client, HOLD, [LAST])
    assert worked_out == [LAST, "acc_4", "tok_03"]
    assert differences(steady.client, HOLD) == []
    killed = {row["run_id"] for row in steady.rows("runs") if row["stopped_by"] == "killed"}
    assert killed == {LAST}


def test_some_tokens_are_all_that_is_replaced(finished: Tables) -> None:
    tokens = {row["token_key"] for row in finished.rows("token_status")}
    token = min(tokens)
    finished.execute(f"UPDATE {finished.name('coverage')} SET samples = -1")
    finished.execute(f"UPDATE {finished.name('token_status')} SET last_outcome = 'x'")
    finished.execute(f"UPDATE {finished.name('runs')} SET ok = -1")
    rebuild(finished.client, HOLD, [token])
    assert {row["samples"] for row in finished.rows("coverage")} == {-1}
    assert {row["token_key"] for row in finished.rows("token_status") if row["last_outcome"] != "x"} == {
        token
    }
    assert {row["ok"] for row in finished.rows("runs")} == {-1}
    many = {f"none_{number}" for number in range(1200)}
    with polls_per_part(100):
        rebuild(finished.client, HOLD, tokens | many)
    assert {each.table for each in differences(finished.client, HOLD)} == {"coverage", "runs"}


def test_a_run_is_counted_again(finished: Tables) -> None:
    before = finished.rows("runs")
    finished.execute(
        f"UPDATE {finished.name('runs')} SET ok = -1, requests = 5, first_polled_at = NULL, tokens = 9"
    )
    recount_run(finished.client, killed_run())
    (run,) = [row for row in before if row["run_id"] == killed_run()]
    rows = {row["run_id"]: row for row in finished.rows("runs")}
    assert rows[killed_run()] == run | {"tokens": 9}
    assert {row["ok"] for run_id, row in rows.items() if run_id != killed_run()} == {-1}


def test_a_run_without_a_row_gets_one_that_has_no_end(finished: Tables) -> None:
    finished.execute(f"DELETE FROM {finished.name('runs')} WHERE run_id = %s", killed_run())
    assert unfinished_runs(finished.client) == [killed_run()]
    recount_run(finished.client, killed_run())
    assert differences(finished.client, HOLD) == []
    assert unfinished_runs(finished.client) == [killed_run()]


def test_runs_that_had_nothing_to_poll_keep_their_rows(finished: Tables) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    idle: Row = {"run_id": "idle", "started_at": at, "finished_at": at, "polled": 0, "tokens": 4, "due": 0}
    unpolled: Row = {"token_key": "new", "has_token": False, "customer": "c"}
    finished.insert("runs", [idle])
    finished.insert("token_status", [unpolled])
    assert differences(finished.client, HOLD) == []
    rebuild(finished.client, HOLD)
    for table, row in (("runs", idle), ("token_status", unpolled)):
        (found,) = [each for each in finished.rows(table) if row.items() <= each.items()]
        rest = {value for name, value in found.items() if name not in row and name != "_dlt_load_id"}
        assert rest == {None}


def test_a_warehouse_without_evidence_needs_it(tables: Tables) -> None:
    tables.fill({})
    assert not is_needed(tables.client)
    tables.fill(raw())
    assert is_needed(tables.client)
    rebuild(tables.client, HOLD)
    assert not is_needed(tables.client)
    for table in EVIDENCE:
        kept = tables.rows(table)
        tables.execute(f"DELETE FROM {tables.name(table)}")
        assert is_needed(tables.client)
        tables.insert(table, kept)


@pytest.fixture
def tables_of_0_2(tables: Tables) -> Any:
    """A warehouse of a release that had neither tables of evidence nor late polls."""
    polls = [row | {"is_late": None, "refreshes": None} for row in raw()["polls"]]
    tables.fill({"polls": polls, "profile_changes": raw()["profile_changes"]})
    for table in EVIDENCE:
        tables.execute(f"DROP TABLE {tables.name(table)}")
    for column in ("is_late", "refreshes"):
        tables.execute(f"ALTER TABLE {tables.name('polls')} DROP COLUMN {column}")
    yield tables
    tables.create()


def test_a_warehouse_of_an_earlier_release_gets_its_evidence(tables_of_0_2: Tables) -> None:
    client = tables_of_0_2.client
    assert is_needed(client)
    missing = {(each.table, each.problem) for each in differences(client, HOLD)}
    assert missing == {(table, "missing") for table in EVIDENCE}
    rebuild(client, HOLD)
    assert differences(client, HOLD) == []
    assert not is_needed(client)
    assert {row["has_token"] for row in tables_of_0_2.rows("token_status")} == {True}
    assert all(row["finished_at"] for row in tables_of_0_2.rows("runs"))
    assert unfinished_runs(client) == []


@pytest.mark.parametrize(
    ("run_ids", "expected"),
    [
        (["20261127T181905Z-1a2b3c4d"], datetime(2026, 11, 27, 18, 19, 5, tzinfo=UTC)),
        (
            ["20261127T181905Z-1a2b3c4d", "20260101T000000Z-x"],
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        (["20261127T181905Z-1a2b3c4d", "manual"], None),
        (["20269927T181905Z-1a2b3c4d"], None),
        ([], None),
    ],
)
def test_a_run_says_when_it_began(run_ids: list[str], expected: datetime | None) -> None:
    assert first_start(run_ids) == expected


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(6))
def test_any_corruption_of_what_a_run_touched_is_healed(tables: Tables, seed: int) -> None:
    tables.fill(raw())
    rebuild(tables.client, HOLD)
    chance = random.Random(seed)
    run_id = chance.choice(raw()["polls"])["run_id"]
    start, before = first_start([run_id]), tables.evidence()
    touched = (("token_status", "token_key", "last_polled_at"), ("coverage", "account_id", "last_sample_at"))
    for table, key, newest in touched:
        for row in before[table]:
            if row["run_id"] == run_id and row[newest] is not None and row[newest] >= start:
                change = chance.choice(
                    [f"UPDATE {{}} SET {newest} = {newest} - INTERVAL '1 hour'", "DELETE FROM {}"]
                )
                tables.execute(
                    f"{change.format(tables.name(table))} WHERE {key} = %s AND {newest} = %s",
                    row[key],
                    row[newest],
                )
    tables.execute(f"DELETE FROM {tables.name('runs')} WHERE run_id = %s", run_id)
    with polls_per_part(500):
        heal(tables.client, HOLD, [run_id])
    assert differences(tables.client, HOLD) == []


def overlapping_polls(chance: random.Random, runs: int = 12) -> list[Row]:
    """Runs of several processes beside each other, which poll each endpoint of a token at most once."""
    polls: list[Row] = []
    for run in range(runs):
        start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=8 * run, seconds=chance.randint(0, 9000))
        now = start
        for token in chance.sample(range(8), chance.randint(2, 8)):
            for endpoint in chance.choice([["userinfo"], ["userinfo", "account"], ["account"]]):
                now += timedelta(seconds=chance.randint(1, 5000))
                ok = chance.random() < (0.8 if token < 6 else 0.2)
                polls.append(
                    {
                        "poll_id": f"{run}/{token}/{endpoint}",
                        "run_id": f"{start:%Y%m%dT%H%M%SZ}-{run:08}",
                        "token_key": f"tok_{token}",
                        "account_id": f"acc_{token // 2}",
                        "endpoint": endpoint,
                        "polled_at": now,
                        "outcome": "ok" if ok else chance.choice(["server_error", "skipped", "timeout"]),
                        "profiles": 2 if ok and endpoint == "userinfo" else None,
                        "attempts": 1,
                    }
                )
    return polls


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(12))
def test_a_package_that_arrived_in_part_is_healed(tables: Tables, seed: int) -> None:
    """The evidence of a run's last polls without them, or the polls without it, beside other runs."""
    chance = random.Random(seed)
    polls = overlapping_polls(chance)
    run_id = chance.choice(sorted({row["run_id"] for row in polls})[-4:])
    own = [row for row in polls if row["run_id"] == run_id]
    package = own[chance.randrange(len(own)) :]
    others = [row for row in polls if row not in package]
    first, then = (polls, others) if seed % 2 else (others, polls)
    tables.fill({"polls": first})
    rebuild(tables.client, HOLD)
    tables.execute(f"DELETE FROM {tables.name('polls')}")
    tables.insert("polls", then)
    tables.execute(f"UPDATE {tables.name('runs')} SET finished_at = NULL WHERE run_id = %s", run_id)
    assert differences(tables.client, HOLD)
    heal(tables.client, HOLD, [run_id])
    assert differences(tables.client, HOLD) == []
