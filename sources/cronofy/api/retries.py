"""Retries: a request with a bounded number of attempts, each under the policy of its run."""

import random
from collections.abc import Callable
from dataclasses import replace

from ..clock import Clock
from ..records import RETRIED, Outcome, Response
from ..settings import PollingSettings
from .limits.policy import RequestPolicy
from .limits.tuning import BACKOFF_BASE_SECONDS, BACKOFF_MAX_SECONDS, MAX_ATTEMPTS_AFTER_TIMEOUT
from .transport import BuildRequest, Transport, send


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
        self._policy = policy
        self._clock = clock

    async def send(
        self,
        data_center: str | None,
        build: BuildRequest,
        is_valid: Callable[[], bool] = lambda: True,
        on_sent: Callable[[float], None] = lambda _: None,
        *,
        is_reserved: bool = False,
    ) -> Response | None:
        """Send a request, again where that may help.

        Args:
            data_center: whose retry budget pays for further attempts.
            build: makes the request for each attempt, so that no secret is kept meanwhile.
            is_valid: asked right before an attempt is sent; where it is false, it is not.
            on_sent: called with the monotonic time of each attempt.
            is_reserved: the caller has reserved the first attempt in the quota, and releases it where nothing
                was sent.

        Returns:
            The response to the last attempt, or None where nothing was sent: the quota or the time is used
            up, the run was stopped, or it was not valid any more.
        """
        quota = self._policy.quota
        response: Response | None = None
        while is_reserved or quota.reserve(1):
            again = await self._attempt(data_center, build, is_valid, on_sent)
            if again is None:
                quota.release(0 if is_reserved else 1)
                break
            is_reserved = False
            response = again if response is None else replace(again, attempts=response.attempts + 1)
            if response.outcome not in RETRIED:
                break
            wait = self._wait_seconds(response)
            if not self._may_retry(data_center, response, wait):
                break
            if wait > 0:
                await self._clock.sleep(wait)
        return response

    def is_over(self) -> bool:
        """Whether nothing more may be sent in this run."""
        quota = self._policy.quota
        return quota.stopped or self._clock.monotonic() >= quota.deadline

    def _wait_seconds(self, response: Response) -> float:
        """How long to wait before the next attempt."""
        if response.outcome is Outcome.RATE_LIMITED:
            return 0.0  # the rate limiter holds everyone back, this request included
        if response.retry_after is not None:
            return response.retry_after.total_seconds()
        longest = min(BACKOFF_MAX_SECONDS, BACKOFF_BASE_SECONDS * 2 ** (response.attempts - 1))
        return random.uniform(0, longest)  # noqa: S311 - jitter

    def _may_retry(self, data_center: str | None, response: Response, wait: float) -> bool:
        """Whether another attempt after that wait may help; the retry budget has paid for it then."""
        most = self._settings.max_attempts
        if response.outcome is Outcome.TIMEOUT and response.http_status is None:
            most = min(most, MAX_ATTEMPTS_AFTER_TIMEOUT)
        return (
            self._policy.is_soon(response)
            and response.attempts < most
            and self._clock.monotonic() + wait < self._policy.quota.deadline
            and self._policy.retry_budget(data_center).spend()
        )

    async def _attempt(
        self,
        data_center: str | None,
        build: BuildRequest,
        is_valid: Callable[[], bool],
        on_sent: Callable[[float], None],
    ) -> Response | None:
        try:
            async with self._policy.slot(is_valid) as sent_at:
                on_sent(sent_at)
                response = await send(self._transport, build, self._clock, self._settings.timeout_seconds)
        except TimeoutError:  # only the slot raises it
            return None
        self._policy.record(data_center, sent_at, response)
        return response
