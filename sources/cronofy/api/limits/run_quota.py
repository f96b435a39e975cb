"""The run quota: how many requests one run may send, and until when."""

import math


class RunQuota:
    """What one run may spend: a number of requests and a time to stop at.

    Args:
        max_requests: None for any number.
        deadline: no request after it, in monotonic seconds.
    """

    def __init__(self, max_requests: int | None = None, deadline: float = math.inf) -> None:
        self._left: float = math.inf if max_requests is None else max_requests
        self._refused = False
        self._stopped_by: str | None = None
        self.deadline = deadline
        self.abandon_at = math.inf

    def reserve(self, requests: int) -> bool:
        """Set that many requests aside, all or none; what is not sent is to be released."""
        if self.stopped or requests > self._left:
            self._refused = True
            return False
        self._left -= requests
        return True

    def release(self, requests: int) -> None:
        """Return requests that were set aside and not sent."""
        self._left += requests

    def stop(self, reason: str, abandon_at: float = math.inf) -> None:
        """No further request in this run, for that reason; those under way have until `abandon_at`."""
        self._stopped_by = self._stopped_by or reason
        self.abandon_at = min(self.abandon_at, abandon_at)

    @property
    def stopped(self) -> bool:
        """Whether the run is to end."""
        return self._stopped_by is not None

    def exhausted_by(self, now: float) -> str | None:
        """What ended the run early: `max_requests`, `max_duration` or a reason given to `stop`; else None."""
        if self._stopped_by:
            return self._stopped_by
        if now >= self.deadline:
            return "max_duration"
        return "max_requests" if self._refused or self._left <= 0 else None
