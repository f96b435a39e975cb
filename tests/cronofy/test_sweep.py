"""A sweep: real HTTP in, rows out batch by batch, with a warehouse that a test fills by hand."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from sources.cronofy.history.late import SampledHistories

from sources.cronofy import sweep as sweep_module
from sources.cronofy.calls.answers import Outcome
from sources.cronofy.calls.budget import Allowance
from sources.cronofy.calls.conduct import Conduct
from sources.cronofy.calls.feed import Feed
from sources.cronofy.calls.polling import Poll, PollTask
from sources.cronofy.history.changes import ProfileState, State
from sources.cronofy.history.knowledge import AccountHistory, Evidence, LastSamples, TokenContent
from sources.cronofy.settings import PollingSettings
from sources.cronofy.sweep import Rows, Sweep, new_run_id
from sources.cronofy.tables import TABLES
from tests.cronofy.bodies import minute, profile, token, userinfo
from tests.cronofy.clocks import START, ManualClock
from tests.cronofy.server import Server, answer


class StubKnowledge:
    """Answers from memory and notes what it was asked."""

    def __init__(self) -> None:
        self.seen: dict[str, Evidence] = {}
        self.contents: dict[str, TokenContent] = {}
        self.histories: dict[str, AccountHistory] = {}
        self.samples: dict[str, LastSamples] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    @contextmanager
    def connected(self) -> Iterator[None]:
        self.asked.append(("connected", ()))
        yield

    def evidence(self) -> dict[str, Evidence]:
        return self.seen

    def token_contents(self, token_keys: Sequence[str], tables: set[str]) -> dict[str, TokenContent]:
        self.asked.append(("tokens", tuple(token_keys)))
        return {key: self.contents[key] for key in token_keys if key in self.contents}

    def account_histories(self, account_ids: Sequence[str]) -> dict[str, AccountHistory]:
        self.asked.append(("histories", tuple(account_ids)))
        return {key: self.histories[key] for key in account_ids if key in self.histories}

    def last_samples(self, account_ids: Sequence[str]) -> dict[str, LastSamples]:
        self.asked.append(("samples", tuple(account_ids)))
        return {key: self.samples[key] for key in account_ids if key in self.samples}

    def ok_after(self, token_keys: Sequence[str], since: datetime) -> dict[tuple[str, str], datetime]:
        raise AssertionError("no poll is late here")

    def sampled_histories(self, account_ids: Sequence[str], since: datetime) -> SampledHistories:
        raise AssertionError("no poll is late here")


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
    polled: list[Poll] = []
    batches: list[Rows] = []
    tokens = [token(key) for key in keys]
    sweep = Sweep(settings, tokens, clock=clock, on_captured=polled.extend, on_batch=batches.append)
    found = run(sweep, known)
    assert [len(rows["polls"]) for rows in found] == [10, 10, 5]
    assert found == batches
    assert sorted(poll.token_key for poll in polled) == keys
    assert len({row["run_id"] for rows in found for row in rows["polls"]}) == 1
    stamps = [row["polled_at"] for rows in found for row in rows["polls"]]
    assert stamps == sorted(stamps)
    asked = [names for kind, names in known.asked if kind == "tokens"]
    assert sorted(name for names in asked for name in names) == keys  # each once


def test_only_due_tokens_are_polled(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    keys = serve_accounts(server, 3)
    known.seen = {keys[1]: Evidence("acc", last_ok_at=START - timedelta(minutes=5))}
    run(Sweep(settings, [token(key) for key in keys], clock=clock, every=timedelta(hours=1)), known)
    assert sorted(server.asked()) == [f"at-{keys[0]}", f"at-{keys[2]}"]


def test_a_part_of_a_feed_is_taken_and_the_rest_left(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    """Several sweeps, one after the other, over the polls of one run."""
    tokens = [token(key) for key in serve_accounts(server, 25)]
    conduct = Conduct.of(settings, clock, tokens)
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    with Feed(settings, conduct, clock, tasks, batch_polls=5) as feed:
        parts = []
        while feed.has_more():
            parts.append(run(Sweep(settings, clock=clock, feed=feed, polls=10), known))
    assert [[len(rows["polls"]) for rows in part] for part in parts] == [[5, 5], [5, 5], [5]]


def test_leaving_a_feed_early_ends_the_polling(
    server: Server, clock: ManualClock, settings: PollingSettings
) -> None:
    tokens = [token(key) for key in serve_accounts(server, 500)]
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    with Feed(settings, Conduct.of(settings, clock, tokens), clock, tasks, batch_polls=5) as feed:
        assert len(feed.take() or ()) == 5
    polled = len(server.arrivals)
    assert polled < 500
    time.sleep(0.05)
    assert len(server.arrivals) == polled


def test_a_fault_of_ours_reaches_whoever_takes(
    server: Server, clock: ManualClock, settings: PollingSettings
) -> None:
    def fail(_: Poll) -> None:
        raise ZeroDivisionError

    tokens = [token(key) for key in serve_accounts(server, 3)]
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    with Feed(settings, Conduct.of(settings, clock, tokens), clock, tasks, 5, fail) as feed:
        with pytest.raises(ZeroDivisionError):
            feed.has_more()
        assert feed.take() is None


@pytest.mark.parametrize(
    ("sampled", "previous"),
    [({"calendar": minute(-60)}, minute(-60)), ({"conferencing": minute(-60)}, None), ({}, None)],
    ids=["sampled before", "another type was", "never"],
)
def test_a_change_is_dated_by_the_sample_before_it(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings, sampled: LastSamples,
    previous: datetime | None,
) -> None:  # fmt: skip
    server.on("userinfo", "at-k1", answer(200, userinfo(profile(connected=False))))
    before = ProfileState(State.CONNECTED, "google", "gsuite", "example@cronofy.com", False)
    known.histories = {"acc_1": {"calendar": {"pro_1": before}}}
    known.samples = {"acc_1": sampled}
    [rows] = run(Sweep(settings, [token()], clock=clock), known)
    [change] = rows["profile_changes"]
    assert (change["kind"], change["previous_state"], change["previous_poll_at"]) == (
        "disconnected", "connected", previous,
    )  # fmt: skip


def test_without_changes_nobody_asks_when_the_last_sample_was(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    server.on("userinfo", "at-k1", answer(200, userinfo()))
    run(Sweep(settings, [token()], clock=clock), known)
    assert all(not names for kind, names in known.asked if kind == "samples")


def test_two_tokens_of_one_account_in_different_batches_share_its_history(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sweep_module, "BATCH_POLLS", 1)
    for key in ("k1", "k2"):
        server.on("userinfo", f"at-{key}", answer(200, userinfo(profile())))
    found = run(Sweep(settings, [token("k1"), token("k2")], clock=clock), known)
    assert sum(len(rows["profile_changes"]) for rows in found) == 1
    assert [names for kind, names in known.asked if kind == "histories" and names] == [("acc_1",)]


def test_failed_tokens_need_no_knowledge(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    server.on("userinfo", "at-k1", answer(500))
    [rows] = run(Sweep(settings, [token()], clock=clock), known)
    assert [row["outcome"] for row in rows["polls"]] == [Outcome.SERVER_ERROR]
    assert all(not names for _, names in known.asked)


def test_a_sweep_spends_no_more_than_its_allowance(
    server: Server, clock: ManualClock, known: StubKnowledge, settings: PollingSettings
) -> None:
    keys = serve_accounts(server, 10)
    allowance = Allowance(max_requests=4)
    tokens = [token(key) for key in keys]
    conduct = Conduct.of(settings, clock, tokens, allowance)
    tasks = [PollTask(each, ("userinfo",)) for each in tokens]
    with Feed(settings, conduct, clock, tasks, batch_polls=5) as feed:
        run(Sweep(settings, clock=clock, feed=feed), known)
    assert len(server.arrivals) == 4
    assert allowance.exhausted_by(0) == "max_requests"


def test_no_task_is_no_call_and_no_row(clock: ManualClock, known: StubKnowledge) -> None:
    assert run(Sweep(PollingSettings(base_url="http://127.0.0.1:1"), clock=clock), known) == []


def test_runs_are_named_by_their_start_and_by_chance(clock: ManualClock) -> None:
    names = {new_run_id(clock) for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"20250301T120000Z-[0-9a-f]{8}", name) for name in names)
    assert Sweep(PollingSettings(), clock=clock, run_id="mine").run_id == "mine"
