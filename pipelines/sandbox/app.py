"""The ASGI application: Cronofy's identity and token endpoints over a simulated world."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import (
    FORBIDDEN,
    NOT_FOUND,
    TOKEN_REJECTED,
    UNAUTHENTICATED,
    Answer,
    build_answer,
    build_json_answer,
)
from .bodies import build_body
from .faults import Faults
from .grants import Grants, OAuth, OAuthError
from .limits import Limits, RateLimiter
from .misbehavior import Misbehavior
from .records import Endpoint, SandboxToken
from .traffic import Traffic
from .world import World

READS: dict[str, Endpoint] = {
    "/v1/userinfo": "userinfo",
    "/v1/account": "account",
    "/v1/profiles": "profiles",
}
TOKEN_PATHS = {"/oauth/token": "token", "/oauth/token/revoke": "revoke"}
NO_STORE = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
MAX_FORM_BYTES = 64 * 1024


@dataclass(frozen=True)
class _Request:
    """What is known of a request before it is answered: the grant's key is None for a token nobody has."""

    endpoint: str
    token_key: str | None
    answer: Callable[[], Answer]


class SandboxApp:
    """Answers as the world stands at `now()`, within the limits, and with the faults in force.

    Args:
        world: who there is and what happens to them.
        now: the time to answer for.
        limits: None for no limits.
        oauth: how the token endpoints behave.
        fault_seed: feeds the draws of faults.
        control: answers everything under `/sandbox/`; None for nothing.
    """

    def __init__(
        self,
        world: World,
        now: Callable[[], datetime],
        *,
        limits: Limits | None = None,
        oauth: OAuth | None = None,
        fault_seed: int = 0,
        control: ASGIApp | None = None,
    ) -> None:
        self.world = world
        self.now = now
        self.grants = Grants(world, oauth or OAuth())
        self.limiter = RateLimiter(limits)
        self.faults = Faults(fault_seed)
        self.traffic = Traffic()
        self.misbehavior = Misbehavior()
        self.control = control
        self._answers: dict[tuple[str, Endpoint], tuple[int, Answer]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        path = scope["path"]
        if path in READS:
            await self._read(READS[path], scope, receive, send)
        elif path in TOKEN_PATHS:
            await self._change_tokens(TOKEN_PATHS[path], scope, receive, send)
        elif path.startswith("/sandbox/") and self.control is not None:
            await self.control(scope, receive, send)
        else:
            self.traffic.arrive()
            self.traffic.answer("unknown", 404)
            await NOT_FOUND.send(send)

    async def _read(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        self.traffic.arrive()
        if scope["method"] != "GET":
            await self._send(endpoint, _refuse_method(b"GET"), send)
            return
        access_token = _find_bearer(scope)
        request = _Request(
            endpoint,
            token_key=self._find_key(access_token) if self.faults else None,
            answer=lambda: self._answer_read(endpoint, access_token),
        )
        await self._respond(request, scope, receive, send)

    async def _change_tokens(self, endpoint: str, scope: Scope, receive: Receive, send: Send) -> None:
        self.traffic.arrive()
        if scope["method"] != "POST":
            await self._send(endpoint, _refuse_method(b"POST"), send)
            return
        form = await _read_form(scope, receive)
        secret = (form or {}).get("refresh_token" if endpoint == "token" else "token")
        request = _Request(
            endpoint,
            token_key=self._find_key(secret if isinstance(secret, str) else None),
            answer=lambda: self._answer_tokens(endpoint, form),
        )
        await self._respond(request, scope, receive, send)

    async def _respond(self, request: _Request, scope: Scope, receive: Receive, send: Send) -> None:
        wait_seconds = self.limiter.admit()
        if wait_seconds:
            await self._send(request.endpoint, self._refuse_rate(wait_seconds), send)
            return
        fault = self.faults.choose(request.endpoint, request.token_key) if self.faults else None
        if fault is None:
            await self._send(request.endpoint, request.answer(), send)
            return
        outcome = await self.misbehavior.commit(fault, request.answer, scope, receive, send)
        self.traffic.answer(request.endpoint, outcome)

    async def _send(self, endpoint: str, answer: Answer, send: Send) -> None:
        self.traffic.answer(endpoint, answer.status)
        await answer.send(send)

    def _find_key(self, secret: str | None) -> str | None:
        grant = self.grants.find(secret) if secret else None
        return grant.token.key if grant else None

    def _answer_read(self, endpoint: Endpoint, access_token: str | None) -> Answer:
        if access_token is None:
            return UNAUTHENTICATED
        at = self.now()
        grant = self.grants.authorize(access_token, at)
        if grant is None:
            return TOKEN_REJECTED
        if self.world.status(endpoint, grant.token, at) == 403:
            return FORBIDDEN
        return self._load_state(endpoint, grant.token, at)

    def _load_state(self, endpoint: Endpoint, token: SandboxToken, at: datetime) -> Answer:
        """Returns the 200 answer, encoded once for every stretch of time in which it stays the same."""
        account = self.world.account(token.account_id)
        segment = account.segment(at)
        known = self._answers.get((token.key, endpoint))
        if known is not None and known[0] == segment:
            return known[1]
        answer = build_json_answer(200, build_body(endpoint, account, token.scope, at))
        self._answers[token.key, endpoint] = (segment, answer)
        return answer

    def _answer_tokens(self, endpoint: str, form: Mapping[str, Any] | None) -> Answer:
        if form is None:
            return _refuse_grant("invalid_request")
        try:
            if endpoint == "revoke":
                self.grants.revoke(form)
                return build_answer(200)
            return build_json_answer(200, self.grants.exchange(form, self.now()), NO_STORE)
        except OAuthError as error:
            return _refuse_grant(error.code)

    def _refuse_rate(self, wait_seconds: float) -> Answer:
        if self.limiter.limits is None or not self.limiter.limits.retry_after:
            return build_answer(429)
        return build_answer(429, headers=((b"retry-after", b"%d" % math.ceil(wait_seconds)),))


def _refuse_grant(code: str) -> Answer:
    return build_json_answer(400, {"error": code}, NO_STORE)


def _refuse_method(allowed: bytes) -> Answer:
    return build_answer(405, headers=((b"allow", allowed),))


def _find_bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if kind.lower() == "bearer" else None
    return None


async def _read_form(scope: Scope, receive: Receive) -> dict[str, Any] | None:
    """Returns the fields of a JSON or form body; None if it is neither, or too long."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_FORM_BYTES:
            return None
    if b"application/json" not in dict(scope["headers"]).get(b"content-type", b""):
        return dict(parse_qsl(body.decode("utf-8", "replace")))
    try:
        form = json.loads(body)
    except ValueError:
        return None
    return form if isinstance(form, dict) else None
