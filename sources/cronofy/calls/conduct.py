"""Conduct: how one run behaves towards the API: what it may send, and when it leaves off."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..clock import Clock
from ..settings import PollingSettings
from ..tokens import Token
from .breaker import Breakers
from .budget import Allowance, RequestBudget
from .retries import RetryBudget

if TYPE_CHECKING:
    from .refresh import Refresher


@dataclass
class Conduct:
    """What all the sweeps of one run share.

    Attributes:
        refresher: None where access tokens are not refreshed.
    """

    budget: RequestBudget
    retry_budgets: Mapping[str | None, RetryBudget]
    breakers: Breakers
    allowance: Allowance = field(default_factory=Allowance)
    refresher: "Refresher | None" = None

    def retries(self, data_center: str | None) -> RetryBudget:
        """The retry budget of a data center."""
        return self.retry_budgets[data_center]

    @classmethod
    def of(
        cls,
        settings: PollingSettings,
        clock: Clock,
        tokens: Iterable[Token],
        allowance: Allowance | None = None,
        refresher: "Refresher | None" = None,
    ) -> "Conduct":
        """For a run over these tokens."""
        counts = Counter(token.data_center for token in tokens)
        return cls(
            RequestBudget(clock, settings.requests_per_second, settings.requests_per_minute),
            {name: RetryBudget(count, settings.max_attempts) for name, count in counts.items()},
            Breakers(clock),
            allowance or Allowance(),
            refresher,
        )
