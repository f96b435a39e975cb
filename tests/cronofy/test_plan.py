"""The plan: who is due, who comes first, which endpoints are read."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.cronofy.history.knowledge import Evidence
from sources.cronofy.plan import plan_polls
from tests.cronofy.bodies import token
from tests.cronofy.clocks import START

HOUR = timedelta(hours=1)
BOTH = ("userinfo", "account")


def seen(ok_at: datetime | None, attempted_at: datetime | None) -> Evidence:
    return Evidence("acc_1", last_ok_at=ok_at, last_attempt_at=attempted_at)


def ago(hours: float | None) -> Evidence:
    """A token whose successful poll is that many hours old."""
    at = None if hours is None else START - hours * HOUR
    return seen(at, at)


@pytest.mark.parametrize(
    ("hours", "every", "due"),
    [
        (None, 1, True),
        (0, 1, False),
        (0.999, 1, False),
        (1, 1, True),
        (30, 1, True),
        (0, 0, True),
        (-0.5, 1, False),  # another machine's clock is ahead
        (-0.5, 0, True),
        (-24 * 365, 1, True),  # a clock was wrong once: not a reason to wait for years
    ],
)
def test_a_token_is_due_when_its_evidence_is_that_old(hours: float | None, every: float, due: bool) -> None:
    evidence = {"k1": ago(hours)}
    assert bool(plan_polls([token()], evidence, START, ("userinfo",), every * HOUR)) is due


def test_a_failed_poll_does_not_make_a_token_less_due() -> None:
    evidence = {"k1": Evidence("acc_1", last_ok_at=START - 2 * HOUR, last_attempt_at=START)}
    assert len(plan_polls([token()], evidence, START, BOTH, HOUR)) == 1


def test_the_oldest_attempt_comes_first_and_ties_keep_their_order() -> None:
    evidence = {
        "ok 1 h": ago(1),
        "ok 5 h": ago(5),
        "fails, tried 2 h ago": seen(None, START - 2 * HOUR),
        "fails, tried 9 h ago": seen(START - 90 * HOUR, START - 9 * HOUR),
    }
    keys = ["ok 1 h", "new b", "fails, tried 2 h ago", "ok 5 h", "new a", "fails, tried 9 h ago"]
    plan = plan_polls([token(key) for key in keys], evidence, START, BOTH)
    assert [task.token.key for task in plan] == [
        "new b",
        "new a",
        "fails, tried 9 h ago",
        "ok 5 h",
        "fails, tried 2 h ago",
        "ok 1 h",
    ]


@pytest.mark.parametrize(
    ("account_hours", "endpoints", "read"),
    [
        (None, BOTH, BOTH),
        (1, BOTH, ("userinfo",)),
        (23.9, BOTH, ("userinfo",)),
        (24, BOTH, BOTH),
        (1, ("userinfo",), ("userinfo",)),
        (1, ("account", "profiles"), ("profiles",)),
        (24, ("account", "profiles"), ("account", "profiles")),
    ],
)
def test_account_is_read_at_most_once_a_day(
    account_hours: float | None, endpoints: tuple[str, ...], read: tuple[str, ...]
) -> None:
    evidence = ago(2)
    evidence.account_read_at = None if account_hours is None else START - account_hours * HOUR
    [task] = plan_polls([token()], {"k1": evidence}, START, endpoints, HOUR)
    assert task.endpoints == read


@pytest.mark.parametrize(
    ("hours", "due"), [(None, True), (1, False), (24, True)], ids=["never read", "read", "read a day ago"]
)
def test_account_alone_is_due_by_its_own_age(hours: float | None, due: bool) -> None:
    evidence = seen(START, START)
    evidence.account_read_at = None if hours is None else START - hours * HOUR
    assert bool(plan_polls([token()], {"k1": evidence}, START, ("account",), HOUR)) is due


def test_profiles_of_an_unknown_account_are_read_after_account() -> None:
    [task] = plan_polls([token()], {}, START, ("profiles",))
    assert (task.endpoints, task.account_id) == (("account", "profiles"), None)


def test_account_is_read_at_most_once_a_day_even_to_learn_whose_profiles_these_are() -> None:
    refused = seen(START - 2 * HOUR, START - 2 * HOUR)
    refused.account_id, refused.account_read_at = None, START - 2 * HOUR
    [task] = plan_polls([token()], {"k1": refused}, START, ("profiles",))
    assert task.endpoints == ("profiles",)


def test_a_task_knows_the_account_as_far_as_the_warehouse_does() -> None:
    evidence = {"k1": Evidence("acc_9")}
    plan = plan_polls([token("k1"), token("k2")], evidence, START, ("profiles",))
    assert {task.token.key: task.account_id for task in plan} == {"k1": "acc_9", "k2": None}


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.tuples(st.one_of(st.none(), st.integers(0, 50)), st.integers(0, 50)),
        max_size=20,
    ),
    st.integers(0, 50),
)
def test_exactly_the_due_tokens_are_planned_once(ages: dict[str, tuple[int | None, int]], every: int) -> None:
    evidence = {
        key: seen(None if ok is None else START - ok * HOUR, START - min(ok or tried, tried) * HOUR)
        for key, (ok, tried) in ages.items()
    }
    plan = plan_polls([token(key) for key in ages], evidence, START, ("userinfo",), every * HOUR)
    assert sorted(task.token.key for task in plan) == sorted(
        key for key, (ok, _) in ages.items() if ok is None or ok >= every
    )
    attempts = [evidence[task.token.key].last_attempt_at or START for task in plan]
    assert attempts == sorted(attempts)
