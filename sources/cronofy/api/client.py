"""The client: one read of one endpoint for one token, with a fresh access token where it takes one."""

from dataclasses import replace
from functools import lru_cache

import httpx

from ..clock import Clock
from ..records import Outcome, Response, skipped
from ..settings import PollingSettings
from ..tokens.token import Token
from .limits.circuit_breaker import Permit
from .limits.policy import RequestPolicy
from .limits.tuning import MAX_REFRESHES
from .retries import Retrier
from .token_refresh import Refresher
from .transport import Transport, reading


class CronofyClient:
    """Reads identity endpoints; refreshes access tokens where it has a refresher."""

    def __init__(
        self,
        transport: Transport,
        settings: PollingSettings,
        policy: RequestPolicy,
        clock: Clock,
        refresher: Refresher | None = None,
    ) -> None:
        self._retrier = Retrier(transport, settings, policy, clock)
        self._settings = settings
        self._policy = policy
        self._clock = clock
        self._refresher = refresher

    async def read(self, endpoint: str, token: Token, *, last_poll_ok: bool = True) -> Response | None:
        """Read one endpoint, unless that is known to be of no use now.

        The caller has reserved the request in the quota, and releases it where the response has no attempts
        or there is none: nothing was sent then.

        Returns:
            The response to the last attempt, or None when time ran out before anything was sent.
        """
        while True:
            async with self._policy.permit(
                token.data_center, endpoint, counts_toward_breaker=last_poll_ok
            ) as permit:
                if permit.refusal is not None:
                    return skipped(self._clock.now(), permit.refusal)
                permit.response = await self._read(endpoint, token, permit)
            if permit.response is not None or not permit.is_withdrawn or self._policy.quota.stopped:
                return permit.response

    async def _read(self, endpoint: str, token: Token, permit: Permit) -> Response | None:
        refresher = self._refresher
        if refresher is None or token.refresh_token is None:
            return await self._get(endpoint, token, permit, is_reserved=True)
        token = refresher.newest(token)
        attempts = refreshes = 0
        if refresher.is_due(token):
            refreshed = await refresher.refresh(token, self._retrier)
            refreshes = refreshed.requests
            if refreshed.response is not None:
                return replace(refreshed.response, refreshes=refreshes)
            token = refreshed.token or token
        response = await self._get(endpoint, token, permit, is_reserved=True)
        for _ in range(MAX_REFRESHES):
            is_rejected = response is not None and response.outcome is Outcome.TOKEN_REJECTED
            if response is None or not is_rejected or not refresher.may_help(token):
                break
            refreshed = await refresher.refresh(token, self._retrier)
            attempts += response.attempts
            refreshes += refreshed.requests
            if refreshed.token is None:
                why = f"HTTP {response.http_status}; {refreshed.why}"
                response = refreshed.response or replace(response, message=why, attempts=0)
                break
            token = refreshed.token
            response = await self._get(endpoint, token, permit, is_reserved=False)
            response = response or skipped(self._clock.now(), "refreshed, and no request left to call with")
        if response is None or not attempts + refreshes:
            return response
        return replace(response, attempts=attempts + response.attempts, refreshes=refreshes)

    async def _get(
        self, endpoint: str, token: Token, permit: Permit, *, is_reserved: bool
    ) -> Response | None:
        if not token.has_access_token:
            return skipped(self._clock.now(), "not called: no access token, and no new one")
        url = _url(self._settings.host(token.data_center), endpoint)
        response = await self._retrier.send(
            token.data_center,
            lambda: reading(url, token.access_token),
            permit.is_valid,
            permit.use,
            is_reserved=is_reserved,
        )
        if response is None or response.outcome is Outcome.OK:
            return response
        return replace(response, body=b"")


@lru_cache
def _url(host: str, endpoint: str) -> httpx.URL:
    """Where an endpoint is read; read from its text once, which takes longer than building a request."""
    return httpx.URL(f"{host}/v1/{endpoint}")
