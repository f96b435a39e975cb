"""The transport: one request and its response, bounded in time and memory, whatever the server does.

Nothing here raises for what a server sends or fails to send; it becomes a `Response`.
"""

import asyncio
import base64
import email.utils
import os
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from ..clock import Clock
from ..errors import BadPayload
from ..records import MAX_BODY_BYTES, Outcome, Response, status_outcome
from ..secret import Secret

USER_AGENT = "dlt-cronofy"

HEADERS = [
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", USER_AGENT.encode()),
]

BuildRequest = Callable[[], httpx.Request]
Transport = httpx.AsyncBaseTransport


@asynccontextmanager
async def open_transport(proxy: Secret | None = None) -> AsyncIterator[Transport]:
    """An httpx transport whose pool holds up under concurrency and that remembers nothing.

    httpx's own pool slows down beyond some tens of connections (benchmarks/), so aiohttp carries it.
    Requests go to it directly: what an `httpx.AsyncClient` adds (cookies, redirects, authentication,
    proxies from the environment) is what must not happen here, and costs more than the request.
    No cookie is kept, since one user's cookie must not travel with another's token, and a request
    is never sent twice without the rate limiter's knowledge. Certificates are verified, and no setting or
    environment variable of HTTP libraries changes that. A proxy is used only where it is configured, and for
    HTTPS gets CONNECT: it sees a host name, and no token.
    """
    context = verifying_context()
    session = aiohttp.ClientSession(
        # how many are open at once is decided by the request policy
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    # aiohttp resends a GET when a kept-alive connection was closed; the server may have counted it
    session._retry_connection = False  # noqa: SLF001
    through = _proxy(proxy) if proxy is not None else None
    async with AiohttpTransport(client=session, verify=context, trust_env=False, proxy=through) as transport:
        yield transport


# a header may quote a token; a UUID or the like has neither room for one nor its dots
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


def verifying_context() -> ssl.SSLContext:
    """TLS with the system's certificates (or those of `SSL_CERT_FILE`), host names checked.

    The keys of its sessions go nowhere: `SSLKEYLOGFILE` would let anybody who reads that file read tokens.
    """
    context = ssl.create_default_context()
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.keylog_filename = None  # type: ignore[assignment]  # typeshed does not know that None ends it
    return context


def _proxy(proxy: Secret) -> httpx.Proxy:
    """A proxy with its user and password as a header, as aiohttp wants them."""
    url = httpx.URL(proxy.reveal())
    name, _, password = url.userinfo.partition(b":")
    headers = {}
    if url.userinfo:
        pair = base64.b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password))
        headers["Proxy-Authorization"] = f"Basic {pair.decode()}"
    return httpx.Proxy(url.copy_with(userinfo=b""), headers=headers)


def reading(url: httpx.URL, token: Secret) -> httpx.Request:
    """A GET with an access token."""
    return httpx.Request(
        "GET", url, headers=[*HEADERS, (b"Authorization", b"Bearer " + token.reveal().encode())]
    )


async def send(transport: Transport, build: BuildRequest, clock: Clock, timeout_seconds: float) -> Response:
    """Send one request and read its response, body included; redirects are not followed.

    The frames below this one hold headers and bodies in plain, so no exception leaves with them.
    """
    requested_at = clock.now()
    started = clock.monotonic()

    def ended(
        outcome: Outcome, message: str | None = None, status: int | None = None, body: bytes = b""
    ) -> Response:
        latency_ms = round((clock.monotonic() - started) * 1000)
        return Response(outcome, requested_at, clock.now(), latency_ms, status, body, message)

    try:
        # httpx times each read; only a deadline over the whole of it ends a slow drip
        request = build()
        async with asyncio.timeout(timeout_seconds):
            # a transport follows no redirect: a token goes to the configured host only
            reply = await transport.handle_async_request(request)
            try:
                # the body is in no variable: whatever fails below, a traceback with locals does not show it
                response = ended(Outcome.OK, None, reply.status_code, await _read_body(reply))
            finally:
                await reply.aclose()
    except asyncio.CancelledError as error:
        raise error.with_traceback(None) from None
    except TimeoutError:
        return ended(Outcome.TIMEOUT, f"no answer within {timeout_seconds:g} s")
    except BadPayload as error:
        response = ended(Outcome.BAD_PAYLOAD, str(error), reply.status_code)
        return replace(response, server_request_id=request_id(reply, request))
    except Exception as error:  # noqa: BLE001 - whatever the transport raises is this token's outcome
        return ended(_transport_outcome(error), _transport_message(error))
    outcome = status_outcome(reply.status_code)
    if outcome is Outcome.OK:
        return response
    return replace(
        response,
        outcome=outcome,
        message=f"HTTP {reply.status_code}",
        retry_after=parse_retry_after(reply.headers.get("retry-after"), response.polled_at),
        server_request_id=request_id(reply, request),
    )


def request_id(reply: httpx.Response, request: httpx.Request) -> str | None:
    """The header X-Request-Id of a read, if it can be the name of a request and quotes no token."""
    found: str = reply.headers.get("x-request-id", "")
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    is_name = request.method == "GET" and REQUEST_ID.fullmatch(found) is not None
    return found if is_name and token not in found and found not in token else None


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


TOO_LARGE = f"body exceeds {MAX_BODY_BYTES} bytes"


async def _read_body(response: httpx.Response) -> bytes:
    """The decoded body, never more of it in memory than may be."""
    chunks = []
    size = 0
    assert isinstance(response.stream, httpx.AsyncByteStream)
    # as it came: a few bytes may decode into gigabytes, and httpx decodes a chunk as a whole
    async for chunk in response.stream:
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise BadPayload(TOO_LARGE)
        chunks.append(chunk)
    encodings = [value for name, value in response.headers.raw if name.lower() == b"content-encoding"]
    return _decoded(b"".join(chunks), b", ".join(encodings).strip().lower())


def _decoded(body: bytes, encoding: bytes) -> bytes:
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise BadPayload("content encoding is not supported")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        decoded = decoder.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise BadPayload("body cannot be decoded") from error
    if len(decoded) > MAX_BODY_BYTES:
        raise BadPayload(TOO_LARGE)
    if not decoder.eof:
        raise BadPayload("body breaks off")
    return decoded


def _transport_outcome(error: Exception) -> Outcome:
    # the transport maps aiohttp's "server disconnected" to an httpx timeout; its cause is honest
    cause = error.__cause__ or error
    timed_out = isinstance(cause, (TimeoutError, httpx.TimeoutException, aiohttp.ServerTimeoutError))
    return Outcome.TIMEOUT if timed_out else Outcome.NETWORK_ERROR


def _transport_message(error: Exception) -> str:
    """The error's class, and what the system or OpenSSL calls it; never the server's words."""
    cause = error.__cause__ or error
    verification = getattr(cause, "certificate_error", None)
    if isinstance(verification, ssl.SSLCertVerificationError):
        return f"{type(cause).__name__}: {verification.verify_message}"
    number = getattr(cause, "errno", None)
    reason = f": {os.strerror(number)}" if isinstance(number, int) and number > 0 else ""
    return f"{type(cause).__name__}{reason}"
