"""The exchange: a request with bounded attempts, under the budget and within the allowance of its run."""

from collections.abc import Callable

import tenacity

from ..clock import Clock
from ..records import RETRIED, Answer, Outcome
from ..settings import PollingSettings
from .limits.circuit_breaker import Permit
from .limits.concurrency import Places
from .limits.policy import Conduct
from .limits.retry_budget import RetryBudget
from .transport import BuildRequest, Transport, send

# full jitter: each wait is drawn from [0, min(MAX, BASE * 2^attempt)]
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 20.0
# what did not answer in all its time is asked once more, not again and again: it holds up a run
TRIES_AFTER_TIMEOUT = 1


class Exchange:
    """Sends requests; knows nothing of tokens or endpoints."""

    def __init__(
        self,
        transport: Transport,
        settings: PollingSettings,
        conduct: Conduct,
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._budget = conduct.budget
        self._clock = clock
        self._conduct = conduct
        self._places = Places()
        self.allowance = conduct.allowance

    async def ask(
        self,
        data_center: str | None,
        build: BuildRequest,
        permit: Permit | None = None,
        is_off: Callable[[], bool] = lambda: False,
    ) -> Answer | None:
        """Send a request, again where that may help; the caller has taken the first from the allowance.

        Args:
            data_center: whose retry budget pays for further attempts.
            build: makes the request anew for each attempt, so that no secret is kept meanwhile.
            permit: must hold when an attempt could be sent.
            is_off: asked right before an attempt is sent; where it is true, it is not.

        Returns:
            The answer to the last attempt, or None when time ran out, the permit was withdrawn, or it was
            off, before anything was sent.
        """
        retries = self._conduct.retries(data_center)

        def given_up() -> bool:
            return self.allowance.stopped or is_off() or not (permit is None or permit.holds())

        answer = await self._attempt(build, retries, permit, given_up)
        if answer is None or not answer.retriable:
            return answer
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda answer: answer.retriable),
            stop=lambda state: self._is_enough(state, retries),
            wait=_wait_seconds,
            sleep=self._clock.sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return await attempts(self._again, build, retries, permit, given_up, [answer])

    def _is_enough(self, state: tenacity.RetryCallState, retries: RetryBudget) -> bool:
        """Whether the last answer stays as it is; otherwise another attempt is paid for."""
        assert state.outcome is not None
        last: Answer = state.outcome.result()
        if last.outcome is Outcome.TIMEOUT and last.http_status is None:
            most = min(1 + TRIES_AFTER_TIMEOUT, self._settings.max_attempts)
        else:
            most = self._settings.max_attempts
        too_late = self._clock.monotonic() + state.upcoming_sleep >= self.allowance.deadline
        return state.attempt_number >= most or too_late or not retries.take()

    async def _again(
        self,
        build: BuildRequest,
        retries: RetryBudget,
        permit: Permit | None,
        given_up: Callable[[], bool],
        answers: list[Answer],
    ) -> Answer:
        """One attempt for tenacity: the first one returns what is known already."""
        last = answers[-1]
        if len(answers) == 1:
            answers.append(last)
            return last
        if not self.allowance.take(1):
            return _final(last)
        answer = await self._attempt(build, retries, permit, given_up)
        if answer is None:
            return _final(last)
        answer.attempts = len(answers)
        answers.append(answer)
        return answer

    async def _attempt(
        self,
        build: BuildRequest,
        retries: RetryBudget,
        permit: Permit | None,
        given_up: Callable[[], bool],
    ) -> Answer | None:
        try:
            async with (
                self._places.place() as place,
                self._budget.slot(self.allowance.deadline, given_up) as sent_at,
            ):
                place.sent()
                if permit is not None:
                    permit.use(sent_at)
                answer = await send(self._transport, build, self._clock, self._settings.timeout_seconds)
        except TimeoutError:  # only the slot raises it
            self.allowance.give_back(1)
            return None
        retries.record(good=answer.outcome not in RETRIED)
        if answer.outcome is Outcome.RATE_LIMITED and not answer.retriable:
            # longer than we wait: whoever is left is polled by the next run
            self.allowance.stop("retry_after")
        elif answer.outcome is Outcome.RATE_LIMITED:
            self._budget.refused(sent_at, answer.retry_after)
        elif answer.http_status is not None:
            self._budget.accepted()
        return answer


def _final(answer: Answer) -> Answer:
    """The same answer, not to be tried again."""
    answer.is_last = True
    return answer


_full_jitter = tenacity.wait_random_exponential(multiplier=BACKOFF_BASE_SECONDS, max=BACKOFF_MAX_SECONDS)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    answer: Answer | None = state.outcome.result() if state.outcome else None
    if answer is not None and answer.outcome is Outcome.RATE_LIMITED:
        return 0.0  # the budget holds everyone back, this call included
    if answer is not None and answer.retry_after is not None:
        return answer.retry_after.total_seconds()
    return _full_jitter(state)
