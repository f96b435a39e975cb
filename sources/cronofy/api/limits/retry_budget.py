"""The retry budget: trying again helps with a fault, and does harm in an outage."""

from .tuning import DOUBT_AFTER, FEW_TOKENS, RETRY_SHARE


class RetryBudget:
    """Second calls to one data center that one run may make while the server seems to be down.

    It is in doubt until the first good answer and again after ten bad ones in a row. A server that fails
    everything sees at most 1.1 calls per token (where there are ten tokens or more).
    """

    def __init__(self, tokens: int, max_attempts: int) -> None:
        self._left = int(tokens * RETRY_SHARE) if tokens >= FEW_TOKENS else tokens * max_attempts
        self._bad_in_a_row = DOUBT_AFTER

    def record(self, *, good: bool) -> None:
        """An answer came, or none did; good is whatever a server that is well may say."""
        self._bad_in_a_row = 0 if good else self._bad_in_a_row + 1

    def spend(self) -> bool:
        """Whether another call for the same token may be made; in doubt it is paid for."""
        if self._bad_in_a_row < DOUBT_AFTER:
            return True
        if self._left < 1:
            return False
        self._left -= 1
        return True
