"""A sweep: real HTTP in, rows out batch by batch, with a warehouse that a test fills by hand."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from dlt_cronofy.source import sweep as sweep_module
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.poll_stream import PollStream
from dlt_cronofy.source.history.diff import ProfileState, State
from dlt_cronofy.source.history.evidence import new_status
from dlt_cronofy.source.history.state import AccountHistory, TokenContent
from dlt_cronofy.source.planning.plan import LastPoll
from dlt_cronofy.source.records import Outcome, Poll, PollTask
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import Rows, Sweep, new_run_id
from dlt_cronofy.source.tables import TABLES, Row
from tests.cronofy.bodies import minute, profile, token, userinfo
from tests.cronofy.clocks import START, ManualClock
from tests.cronofy.server import Server, answer


class StubKnowledge:
    """Answers from memory and notes what it was asked."""

    def __init__(self) -> None:
        self.seen: dict[str, LastPoll] = {}
        self.rows: dict[str, Row] = {}
        self.contents: dict[str, TokenContent] = {}
        self.histories: dict[str, AccountHistory] = {}
        self.spans: dict[tuple[str, str], Row] = {}
        self.unsupported: set[str] = set()
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    @contextmanager
    def connected(self) -> Iterator[None]:
        self.asked.append(("connected", ()))
        yield

    def last_polls(self) -> dict[str, LastPoll]:
        return self.seen

    def unsupported_digests(self, tables: set[str]) -> set[str]:
        return self.unsupported

    def statuses(self, token_keys: Sequence[str]) -> dict[str, Row]:
        self.asked.append(("statuses", tuple(token_keys)))
        return {key: dict(self.rows[key]) for key in token_keys if key in self.rows}

    def statuses_of_accounts(self, account_ids: Sequence[str]) -> dict[str, Row]:
        self.asked.append(("statuses of accounts", tuple(account_ids)))
        return {key: dict(row) for key, row in self.rows.items() if row["account_id"] in account_ids}

    def newest_spans(self, account_ids: Sequence[str]) -> dict[tuple[str, str], Row]:
        self.asked.append(("spans", tuple(account_ids)))
        return {key: dict(row) for key, row in self.spans.items() if key[0] in account_ids}

    def store_rows(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        return (tuple(row.get(name) for name in columns) for row in self.rows.values())

    def token_contents(self, token_keys: Sequence[str], tables: set[str]) -> dict[str, TokenContent]:
        self.asked.append(("tokens", tuple(token_keys)))
        return {key: self.contents[key] for key in token_keys if key in self.contents}

    def account_histories(self, account_ids: Sequence[str], until: datetime) -> dict[str, AccountHistory]:
        self.asked.append(("histories", tuple(account_ids)))
        return {key: self.histories[key] for key in account_ids if key in self.histories}

    def asked_for(self, what: str) -> list[str]:
        """All that was asked of that kind, in order."""
        return [name for kind, names in self.asked if kind == what for name in names]

    def take(self, batches: list[Rows]) -> None:
        """Keep the evidence of these batches, as a warehouse would."""
        for rows in batches:
            self.rows |= {row["token_key"]: row for row in rows.get("token_status", ())}
            self.spans |= {(row["account_id"], row["profile_type"]): row for row in rows.get("coverage", ())}


@pytest.fixture
def known() -> StubKnowledge:
    return StubKnowledge()


@pytest.fixture
def settings(server: Server) -> PollingSettings:
    return PollingSettings(
        base_url=server.url, max_attempts=1, requests_per_minute=100_000, requests_per_second=1000
    )


def run(sweep: Sweep, known: StubKnowledge, *tables: str) -> list[Rows]:
    async def collect() -> list[Rows]:
        return [rows async for rows in sweep.run(known, ("userinfo",), set(tables or TABLES))]

    return asyncio.run(collect())


def serve_accounts(server: Server, count: int) -> list[str]:
    keys = [f"k{n:03}" for n in range(count)]
    for key in keys:
        server.on("userinfo", f"at-{key}", answer(200, userinfo(profile(), sub=f"acc-{key}")))
    return keys


def test_batches_are_captured_as_they_fill(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sweep_module, "BATCH_POLLS", 10)
    keys = serve_accounts(server, 25)
    *batches, evidence = run(Sweep(settings, [token(key) for key in keys], clock=clock), known)
    assert [len(rows["polls"]) for rows in batches] == [10, 10, 5]
    assert sorted(row["token_key"] for rows in batches for row in rows["polls"]) == keys
    written = [row for rows in [*batches, evidence] for found in rows.values() for row in found]
    assert len({row["run_id"] for row in written}) == 1
    stamps = [row["polled_at"] for rows in batches for row in rows["polls"]]
    assert stamps == sorted(stamps)
    assert sorted(known.asked_for("tokens")) == keys  # each once
    # the evidence comes once, after all polls
    assert [len(evidence[name]) for name in ("token_status", "coverage", "runs")] == [25, 25, 1]
    [ran] = evidence["runs"]
    assert (ran["tokens"], ran["due"], ran["polled"], ran["ok"], ran["changes"]) == (25, 25, 25, 25, 25)
    assert (ran["first_polled_at"], ran["last_polled_at"]) == (stamps[0], stamps[-1])
    assert ran["started_at"] <= stamps[0] <= stamps[-1] <= ran["finished_at"]


def test_what_is_due_goes_by_the_evidence(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    keys = serve_accounts(server, 3)
    known.seen = {keys[1]: LastPoll("acc", last_ok_at=START - timedelta(minutes=5))}
    run(Sweep(settings, [token(key) for key in keys], clock=clock, every=timedelta(hours=1)), known)
    assert sorted(server.asked()) == [f"at-{keys[0]}", f"at-{keys[2]}"]


def test_of_an_unchanged_answer_nothing_is_read(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings, parsed: list[str]
) -> None:
    sweep = Sweep(settings, [token(key) for key in serve_accounts(server, 5)], clock=clock)
    known.take(run(sweep, known))
    assert len(parsed) == 5
    known.asked.clear()
    clock.advance(hours=1)
    [rows, evidence] = run(sweep, known)
    assert len(parsed) == 5
    assert {name: len(found) for name, found in (rows | evidence).items() if found} == {
        "polls": 5, "token_status": 5, "coverage": 5, "runs": 1,
    }  # fmt: skip
    assert {row["profiles"] for row in rows["polls"]} == {1}
    assert (known.asked_for("tokens"), known.asked_for("histories")) == ([], [])
    # what it takes is one row of each token, and one of its account
    assert len(known.asked_for("statuses")) == len(known.asked_for("spans")) == 5


def test_a_digest_without_its_rows_is_not_relied_on(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    keys = serve_accounts(server, 3)
    sweep = Sweep(settings, [token(key) for key in keys], clock=clock)
    known.take(run(sweep, known))
    known.unsupported = {keys[1]}
    clock.advance(hours=1)
    [rows, _] = run(sweep, known)
    assert [row["token_key"] for row in rows["userinfo"]] == [keys[1]]


def test_leaving_a_feed_early_ends_the_polling(
    server: Server, clock: ManualClock, settings: PollingSettings
) -> None:
    settings = replace(settings, max_open=20)  # of them all, however late this thread is
    tokens = [token(key) for key in serve_accounts(server, 2_000)]
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    with PollStream(settings, RequestPolicy(settings, clock, tokens), clock, tasks, batch_polls=5) as feed:
        assert len(feed.take() or ()) == 5
    # requests that were under way still reach the server
    polled = -1
    while polled != len(server.arrivals):
        polled = len(server.arrivals)
        time.sleep(0.1)
    assert polled < 2_000


def test_a_fault_of_ours_reaches_whoever_takes(
    server: Server, clock: ManualClock, settings: PollingSettings
) -> None:
    def fail(_: Poll) -> None:
        raise ZeroDivisionError

    tokens = [token(key) for key in serve_accounts(server, 3)]
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    with PollStream(settings, RequestPolicy(settings, clock, tokens), clock, tasks, 5, fail) as feed:
        with pytest.raises(ZeroDivisionError):
            feed.take()
        assert feed.take() is None


@pytest.mark.parametrize(
    ("sampled", "previous"),
    [("calendar", minute(-60)), ("conferencing", None), (None, None)],
    ids=["sampled before", "another type was", "never"],
)
def test_a_change_is_dated_by_the_sample_before_it(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings, sampled: str | None,
    previous: datetime | None,
) -> None:  # fmt: skip
    server.on("userinfo", "at-k1", answer(200, userinfo(profile(connected=False))))
    before = ProfileState(State.CONNECTED, "google", "gsuite", "example@cronofy.com", False)
    known.histories = {"acc_1": {"calendar": {"pro_1": before}}}
    if sampled is not None:
        span = {"account_id": "acc_1", "profile_type": sampled, "samples": 7}
        times = {"first_sample_at": minute(-300), "last_sample_at": minute(-60)}
        known.spans = {("acc_1", sampled): span | times}
    [rows, evidence] = run(Sweep(settings, [token()], clock=clock), known)
    [change] = rows["profile_changes"]
    assert (change["kind"], change["previous_state"], change["previous_poll_at"]) == (
        "disconnected", "connected", previous,
    )  # fmt: skip
    [calendar_span] = evidence["coverage"]
    assert calendar_span["samples"] == (8 if sampled == "calendar" else 1)


def test_two_tokens_of_one_account_in_different_batches_share_its_history(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sweep_module, "BATCH_POLLS", 1)
    for key in ("k1", "k2"):
        server.on("userinfo", f"at-{key}", answer(200, userinfo(profile())))
    *batches, evidence = run(Sweep(settings, [token("k1"), token("k2")], clock=clock), known)
    assert sum(len(rows["profile_changes"]) for rows in batches) == 1
    assert known.asked_for("histories") == known.asked_for("spans") == ["acc_1"]
    assert [span["samples"] for span in evidence["coverage"]] == [2]


@pytest.mark.parametrize("batch_polls", [1, 10], ids=["in other batches", "in one batch"])
def test_a_change_reaches_the_digests_of_the_accounts_other_tokens(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings,
    monkeypatch: pytest.MonkeyPatch, batch_polls: int,
) -> None:  # fmt: skip
    """Of three tokens one is not polled, and one answers what it has answered before."""
    monkeypatch.setattr(sweep_module, "BATCH_POLLS", batch_polls)
    one_at_a_time = replace(settings, max_open=1)
    connected, disconnected = (userinfo(profile(connected=each)) for each in (True, False))
    for key in ("k1", "k2", "k3"):
        server.on("userinfo", f"at-{key}", answer(200, connected))
    first = run(Sweep(one_at_a_time, [token(key) for key in ("k1", "k2", "k3")], clock=clock), known)
    known.take(first)
    before = ProfileState(State.CONNECTED, "google", "gsuite", "example@cronofy.com", False)
    known.histories = {"acc_1": {"calendar": {"pro_1": before}}}
    clock.advance(hours=1)
    server.on("userinfo", "at-k1", answer(200, disconnected))
    *batches, evidence = run(Sweep(one_at_a_time, [token("k1"), token("k2")], clock=clock), known)
    changes = [row for rows in batches for row in rows["profile_changes"]]
    assert [(row["token_key"], row["kind"]) for row in changes] == [
        ("k1", "disconnected"), ("k2", "connected"),
    ]  # fmt: skip
    digests = {row["token_key"]: row["userinfo_digest"] is None for row in evidence["token_status"]}
    assert digests == {"k1": True, "k2": False, "k3": True}


def test_failed_tokens_need_no_knowledge_but_of_themselves(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    server.on("userinfo", "at-k1", answer(500))
    [rows, evidence] = run(Sweep(settings, [token()], clock=clock), known)
    assert [row["outcome"] for row in rows["polls"]] == [Outcome.SERVER_ERROR]
    assert {kind for kind, names in known.asked if names} == {"statuses"}
    [status] = evidence["token_status"]
    assert (status["last_outcome"], status["consecutive_failures"]) == ("server_error", 1)
    assert evidence["coverage"] == []


def test_without_polls_there_is_no_evidence(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    """It travels with the rows that it is made of."""
    server.on("userinfo", "at-k1", answer(200, userinfo(profile())))
    [rows] = run(Sweep(settings, [token()], clock=clock), known, "userinfo", "profiles")
    assert {name for name, found in rows.items() if found} == {"userinfo", "profiles"}


def test_what_the_store_says_is_in_the_evidence(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    server.on("userinfo", "at-k1", answer(200, userinfo(profile())))
    gone = new_status("gone") | {"application": "default", "customer": "Acme"}
    known.rows = {"gone": gone, "theirs": new_status("theirs") | {"application": "another"}}
    mine = replace(settings, application="default")
    [_, evidence] = run(Sweep(mine, [token()], clock=clock), known)
    by_key = {row["token_key"]: row for row in evidence["token_status"]}
    assert by_key.keys() == {"k1", "gone"}
    assert (by_key["k1"]["application"], by_key["k1"]["left_at"]) == ("default", None)
    assert by_key["gone"]["left_at"] - START < timedelta(seconds=1)
    assert by_key["gone"]["customer"] == "Acme"


def test_no_task_is_no_call_and_a_run_without_polls(clock: ManualClock, known: StubKnowledge) -> None:
    [evidence] = run(Sweep(PollingSettings(base_url="http://127.0.0.1:1"), clock=clock), known)
    [ran] = evidence["runs"]
    assert (ran["tokens"], ran["due"], ran["polled"], ran["last_polled_at"]) == (0, 0, 0, None)
    assert (evidence["token_status"], evidence["coverage"]) == ([], [])


def test_runs_are_named_by_their_start_and_by_chance(clock: ManualClock) -> None:
    names = {new_run_id(clock) for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"20250301T120000Z-[0-9a-f]{8}", name) for name in names)


def test_a_feed_spends_no_more_than_its_allowance(
    server: Server, clock: ManualClock, settings: PollingSettings
) -> None:
    quota = RunQuota(max_requests=4)
    tokens = [token(key) for key in serve_accounts(server, 10)]
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    policy = RequestPolicy(settings, clock, tokens, quota)
    with PollStream(settings, policy, clock, tasks, batch_polls=5) as feed:
        assert len(feed.take() or ()) == 4
        assert feed.take() is None
    assert len(server.arrivals) == 4
    assert quota.exhausted_by(0) == "max_requests"
