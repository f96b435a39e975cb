"""Breakers: when a data center counts as down, how it is probed, and what a 402 says of the plan."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from dlt_cronofy.source.api.limits.circuit_breaker import CircuitBreaker, Permit
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.limits.tuning import PLAN_REFUSALS, PROBES, TRIPS_AFTER
from dlt_cronofy.source.records import TROUBLES, Outcome, Response
from dlt_cronofy.source.settings import PollingSettings
from tests.cronofy.clocks import START, LoopClock, ManualClock, simulate


def answered(outcome: Outcome) -> Response:
    return Response(outcome, START, START, 0)


class Center:
    """One data center and its breaker, driven by hand."""

    def __init__(self, clock: ManualClock | LoopClock) -> None:
        self.clock = clock
        self.circuit = CircuitBreaker(clock, "de")
        self.quota = RunQuota()

    def permit(self, *, counts_toward_breaker: bool = True) -> Permit:
        return Permit(self.circuit, "userinfo", self.quota, counts_toward_breaker)

    def send(self, outcome: Outcome | None, permit: Permit | None = None) -> None:
        """One poll that was sent now and is answered now."""
        permit = permit or self.permit()
        permit.use(self.clock.monotonic())
        self.circuit.record(permit, answered(outcome) if outcome else None)

    def fail(self, times: int = TRIPS_AFTER) -> None:
        for _ in range(times):
            self.send(Outcome.SERVER_ERROR)

    async def admit(self, *, counts_toward_breaker: bool = True) -> Permit | None:
        permit = self.permit(counts_toward_breaker=counts_toward_breaker)
        return permit if (await permit.__aenter__()).refusal is None else None

    @property
    def is_tripped(self) -> bool:
        return self.circuit.turns_away(self.permit())


@pytest.fixture
def center(clock: ManualClock) -> Center:
    return Center(clock)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_troubles_in_a_row_trip_it_and_nothing_else_does(center: Center, outcome: Outcome) -> None:
    for number in range(1, 3 * TRIPS_AFTER):
        center.send(outcome)
        assert center.is_tripped is (outcome in TROUBLES and number >= TRIPS_AFTER)


@pytest.mark.parametrize("outcome", [each for each in Outcome if each not in TROUBLES])
def test_an_answer_of_a_server_that_is_well_begins_the_count_anew(center: Center, outcome: Outcome) -> None:
    """429 says that the application asked too much, skipped that nothing was asked: neither says anything."""
    center.fail(TRIPS_AFTER - 1)
    center.send(outcome)
    center.fail(1)
    assert center.is_tripped is (outcome in (Outcome.RATE_LIMITED, Outcome.SKIPPED))


def test_what_was_not_sent_says_nothing(center: Center) -> None:
    center.fail(TRIPS_AFTER - 1)
    center.send(None)
    assert not center.is_tripped
    center.fail(1)
    assert center.is_tripped


def test_tokens_that_always_fail_say_nothing(center: Center) -> None:
    for _ in range(3 * TRIPS_AFTER):
        center.send(Outcome.TIMEOUT, center.permit(counts_toward_breaker=False))
    assert not center.is_tripped


def test_polls_sent_before_the_last_good_answer_say_nothing(center: Center, clock: ManualClock) -> None:
    """At the end of a run only the tokens that hang are left: they end in a row, and the server is well."""
    hanging = [center.permit() for _ in range(3 * TRIPS_AFTER)]
    for permit in hanging:
        permit.use(clock.monotonic())
    clock.advance(seconds=1)
    center.send(Outcome.OK)
    clock.advance(seconds=30)
    for permit in hanging:
        permit.use(clock.monotonic())  # a second try: the first one counts
        center.circuit.record(permit, answered(Outcome.TIMEOUT))
    assert not center.is_tripped
    center.fail()
    assert center.is_tripped


def simulated(scenario: Coroutine[Any, Any, None]) -> None:
    simulate(scenario)


def test_while_tripped_one_probe_at_a_time_is_let_in_at_1_3_7_and_15_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    center = Center(LoopClock())
    let_in: list[tuple[float, bool]] = []
    turned_away: list[float] = []

    async def poll() -> None:
        permit = await center.admit()
        at = asyncio.get_running_loop().time()
        if permit is None:
            turned_away.append(at)
            return
        let_in.append((at, permit.is_probe))
        await asyncio.sleep(0.01)
        center.send(Outcome.TIMEOUT, permit)

    async def scenario() -> None:
        center.fail()
        await asyncio.gather(*(poll() for _ in range(50)))

    simulated(scenario())
    assert [probe for _, probe in let_in] == [True] * PROBES
    assert [at for at, _ in let_in] == pytest.approx([1, 3, 7, 15], abs=0.3)
    assert len(turned_away) == 50 - PROBES
    assert max(turned_away) < 16
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "de: 30 answers in a row failed (server_error); waiting for it to recover"),
        (
            logging.ERROR,
            "de does not recover (timeout): the rest of its tokens is skipped, and first in the next run",
        ),
    ]


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.TOKEN_REJECTED, Outcome.FORBIDDEN])
def test_a_probe_that_is_answered_lets_everybody_in(
    outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    center = Center(LoopClock())
    let_in: list[float] = []

    async def poll() -> None:
        permit = await center.admit()
        assert permit is not None
        let_in.append(asyncio.get_running_loop().time())
        center.send(outcome, permit)

    async def scenario() -> None:
        center.fail()
        await asyncio.gather(*(poll() for _ in range(50)))

    simulated(scenario())
    assert len(let_in) == 50
    assert let_in[0] == pytest.approx(1, abs=0.01)
    assert let_in[-1] < 1.3
    assert caplog.messages[-1] == "de answers again"


@pytest.mark.parametrize("outcome", [None, Outcome.RATE_LIMITED])
def test_a_probe_that_says_nothing_is_followed_by_another(center: Center, outcome: Outcome | None) -> None:
    async def scenario() -> None:
        center.fail()
        first = await center.admit()
        assert first is not None
        assert first.is_probe
        center.send(outcome, first)
        second = await center.admit()
        assert second is not None
        assert second.is_probe

    asyncio.run(scenario())
    assert not center.circuit.is_open


def test_tokens_that_say_nothing_wait_for_nobody_until_it_is_open(center: Center, clock: ManualClock) -> None:
    async def scenario() -> None:
        center.fail()
        assert await center.admit(counts_toward_breaker=False)
        assert clock.elapsed == 0
        center.circuit.is_open = True
        assert await center.admit(counts_toward_breaker=False) is None

    asyncio.run(scenario())


def test_whoever_waits_is_let_go_when_the_run_is_stopped(center: Center, clock: ManualClock) -> None:
    async def scenario() -> None:
        center.fail()
        center.quota.stop("SIGTERM")
        assert await center.admit()

    asyncio.run(scenario())
    assert clock.elapsed == 0


def test_a_permit_of_before_the_trip_no_longer_holds(center: Center) -> None:
    """Polls wait for their turn: those that were let in before are turned away when it comes."""
    permit, untelling = center.permit(), center.permit(counts_toward_breaker=False)
    assert permit.is_valid()
    center.fail()
    assert not permit.is_valid()
    assert untelling.is_valid()
    center.send(Outcome.OK)
    assert permit.is_withdrawn  # another one is needed
    assert not permit.is_valid()
    center.circuit.is_open = True
    assert not untelling.is_valid()


@pytest.mark.parametrize(
    ("answers", "is_shut"),
    [
        ([Outcome.PLAN_REQUIRED] * (PLAN_REFUSALS - 1), False),
        ([Outcome.PLAN_REQUIRED] * PLAN_REFUSALS, True),
        ([Outcome.PLAN_REQUIRED, Outcome.TOKEN_REJECTED] * PLAN_REFUSALS, True),
        ([Outcome.PLAN_REQUIRED, Outcome.OK] * 9, False),
        ([*[Outcome.PLAN_REQUIRED] * PLAN_REFUSALS, Outcome.OK], True),
        ([Outcome.FORBIDDEN] * 9, False),
        ([None] * 9, False),
    ],
    ids=["too few", "enough", "others between", "good between", "good too late", "403", "not sent"],
)
def test_a_plan_lacks_an_endpoint_that_answers_402_and_never_well(
    answers: list[Outcome | None], is_shut: bool, center: Center, caplog: pytest.LogCaptureFixture
) -> None:
    permit = center.permit()
    for outcome in answers:
        center.send(outcome)
    assert center.circuit.lacking == ({"userinfo"} if is_shut else set())
    assert permit.is_valid() is not is_shut
    assert len(caplog.messages) == is_shut  # one line, however many tokens


def test_data_centers_are_judged_apart(clock: ManualClock) -> None:
    policy = RequestPolicy(PollingSettings(), clock, [])
    one, same, elsewhere = (policy.permit(each, "account") for each in ("de", "de", "us"))
    assert one.circuit is same.circuit is not elsewhere.circuit


def test_leaving_a_permit_records_how_the_poll_ended(center: Center) -> None:
    async def poll(outcome: Outcome) -> str | None:
        async with center.permit() as permit:
            permit.response = answered(outcome)
        return permit.refusal

    for _ in range(PLAN_REFUSALS):
        assert asyncio.run(poll(Outcome.PLAN_REQUIRED)) is None
    assert asyncio.run(poll(Outcome.OK)) == "not called: the plan lacks the endpoint"
