"""The table of outcomes: one line for each, and nothing means two of them."""

from collections import Counter

import pytest

from dlt_cronofy.source.records import (
    FAILURES,
    OUTCOMES,
    REFUSALS,
    RETRIED,
    TROUBLES,
    Outcome,
    status_outcome,
)


def test_every_outcome_has_one_line_with_a_meaning_and_advice() -> None:
    assert list(OUTCOMES) == list(Outcome)
    assert all(facts.meaning for facts in OUTCOMES.values())
    assert [outcome for outcome, facts in OUTCOMES.items() if not facts.advice] == [Outcome.OK]


def test_no_status_means_two_outcomes() -> None:
    counts = Counter(status for facts in OUTCOMES.values() for status in facts.statuses)
    assert set(counts.values()) == {1}


def test_what_follows_from_the_table() -> None:
    assert {Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.NETWORK_ERROR} == TROUBLES
    assert TROUBLES | {Outcome.RATE_LIMITED} == RETRIED
    assert {Outcome.TOKEN_REJECTED, Outcome.GRANT_REVOKED, Outcome.FORBIDDEN} == REFUSALS
    # the columns of `runs`, in their order
    assert tuple(each.value for each in Outcome)[1:-1] == FAILURES


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (204, Outcome.BAD_PAYLOAD),
        (301, Outcome.BAD_PAYLOAD),
        (401, Outcome.TOKEN_REJECTED),
        (404, Outcome.BAD_PAYLOAD),
        (408, Outcome.TIMEOUT),
        (429, Outcome.RATE_LIMITED),
        (500, Outcome.SERVER_ERROR),
        (599, Outcome.SERVER_ERROR),
    ],
)
def test_what_a_status_means(status: int, outcome: Outcome) -> None:
    assert status_outcome(status) is outcome
