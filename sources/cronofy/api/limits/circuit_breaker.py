"""Breakers: when a data center is down, or an endpoint is not in the plan, the rest is not even tried."""

import logging
import math
from collections import Counter
from dataclasses import dataclass
from typing import Self

from ...clock import Clock
from ...records import TROUBLES, Outcome, Response
from .run_quota import RunQuota
from .tuning import LOOK_AGAIN_SECONDS, PLAN_REFUSALS, PROBES, TRIPS_AFTER

logger = logging.getLogger("dlt_cronofy")


class CircuitBreaker:
    """One data center: closed while it answers, probed when it does not, then open for the rest of the run.

    A poll counts toward it when its token's last poll was ok or there was none: that a token fails which
    always fails says nothing of the server. Neither does a poll that was sent before the last good answer
    came: where tokens that hang are the last to end, they end in a row.
    """

    def __init__(self, clock: Clock, data_center: str) -> None:
        self._clock = clock
        self._data_center = data_center
        self._failed_in_a_row = 0
        self._good_at = -math.inf
        self._tripped = False
        self._probing = False
        self._probes = 0
        self._probe_at = 0.0
        self.is_open = False
        self._plan_refusals = Counter[str]()
        # endpoints that answer 402 and nothing else: the application's plan lacks them
        self.lacking: set[str] = set()

    async def admit(self, permit: "Permit") -> bool:
        """Wait until the poll may be sent, perhaps as a probe; False when none will be in this run."""
        while (
            self._tripped and permit.counts_toward_breaker and not self.is_open and not permit.quota.stopped
        ):
            now = self._clock.monotonic()
            if now >= self._probe_at and not self._probing:
                self._probing = permit.is_probe = True
                return True
            wait = LOOK_AGAIN_SECONDS if self._probing else self._probe_at - now
            await self._clock.sleep(min(wait, LOOK_AGAIN_SECONDS))
        return not self.is_open

    def turns_away(self, permit: "Permit") -> bool:
        """Whether what was let in before it tripped is to wait as well."""
        return not permit.is_probe and (self.is_open or (self._tripped and permit.counts_toward_breaker))

    def record(self, permit: "Permit", response: Response | None) -> None:
        """How it ended; None where nothing was sent."""
        if permit.is_probe:
            self._probing = False
        if response is None or response.outcome in (Outcome.RATE_LIMITED, Outcome.SKIPPED):
            return
        self._judge_plan(permit.endpoint, response.outcome)
        if response.outcome not in TROUBLES:
            self._recover()
        elif permit.is_probe:
            self._fail_probe(response.outcome)
        elif permit.counts_toward_breaker and permit.sent_at >= self._good_at and not self._tripped:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= TRIPS_AFTER:
                self._trip(response.outcome)

    def _judge_plan(self, endpoint: str, outcome: Outcome) -> None:
        if outcome is Outcome.OK:
            self._plan_refusals[endpoint] = 0
        elif outcome is Outcome.PLAN_REQUIRED and endpoint not in self.lacking:
            self._plan_refusals[endpoint] += 1
            if self._plan_refusals[endpoint] >= PLAN_REFUSALS:
                self.lacking.add(endpoint)
                message = "%s answers 402 to /v1/%s: the application's Cronofy plan lacks it;"
                message += " it is not called again in this run"
                logger.error(message, self._data_center, endpoint)

    def _recover(self) -> None:
        if self._tripped and not self.is_open:
            logger.warning("%s answers again", self._data_center)
        self._good_at = self._clock.monotonic()
        self._failed_in_a_row = self._probes = 0
        self._tripped = self.is_open = False

    def _trip(self, outcome: Outcome) -> None:
        self._tripped = True
        self._probe_at = self._clock.monotonic() + 1.0
        message = "%s: %d answers in a row failed (%s); waiting for it to recover"
        logger.warning(message, self._data_center, self._failed_in_a_row, outcome.value)

    def _fail_probe(self, outcome: Outcome) -> None:
        self._probes += 1
        self._probe_at = self._clock.monotonic() + 2.0**self._probes
        if self._probes >= PROBES:
            self.is_open = True
            message = "%s does not recover (%s): the rest of its tokens is skipped, and first in the next run"
            logger.error(message, self._data_center, outcome.value)


@dataclass(slots=True)
class Permit:
    """Leave to send the requests of one poll; looked at again whenever one of them could be sent.

    Entered with `async with`, it waits until the poll may be made, and leaving it records the response: polls
    wait for their turn after they were let in, and what is known of the server may change meanwhile.

    Attributes:
        quota: of the run: where that is stopped, nothing is waited for.
        refusal: why the poll is not to be made; None where it is.
        response: how the poll ended; None where nothing was sent.
        is_probe: others wait for how it ends.
        sent_at: when the first request was sent, in monotonic seconds.
        is_withdrawn: a request was not sent because of what became known.
    """

    circuit: CircuitBreaker
    endpoint: str
    quota: RunQuota
    counts_toward_breaker: bool = True
    refusal: str | None = None
    response: Response | None = None
    is_probe: bool = False
    sent_at: float = math.inf
    is_withdrawn: bool = False

    async def __aenter__(self) -> Self:
        if self.endpoint in self.circuit.lacking:
            self.refusal = "not called: the plan lacks the endpoint"
        elif not await self.circuit.admit(self):
            self.refusal = "not called: the data center does not answer"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.circuit.record(self, self.response)

    def is_valid(self) -> bool:
        """Whether a request may be sent now; once it may not, another permit is needed."""
        if self.endpoint in self.circuit.lacking or self.circuit.turns_away(self):
            self.is_withdrawn = True
        return not self.is_withdrawn

    def use(self, sent_at: float) -> None:
        """A request is sent."""
        self.sent_at = min(self.sent_at, sent_at)
