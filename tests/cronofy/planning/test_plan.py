"""The plan: who is due, who comes first, which endpoints are read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.planning.change_rates import Hazards, Histories
from dlt_cronofy.source.planning.plan import (
    OLDEST_EVERY,
    EarlyPolls,
    LastPoll,
    Reason,
    due_tokens,
    hazard_first,
    oldest_first,
    order_by,
    plan_polls,
)
from tests.cronofy.bodies import token
from tests.cronofy.clocks import START

HOUR = timedelta(hours=1)
BOTH = ("userinfo", "account")


def seen(ok_at: datetime | None, attempted_at: datetime | None, account_id: str | None = None) -> LastPoll:
    """A token that was polled then, of an account of its own where none is named."""
    return LastPoll(account_id or f"acc_{uuid4()}", last_ok_at=ok_at, last_attempt_at=attempted_at)


def ago(hours: float | None) -> LastPoll:
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
    last_polls = {"k1": ago(hours)}
    assert bool(plan_polls([token()], last_polls, START, ("userinfo",), every * HOUR)) is due


def test_a_failed_poll_does_not_make_a_token_less_due() -> None:
    last_polls = {"k1": LastPoll("acc_1", last_ok_at=START - 2 * HOUR, last_attempt_at=START)}
    assert len(plan_polls([token()], last_polls, START, BOTH, HOUR)) == 1


def test_the_oldest_attempt_comes_first_and_ties_keep_their_order() -> None:
    last_polls = {
        "ok 1 h": ago(1),
        "ok 5 h": ago(5),
        "fails, tried 2 h ago": seen(None, START - 2 * HOUR),
        "fails, tried 9 h ago": seen(START - 90 * HOUR, START - 9 * HOUR),
    }
    keys = ["ok 1 h", "new b", "fails, tried 2 h ago", "ok 5 h", "new a", "fails, tried 9 h ago"]
    plan = plan_polls([token(key) for key in keys], last_polls, START, BOTH)
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
    last_polls = ago(2)
    last_polls.account_read_at = None if account_hours is None else START - account_hours * HOUR
    [task] = plan_polls([token()], {"k1": last_polls}, START, endpoints, HOUR)
    assert task.endpoints == read


@pytest.mark.parametrize(
    ("hours", "due"), [(None, True), (1, False), (24, True)], ids=["never read", "read", "read a day ago"]
)
def test_account_alone_is_due_by_its_own_age(hours: float | None, due: bool) -> None:
    last_polls = seen(START, START)
    last_polls.account_read_at = None if hours is None else START - hours * HOUR
    assert bool(plan_polls([token()], {"k1": last_polls}, START, ("account",), HOUR)) is due


def test_profiles_of_an_unknown_account_are_read_after_account() -> None:
    [task] = plan_polls([token()], {}, START, ("profiles",))
    assert (task.endpoints, task.account_id) == (("account", "profiles"), None)


def test_account_is_read_at_most_once_a_day_even_to_learn_whose_profiles_these_are() -> None:
    refused = seen(START - 2 * HOUR, START - 2 * HOUR)
    refused.account_id, refused.account_read_at = None, START - 2 * HOUR
    [task] = plan_polls([token()], {"k1": refused}, START, ("profiles",))
    assert task.endpoints == ("profiles",)


def test_a_task_knows_the_account_as_far_as_the_warehouse_does() -> None:
    last_polls = {"k1": LastPoll("acc_9")}
    plan = plan_polls([token("k1"), token("k2")], last_polls, START, ("profiles",))
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
    last_polls = {
        key: seen(None if ok is None else START - ok * HOUR, START - min(ok or tried, tried) * HOUR)
        for key, (ok, tried) in ages.items()
    }
    plan = plan_polls([token(key) for key in ages], last_polls, START, ("userinfo",), every * HOUR)
    assert sorted(task.token.key for task in plan) == sorted(
        key for key, (ok, _) in ages.items() if ok is None or ok >= every
    )
    attempts = [last_polls[task.token.key].last_attempt_at or START for task in plan]
    assert attempts == sorted(attempts)


# tokens of one account, by hours since their last ok and last attempt → who is polled, and who stands in
@pytest.mark.parametrize(
    ("ages", "every", "polled"),
    [
        ({"a": (5, 5), "b": (9, 9), "c": (7, 7)}, 1, [["b", "c", "a"]]),
        ({"a": (5, 5), "b": (5, 5)}, 1, [["a", "b"]]),
        # one of them read the account a short while ago: that will do
        ({"a": (0.5, 0.5), "b": (9, 9)}, 1, []),
        # those that failed are polled on their own: they say nothing of the account
        ({"a": (5, 5), "b": (9, 2), "c": (7, 7)}, 1, [["b"], ["c", "a"]]),
        ({"a": (0.5, 0.5), "b": (9, 2)}, 1, [["b"]]),
        ({"a": (5, 5), "b": (None, 2)}, 1, [["b"], ["a"]]),
        ({"a": (0, 0), "b": (0, 0)}, 0, [["a", "b"]]),
    ],
)
def test_the_tokens_of_one_account_are_polled_once(
    ages: dict[str, tuple[float | None, float]], every: float, polled: list[list[str]]
) -> None:
    last_polls = {
        key: seen(None if ok is None else START - ok * HOUR, START - tried * HOUR, "acc_1")
        for key, (ok, tried) in ages.items()
    }
    plan = plan_polls([token(key) for key in ages], last_polls, START, ("userinfo",), every * HOUR)
    assert sorted([task.token.key, *task.fallback_tokens] for task in plan) == sorted(polled)


def test_an_account_is_as_old_as_its_newest_evidence() -> None:
    last_polls = {"a": seen(START - 2 * HOUR, START - 2 * HOUR, "acc_1"), "alone": ago(5)}
    last_polls["b"] = seen(START - 9 * HOUR, START - 9 * HOUR, "acc_1")
    plan = plan_polls([token(key) for key in last_polls], last_polls, START, ("userinfo",))
    assert [task.token.key for task in plan] == ["alone", "b"]


def test_every_tokens_turn_comes() -> None:
    """Of three tokens of an account each is polled in every third sweep."""
    last_polls = {key: seen(START, START, "acc_1") for key in "abc"}
    order = []
    for day in range(1, 10):
        now = START + day * 24 * HOUR
        [task] = plan_polls([token(key) for key in last_polls], last_polls, now, ("userinfo",))
        order.append(task.token.key)
        last_polls[task.token.key] = seen(now, now, "acc_1")
    assert order == ["a", "b", "c"] * 3


def test_tokens_of_different_data_centers_are_not_of_one_account() -> None:
    last_polls = {key: seen(START, START, "acc_1") for key in ("us", "de")}
    tokens = [replace(token(key), data_center=key) for key in last_polls]
    assert len(plan_polls(tokens, last_polls, START, ("userinfo",))) == 2


class KnownHazards(Hazards):
    """Hazards as given: changes a day by account, 1 for all others."""

    def __init__(self, per_day: dict[str | None, float]) -> None:
        super().__init__(Histories())
        self._per_day = per_day

    def per_day(self, account_id: str | None) -> float:
        return self._per_day.get(account_id, 1.0)


def polled(key: str, hours: float | None) -> LastPoll:
    """A token of an account of the same name, polled that many hours ago."""
    at = None if hours is None else START - hours * HOUR
    return LastPoll(None if hours is None else key, last_ok_at=at, last_attempt_at=at)


def places(
    ages: dict[str, float | None], hazards: dict[str | None, float], oldest_every: int = OLDEST_EVERY
) -> list[tuple[str, Reason]]:
    """The order of tokens of these ages in hours, with the reasons."""
    last_polls = {key: polled(key, hours) for key, hours in ages.items()}
    due = due_tokens([token(key) for key in ages], last_polls, START, ("userinfo",))
    order = hazard_first(KnownHazards(hazards), oldest_every)
    return [(place.due.task.token.key, place.reason) for place in order(due, START)]


def keys(placed: Sequence[tuple[str, Reason]]) -> list[str]:
    return [key for key, _ in placed]


NEW, OLD, HAZARD = Reason.NEVER_POLLED, Reason.OLDEST, Reason.HAZARD


@pytest.mark.parametrize(
    ("ages", "hazards", "expected"),
    [
        ({}, {}, []),
        ({"a": 5, "b": None, "c": None}, {"a": 9.0}, [("b", NEW), ("c", NEW), ("a", OLD)]),
        # the oldest first, then whose cube root of the hazard times age is largest, and so on in turns
        (
            {"a": 10, "b": 9, "c": 8, "d": 2.9, "e": 1},
            {"d": 27.0},
            [("a", OLD), ("b", HAZARD), ("c", OLD), ("d", HAZARD), ("e", OLD)],
        ),
        (
            {"a": 10, "b": 9, "c": 8, "d": 3.1, "e": 1},
            {"d": 27.0},
            [("a", OLD), ("d", HAZARD), ("b", OLD), ("c", HAZARD), ("e", OLD)],
        ),
        # without any hazard at all only age is left
        (
            {"a": 1, "b": 3, "c": 2},
            {"a": 0.0, "b": 0.0, "c": 0.0},
            [("b", OLD), ("c", HAZARD), ("a", OLD)],
        ),
        # evidence from the future is the youngest
        ({"a": -7, "b": 3, "c": 2}, {"a": 99.0}, [("b", OLD), ("c", HAZARD), ("a", OLD)]),
    ],
)
def test_the_hazard_order(
    ages: dict[str, float | None],
    hazards: dict[str | None, float],
    expected: list[tuple[str, Reason]],
) -> None:
    assert places(ages, hazards, oldest_every=2) == expected


def test_at_the_same_age_the_token_that_changes_often_comes_before_the_others() -> None:
    ages: dict[str, float | None] = {"oldest": 6, "steady": 5, "lively": 5}
    assert keys(places(ages, {"lively": 2.0})) == ["oldest", "lively", "steady"]


def test_a_failed_attempt_counts_as_one_in_either_order() -> None:
    last_polls = {"fails": seen(START - 90 * HOUR, START - HOUR), "ok": ago(2)}
    for order in (oldest_first, hazard_first(KnownHazards({}))):
        plan = plan_polls([token(key) for key in last_polls], last_polls, START, BOTH, order=order)
        assert [task.token.key for task in plan] == ["ok", "fails"]


AGES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.one_of(st.none(), st.integers(0, 1000).map(float)),
    max_size=25,
)
HAZARDS = st.sampled_from([0.0, 0.001, 0.1, 3.0])


@given(AGES, st.sampled_from([0.0, 0.003, 7.0]), st.integers(1, 5))
def test_with_equal_hazards_the_order_is_oldest_first(
    ages: dict[str, float | None], hazard: float, oldest_every: int
) -> None:
    last_polls = {key: polled(key, hours) for key, hours in ages.items()}
    oldest = plan_polls([token(key) for key in ages], last_polls, START, ("userinfo",))
    equal: dict[str | None, float] = dict.fromkeys([*ages, None], hazard)
    assert keys(places(ages, equal, oldest_every)) == [task.token.key for task in oldest]


@given(AGES, st.data())
def test_every_token_has_one_place_and_the_new_ones_the_first(
    ages: dict[str, float | None], data: st.DataObject
) -> None:
    hazards: dict[str | None, float] = {key: data.draw(HAZARDS) for key in ages}
    placed = places(ages, hazards)
    assert sorted(keys(placed)) == sorted(ages)
    new = [key for key, hours in ages.items() if hours is None]
    assert placed[: len(new)] == [(key, NEW) for key in new]
    assert NEW not in [reason for _, reason in placed[len(new) :]]


@given(
    st.lists(st.tuples(st.integers(0, 10_000), HAZARDS), unique_by=lambda each: each[0], max_size=25),
)
def test_the_order_of_the_token_store_changes_nothing(tokens: list[tuple[int, float]]) -> None:
    def ordered(chosen: Sequence[tuple[int, float]]) -> list[str]:
        return keys(
            places({str(age): float(age) for age, _ in chosen}, {str(age): each for age, each in chosen})
        )

    assert ordered(sorted(tokens)) == ordered(tokens)


@given(
    st.lists(HAZARDS, min_size=1, max_size=12),
    st.lists(st.integers(1, 5), min_size=1, max_size=20),
    st.integers(1, 4),
)
def test_however_short_the_runs_are_no_token_waits_longer_than_the_bound(
    hazards: list[float], runs: list[int], oldest_every: int
) -> None:
    """Every token is polled at least once in `oldest_every` sweeps' worth of polls."""
    by_account: dict[str | None, float] = {str(number): each for number, each in enumerate(hazards)}
    tokens = [token(str(number)) for number in range(len(hazards))]
    last_polls = {each.key: polled(each.key, 1.0) for each in tokens}
    last_poll = dict.fromkeys(last_polls, 0)
    polls, now, bound = 0, START, oldest_every * len(tokens)
    order = hazard_first(KnownHazards(by_account), oldest_every)
    for length in runs * (1 + 3 * bound // sum(runs)):
        now += HOUR
        for task in plan_polls(tokens, last_polls, now, ("userinfo",), order=order)[:length]:
            now += timedelta(seconds=1)
            polls += 1
            assert polls - last_poll[task.token.key] <= bound
            last_poll[task.token.key] = polls
            last_polls[task.token.key] = LastPoll(task.token.key, last_ok_at=now, last_attempt_at=now)
    assert polls - min(last_poll.values()) <= bound


def notified(**minutes_ago: float) -> EarlyPolls:
    """Notifications that are so old, by name."""
    return EarlyPolls(notified={name: START - timedelta(minutes=age) for name, age in minutes_ago.items()})


def early_order(last_polls: dict[str, LastPoll], early: EarlyPolls) -> list[tuple[str, str]]:
    due = due_tokens([token(key) for key in last_polls], last_polls, START, BOTH, HOUR, early)
    return [(rank.due.task.token.key, rank.reason.value) for rank in order_by(None)(due, START)]


def test_a_notification_makes_its_token_due_and_first_until_the_next_poll() -> None:
    half, quarter = START - HOUR / 2, START - HOUR / 4
    last_polls = {
        "by key": seen(half, half, "acc_1"),
        "by account": seen(half, half, "acc_2"),
        "polled since": seen(quarter, quarter, "acc_3"),
        "failed since": seen(half, quarter, "acc_4"),
        "fresh": seen(half, half, "acc_5"),
        "old": seen(START - 9 * HOUR, START - 9 * HOUR, "acc_6"),
        "new": LastPoll(),
    }
    early = notified(**{"by key": 20, "acc_2": 25, "polled since": 20, "failed since": 20, "nobody": 1})
    assert early_order(last_polls, early) == [
        ("by account", "notified"),
        ("by key", "notified"),
        ("new", "never polled"),
        ("old", "oldest evidence"),
    ]


def test_a_good_poll_of_any_token_of_the_account_answers_a_notification() -> None:
    last_polls = {
        "one": seen(START - HOUR / 2, START - HOUR / 2, "acc_1"),
        "two": seen(START - HOUR / 4, START - HOUR / 4, "acc_1"),
    }
    assert early_order(last_polls, notified(acc_1=20, one=20)) == []
    [task] = plan_polls([token("one"), token("two")], last_polls, START, BOTH, HOUR, None, notified(acc_1=5))
    # one is polled, the other stands by, although both were polled within the hour
    assert (task.token.key, task.fallback_tokens) == ("one", ("two",))
    assert early_order(last_polls, notified(two=5)) == [("two", "notified")]


def test_only_these_are_due_whether_they_were_polled_or_not() -> None:
    last_polls = {
        "a": seen(START, START, "acc_1"),
        "b": seen(START, START, "acc_2"),
        "c": ago(9),
        "d": LastPoll(),
    }
    tokens = [token(key) for key in last_polls]
    for only, keys in (({"a"}, ["a"]), ({"acc_2", "d"}, ["d", "b"]), ({"a", "c"}, ["c", "a"])):
        plan = plan_polls(tokens, last_polls, START, BOTH, HOUR, order_by(None), EarlyPolls(only=only))
        assert [task.token.key for task in plan] == keys
    early = EarlyPolls(only={"a", "acc_2", "acc_9", "typo"})
    assert early.unknown_names(tokens, last_polls) == ["acc_9", "typo"]


def test_a_notification_says_nothing_of_account_and_only_reads_it_again() -> None:
    last_polls = {"a": LastPoll("acc_1", START, START - HOUR, START - HOUR)}
    for early, due in ((notified(a=5), 0), (EarlyPolls(only={"a"}), 1)):
        assert len(plan_polls([token("a")], last_polls, START, ("account",), HOUR, None, early)) == due
