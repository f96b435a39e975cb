"""The retrier: a request with bounded attempts, under the budget and within the allowance of its run."""

from collections.abc import Callable

import tenacity

from ..clock import Clock
from ..records import RETRIED, Outcome, Response
from ..settings import PollingSettings
from .limits.circuit_breaker import Permit
from .limits.concurrency import ConcurrencyLimiter
from .limits.policy import RequestPolicy
from .limits.retry_budget import RetryBudget
from .transport import BuildRequest, Transport, send

# full jitter: each wait is drawn from [0, min(MAX, BASE * 2^attempt)]
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 20.0
# what did not answer in all its time is asked once more, not again and again: it holds up a run
TRIES_AFTER_TIMEOUT = 1


class Retrier:
    """Sends requests; knows nothing of tokens or endpoints."""

    def __init__(
        self,
        transport: Transport,
        settings: PollingSettings,
        policy: RequestPolicy,
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._budget = policy.rate_limiter
        self._clock = clock
        self._policy = policy
        self._places = ConcurrencyLimiter()
        self.quota = policy.quota

    async def ask(
        self,
        data_center: str | None,
        build: BuildRequest,
        permit: Permit | None = None,
        is_off: Callable[[], bool] = lambda: False,
    ) -> Response | None:
        """Send a request, again where that may help; the caller has taken the first from the quota.

        Args:
            data_center: whose retry budget pays for further attempts.
            build: makes the request anew for each attempt, so that no secret is kept meanwhile.
            permit: must hold when an attempt could be sent.
            is_off: asked right before an attempt is sent; where it is true, it is not.

        Returns:
            The answer to the last attempt, or None when time ran out, the permit was withdrawn, or it was
            off, before anything was sent.
        """
        retries = self._policy.retries(data_center)

        def given_up() -> bool:
            return self.quota.stopped or is_off() or not (permit is None or permit.is_valid())

        response = await self._attempt(build, retries, permit, given_up)
        if response is None or not response.retriable:
            return response
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda response: response.retriable),
            stop=lambda state: self._is_enough(state, retries),
            wait=_wait_seconds,
            sleep=self._clock.sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return await attempts(self._again, build, retries, permit, given_up, [response])

    def _is_enough(self, state: tenacity.RetryCallState, retries: RetryBudget) -> bool:
        """Whether the last answer stays as it is; otherwise another attempt is paid for."""
        assert state.outcome is not None
        last: Response = state.outcome.result()
        if last.outcome is Outcome.TIMEOUT and last.http_status is None:
            most = min(1 + TRIES_AFTER_TIMEOUT, self._settings.max_attempts)
        else:
            most = self._settings.max_attempts
        too_late = self._clock.monotonic() + state.upcoming_sleep >= self.quota.deadline
        return state.attempt_number >= most or too_late or not retries.take()

    async def _again(
        self,
        build: BuildRequest,
        retries: RetryBudget,
        permit: Permit | None,
        given_up: Callable[[], bool],
        responses: list[Response],
    ) -> Response:
        """One attempt for tenacity: the first one returns what is known already."""
        last = responses[-1]
        if len(responses) == 1:
            responses.append(last)
            return last
        if not self.quota.reserve(1):
            return _final(last)
        response = await self._attempt(build, retries, permit, given_up)
        if response is None:
            return _final(last)
        response.attempts = len(responses)
        responses.append(response)
        return response

    async def _attempt(
        self,
        build: BuildRequest,
        retries: RetryBudget,
        permit: Permit | None,
        given_up: Callable[[], bool],
    ) -> Response | None:
        try:
            async with (
                self._places.place() as place,
                self._budget.slot(self.quota.deadline, given_up) as sent_at,
            ):
                place.sent()
                if permit is not None:
                    permit.use(sent_at)
                response = await send(self._transport, build, self._clock, self._settings.timeout_seconds)
        except TimeoutError:  # only the slot raises it
            self.quota.release(1)
            return None
        retries.record(good=response.outcome not in RETRIED)
        if response.outcome is Outcome.RATE_LIMITED and not response.retriable:
            # longer than we wait: whoever is left is polled by the next run
            self.quota.stop("retry_after")
        elif response.outcome is Outcome.RATE_LIMITED:
            self._budget.refused(sent_at, response.retry_after)
        elif response.http_status is not None:
            self._budget.accepted()
        return response


def _final(response: Response) -> Response:
    """The same answer, not to be tried again."""
    response.is_last = True
    return response


_full_jitter = tenacity.wait_random_exponential(multiplier=BACKOFF_BASE_SECONDS, max=BACKOFF_MAX_SECONDS)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    response: Response | None = state.outcome.result() if state.outcome else None
    if response is not None and response.outcome is Outcome.RATE_LIMITED:
        return 0.0  # the budget holds everyone back, this call included
    if response is not None and response.retry_after is not None:
        return response.retry_after.total_seconds()
    return _full_jitter(state)
