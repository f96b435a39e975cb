"""The request policy: every limit that a request has to pass, entered before it is sent and left after it.

A poll passes the breaker of its data center (`permit`). Each of its requests
waits for room among those under way and for the rate limits, its own and the shared ones (`slot`). Further
attempts are paid for from the retry budget (`retry_budget`), and all requests from the run's quota (`quota`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from ...clock import Clock
from ...records import RETRIED, Outcome, Response
from ...settings import PollingSettings
from ...tokens.token import Token
from .circuit_breaker import CircuitBreaker, Permit
from .concurrency import ConcurrencySlot
from .rate_limiter import RateLimiter, whole_calls
from .retry_budget import RetryBudget
from .run_quota import RunQuota
from .shared_rate_limiter import RequestLog, SharedRateLimiter, shared_rates
from .tuning import MAX_IN_FLIGHT, MAX_RETRY_AFTER_SECONDS


class RequestPolicy:
    """What all requests of one run share.

    Args:
        settings: with the limits.
        clock: of the run.
        tokens: those of the run; they pay for further attempts.
        quota: what the run may spend; by default anything.

    Raises:
        ConfigurationError: the place where the processes of the application meet cannot be used.
    """

    def __init__(
        self,
        settings: PollingSettings,
        clock: Clock,
        tokens: Iterable[Token],
        quota: RunQuota | None = None,
    ) -> None:
        self._clock = clock
        self.quota = quota or RunQuota()
        per_second, per_minute = settings.requests_per_second, settings.requests_per_minute
        rates = shared_rates([whole_calls(per_second, 1.0), whole_calls(per_minute, 60.0)])
        self._shared: SharedRateLimiter | None = None
        if settings.requests_shared_in is not None and rates:
            log = RequestLog(settings.requests_shared_in, rates)
            self._shared = SharedRateLimiter(log, clock, self.quota.stop)
        self.rate_limiter = RateLimiter(clock, per_second, per_minute, self._shared)
        self.concurrency = asyncio.Semaphore(MAX_IN_FLIGHT)
        counts = Counter(token.data_center for token in tokens)
        self._retry_budgets = {
            name: RetryBudget(count, settings.max_attempts) for name, count in counts.items()
        }
        self._circuits: dict[str | None, CircuitBreaker] = {}

    def permit(self, data_center: str | None, endpoint: str, *, counts_toward_breaker: bool = True) -> Permit:
        """For one poll, to be entered with `async with`."""
        circuit = self._circuits.setdefault(data_center, CircuitBreaker(self._clock, data_center or ""))
        return Permit(circuit, endpoint, self.quota, counts_toward_breaker)

    def slot(self, is_valid: Callable[[], bool]) -> "RequestSlot":
        """For one request, to be entered with `async with`.

        Args:
            is_valid: asked while it waits; where it is false, the request is not to be sent any more.
        """
        return RequestSlot(self, is_valid)

    def record(self, data_center: str | None, sent_at: float, response: Response) -> None:
        """How one request ended: a 429 holds everyone back, or ends the run if the wait is too long."""
        self.retry_budget(data_center).record(good=response.outcome not in RETRIED)
        if response.outcome is Outcome.RATE_LIMITED:
            if self.is_soon(response):
                self.rate_limiter.refused(sent_at, response.retry_after)
            else:
                # the rest is polled by the next run
                self.quota.stop("retry_after")
        elif response.http_status is not None:
            self.rate_limiter.accepted()

    def is_soon(self, response: Response) -> bool:
        """Whether a Retry-After, where there is one, is short enough to wait for."""
        wait = response.retry_after
        return wait is None or wait.total_seconds() <= MAX_RETRY_AFTER_SECONDS

    def retry_budget(self, data_center: str | None) -> RetryBudget:
        """What pays for further attempts in a data center."""
        return self._retry_budgets[data_center]

    def close(self) -> None:
        """Leave the place where processes meet."""
        if self._shared is not None:
            self._shared.close()


class RequestSlot(ConcurrencySlot):
    """One request: entering waits until it may be sent and gives the monotonic time of that.

    Raises:
        TimeoutError: it may not be sent: the time is up, the run is to end, or it is not valid any more.
    """

    __slots__ = ("_is_valid", "_policy", "_sent_at")

    def __init__(self, policy: RequestPolicy, is_valid: Callable[[], bool]) -> None:
        super().__init__(policy.concurrency)
        self._policy = policy
        self._is_valid = is_valid
        self._sent_at = 0.0

    def _is_given_up(self) -> bool:
        return self._policy.quota.stopped or not self._is_valid()

    async def __aenter__(self) -> float:
        await super().__aenter__()
        try:
            deadline = self._policy.quota.deadline
            self._sent_at = await self._policy.rate_limiter.enter(deadline, self._is_given_up)
        except BaseException:
            self._release()
            raise
        self.sent()
        return self._sent_at

    async def __aexit__(self, *error: object) -> None:
        self._policy.rate_limiter.leave(self._sent_at)
        await super().__aexit__(*error)
