"""Cronofy's identity and token endpoints over a simulated world."""

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .clock import MovableClock
from .faults import JSON_TYPE, BrokenResponse, Faults, misbehave
from .grants import Grants, OAuth, OAuthError
from .records import ENDPOINTS, Endpoint
from .traffic import Limits, RateLimiter, Traffic
from .world import World

# the endpoint behind a path below /oauth/, and the field that names the token it is about
TOKEN_PATHS = {"token": ("token", "refresh_token"), "token/revoke": ("revoke", "token")}
NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


def _challenge(status: int, error: str = "") -> Response:
    named = f', error="{error}"' if error else ""
    return Response(status_code=status, headers={"www-authenticate": f'Bearer realm="Cronofy"{named}'})


def _refuse(status: int, endpoint: Endpoint) -> Response:
    if status == 401:
        return _challenge(401, "invalid_token")
    if endpoint == "account":
        # nobody but application calendars is refused there
        return Response("Forbidden", status, media_type="text/plain")
    return _challenge(status, "insufficient_scope")


class SandboxApp:
    """Answers as the world stands at the clock's time, within the limits, and with the faults in force."""

    def __init__(
        self,
        world: World,
        clock: MovableClock,
        *,
        limits: Limits | None = None,
        oauth: OAuth | None = None,
        fault_seed: int = 0,
    ) -> None:
        self.world = world
        self.clock = clock
        self.grants = Grants(world, oauth or OAuth())
        self.limiter = RateLimiter(limits)
        self.faults = Faults(fault_seed)
        self.traffic = Traffic()
        self._request_ids = Random(world.seed)  # noqa: S311 - a simulation, no secrets

    def build_routes(self) -> list[Route]:
        """Returns the documented endpoints."""
        reads = [Route(f"/v1/{endpoint}", self._read(endpoint), methods=["GET"]) for endpoint in ENDPOINTS]
        changes = [Route(f"/oauth/{path}", self._change_tokens, methods=["POST"]) for path in TOKEN_PATHS]
        return [*reads, *changes]

    def _read(self, endpoint: Endpoint) -> Callable[[Request], Any]:
        async def read(request: Request) -> Response:
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            access_token = token.strip() if kind.lower() == "bearer" else None
            return self._respond(endpoint, access_token, lambda: self._show(endpoint, access_token))

        return read

    async def _change_tokens(self, request: Request) -> Response:
        endpoint, names = TOKEN_PATHS[request.url.path.removeprefix("/oauth/")]
        form = await _read_form(request)
        return self._respond(endpoint, form.get(names), lambda: self._exchange(endpoint, form))

    def _respond(self, endpoint: str, secret: Any, answer: Callable[[], Response]) -> Response:
        """Counts a request and returns its answer, a refusal, or what a fault makes of it."""
        self.traffic.arrive()
        wait_seconds = self.limiter.admit()
        grant = self.grants.find(secret) if isinstance(secret, str) else None
        if wait_seconds:
            response = self._refuse_rate(wait_seconds)
        elif fault := self.faults.choose(endpoint, grant.token.key if grant else None):
            response = misbehave(fault, answer)
            if isinstance(response, BrokenResponse):
                self.traffic.answer(endpoint, fault.kind)
                return response
        else:
            response = answer()
        self.traffic.answer(endpoint, response.status_code)
        response.headers["x-request-id"] = str(UUID(int=self._request_ids.getrandbits(128), version=4))
        return response

    def _show(self, endpoint: Endpoint, access_token: str | None) -> Response:
        if access_token is None:
            return _challenge(401)
        at = self.clock.now()
        grant = self.grants.authorize(access_token, at)
        if grant is None:
            return _refuse(401, endpoint)
        status, body = self.world.body(endpoint, grant.token, at)
        return _json(body) if status == 200 else _refuse(status, endpoint)

    def _exchange(self, endpoint: str, form: Mapping[str, Any]) -> Response:
        try:
            if endpoint == "token":
                return _json(self.grants.exchange(form, self.clock.now()), headers=NO_STORE)
            self.grants.revoke(form)
        except OAuthError as error:
            return _json({"error": str(error)}, 400, NO_STORE)
        return Response()

    def _refuse_rate(self, wait_seconds: float) -> Response:
        says_when = self.limiter.limits is not None and self.limiter.limits.retry_after
        headers = {"retry-after": str(math.ceil(wait_seconds))} if says_when else None
        return Response(status_code=429, headers=headers)


def _json(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(content), status, headers, JSON_TYPE)


async def _read_form(request: Request) -> dict[str, Any]:
    """Returns the fields of a JSON or form body; none if it is neither."""
    body = await request.body()
    if "application/json" not in request.headers.get("content-type", ""):
        return dict(parse_qsl(body.decode("utf-8", "replace")))
    with contextlib.suppress(ValueError):
        form = json.loads(body)
        if isinstance(form, dict):
            return form
    return {}
