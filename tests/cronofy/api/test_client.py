"""The HTTP client over real loopback connections: whatever a server does becomes a `Response`."""

import asyncio
import base64
import traceback
from asyncio import StreamWriter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest

from dlt_cronofy.source.api.client import CronofyClient
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.rate_limiter import RateLimiter
from dlt_cronofy.source.api.limits.run_quota import RunQuota
from dlt_cronofy.source.api.limits.tuning import BACKOFF_BASE_SECONDS, BACKOFF_MAX_SECONDS
from dlt_cronofy.source.api.transport import open_transport
from dlt_cronofy.source.records import MAX_BODY_BYTES, Outcome, Response
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.token import Token
from tests.cronofy.bodies import token
from tests.cronofy.clocks import START, ManualClock
from tests.cronofy.server import (
    Behavior,
    HangUpError,
    RawServer,
    Server,
    answer,
    drip,
    endless,
    gzipped,
    hang,
    later,
    raw,
    reset_after,
)

BODY = {"sub": "acc_1"}
WORDS = b"<html>the server's own words</html>"
TOKEN = token()
ACCESS = TOKEN.access_token.reveal()
ATTEMPTS = 3

HTML = ("Content-Type", "text/html")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Client:
    """Reads through a `CronofyClient` against one loopback server."""

    def __init__(self, server: Server, clock: ManualClock) -> None:
        self.clock = clock
        self.settings = PollingSettings(
            base_url=server.url,
            max_attempts=ATTEMPTS,
            timeout_seconds=5.0,
            requests_per_second=1000,
            requests_per_minute=1000,
        )
        self.limiter = RateLimiter(clock, 1000, 1000)
        self.quota = RunQuota()

    def read(self, *tokens: Token, endpoint: str = "userinfo") -> list[Response | None]:
        """One read per token, one after the other, over one HTTP client."""

        async def reads() -> list[Response | None]:
            policy = RequestPolicy(self.settings, self.clock, tokens or (TOKEN,), self.quota)
            policy.rate_limiter = self.limiter
            async with open_transport(self.settings.proxy) as transport:
                client = CronofyClient(transport, self.settings, policy, self.clock)
                return [await client.read(endpoint, each) for each in tokens or (TOKEN,)]

        return asyncio.run(reads())

    def read_one(self) -> Response:
        """One read that was sent."""
        [found] = self.read()
        assert found is not None
        return found


@pytest.fixture
def client(server: Server, clock: ManualClock) -> Client:
    return Client(server, clock)


ENDINGS: dict[str, tuple[Behavior, Outcome, int | None, int, str | None]] = {
    "200": (answer(200, BODY), Outcome.OK, 200, 1, None),
    "200 gzip, unasked": (gzipped(BODY), Outcome.OK, 200, 1, None),
    "200 as text/html": (answer(200, BODY, HTML), Outcome.OK, 200, 1, None),
    "201": (answer(201, BODY), Outcome.BAD_PAYLOAD, 201, 1, "HTTP 201"),
    "204": (answer(204), Outcome.BAD_PAYLOAD, 204, 1, "HTTP 204"),
    "304": (answer(304), Outcome.BAD_PAYLOAD, 304, 1, "HTTP 304"),
    "400": (answer(400, WORDS), Outcome.BAD_PAYLOAD, 400, 1, "HTTP 400"),
    "401": (answer(401, WORDS), Outcome.TOKEN_REJECTED, 401, 1, "HTTP 401"),
    "402": (answer(402, WORDS), Outcome.PLAN_REQUIRED, 402, 1, "HTTP 402"),
    "403": (answer(403, WORDS), Outcome.FORBIDDEN, 403, 1, "HTTP 403"),
    "404": (answer(404, WORDS), Outcome.BAD_PAYLOAD, 404, 1, "HTTP 404"),
    "408": (answer(408, WORDS), Outcome.TIMEOUT, 408, ATTEMPTS, "HTTP 408"),
    "418": (answer(418, WORDS), Outcome.BAD_PAYLOAD, 418, 1, "HTTP 418"),
    "423": (answer(423, WORDS), Outcome.PROVIDER_LOCKED, 423, 1, "HTTP 423"),
    "429": (answer(429, WORDS), Outcome.RATE_LIMITED, 429, ATTEMPTS, "HTTP 429"),
    "500": (answer(500, WORDS), Outcome.SERVER_ERROR, 500, ATTEMPTS, "HTTP 500"),
    "502": (answer(502, WORDS), Outcome.SERVER_ERROR, 502, ATTEMPTS, "HTTP 502"),
    "503": (answer(503, WORDS), Outcome.SERVER_ERROR, 503, ATTEMPTS, "HTTP 503"),
    "599": (answer(599, WORDS), Outcome.SERVER_ERROR, 599, ATTEMPTS, "HTTP 599"),
    "nothing, then the end": (raw(b""), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "reset before the answer": (reset_after(), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "reset in mid-body": (reset_after(HEAD + WORDS), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "end in mid-body": (raw(HEAD + WORDS), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "end in mid-chunk": (raw(CHUNKED + b"ff\r\n" + WORDS), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "no last chunk": (raw(CHUNKED + b"2\r\n{}\r\n"), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "garbage status line": (raw(b"HTTP/1.1 what? ever\r\n\r\n"), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "not HTTP": (raw(WORDS + b"\r\n\r\n"), Outcome.NETWORK_ERROR, None, ATTEMPTS, None),
    "gzip that is none": (
        answer(200, WORDS, ("Content-Encoding", "gzip")),
        Outcome.BAD_PAYLOAD,
        200,
        1,
        "body cannot be decoded",
    ),
    "too large a body": (
        endless(MAX_BODY_BYTES + 1),
        Outcome.BAD_PAYLOAD,
        200,
        1,
        f"body exceeds {MAX_BODY_BYTES} bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("behavior", "outcome", "status", "attempts", "message"), ENDINGS.values(), ids=ENDINGS.keys()
)
def test_every_ending_has_its_outcome(
    client: Client,
    server: Server,
    behavior: Behavior,
    outcome: Outcome,
    status: int | None,
    attempts: int,
    message: str | None,
) -> None:
    server.on("userinfo", ACCESS, behavior)
    found = client.read_one()
    assert (found.outcome, found.http_status, found.attempts) == (outcome, status, attempts)
    assert len(server.arrivals) == attempts
    if message is not None or outcome is Outcome.OK:
        assert found.message == message
    else:
        assert found.message
    assert_own_words(found)
    assert bool(found.body) is (outcome is Outcome.OK)


@pytest.mark.parametrize(
    ("behavior"),
    [
        pytest.param(hang(), id="no answer at all"),
        pytest.param(drip(0.02), id="a body that drips, every byte in time"),
        pytest.param(later(1.0, answer(200, BODY)), id="an answer too late"),
    ],
)
def test_the_timeout_covers_the_whole_exchange(client: Client, server: Server, behavior: Behavior) -> None:
    client.settings = replace(client.settings, timeout_seconds=0.2, max_attempts=2)
    server.on("userinfo", ACCESS, behavior)
    found = client.read_one()
    assert (found.outcome, found.http_status, found.attempts) == (Outcome.TIMEOUT, None, 2)
    assert found.message == "no answer within 0.2 s"


def test_nobody_listening_is_a_network_error(client: Client, clock: ManualClock) -> None:
    client.settings = replace(client.settings, base_url="http://127.0.0.1:1")
    found = client.read_one()
    assert (found.outcome, found.http_status, found.attempts) == (Outcome.NETWORK_ERROR, None, ATTEMPTS)
    assert_own_words(found)
    assert len(clock.sleeps) == ATTEMPTS - 1


def assert_own_words(found: Response) -> None:
    """Neither what the server said nor the token."""
    for secret in (WORDS.decode(), "own words", ACCESS):
        assert secret not in repr(found.message)


def test_the_body_of_a_200_is_handed_on_untouched(client: Client, server: Server) -> None:
    server.on("userinfo", ACCESS, answer(200, b'{"name":"\xc3\xa9 \\u0000"}'))
    assert client.read_one().body == b'{"name":"\xc3\xa9 \\u0000"}'


@pytest.mark.parametrize("behavior", [answer(200, BODY), answer(401, WORDS)], ids=["ok", "refused"])
@pytest.mark.parametrize("failing", ["status_outcome", "parse_retry_after", "request_id"])
def test_no_traceback_shows_a_body(
    client: Client, server: Server, behavior: Behavior, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may quote the token it refuses; what fails here is a fault of ours, as none is known."""
    server.on("userinfo", ACCESS, behavior)
    monkeypatch.setattr(f"dlt_cronofy.source.api.transport.{failing}", lambda *_: 1 / 0)
    try:
        shown = repr(client.read_one())
    except ZeroDivisionError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Response(" in shown
    assert "acc_1" not in shown
    assert "own words" not in shown


@pytest.mark.parametrize("endpoint", ["userinfo", "account", "profiles"])
def test_a_request_is_a_get_with_a_bearer_token(client: Client, server: Server, endpoint: str) -> None:
    server.on(endpoint, ACCESS, answer(200, BODY))
    client.read(endpoint=endpoint)
    [arrival] = server.arrivals
    assert (arrival.method, arrival.endpoint) == ("GET", endpoint)
    assert arrival.headers["authorization"] == f"Bearer {ACCESS}"
    assert arrival.headers["accept"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(client: Client, server: Server, elsewhere: Server, status: int) -> None:
    elsewhere.on("userinfo", ACCESS, answer(200, BODY))
    server.on("userinfo", ACCESS, answer(status, WORDS, ("Location", f"{elsewhere.url}/v1/userinfo")))
    found = client.read_one()
    assert (found.outcome, found.http_status, found.attempts) == (Outcome.BAD_PAYLOAD, status, 1)
    assert found.message == f"HTTP {status}"
    assert (len(server.arrivals), elsewhere.opened) == (1, 0)


def test_no_proxy_of_the_environment_sees_a_token(
    client: Client, server: Server, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
    server.on("userinfo", ACCESS, answer(200, BODY))
    assert client.read_one().outcome is Outcome.OK
    assert elsewhere.opened == 0


def test_a_cookie_is_never_sent_back(client: Client, server: Server) -> None:
    setting = answer(200, BODY, ("Set-Cookie", "session=of-k1; Path=/"))
    for each in (token("k1"), token("k2")):
        server.on("userinfo", each.access_token.reveal(), setting)
    client.read(token("k1"), token("k2"), token("k1"))
    assert len(server.arrivals) == 3
    assert [each.headers.get("cookie") for each in server.arrivals] == [None, None, None]


def test_a_kept_connection_that_went_away_is_tried_again_in_the_open(client: Client, server: Server) -> None:
    # the server answers, then closes the connection when the next request arrives on it
    server.on("userinfo", ACCESS, answer(200, BODY), raw(b""), answer(200, BODY))
    _, second = client.read(TOKEN, TOKEN)
    assert second is not None
    assert (second.outcome, second.attempts) == (Outcome.OK, 2)
    assert len(server.arrivals) == client.limiter.requests == 3


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_attempts_are_bounded(client: Client, server: Server, max_attempts: int) -> None:
    client.settings = replace(client.settings, max_attempts=max_attempts)
    server.on("userinfo", ACCESS, answer(503))
    assert client.read_one().attempts == max_attempts
    assert len(server.arrivals) == max_attempts


@pytest.mark.parametrize(
    "first",
    [answer(429), answer(500), answer(408), reset_after(), raw(HEAD)],
    ids=["429", "500", "408", "reset", "broken body"],
)
def test_the_last_attempt_decides(client: Client, server: Server, first: Behavior) -> None:
    server.on("userinfo", ACCESS, first, answer(200, BODY))
    found = client.read_one()
    assert (found.outcome, found.attempts, found.http_status) == (Outcome.OK, 2, 200)
    server.on("userinfo", ACCESS, first, answer(403))
    found = client.read_one()
    assert (found.outcome, found.attempts, found.http_status) == (Outcome.FORBIDDEN, 2, 403)


def test_an_answer_is_stamped_by_its_last_attempt(client: Client, server: Server, clock: ManualClock) -> None:
    server.on("userinfo", ACCESS, answer(503, b"", ("Retry-After", "30")), answer(200, BODY))
    found = client.read_one()
    assert START + timedelta(seconds=30) <= found.requested_at < found.polled_at
    assert found.polled_at < START + timedelta(seconds=31)
    assert found.latency_ms == 0  # of the attempt, not of the wait before it


def test_waits_grow_within_their_bounds(client: Client, server: Server, clock: ManualClock) -> None:
    client.settings = replace(client.settings, max_attempts=12)
    server.on("userinfo", ACCESS, answer(502))
    client.read_one()
    assert len(clock.sleeps) == 11
    for attempt, wait in enumerate(clock.sleeps):
        assert 0 <= wait <= min(BACKOFF_MAX_SECONDS, BACKOFF_BASE_SECONDS * 2**attempt)
    assert len(set(clock.sleeps)) > 1  # jitter


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        (" 7 ", 7),
        ("60", 60),
        (lambda at: format_datetime(at + timedelta(seconds=40), usegmt=True), 39.9),
        (lambda at: format_datetime(at - timedelta(hours=1), usegmt=True), 0),
    ],
    ids=["0", "1 s", "blanks", "the limit", "a date", "a past date"],
)
def test_retry_after_is_honored(
    client: Client,
    server: Server,
    clock: ManualClock,
    status: int,
    value: str | Callable[..., str],
    seconds: float,
) -> None:
    text = value if isinstance(value, str) else value(clock.read())
    server.on("userinfo", ACCESS, answer(status, b"", ("Retry-After", text)), answer(200, BODY))
    found = client.read_one()
    assert (found.outcome, found.attempts) == (Outcome.OK, 2)
    [wait] = server.waits()
    assert seconds <= wait <= seconds + 0.2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "value",
    ["61", "86400", "9" * 500, "Fri, 31 Dec 2100 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"],
    ids=["just over", "a day", "500 digits", "a far date", "the last date"],
)
def test_a_retry_after_beyond_the_limit_is_left_to_the_next_run(
    client: Client, server: Server, clock: ManualClock, status: int, value: str
) -> None:
    server.on("userinfo", ACCESS, answer(status, b"", ("Retry-After", value)), answer(200, BODY))
    found = client.read_one()
    assert (found.http_status, found.attempts) == (status, 1)
    assert len(server.arrivals) == 1
    assert clock.sleeps == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "1.5", "0x10", "½", "١٢", "Fri, 99 Foo 2025", "Thu, 01 Jan 0000 00:00:00 GMT", "\t"],
)
def test_a_garbled_retry_after_is_as_good_as_none(
    client: Client, server: Server, status: int, value: str
) -> None:
    shown = value.encode().decode("latin-1")
    server.on("userinfo", ACCESS, answer(status, b"", ("Retry-After", shown)), answer(200, BODY))
    found = client.read_one()
    assert (found.outcome, found.attempts) == (Outcome.OK, 2)


def test_a_429_holds_everyone_back(client: Client, server: Server, clock: ManualClock) -> None:
    client.settings = replace(client.settings, max_attempts=1)
    server.on("userinfo", ACCESS, answer(429, b"", ("Retry-After", "20")))
    server.on("userinfo", "at-k2", answer(200, BODY))
    client.read(TOKEN, token("k2"))
    [wait] = server.waits()
    assert wait >= 20


def test_a_429_beyond_the_limit_ends_the_run(client: Client, server: Server) -> None:
    server.on("userinfo", ACCESS, answer(429, b"", ("Retry-After", "3000")))
    server.on("userinfo", "at-k2", answer(200, BODY))
    refused, unsent = client.read(TOKEN, token("k2"))
    assert refused is not None
    assert (refused.outcome, refused.attempts) == (Outcome.RATE_LIMITED, 1)
    assert unsent is None
    assert client.quota.exhausted_by(0) == "retry_after"


def test_a_503_holds_no_one_else_back(client: Client, server: Server, clock: ManualClock) -> None:
    client.settings = replace(client.settings, max_attempts=1)
    server.on("userinfo", ACCESS, answer(503, b"", ("Retry-After", "20")))
    server.on("userinfo", "at-k2", answer(200, BODY))
    client.read(TOKEN, token("k2"))
    assert server.waits() == [0]


def test_refusals_without_retry_after_back_off(client: Client, server: Server, clock: ManualClock) -> None:
    client.settings = replace(client.settings, max_attempts=9)
    server.on("userinfo", ACCESS, answer(429))
    found = client.read_one()
    assert (found.outcome, found.attempts) == (Outcome.RATE_LIMITED, 9)
    expected = [1, 2, 4, 8, 8, 8, 8, 8]
    for wait, nominal in zip(server.waits(), expected, strict=True):
        assert nominal <= wait <= 1.25 * nominal + 0.01


@pytest.mark.parametrize(("allowed", "attempts"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_retries_come_out_of_the_quota(client: Client, server: Server, allowed: int, attempts: int) -> None:
    # the first request is taken by the caller
    client.quota = RunQuota(max_requests=allowed)
    server.on("userinfo", ACCESS, answer(500))
    assert client.read_one().attempts == attempts
    assert len(server.arrivals) == attempts


def test_without_quota_nothing_is_waited_for(client: Client, server: Server, clock: ManualClock) -> None:
    client.quota = RunQuota(max_requests=0)
    server.on("userinfo", ACCESS, answer(429, b"", ("Retry-After", "50")))
    assert client.read_one().attempts == 1
    assert clock.elapsed == 0


def test_after_the_deadline_nothing_is_sent(client: Client, server: Server, clock: ManualClock) -> None:
    client.quota = RunQuota(deadline=10.0)
    clock.elapsed = 10.0
    assert client.read() == [None]
    assert server.arrivals == []


@pytest.mark.parametrize("status", [429, 503])
def test_no_retry_is_sent_after_the_deadline(
    client: Client, server: Server, clock: ManualClock, status: int
) -> None:
    client.quota = RunQuota(deadline=10.0)
    server.on("userinfo", ACCESS, answer(status, b"", ("Retry-After", "30")), answer(200, BODY))
    found = client.read_one()
    assert (found.http_status, found.attempts) == (status, 1)
    assert len(server.arrivals) == 1
    assert clock.elapsed <= 10.0  # and no one waits beyond it


def test_nothing_is_sent_without_an_access_token(client: Client, server: Server) -> None:
    [found] = client.read(Token("k", Secret(""), Secret("rt"), "us"))
    assert found is not None
    assert (found.outcome, found.attempts) == (Outcome.SKIPPED, 0)
    assert server.arrivals == []


def test_the_rate_limiter_counts_every_request(client: Client, server: Server) -> None:
    server.on("userinfo", ACCESS, reset_after(), answer(503), answer(200, BODY))
    assert client.read_one().attempts == 3
    assert client.limiter.requests == len(server.arrivals) == 3


def test_a_token_of_another_data_center_goes_to_its_own_host() -> None:
    settings = PollingSettings(data_center="us")
    assert settings.host(None) == "https://api.cronofy.com"
    assert settings.host("de") == "https://api-de.cronofy.com"


class RefusingProxy(RawServer):
    """Notes what it is asked for, and lets nobody through."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    async def respond(self, method: str, path: str, headers: dict[str, str], writer: StreamWriter) -> None:
        self.asked.append((method, path, headers))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        raise HangUpError


def test_a_proxy_is_asked_for_a_tunnel_and_sees_no_token(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RefusingProxy() as other, RefusingProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", other.base_url)
        url = Secret(proxy.base_url.replace("//", "//user:hunter2@"))
        client.settings = replace(client.settings, base_url=None, proxy=url, max_attempts=1)
        found = client.read_one()
    assert found.outcome is Outcome.NETWORK_ERROR
    assert found.message is not None
    assert "hunter2" not in found.message
    [(method, path, headers)] = proxy.asked
    assert (method, path) == ("CONNECT", "api.cronofy.com:443")
    assert base64.b64decode(headers["proxy-authorization"].removeprefix("Basic ")) == b"user:hunter2"
    assert TOKEN.access_token.reveal() not in str(headers)
    assert "authorization" not in headers
    assert other.asked == []
