"""The fan-out: in the order of the answers, bounded in memory, and nothing left behind."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from dlt_cronofy.source.api.client import CronofyClient
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.poller import WAITING_BATCHES, Backlog, Poller
from dlt_cronofy.source.history.parse import parse, read_poll
from dlt_cronofy.source.planning.plan import calling_order
from dlt_cronofy.source.privacy import PersonalData
from dlt_cronofy.source.records import Outcome, Poll, PollTask, Response
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.token import Token
from tests.cronofy.bodies import account, profile, profiles, token, userinfo
from tests.cronofy.clocks import LoopClock, simulate

BODIES = {"userinfo": userinfo(profile()), "account": account(), "profiles": profiles(profile())}
# so many tokens pay for all second calls of a test
WELL_STOCKED = 10_000
Respond = Callable[[str, Token], Outcome]


class StubClient:
    """Answers each read after a while of its own, in simulated time."""

    def __init__(self, respond: Respond | None = None, quota: RunQuota | None = None) -> None:
        self.quota = quota or RunQuota()
        self.calls: list[tuple[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self._respond = respond or (lambda *_: Outcome.OK)
        self._clock = LoopClock()

    async def read(self, endpoint: str, token: Token, *, last_poll_ok: bool = True) -> Response | None:
        if self._clock.monotonic() >= self.quota.deadline:
            return None
        self.calls.append((token.key, endpoint))
        requested_at = self._clock.now()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep((len(self.calls) * 37 % 11) / 10)
        self.in_flight -= 1
        outcome = self._respond(endpoint, token)
        body = orjson.dumps(BODIES[endpoint]) if outcome is Outcome.OK else b""
        attempts = int(outcome is not Outcome.SKIPPED)
        return Response(outcome, requested_at, self._clock.now(), 1, 200, body, attempts=attempts)


def digests(token: Token) -> Callable[[bytes], str]:
    return lambda body: f"{len(body)} bytes of {token.key}"


async def polled(
    client: StubClient,
    todo: Iterable[PollTask],
    batch_size: int = 10,
    max_in_flight: int = 8,
    on_poll: Callable[[Poll], None] = lambda _: None,
) -> AsyncGenerator[list[Poll]]:
    """The batches, each as soon as it is full; in simulated time nobody can wait in another thread."""
    clock, backlog = LoopClock(), Backlog(batch_size)
    policy = RequestPolicy(PollingSettings(), clock, [token()] * WELL_STOCKED, client.quota)
    stub = cast("CronofyClient", client)
    polling = asyncio.create_task(
        Poller(stub, policy, clock, digests, backlog, on_poll, max_in_flight).poll(todo)
    )
    try:
        while not polling.done():
            await asyncio.sleep(0.001)
            if backlog.is_full():
                yield backlog.take() or []
        await polling
        backlog.end()
        while (batch := backlog.take()) is not None:
            yield batch
    finally:
        backlog.is_closed = True
        await asyncio.gather(polling, return_exceptions=True)


def tasks(count: int, *endpoints: str) -> list[PollTask]:
    return [PollTask(token(f"k{n}"), endpoints or ("userinfo",)) for n in range(count)]


def poll_all(client: StubClient, todo: list[PollTask], **options: Any) -> list[list[Poll]]:
    async def scenario() -> list[list[Poll]]:
        return [batch async for batch in polled(client, todo, **options)]

    return simulate(scenario())


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 95, 200])
def test_every_task_is_polled_once_in_full_batches_and_a_rest(count: int) -> None:
    client = StubClient()
    batches = poll_all(client, tasks(count))
    keys = Counter(poll.token_key for batch in batches for poll in batch)
    assert keys == Counter(f"k{n}" for n in range(count))
    full, rest = divmod(count, 10)
    assert [len(batch) for batch in batches] == [10] * full + [rest] * bool(rest)


def test_polls_come_in_the_order_of_their_answers() -> None:
    polls = [poll for batch in poll_all(StubClient(), tasks(150, "userinfo", "account")) for poll in batch]
    stamps = [poll.response.polled_at for poll in polls]
    assert stamps == sorted(set(stamps))
    assert [poll.token_key for poll in polls] != sorted(poll.token_key for poll in polls)


@pytest.mark.parametrize("max_in_flight", [1, 3, 50])
def test_requests_in_flight_are_bounded(max_in_flight: int) -> None:
    client = StubClient()
    poll_all(client, tasks(80), max_in_flight=max_in_flight)
    assert client.most_in_flight == max_in_flight


def test_a_slow_consumer_holds_the_poller_back() -> None:
    client = StubClient()

    async def scenario() -> int:
        ahead = consumed = 0
        async for batch in polled(client, tasks(300), batch_size=10, max_in_flight=4):
            await asyncio.sleep(5)
            ahead = max(ahead, len(client.calls) - consumed)
            consumed += len(batch)
        assert consumed == 300
        return ahead

    # the batches that may wait, the one being consumed, and what was in flight
    assert simulate(scenario()) <= (WAITING_BATCHES + 1) * 10 + 2 * 4


def test_tasks_are_drawn_as_they_are_needed() -> None:
    drawn = 0

    def endless() -> Iterator[PollTask]:
        nonlocal drawn
        while True:
            drawn += 1
            yield PollTask(token(f"k{drawn}"), ("userinfo",))

    async def scenario() -> int:
        stream = polled(StubClient(), endless(), batch_size=5, max_in_flight=4)
        async for _ in stream:
            await stream.aclose()
            break
        return drawn

    assert simulate(scenario()) < 50


def test_a_tokens_endpoints_are_read_one_after_the_other() -> None:
    client = StubClient()
    poll_all(client, tasks(1, "userinfo", "account", "profiles"))
    assert client.calls == [("k0", "userinfo"), ("k0", "account"), ("k0", "profiles")]
    assert client.most_in_flight == 1


REFUSALS = (Outcome.TOKEN_REJECTED, Outcome.GRANT_REVOKED, Outcome.RATE_LIMITED)


@pytest.mark.parametrize(
    ("outcome", "calls"),
    [(each, 1 if each in REFUSALS else 3) for each in Outcome],
)
def test_a_rejected_token_is_not_tried_elsewhere_and_other_failures_are(outcome: Outcome, calls: int) -> None:
    quota = RunQuota(max_requests=3)
    client = StubClient(lambda *_: outcome, quota)
    poll_all(client, tasks(1, "userinfo", "account", "profiles"))
    assert len(client.calls) == calls
    # what was not sent is given back
    assert quota.reserve(3 if outcome is Outcome.SKIPPED else 3 - calls)
    assert not quota.reserve(1)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.FORBIDDEN])
def test_a_poll_knows_what_was_known_when_it_was_planned(outcome: Outcome) -> None:
    client = StubClient(lambda *_: outcome)
    other = PollTask(token("k2"), ("userinfo",), "acc_known")
    [polls] = poll_all(client, [PollTask(token(), ("userinfo",), "acc_known", fallbacks=(other,))])
    known = [(poll.token_key, poll.account_id, poll.fallback_tokens) for poll in polls]
    # a refused token is followed by the one that may be polled instead
    assert known == [("k1", "acc_known", ("k2",)), ("k2", "acc_known", ())][: 1 + (outcome is not Outcome.OK)]


@pytest.mark.parametrize(
    ("endpoints", "ask", "order"),
    [
        (("profiles",), True, ("account", "profiles")),
        (("profiles",), False, ("profiles",)),
        (("userinfo",), True, ("userinfo",)),
        (("account", "profiles"), True, ("account", "profiles")),
        (("userinfo", "account", "profiles"), True, ("userinfo", "account", "profiles")),
    ],
)
def test_an_answer_that_names_the_account_precedes_profiles(
    endpoints: tuple[str, ...], ask: bool, order: tuple[str, ...]
) -> None:
    assert calling_order(endpoints, ask_account=ask) == order


def test_an_answer_is_left_unread_with_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most responses are the same as the last one, and need not be read."""
    read: list[bytes] = []
    monkeypatch.setattr("dlt_cronofy.source.history.parse.parse", lambda *_: read.append(b""))
    [polls] = poll_all(StubClient(), tasks(3))
    assert read == []
    for poll in polls:
        body = orjson.dumps(BODIES["userinfo"])
        assert (poll.is_unread, poll.payload, poll.response.body) == (True, None, body)
        assert (poll.digest, poll.body_bytes) == (f"{len(body)} bytes of {poll.token_key}", len(body))


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.OK])
def test_what_failed_has_no_digest(outcome: Outcome) -> None:
    [[poll]] = poll_all(StubClient(lambda *_: outcome), tasks(1))
    assert (poll.is_unread, poll.digest) == (False, None)
    assert read_poll(poll) is poll


def test_a_body_is_not_kept_once_it_is_read() -> None:
    [[unread]] = poll_all(StubClient(), tasks(1))
    poll = read_poll(unread)
    assert (poll.is_unread, poll.response.body, poll.digest) == (False, b"", unread.digest)
    assert poll.payload == parse("userinfo", unread.response.body)
    # reading it leaves the other one as it was
    assert unread.is_unread
    assert unread.response.body != b""


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"sub":7}', b'{"sub":"acc_1"'])
def test_a_body_of_another_shape_is_a_bad_payload_without_a_digest(body: bytes) -> None:
    [[unread]] = poll_all(StubClient(), tasks(1))
    unread = replace(unread, response=replace(unread.response, body=body))
    poll = read_poll(unread, PersonalData())
    assert (poll.response.outcome, poll.payload, poll.digest) == (Outcome.BAD_PAYLOAD, None, None)
    assert (poll.response.body, poll.response.http_status) == (b"", 200)
    assert poll.response.message
    assert unread.response.outcome is Outcome.OK


@pytest.mark.parametrize("max_requests", [0, 1, 2, 7, 8])
def test_the_quota_is_spent_to_the_last_call(max_requests: int) -> None:
    client = StubClient(quota=RunQuota(max_requests))
    poll_all(client, tasks(20, "userinfo", "account"))
    assert len(client.calls) == max_requests


def test_at_the_deadline_what_was_not_sent_is_no_poll() -> None:
    quota = RunQuota(max_requests=1000, deadline=2.0)
    client = StubClient(quota=quota)
    batches = poll_all(client, tasks(100, "userinfo", "account"))
    assert 0 < sum(map(len, batches)) == len(client.calls) < 200
    assert quota.reserve(1000 - len(client.calls))  # what was not sent is given back
    assert not quota.reserve(1)


def test_every_poll_is_reported_as_it_is_answered() -> None:
    reported: list[Poll] = []

    async def scenario() -> list[Poll]:
        stream = polled(StubClient(), tasks(25), on_poll=reported.append)
        return [poll async for batch in stream for poll in batch]

    assert simulate(scenario()) == reported


async def other_tasks() -> set["asyncio.Task[object]"]:
    await asyncio.sleep(0)
    return asyncio.all_tasks() - {cast("asyncio.Task[object]", asyncio.current_task())}


def test_closing_early_leaves_no_task_behind() -> None:
    client = StubClient()

    async def scenario() -> int:
        stream = polled(client, tasks(500))
        async for _ in stream:
            break
        await stream.aclose()
        return len(await other_tasks())

    assert simulate(scenario()) == 0
    assert len(client.calls) < 100


def test_cancelling_leaves_no_task_behind() -> None:
    async def consume() -> None:
        async for _ in polled(StubClient(), tasks(10_000)):
            await asyncio.sleep(0.1)

    async def scenario() -> int:
        consumer = asyncio.create_task(consume())
        await asyncio.sleep(3)
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        return len(await other_tasks())

    assert simulate(scenario()) == 0


class OurFaultError(Exception):
    pass


@pytest.mark.parametrize("where", ["callback", "client"])
def test_a_fault_of_ours_ends_the_run_and_leaves_no_task_behind(where: str) -> None:
    def fail(*_: object) -> Outcome:
        raise OurFaultError

    client = StubClient(fail if where == "client" else None)
    ended: list[Awaitable[object] | int] = []

    async def scenario() -> None:
        on_poll: Callable[[Poll], Any] = fail if where == "callback" else lambda _: None
        stream = polled(client, tasks(500), on_poll=on_poll)
        try:
            async for _ in stream:
                pass
        finally:
            ended.append(len(await other_tasks()))

    with pytest.raises(OurFaultError):
        simulate(scenario())
    assert ended == [0]


def test_slow_polls_at_the_end_hold_up_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    [[poll]] = poll_all(StubClient(), tasks(1))
    backlog = Backlog(2)
    with ThreadPoolExecutor(1) as taker:
        taken = taker.submit(backlog.take)
        backlog.add(poll)
        monkeypatch.setattr("dlt_cronofy.source.api.poller.SLOW_SECONDS", 0.02)
        backlog.all_begun()
        assert taken.result(10) == [poll]
        assert taker.submit(backlog.take).result(10) == []  # said once
        last = taker.submit(backlog.take)
        backlog.add(poll)
        assert not wait([last], 0.05).done
        backlog.end()
        assert last.result(10) == [poll]
        assert taker.submit(backlog.take).result(10) is None


def test_taking_waits_for_a_full_batch_or_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    [[poll]] = poll_all(StubClient(), tasks(1))
    backlog = Backlog(2)
    with ThreadPoolExecutor(1) as taker:
        first = taker.submit(backlog.take)
        backlog.add(poll)
        assert not wait([first], 0.05).done
        backlog.add(poll)
        assert first.result(10) == [poll, poll]
        # where polling is slow a part of a batch is better than none
        monkeypatch.setattr("dlt_cronofy.source.api.poller.LONGEST_WAIT_SECONDS", 0.02)
        late = taker.submit(backlog.take)
        backlog.add(poll)
        assert late.result(10) == [poll]
        backlog.add(poll)
        backlog.end(OurFaultError())
        assert taker.submit(backlog.take).result(10) == [poll]
        with pytest.raises(OurFaultError):
            taker.submit(backlog.take).result(10)
        assert taker.submit(backlog.take).result(10) is None
