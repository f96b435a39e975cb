"""Evidence: step by step it comes to what one walk over all polls that are not late comes to."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlt_cronofy.source.history.evidence import Evidence, Stream, new_status, newest_ok
from dlt_cronofy.source.records import Outcome
from tests.cronofy.bodies import minute

HOLD = timedelta(minutes=3)
Row = dict[str, Any]

OK, FORBIDDEN, TIMEOUT, SKIPPED = Outcome.OK, Outcome.FORBIDDEN, Outcome.TIMEOUT, Outcome.SKIPPED
ENDPOINTS = ("userinfo", "account", "profiles")
# k1 and k2 are tokens of one account
ACCOUNTS = {"k1": "acc_1", "k2": "acc_1", "k3": "acc_3"}


@dataclass(frozen=True)
class Step:
    """One poll, as evidence sees it."""

    endpoint: str
    at: int
    outcome: Outcome = OK
    key: str = "k1"
    types: tuple[str, ...] = ("calendar",)

    @property
    def time(self) -> datetime:
        return minute(self.at)

    @property
    def is_attempt(self) -> bool:
        return self.outcome is not SKIPPED

    @property
    def names_account(self) -> bool:
        """Whether the answer says whose it is."""
        return self.outcome is OK and self.endpoint != "profiles"

    @property
    def streams(self) -> list[Stream]:
        """The streams that it is a sample of."""
        listed = {"userinfo": self.types, "account": (), "profiles": ("calendar",)}[self.endpoint]
        return [(ACCOUNTS[self.key], each) for each in listed] if self.outcome is OK else []


class Steps:
    """Takes polls one by one; each batch reads the rows that the one before it wrote."""

    def __init__(self) -> None:
        self.evidence = Evidence("run-0", HOLD)
        self.taken: list[Step] = []
        self.before: list[datetime | None] = []
        self.spans: dict[tuple[str, str, datetime], Row] = {}
        self._runs = 0

    def next_batch(self) -> None:
        """What was written is read again."""
        self._write()
        self._runs += 1
        old, self.evidence = self.evidence, Evidence(f"run-{self._runs}", HOLD)
        self.evidence.know({key: dict(row) for key, row in old.statuses.items()})
        newest: dict[Stream, Row] = {}
        for (account, kind, _), row in sorted(self.spans.items()):
            newest[account, kind] = dict(row)
        self.evidence.spans |= newest

    def add(self, step: Step) -> bool:
        """Take one poll unless it is late; returns whether it was taken."""
        known = self.evidence.status(step.key)["account_id"]
        account = ACCOUNTS[step.key] if step.names_account else known
        streams = step.streams if account is not None else []
        if self.evidence.is_late(step.key, step.endpoint, step.time, streams):
            return False
        self.evidence.add_poll(step.key, step.endpoint, step.time, step.outcome, account)
        self.before += [self.evidence.add_sample(stream, step.time) for stream in streams]
        self.taken.append(step)
        return True

    def status(self, key: str = "k1") -> Row:
        return self.evidence.status(key)

    def coverage(self) -> list[tuple[Any, ...]]:
        """All rows of `coverage`."""
        self._write()
        columns = ("account_id", "profile_type", "first_sample_at", "last_sample_at", "samples")
        return sorted(tuple(row[column] for column in columns) for row in self.spans.values())

    def _write(self) -> None:
        for row in self.evidence.changed_spans():
            self.spans[row["account_id"], row["profile_type"], row["first_sample_at"]] = dict(row)


# the plain walk


def walked_status(key: str, polls: Iterable[Step]) -> Row:
    """The row of a token, from all of its polls that are not late."""
    own = [each for each in polls if each.key == key]
    attempts = [each for each in own if each.is_attempt]
    row = new_status(key)
    if own:
        # the first of the endpoints that was ever polled; until then, that would have been
        tried = {each.endpoint for each in attempts or own}
        row["endpoint"] = next(each for each in ENDPOINTS if each in tried)
    for endpoint in ("account", "profiles"):
        row[f"{endpoint}_polled_at"] = newest(each for each in attempts if each.endpoint == endpoint)
        oks = (each for each in attempts if each.endpoint == endpoint and each.outcome is OK)
        row[f"{endpoint}_ok_at"] = newest(oks)
    judged = [each for each in attempts if each.endpoint == row["endpoint"]]
    row["last_polled_at"] = newest(judged)
    row["last_ok_at"] = newest(each for each in judged if each.outcome is OK)
    failures = [
        each
        for each in judged
        if each.outcome is not OK and (row["last_ok_at"] is None or each.time > row["last_ok_at"])
    ]
    row["consecutive_failures"] = len(failures)
    row["failing_since"] = min((each.time for each in failures), default=None)
    if judged:
        # at one instant an ok poll wins
        last = {each.outcome for each in judged if each.time == row["last_polled_at"]}
        row["last_outcome"] = "ok" if OK in last else min(each.value for each in last)
    return row


def newest(polls: Iterable[Step]) -> datetime | None:
    return max((each.time for each in polls), default=None)


def walked_coverage(streams: dict[Stream, set[datetime]]) -> list[tuple[Any, ...]]:
    """Maximal spans of instants no further apart than `hold`."""
    rows = []
    for stream, instants in streams.items():
        spans: list[list[datetime]] = []
        for at in sorted(instants):
            if spans and at - spans[-1][-1] <= HOLD:
                spans[-1].append(at)
            else:
                spans.append([at])
        rows += [(*stream, span[0], span[-1], len(span)) for span in spans]
    return sorted(rows)


OUTCOMES = st.sampled_from((OK, OK, OK, FORBIDDEN, TIMEOUT, SKIPPED))
TYPES = st.sampled_from([(), ("calendar",), ("conferencing",), ("calendar", "conferencing")])
STEPS = st.builds(
    lambda endpoint, ahead, outcome, key, types: (Step(endpoint, 0, outcome, key, types), ahead),
    st.sampled_from(ENDPOINTS),
    st.sampled_from((-2, -1, 0, 0, 1, 1, 2, 3, 4, 9)),
    OUTCOMES,
    st.sampled_from(list(ACCOUNTS)),
    TYPES,
)


@settings(deadline=None, max_examples=400)
@given(st.lists(STEPS, max_size=40), st.sets(st.integers(0, 40)))
def test_step_by_step_it_is_what_a_walk_over_all_polls_comes_to(
    drawn: Sequence[tuple[Step, int]], batches: set[int]
) -> None:
    steps = Steps()
    now = 100
    newest_attempt: dict[tuple[str, str], datetime] = {}
    samples: defaultdict[Stream, set[datetime]] = defaultdict(set)
    named: set[str] = set()
    for number, (step, ahead) in enumerate(drawn):
        now += ahead
        poll = Step(step.endpoint, now, step.outcome, step.key, step.types)
        if number in batches:
            steps.next_batch()
        # of an account that nobody named there are no samples
        streams = poll.streams if poll.names_account or poll.key in named else []
        is_late = poll.time < newest_attempt.get((poll.key, poll.endpoint), poll.time) or any(
            at > poll.time for stream in streams for at in samples[stream]
        )
        before = len(steps.before)
        assert steps.add(poll) is not is_late
        if is_late:
            continue
        if poll.is_attempt:
            newest_attempt[poll.key, poll.endpoint] = poll.time
        if poll.names_account:
            named.add(poll.key)
        if poll.key in named:
            earlier = [max((at for at in samples[each] if at < poll.time), default=None) for each in streams]
            repeated = [poll.time in samples[each] for each in streams]
            for found, expected, again in zip(steps.before[before:], earlier, repeated, strict=True):
                # in another batch nobody knows any more what was before the newest sample
                assert found == expected or (again and found == poll.time)
            for stream in streams:
                samples[stream].add(poll.time)
    for key, account_id in ACCOUNTS.items():
        expected_row = walked_status(key, steps.taken)
        found_row = steps.status(key) | {"run_id": None}
        assert found_row == expected_row | {"account_id": found_row["account_id"]}
        assert found_row["account_id"] == (account_id if key in named else None)
    assert steps.coverage() == walked_coverage(samples)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], {"endpoint": None, "last_polled_at": None, "last_outcome": None, "consecutive_failures": 0}),
        (
            [Step("userinfo", 1)],
            {"endpoint": "userinfo", "last_polled_at": 1, "last_ok_at": 1, "last_outcome": "ok"},
        ),
        (
            [Step("userinfo", 1), Step("userinfo", 2, FORBIDDEN), Step("userinfo", 4, TIMEOUT)],
            {"last_polled_at": 4, "last_ok_at": 1, "last_outcome": "timeout", "failing_since": 2,
             "consecutive_failures": 2},
        ),
        (
            [Step("userinfo", 1, FORBIDDEN), Step("userinfo", 2)],
            {"last_ok_at": 2, "last_outcome": "ok", "failing_since": None, "consecutive_failures": 0},
        ),
        # skipped is no attempt
        (
            [Step("userinfo", 1), Step("userinfo", 2, SKIPPED)],
            {"last_polled_at": 1, "last_outcome": "ok", "consecutive_failures": 0},
        ),
        (
            [Step("profiles", 1, SKIPPED), Step("account", 2, SKIPPED)],
            {"endpoint": "account", "last_polled_at": None, "account_polled_at": None},
        ),
        ([Step("userinfo", 1, SKIPPED), Step("account", 2)], {"endpoint": "account", "last_polled_at": 2}),
        # userinfo, then account, then profiles, whatever was polled first
        (
            [Step("profiles", 1), Step("account", 2, FORBIDDEN)],
            {"endpoint": "account", "last_polled_at": 2, "last_ok_at": None, "failing_since": 2,
             "consecutive_failures": 1, "profiles_polled_at": 1, "profiles_ok_at": 1,
             "account_polled_at": 2, "account_ok_at": None},
        ),
        (
            [Step("account", 1, TIMEOUT), Step("userinfo", 2), Step("account", 3, FORBIDDEN)],
            {"endpoint": "userinfo", "last_polled_at": 2, "last_outcome": "ok", "consecutive_failures": 0,
             "account_polled_at": 3, "account_ok_at": None},
        ),
        # at one instant ok wins, and of failures the first by name
        (
            [Step("userinfo", 1), Step("userinfo", 1, FORBIDDEN)],
            {"last_outcome": "ok", "failing_since": None, "consecutive_failures": 0},
        ),
        (
            [Step("userinfo", 1, TIMEOUT), Step("userinfo", 1)],
            {"last_outcome": "ok", "failing_since": None, "consecutive_failures": 0},
        ),
        (
            [Step("userinfo", 1, TIMEOUT), Step("userinfo", 1, FORBIDDEN)],
            {"last_outcome": "forbidden", "failing_since": 1, "consecutive_failures": 2},
        ),
        # a late one changes nothing
        (
            [Step("userinfo", 5), Step("userinfo", 4, FORBIDDEN)],
            {"last_polled_at": 5, "last_outcome": "ok", "consecutive_failures": 0},
        ),
    ],
)  # fmt: skip
def test_the_status_of_a_token(steps: list[Step], expected: Row) -> None:
    found = Steps()
    for step in steps:
        found.add(step)
    times = {name: minute(value) if name.endswith(("_at", "_since")) and value is not None else value
             for name, value in expected.items()}  # fmt: skip
    assert {name: found.status()[name] for name in expected} == times


@pytest.mark.parametrize(
    ("instants", "spans"),
    [
        ([], []),
        ([0], [(0, 0, 1)]),
        ([0, 3], [(0, 3, 2)]),
        ([0, 4], [(0, 0, 1), (4, 4, 1)]),
        ([0, 2, 2, 4], [(0, 4, 3)]),
        ([0, 3, 6, 10, 10, 13], [(0, 6, 3), (10, 13, 2)]),
    ],
    ids=str,
)
def test_a_gap_of_exactly_hold_joins_and_a_longer_one_parts(
    instants: list[int], spans: list[tuple[int, int, int]]
) -> None:
    steps = Steps()
    for at in instants:
        steps.add(Step("userinfo", at))
        steps.next_batch()
    expected = [("acc_1", "calendar", minute(first), minute(last), n) for first, last, n in spans]
    assert steps.coverage() == expected


def test_each_sample_knows_the_one_before_it() -> None:
    steps = Steps()
    for key, at in (("k1", 0), ("k2", 1), ("k1", 1), ("k1", 20), ("k2", 20)):
        steps.add(Step("userinfo", at, key=key))
    assert steps.before == [None, minute(0), minute(0), minute(1), minute(1)]


def test_only_what_changed_is_written_and_carries_the_run() -> None:
    steps = Steps()
    steps.add(Step("userinfo", 1, key="k1"))
    steps.add(Step("userinfo", 2, key="k3"))
    steps.next_batch()
    assert (steps.evidence.changed_statuses(), steps.evidence.changed_spans()) == ([], [])
    assert not steps.add(Step("userinfo", 0, key="k1"))
    steps.add(Step("userinfo", 3, FORBIDDEN, key="k1"))
    [status] = steps.evidence.changed_statuses()
    assert (status["token_key"], status["run_id"]) == ("k1", "run-1")
    steps.add(Step("userinfo", 4, key="k3"))
    [span] = steps.evidence.changed_spans()
    assert (span["account_id"], span["run_id"], span["samples"]) == ("acc_3", "run-1", 2)


def test_what_the_store_says_is_kept_beside_what_polls_say() -> None:
    steps = Steps()
    steps.evidence.set_store_columns([{"token_key": "k1", "customer": "Acme", "left_at": minute(0)}])
    steps.add(Step("userinfo", 1))
    status = steps.status()
    assert (status["customer"], status["left_at"], status["last_ok_at"]) == ("Acme", minute(0), minute(1))


@pytest.mark.parametrize(
    ("polls", "account_id"),
    [
        ([("userinfo", 1, "acc_1"), ("userinfo", 2, "acc_2")], "acc_2"),
        ([("userinfo", 1, "acc_1"), ("account", 2, "acc_2")], "acc_2"),
        # not late, since the endpoint was not polled later, but older than what is known
        ([("userinfo", 5, "acc_1"), ("account", 3, "acc_2")], "acc_1"),
        ([("userinfo", 5, None), ("account", 3, "acc_2")], "acc_2"),
        ([("userinfo", 1, "acc_1"), ("userinfo", 2, None)], "acc_1"),
    ],
)
def test_the_account_of_a_token_is_the_one_that_its_newest_poll_names(
    polls: list[tuple[str, int, str | None]], account_id: str
) -> None:
    evidence = Evidence("run-1", HOLD)
    for endpoint, at, named in polls:
        evidence.add_poll("k1", endpoint, minute(at), OK if named else FORBIDDEN, named)
    assert evidence.status("k1")["account_id"] == account_id
    assert evidence.tokens_of(account_id) == ["k1"]


def test_a_token_that_was_judged_by_an_endpoint_of_long_ago_is_judged_by_a_better_one() -> None:
    evidence = Evidence("run-1", HOLD)
    old = new_status("k1") | {"endpoint": "calendars", "last_polled_at": minute(0), "last_outcome": "ok"}
    evidence.know({"k1": old})
    evidence.add_poll("k1", "profiles", minute(1), FORBIDDEN, None)
    status = evidence.status("k1")
    assert (status["endpoint"], status["last_outcome"]) == ("profiles", "forbidden")


def test_the_newest_ok_poll_is_known_of_each_endpoint() -> None:
    steps = Steps()
    for step in (Step("userinfo", 1), Step("account", 2), Step("profiles", 3), Step("account", 4, TIMEOUT)):
        steps.add(step)
    found = [newest_ok(steps.status(), endpoint) for endpoint in ENDPOINTS]
    assert found == [minute(1), minute(2), minute(3)]
    assert [newest_ok(new_status("k2"), endpoint) for endpoint in ENDPOINTS] == [None] * 3


def test_forgetting_answers_keeps_the_one_that_is_named() -> None:
    evidence = Evidence("run-1", HOLD)
    for key in ("k1", "k2", "k3"):
        for endpoint in ENDPOINTS:
            evidence.know_answer(key, endpoint, f"{endpoint} of {key}")
    evidence.forget_answers(["k1", "k2"], keep=("k1", "account"))
    digests = {
        key: [evidence.status(key)[f"{endpoint}_digest"] for endpoint in ENDPOINTS]
        for key in evidence.statuses
    }
    assert digests == {
        "k1": [None, "account of k1", None],
        "k2": [None, None, None],
        "k3": ["userinfo of k3", "account of k3", "profiles of k3"],
    }
