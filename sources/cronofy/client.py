"""The HTTP client: one read of one endpoint for one token, with bounded attempts.

Whatever a server sends, or fails to send, becomes an `Answer`; nothing here raises for it.
"""

import asyncio
import email.utils
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
import tenacity
from httpx_aiohttp import AiohttpTransport

from .budget import Allowance, RequestBudget
from .clock import Clock
from .settings import PollingSettings
from .tokens import Token

# longest Retry-After that is waited for; beyond it the next run tries again
MAX_RETRY_AFTER_SECONDS = 60.0
# full jitter: each wait is drawn from [0, min(MAX, BASE * 2^attempt)]
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 20.0
# an account with thousands of calendars stays below 2 MB
MAX_BODY_BYTES = 4 * 1024 * 1024
# more cost throughput (benchmarks/); fewer would let slow answers hold up the rest
MAX_IN_FLIGHT = 64
USER_AGENT = "dlt-cronofy"


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
RETRIED = frozenset({Outcome.RATE_LIMITED, Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.NETWORK_ERROR})


@dataclass(slots=True)
class Answer:
    """How one read ended: the answer to its last attempt.

    `message` holds our own words only: a body or a header may quote a token.
    """

    outcome: Outcome
    requested_at: datetime
    polled_at: datetime
    latency_ms: int
    http_status: int | None = None
    body: bytes = b""
    message: str | None = None
    attempts: int = 1
    retry_after: timedelta | None = None

    @property
    def retriable(self) -> bool:
        """Whether another attempt may end better."""
        longest = timedelta(seconds=MAX_RETRY_AFTER_SECONDS)
        return self.outcome in RETRIED and (self.retry_after is None or self.retry_after <= longest)


class CronofyClient:
    """Reads identity endpoints over an open `httpx.AsyncClient`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        settings: PollingSettings,
        budget: RequestBudget,
        clock: Clock,
        allowance: Allowance | None = None,
    ) -> None:
        self._http = http
        self._settings = settings
        self._budget = budget
        self._clock = clock
        self.allowance = allowance or Allowance()

    async def read(self, endpoint: str, token: Token) -> Answer | None:
        """Read one endpoint; the caller has taken the first request from the allowance.

        Returns:
            The answer to the last attempt, or None when time ran out before anything was sent.
        """
        url = f"{self._settings.host(token.data_center)}/v1/{endpoint}"
        answer = await self._attempt(url, token)
        if answer is None or not answer.retriable:
            return answer
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda answer: answer.retriable),
            stop=lambda state: (
                state.attempt_number >= self._settings.max_attempts or self._past_deadline(state)
            ),
            wait=_wait_seconds,
            sleep=self._clock.sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return await attempts(self._again, url, token, [answer])

    def _past_deadline(self, state: tenacity.RetryCallState) -> bool:
        """Whether the next attempt would come too late to be made."""
        return self._clock.monotonic() + state.upcoming_sleep >= self.allowance.deadline

    async def _again(self, url: str, token: Token, answers: list[Answer]) -> Answer:
        """One attempt for tenacity: the first one returns what is known already."""
        last = answers[-1]
        if len(answers) == 1:
            answers.append(last)
            return last
        if not self.allowance.take(1):
            return _final(last)
        answer = await self._attempt(url, token)
        if answer is None:
            return _final(last)
        answer.attempts = len(answers)
        answers.append(answer)
        return answer

    async def _attempt(self, url: str, token: Token) -> Answer | None:
        try:
            async with self._budget.slot(self.allowance.deadline, lambda: self.allowance.stopped) as sent_at:
                answer = await self._send(url, token)
        except TimeoutError:  # only the slot raises it
            self.allowance.give_back(1)
            return None
        if answer.outcome is Outcome.RATE_LIMITED and not answer.retriable:
            # longer than we wait: whoever is left is polled by the next run
            self.allowance.stop("retry_after")
        elif answer.outcome is Outcome.RATE_LIMITED:
            self._budget.refused(sent_at, answer.retry_after)
        elif answer.http_status is not None:
            self._budget.accepted()
        return answer

    async def _send(self, url: str, token: Token) -> Answer:
        requested_at = self._clock.now()
        started = self._clock.monotonic()

        def ended(
            outcome: Outcome, message: str | None = None, status: int | None = None, body: bytes = b""
        ) -> Answer:
            latency_ms = round((self._clock.monotonic() - started) * 1000)
            return Answer(outcome, requested_at, self._clock.now(), latency_ms, status, body, message)

        try:
            # httpx times each read; only a deadline over the whole exchange ends a slow drip
            async with asyncio.timeout(self._settings.timeout_seconds):
                response = await self._open(url, token)
                try:
                    body = await _read_body(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            return ended(Outcome.TIMEOUT, f"no answer within {self._settings.timeout_seconds:g} s")
        except _BodyTooLargeError:
            return ended(Outcome.BAD_PAYLOAD, f"body exceeds {MAX_BODY_BYTES} bytes", response.status_code)
        except Exception as error:  # noqa: BLE001 - whatever the transport raises is this token's outcome
            return ended(_transport_outcome(error), _transport_message(error))
        status = response.status_code
        outcome = _status_outcome(status)
        answer = ended(outcome, None if outcome is Outcome.OK else f"HTTP {status}", status, body)
        if outcome is not Outcome.OK:
            answer.body = b""
            answer.retry_after = _retry_after(response.headers.get("retry-after"), answer.polled_at)
        return answer

    async def _open(self, url: str, token: Token) -> httpx.Response:
        request = self._http.build_request(
            "GET", url, headers={"Authorization": f"Bearer {token.access_token.reveal()}"}
        )
        # redirects are never followed: a token goes to the configured host only
        return await self._http.send(request, stream=True, follow_redirects=False)


class _BodyTooLargeError(Exception):
    pass


async def _read_body(response: httpx.Response) -> bytes:
    """The decoded body, never more of it in memory than may be."""
    chunks = []
    size = 0
    # raw: a few bytes may decode into gigabytes, and httpx decodes a chunk as a whole
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _BodyTooLargeError
        chunks.append(chunk)
    return _decoded(b"".join(chunks), response.headers.get("content-encoding", "identity").strip().lower())


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError("content encoding is not supported")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        decoded = decoder.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise httpx.DecodingError("body cannot be decoded") from error
    if len(decoded) > MAX_BODY_BYTES:
        raise _BodyTooLargeError
    if not decoder.eof:
        raise httpx.DecodingError("body breaks off")
    return decoded


def _status_outcome(status: int) -> Outcome:
    if status in STATUS_OUTCOMES:
        return STATUS_OUTCOMES[status]
    if status >= 500:
        return Outcome.SERVER_ERROR
    # redirects, 404, 204 …: an answer, but not one this API is documented to give here
    return Outcome.BAD_PAYLOAD


def _transport_outcome(error: Exception) -> Outcome:
    # the transport maps aiohttp's "server disconnected" to an httpx timeout; its cause is honest
    if isinstance(error, httpx.DecodingError):
        return Outcome.BAD_PAYLOAD
    cause = error.__cause__ or error
    timed_out = isinstance(cause, (TimeoutError, httpx.TimeoutException, aiohttp.ServerTimeoutError))
    return Outcome.TIMEOUT if timed_out else Outcome.NETWORK_ERROR


def _transport_message(error: Exception) -> str:
    """The error's class, and what the operating system says of it: our words, nobody else's."""
    cause = error.__cause__ or error
    number = getattr(cause, "errno", None)
    said = f": {os.strerror(number)}" if isinstance(number, int) and number > 0 else ""
    return f"{type(cause).__name__}{said}"


def _retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Retry-After as a wait from now: seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        if value.strip().isdecimal() and value.isascii():
            return _seconds(min(float(value), 86_400.0))
        at = email.utils.parsedate_to_datetime(value)
        return max(timedelta(0), (at if at.tzinfo else at.replace(tzinfo=UTC)) - now)
    except (ValueError, OverflowError, TypeError):
        return None


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _final(answer: Answer) -> Answer:
    """The same answer, not to be tried again."""
    answer.retry_after = timedelta.max
    return answer


_full_jitter = tenacity.wait_random_exponential(multiplier=BACKOFF_BASE_SECONDS, max=BACKOFF_MAX_SECONDS)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    answer: Answer | None = state.outcome.result() if state.outcome else None
    if answer is not None and answer.outcome is Outcome.RATE_LIMITED:
        return 0.0  # the budget holds everyone back, this call included
    if answer is not None and answer.retry_after is not None:
        return answer.retry_after.total_seconds()
    return _full_jitter(state)


@asynccontextmanager
async def open_http(max_in_flight: int = MAX_IN_FLIGHT) -> AsyncIterator[httpx.AsyncClient]:
    """An `httpx.AsyncClient` whose pool holds up under concurrency and that remembers nothing.

    httpx's own pool slows down beyond some tens of connections (benchmarks/), so aiohttp carries it.
    No cookie is kept, since one user's cookie must not travel with another's token, and a request
    is never sent twice behind the budget's back.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_in_flight, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    # aiohttp resends a GET when a kept-alive connection was closed; the server may have counted it
    session._retry_connection = False  # noqa: SLF001
    async with httpx.AsyncClient(
        transport=AiohttpTransport(client=session),
        timeout=httpx.Timeout(None),
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        follow_redirects=False,
        trust_env=False,
    ) as http:
        yield http
