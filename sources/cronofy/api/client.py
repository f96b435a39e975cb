"""The client: one read of one endpoint for one token, with a fresh access token where it takes one."""

import httpx

from ..clock import Clock
from ..records import Outcome, Response, skipped
from ..settings import PollingSettings
from ..tokens.token import Token
from .limits.circuit_breaker import Permit
from .limits.rate_limiter import RunQuota
from .retries import Retrier
from .token_refresh import Refresher
from .transport import reading

# one for the access token, one more where the store held a newer one that had expired as well
MAX_REFRESHES = 2


class CronofyClient:
    """Reads identity endpoints; refreshes access tokens where it has a refresher."""

    def __init__(
        self,
        retrier: Retrier,
        settings: PollingSettings,
        clock: Clock,
        refresher: Refresher | None = None,
    ) -> None:
        self._retrier = retrier
        self._settings = settings
        self._clock = clock
        self._refresher = refresher
        self._urls: dict[tuple[str, str], httpx.URL] = {}

    @property
    def quota(self) -> RunQuota:
        """What the run may spend."""
        return self._retrier.quota

    async def read(self, endpoint: str, token: Token, permit: Permit | None = None) -> Response | None:
        """Read one endpoint; the caller has taken the first request from the quota.

        Returns:
            The answer to the last attempt, or None when time ran out, or the permit was withdrawn, before
            anything was sent.
        """
        if self._refresher is None or token.refresh_token is None:
            return await self._ask(endpoint, token, permit)
        return await self._read_refreshed(endpoint, token, self._refresher, permit)

    def _url(self, host: str, endpoint: str) -> httpx.URL:
        """Where an endpoint is read; read from its text once, which takes longer than building a request."""
        if (host, endpoint) not in self._urls:
            self._urls[host, endpoint] = httpx.URL(f"{host}/v1/{endpoint}")
        return self._urls[host, endpoint]

    async def _ask(self, endpoint: str, token: Token, permit: Permit | None) -> Response | None:
        if not token.has_access_token:
            self.quota.release(1)
            return skipped(self._clock.now(), "not called: no access token, and no new one")
        url = self._url(self._settings.host(token.data_center), endpoint)
        response = await self._retrier.ask(
            token.data_center,
            lambda: reading(url, token.access_token),
            permit,
        )
        if response is not None and response.outcome is not Outcome.OK:
            response.body = b""
        return response

    async def _read_refreshed(
        self, endpoint: str, token: Token, refresher: Refresher, permit: Permit | None
    ) -> Response | None:
        token = refresher.newest(token)
        refreshes = 0
        if refresher.is_due(token):
            refreshed = await refresher.refresh(token, self._retrier)
            refreshes = refreshed.requests
            if refreshed.response is not None:
                self.quota.release(1)
                refreshed.response.refreshes = refreshes
                return refreshed.response
            token = refreshed.token or token
        response = await self._ask(endpoint, token, permit)
        if response is not None:
            response.refreshes = refreshes
        for _ in range(MAX_REFRESHES):
            rejected = (
                response is not None and response.outcome is Outcome.TOKEN_REJECTED and not response.is_last
            )
            if response is None or not rejected or not refresher.may_help(token):
                break
            response, token = await self._repeat(endpoint, token, response, refresher, permit)
        return response

    async def _repeat(
        self, endpoint: str, token: Token, rejected: Response, refresher: Refresher, permit: Permit | None
    ) -> tuple[Response, Token]:
        """The call once more with a fresh access token; the rejection as it is where there is none."""
        refreshed = await refresher.refresh(token, self._retrier)
        response = refreshed.response
        if refreshed.token is not None:
            token = refreshed.token
            response = await self._ask(endpoint, token, permit) if self.quota.reserve(1) else None
            response = response or skipped(self._clock.now(), "refreshed, and no request left to call with")
        elif response is None:
            rejected.message = f"HTTP {rejected.http_status}; {refreshed.why}"
            rejected.refreshes += refreshed.requests
            rejected.is_last = True
            return rejected, token
        response.attempts += rejected.attempts
        response.refreshes = rejected.refreshes + refreshed.requests
        return response, token
