"""The saved plan: the same work for any machine that runs a shard, and no token in it."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.load.steps import Plan
from dlt_cronofy.shards import MAX_SHARDS
from dlt_cronofy.shards.exchange_directory import ExchangeDirectory
from dlt_cronofy.shards.saved_plan import (
    SavedPlan,
    read_plan,
    save_plan,
    shard_of,
    tasks_with_tokens,
    write_plan,
)
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import PollTask
from dlt_cronofy.source.tokens.token import UnusableRow
from tests.cronofy.bodies import minute, token

RUN = "20260105T060000Z-0a1b2c3d"
ENDPOINTS = ("userinfo", "account")


def _task(*keys: str) -> PollTask:
    first, *others = (PollTask(token(key), ENDPOINTS, f"acc_{key}", last_poll_ok=key != "k2") for key in keys)
    return replace(first, fallbacks=tuple(others))


TASKS = [_task("k1"), _task("k2", "k3", "k4"), _task("k5")]
TOKENS = [token(f"k{number}") for number in range(1, 6)]
PLAN = Plan(TASKS, len(TOKENS), recent_requests=[minute(1), minute(2), minute(3)])


@pytest.fixture
def handoff(tmp_path: Path) -> ExchangeDirectory:
    return ExchangeDirectory.at(str(tmp_path))


def _saved(shards: int = 4, **chosen: object) -> SavedPlan:
    return save_plan(RUN, PLAN, shards, **chosen)  # type: ignore[arg-type]


def test_a_plan_comes_back_as_it_was_saved(handoff: ExchangeDirectory) -> None:
    plan = _saved(deadline=minute(60))
    write_plan(handoff, plan)
    assert read_plan(handoff, RUN) == plan
    assert (plan.due, plan.fallback_tokens, plan.tokens) == (3, 2, 5)


def test_one_shard_reads_its_own_tasks_and_how_many_others_there_are(handoff: ExchangeDirectory) -> None:
    plan = _saved()
    write_plan(handoff, plan)
    for shard in plan.shards:
        read = read_plan(handoff, RUN, shard)
        assert read.tasks == {shard: plan.tasks[shard]}
        assert read.shards == plan.shards
        assert read.share_of(shard) == plan.share_of(shard)


def test_a_plan_without_tasks_is_one(handoff: ExchangeDirectory) -> None:
    unusable = [UnusableRow("tokens, entry 1", "no token")]
    plan = save_plan(RUN, Plan([], 7, recent_requests=[], unusable=unusable, not_connected=3), 4)
    assert (plan.unusable_rows, plan.not_connected) == (1, 3)
    write_plan(handoff, plan)
    assert read_plan(handoff, RUN) == plan
    assert plan.shards == []


def test_tasks_with_tokens_are_those_that_were_saved() -> None:
    saved = [task for shard in _saved(1).tasks.values() for task in shard]
    assert tasks_with_tokens(saved, TOKENS) == (TASKS, [])


def test_where_a_token_is_gone_its_fallback_is_polled() -> None:
    saved = [task for shard in _saved(1).tasks.values() for task in shard]
    tasks, gone = tasks_with_tokens(saved, [token(key) for key in ("k3", "k5")])
    assert tasks == [_task("k3"), _task("k5")]
    assert [task[0].token_key for task in gone] == ["k1"]


@pytest.mark.parametrize(("max_requests", "polled"), [(None, 3), (6, 3), (5, 2), (4, 2), (2, 1), (1, 0)])
def test_max_requests_are_spent_in_the_order_of_the_plan(max_requests: int | None, polled: int) -> None:
    plan = _saved(max_requests=max_requests)
    kept = {task[0].token_key for tasks in plan.tasks.values() for task in tasks}
    assert kept == {"k1", "k2", "k5"} if polled == 3 else {"k1", "k2"} if polled == 2 else kept <= {"k1"}
    assert plan.due == 3
    assert plan.is_cut_short == (polled < 3)


def test_shards_are_even_and_stay_where_they_are() -> None:
    keys = [f"user_{number}" for number in range(20_000)]
    sizes = Counter(shard_of(key, 8) for key in keys)
    assert sorted(sizes) == list(range(8))
    assert max(sizes.values()) < 1.1 * min(sizes.values())
    assert [shard_of(key, 8) for key in ("user_1", "user_2", "tok_0123456789abcdef")] == [7, 1, 7]


@given(st.text(max_size=20), st.integers(1, MAX_SHARDS))
def test_any_key_has_a_shard(key: str, shards: int) -> None:
    assert 0 <= shard_of(key, shards) < shards


@given(st.integers(1, 12), st.lists(st.integers(0, 10**6), max_size=30))
def test_the_shares_of_the_shards_are_the_whole(shards: int, sent: list[int]) -> None:
    recent = [minute(0) + timedelta(microseconds=each) for each in sorted(sent)]
    plan = save_plan(RUN, Plan(TASKS, 5, recent_requests=recent), shards)
    shares = [plan.share_of(shard) for shard in plan.shards]
    assert {parts for parts, _ in shares} == {len(plan.shards)}
    assert sorted(at for _, share in shares for at in share) == recent


@pytest.mark.parametrize("shards", [0, -1, MAX_SHARDS + 1])
def test_a_number_of_shards_that_cannot_be_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match=f"shards must be between 1 and {MAX_SHARDS}, not {shards}"):
        _saved(shards)


def test_a_damaged_plan_is_named(handoff: ExchangeDirectory) -> None:
    handoff.write(RUN, lambda: "plan.parquet", lambda file: file.write(b"PAR1 no PAR1"))
    with pytest.raises(ConfigurationError, match=f"the plan of run {RUN} in .* is damaged"):
        read_plan(handoff, RUN)


def test_a_plan_of_another_version_is_refused(
    handoff: ExchangeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dlt_cronofy.shards.saved_plan.VERSION", 99)
        write_plan(handoff, _saved())
    with pytest.raises(ConfigurationError, match="another version of dlt-cronofy; have one version"):
        read_plan(handoff, RUN)
