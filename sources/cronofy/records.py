"""Answers: what one HTTP exchange came to, in the terms of `polls`. Pure."""

import email.utils
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

# an account with thousands of calendars stays below 2 MB
MAX_BODY_BYTES = 4 * 1024 * 1024
# longest Retry-After that is waited for; beyond it the next run tries again
MAX_RETRY_AFTER_SECONDS = 60.0


class Outcome(StrEnum):
    """How a poll ended; the values of `polls.outcome`."""

    OK = "ok"
    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - an outcome, not a secret
    GRANT_REVOKED = "grant_revoked"
    FORBIDDEN = "forbidden"
    PLAN_REQUIRED = "plan_required"
    PROVIDER_LOCKED = "provider_locked"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    BAD_PAYLOAD = "bad_payload"
    SKIPPED = "skipped"


# API error codes page; 408 is the server's own word for a timeout
STATUS_OUTCOMES = {
    200: Outcome.OK,
    401: Outcome.TOKEN_REJECTED,
    402: Outcome.PLAN_REQUIRED,
    403: Outcome.FORBIDDEN,
    408: Outcome.TIMEOUT,
    423: Outcome.PROVIDER_LOCKED,
    429: Outcome.RATE_LIMITED,
}
# the server or the way to it is in trouble, whatever the token
TROUBLES = frozenset({Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.NETWORK_ERROR})
RETRIED = TROUBLES | {Outcome.RATE_LIMITED}


@dataclass(slots=True)
class Answer:
    """How one read ended: the answer to its last attempt.

    `message` holds our own words only: a body or a header may quote a token.

    Attributes:
        attempts: requests for the endpoint itself.
        refreshes: requests for a new access token that were made on the way.
        is_last: no other attempt can be afforded.
    """

    outcome: Outcome
    requested_at: datetime
    polled_at: datetime
    latency_ms: int
    http_status: int | None = None
    body: bytes = b""
    message: str | None = None
    attempts: int = 1
    refreshes: int = 0
    retry_after: timedelta | None = None
    is_last: bool = False

    @property
    def retriable(self) -> bool:
        """Whether another attempt may be made, and may end better."""
        longest = timedelta(seconds=MAX_RETRY_AFTER_SECONDS)
        waitable = self.retry_after is None or self.retry_after <= longest
        return self.outcome in RETRIED and waitable and not self.is_last


def skipped(now: datetime, message: str) -> Answer:
    """No request was sent, and why."""
    return Answer(Outcome.SKIPPED, now, now, 0, message=message, attempts=0)


def status_outcome(status: int) -> Outcome:
    """What an HTTP status says, before its body is looked at."""
    if status in STATUS_OUTCOMES:
        return STATUS_OUTCOMES[status]
    if status >= 500:
        return Outcome.SERVER_ERROR
    # redirects, 404, 204 …: an answer, but not one this API is documented to give here
    return Outcome.BAD_PAYLOAD


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Retry-After as a wait from now: seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        if value.strip().isdecimal() and value.isascii():
            return timedelta(seconds=min(float(value), 86_400.0))
        at = email.utils.parsedate_to_datetime(value)
        return max(timedelta(0), (at if at.tzinfo else at.replace(tzinfo=UTC)) - now)
    except (ValueError, OverflowError, TypeError):
        return None
