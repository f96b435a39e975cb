"""RequestPolicy: how one run behaves towards the API: what it may send, and when it leaves off."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...clock import Clock
from ...settings import PollingSettings
from ...tokens.token import Token
from .circuit_breaker import Breakers
from .rate_limiter import RateLimiter, RunQuota, whole_calls
from .retry_budget import RetryBudget
from .shared_rate_limiter import SharedRateLimiter, open_shared

if TYPE_CHECKING:
    from ..token_refresh import Refresher


@dataclass
class RequestPolicy:
    """What all the sweeps of one run share.

    Attributes:
        refresher: None where access tokens are not refreshed.
        shared: None where this process has the limits to itself.
    """

    rate_limiter: RateLimiter
    retry_budgets: Mapping[str | None, RetryBudget]
    breakers: Breakers
    quota: RunQuota = field(default_factory=RunQuota)
    refresher: "Refresher | None" = None
    shared: SharedRateLimiter | None = None

    def close(self) -> None:
        """The run is over: bring refreshes to their end, leave the place where processes meet."""
        try:
            if self.refresher is not None:
                self.refresher.finish()
        finally:
            if self.shared is not None:
                self.shared.close()

    def retries(self, data_center: str | None) -> RetryBudget:
        """The retry budget of a data center."""
        return self.retry_budgets[data_center]

    @classmethod
    def of(
        cls,
        settings: PollingSettings,
        clock: Clock,
        tokens: Iterable[Token],
        quota: RunQuota | None = None,
        refresher: "Refresher | None" = None,
    ) -> "RequestPolicy":
        """For a run over these tokens.

        Raises:
            ConfigurationError: the place where the processes of the application meet cannot be used.
        """
        counts = Counter(token.data_center for token in tokens)
        quota = quota or RunQuota()
        per_second, per_minute = settings.requests_per_second, settings.requests_per_minute
        shared = None
        if settings.requests_shared_in is not None:
            limits = (whole_calls(per_second, 1.0), whole_calls(per_minute, 60.0))
            shared = open_shared(settings.requests_shared_in, limits, clock, quota.stop)
        return cls(
            RateLimiter(clock, per_second, per_minute, shared),
            {name: RetryBudget(count, settings.max_attempts) for name, count in counts.items()},
            Breakers(clock),
            quota,
            refresher,
            shared,
        )
