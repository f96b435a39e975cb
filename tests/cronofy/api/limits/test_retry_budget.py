"""The retry budget: free while the server is well, a tenth of the tokens while it seems to be down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.api.limits.retry_budget import RetryBudget
from dlt_cronofy.source.api.limits.tuning import DOUBT_AFTER

MAX_ATTEMPTS = 4


def taken(budget: RetryBudget, most: int = 10_000) -> int:
    """Second calls that all fail, as many as may be made."""
    for number in range(most):
        if not budget.spend():
            return number
        budget.record(good=False)
    return most


@pytest.mark.parametrize(
    ("tokens", "retries"), [(1, 4), (5, 20), (9, 36), (10, 1), (19, 1), (50, 5), (1000, 100)]
)
def test_until_the_first_good_answer_a_tenth_may_be_tried_again(tokens: int, retries: int) -> None:
    """Fewer than ten tokens are no load on anybody: each has its tries."""
    assert taken(RetryBudget(tokens, MAX_ATTEMPTS)) == retries


def test_after_a_good_answer_tries_are_free_until_ten_in_a_row_are_bad() -> None:
    budget = RetryBudget(100, MAX_ATTEMPTS)
    budget.record(good=True)
    assert taken(budget) == DOUBT_AFTER + 10


def test_what_is_free_is_not_paid_for() -> None:
    budget = RetryBudget(100, MAX_ATTEMPTS)
    for _ in range(1000):
        budget.record(good=True)
        assert budget.spend()
    assert taken(budget) == DOUBT_AFTER + 10


def test_a_good_answer_makes_tries_free_again_and_pays_nothing_back() -> None:
    budget = RetryBudget(100, MAX_ATTEMPTS)
    assert taken(budget) == 10
    budget.record(good=True)
    assert taken(budget) == DOUBT_AFTER


@given(tokens=st.integers(10, 3000), per_token=st.integers(1, 9))
def test_a_server_that_fails_everything_sees_at_most_a_tenth_more(tokens: int, per_token: int) -> None:
    budget = RetryBudget(tokens, per_token)
    calls = 0
    for _ in range(tokens):
        for attempt in range(per_token):
            if attempt and not budget.spend():
                break
            calls += 1
            budget.record(good=False)
    assert calls <= 1.1 * tokens


@given(st.lists(st.booleans(), max_size=300))
def test_a_try_is_refused_in_doubt_only(answers: list[bool]) -> None:
    budget = RetryBudget(10, MAX_ATTEMPTS)
    bad_in_a_row = DOUBT_AFTER
    for good in answers:
        budget.record(good=good)
        bad_in_a_row = 0 if good else bad_in_a_row + 1
        assert budget.spend() or bad_in_a_row >= DOUBT_AFTER
