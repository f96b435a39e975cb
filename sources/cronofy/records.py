"""Records: the values that pass between the modules, and the one table of outcomes. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tokens.token import Token

# an account with thousands of calendars stays below 2 MB
MAX_BODY_BYTES = 4 * 1024 * 1024

Json = Any
Fields = dict[str, Json]


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


class Fault(StrEnum):
    """What an outcome is about."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105 - another token of the same account may be fine
    APPLICATION = "application"
    ACCOUNT = "account"
    SERVER = "server"  # or the way to it, whatever the token


@dataclass(frozen=True, slots=True)
class OutcomeFacts:
    """All there is to know of one outcome.

    Attributes:
        meaning: a definition.
        advice: what the reader of a list of failing tokens has to do; empty where nothing failed.
        setup_advice: what somebody has to do who tries a new configuration.
        statuses: the HTTP statuses that mean it.
        is_retried: another attempt may end better.
    """

    meaning: str
    advice: str = ""
    setup_advice: str = ""
    fault: Fault = Fault.NONE
    statuses: tuple[int, ...] = ()
    is_retried: bool = False


LATER = "will be retried by the next load"

OUTCOMES = {
    Outcome.OK: OutcomeFacts("a response of the documented shape", statuses=(200,)),
    Outcome.TOKEN_REJECTED: OutcomeFacts(
        "the access token was refused, and a refresh did not help",
        "authorize again",
        "the token is not of this data center, expired or revoked; authorize again",
        Fault.TOKEN,
        (401,),
    ),
    Outcome.GRANT_REVOKED: OutcomeFacts(
        "the refresh token was refused (`invalid_grant`)", "authorize again", fault=Fault.TOKEN
    ),
    Outcome.FORBIDDEN: OutcomeFacts(
        "the token is good and lacks a scope",
        "authorize again, with more scope",
        "the token lacks a scope; authorize again with more scope",
        Fault.TOKEN,
        (403,),
    ),
    Outcome.PLAN_REQUIRED: OutcomeFacts(
        "the Cronofy plan of the application lacks the endpoint",
        "not in the Cronofy plan",
        "the Cronofy plan lacks the identity API",
        Fault.APPLICATION,
        (402,),
    ),
    Outcome.PROVIDER_LOCKED: OutcomeFacts(
        "Cronofy has no working credentials for the provider",
        "Cronofy lacks the provider's credentials",
        fault=Fault.ACCOUNT,
        statuses=(423,),
    ),
    Outcome.RATE_LIMITED: OutcomeFacts(
        "the application exceeded its limits", LATER, "try again later", Fault.APPLICATION, (429,), True
    ),
    # and every other status from 500 on
    Outcome.SERVER_ERROR: OutcomeFacts(
        "an error of Cronofy, or of a proxy in between", LATER, "try again later", Fault.SERVER, (), True
    ),
    # 408 is the server's own word for a timeout
    Outcome.TIMEOUT: OutcomeFacts(
        "no answer within `timeout`", LATER, "is the host right, and reachable?", Fault.SERVER, (408,), True
    ),
    Outcome.NETWORK_ERROR: OutcomeFacts(
        "no connection, or one that broke", LATER, "is the host right, and reachable?", Fault.SERVER, (), True
    ),
    # and every other status below 500: redirects, 204, 404 … are not documented here
    Outcome.BAD_PAYLOAD: OutcomeFacts(
        "a response that is not of the documented shape; redirects and 404 too",
        "unexpected response",
        "is base_url right?",
        Fault.ACCOUNT,
    ),
    Outcome.SKIPPED: OutcomeFacts(
        "nothing was sent: the data center was down, or the endpoint not in the plan", "not polled"
    ),
}


def _outcomes(condition: Callable[[OutcomeFacts], bool]) -> frozenset[Outcome]:
    return frozenset(outcome for outcome, facts in OUTCOMES.items() if condition(facts))


STATUS_OUTCOMES = {status: outcome for outcome, facts in OUTCOMES.items() for status in facts.statuses}
TROUBLES = _outcomes(lambda facts: facts.fault is Fault.SERVER)
REFUSALS = _outcomes(lambda facts: facts.fault is Fault.TOKEN)
RETRIED = _outcomes(lambda facts: facts.is_retried)
# in the order of the columns of `runs`
FAILURES = tuple(outcome.value for outcome in Outcome if outcome not in (Outcome.OK, Outcome.SKIPPED))


def status_outcome(status: int) -> Outcome:
    """What an HTTP status says, before its body is looked at."""
    found = STATUS_OUTCOMES.get(status)
    return found or (Outcome.SERVER_ERROR if status >= 500 else Outcome.BAD_PAYLOAD)


@dataclass(frozen=True, slots=True)
class Response:
    """How one read ended: the response to its last attempt.

    `message` holds our own words only: a body or a header may quote a token. So the body is not shown either.

    Attributes:
        attempts: requests for the endpoint itself.
        refreshes: requests for a new access token that were made on the way.
        retry_after: how long the server wants to be left alone.
        server_request_id: the server's name of a request that failed.
    """

    outcome: Outcome
    requested_at: datetime
    polled_at: datetime
    latency_ms: int
    http_status: int | None = None
    body: bytes = field(default=b"", repr=False)
    message: str | None = None
    attempts: int = 1
    refreshes: int = 0
    retry_after: timedelta | None = None
    server_request_id: str | None = None


def skipped(now: datetime, message: str) -> Response:
    """No request was sent, and why."""
    return Response(Outcome.SKIPPED, now, now, 0, message=message, attempts=0)


@dataclass(frozen=True, slots=True)
class PollTask:
    """What to read for one token in this run.

    Attributes:
        account_id: as the warehouse knows it.
        last_poll_ok: whether its last poll was ok, or there was none: only then does a failure say anything
            of the server.
        fallbacks: the same for other tokens of the account, to be polled in this order where this one is
            refused.
    """

    token: "Token"
    endpoints: tuple[str, ...]
    account_id: str | None = None
    last_poll_ok: bool = True
    fallbacks: "tuple[PollTask, ...]" = ()

    @property
    def fallback_tokens(self) -> tuple[str, ...]:
        """Keys of the account's other tokens."""
        return tuple(each.token.key for each in self.fallbacks)


@dataclass(slots=True)
class Record:
    """One row's worth of content.

    Attributes:
        columns: the documented fields, by column; absent ones are missing.
        extras: fields of no known column or of an unexpected type, by path joined with `__`.
        content_hash: a digest of all of it, the same for the same content.
    """

    columns: Fields
    extras: Fields
    content_hash: str = ""


@dataclass(slots=True)
class Profile:
    """One listed profile, calendar or conferencing, and its calendars (None where none are listed)."""

    profile_type: str
    profile_id: str
    connected: bool
    record: Record
    calendars: "list[Calendar] | None" = None


@dataclass(slots=True)
class Calendar:
    """One entry of `profile_calendars`."""

    calendar_id: str
    profile_id: str
    record: Record


@dataclass(slots=True)
class Payload:
    """What one ok answer says.

    Attributes:
        account_id: `sub`; None for `/v1/profiles`, whose body names no account.
        record: content for the table of the endpoint; None for `/v1/profiles`.
        samples: the listed profiles by profile type. A type that is missing was not sampled.
    """

    account_id: str | None
    record: Record | None
    samples: dict[str, list[Profile]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Poll:
    """One poll: the answer, and whose account it was before anybody read it. Holds no token.

    Attributes:
        account_id: whose it is as known when the poll was planned.
        payload: what an ok answer says, once it was read.
        digest: of the body of an ok answer.
        fallback_tokens: keys of the account's other tokens, which are not polled where this one answers.
    """

    token_key: str
    data_center: str | None
    endpoint: str
    response: Response
    account_id: str | None
    payload: Payload | None = None
    digest: str | None = None
    body_bytes: int = 0
    fallback_tokens: tuple[str, ...] = ()

    @property
    def is_unread(self) -> bool:
        """Whether it is an ok answer that was not read yet."""
        return self.response.outcome is Outcome.OK and self.payload is None
