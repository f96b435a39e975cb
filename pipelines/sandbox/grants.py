"""The OAuth side: which tokens are good now, refreshing and revoking them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .records import SandboxToken
from .world import World

USER_EXPIRES_IN_SECONDS = 3600
SERVICE_ACCOUNT_EXPIRES_IN_SECONDS = 1800


@dataclass(frozen=True)
class OAuth:
    """How the token endpoints behave; a refresh or a revocation must present id and secret.

    Attributes:
        expires_in_seconds: lifetime of refreshed access tokens; None for 3600, and 1800 for service accounts.
        first_expires_in_seconds: lifetime of the token file's access tokens from the world's start on; None
            for no expiry.
        rotates: whether a refresh replaces the refresh token, which makes the used one `invalid_grant`.
    """

    client_id: str = "sandbox-client"
    client_secret: str = field(default="sandbox-secret", repr=False)
    expires_in_seconds: int | None = None
    first_expires_in_seconds: int | None = None
    rotates: bool = False


class OAuthError(Exception):
    """A refusal by a token endpoint, named by its RFC 6749 error, such as `invalid_grant`."""


@dataclass
class Grant:
    """The live side of one token: what has been issued for it since the server began."""

    token: SandboxToken
    expires_in_seconds: int
    refresh_token: str | None
    expires_at: dict[str, datetime | None] = field(default_factory=dict)
    revoked: bool = False
    refreshes: int = 0

    def is_revoked(self, at: datetime) -> bool:
        """Returns whether the user (in the world) or a client (through the API) has withdrawn it."""
        return self.revoked or self.token.is_revoked(at)


class Grants:
    """Finds the grant of a token in constant time, and refreshes and revokes grants."""

    def __init__(self, world: World, oauth: OAuth) -> None:
        self._seed = world.seed
        self._oauth = oauth
        self._by_secret: dict[str, Grant] = {}
        self._by_key: dict[str, Grant] = {}
        for token in world.tokens:
            self._add(token, world)

    def authorize(self, access_token: str, at: datetime) -> Grant | None:
        """Returns the grant of a good access token; None if it is unknown, expired or revoked."""
        grant = self._by_secret.get(access_token)
        if grant is None or access_token not in grant.expires_at or grant.is_revoked(at):
            return None
        expires_at = grant.expires_at[access_token]
        return grant if expires_at is None or at < expires_at else None

    def find(self, secret: str) -> Grant | None:
        """Returns the grant that an access or refresh token belongs to, good or not."""
        return self._by_secret.get(secret)

    def revoke_key(self, key: str) -> None:
        """Revokes the grant of one token key; raises KeyError if there is none."""
        self._by_key[key].revoked = True

    def exchange(self, form: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        """Answers POST /oauth/token at `at` with the fields of RFC 6749; `expires_in` is in seconds.

        Raises:
            OAuthError: as RFC 6749 says. No authorization code is ever known here.
        """
        self._check_client(form)
        match form.get("grant_type"):
            case "refresh_token" if form.get("refresh_token"):
                grant = self._by_secret.get(str(form["refresh_token"]))
                if grant is None or grant.refresh_token != form["refresh_token"] or grant.is_revoked(at):
                    raise OAuthError("invalid_grant")
                return self._refresh(grant, at)
            case "authorization_code":
                raise OAuthError("invalid_grant")
            case "refresh_token" | "" | None:
                raise OAuthError("invalid_request")
            case _:
                raise OAuthError("unsupported_grant_type")

    def revoke(self, form: Mapping[str, Any]) -> None:
        """Answers POST /oauth/token/revoke: by `token` (access or refresh), else by `sub`.

        Unknown and revoked ones are fine; raises OAuthError for an unknown client or if neither is given.
        """
        self._check_client(form)
        if form.get("token"):
            grant = self.find(str(form["token"]))
            if grant is not None:
                grant.revoked = True
        elif form.get("sub"):
            for grant in self._by_key.values():
                grant.revoked = grant.revoked or grant.token.account_id == form["sub"]
        else:
            raise OAuthError("invalid_request")

    def _add(self, token: SandboxToken, world: World) -> None:
        is_service_account = world.account(token.account_id).type == "service_account"
        lifetime = SERVICE_ACCOUNT_EXPIRES_IN_SECONDS if is_service_account else USER_EXPIRES_IN_SECONDS
        grant = Grant(token, self._oauth.expires_in_seconds or lifetime, token.refresh_token)
        first = self._oauth.first_expires_in_seconds
        expires_at = None if first is None else world.start + timedelta(seconds=first)
        self._by_key[token.key] = grant
        self._issue(grant, token.access_token, expires_at)
        if token.refresh_token is not None:
            self._by_secret[token.refresh_token] = grant

    def _issue(self, grant: Grant, access_token: str, expires_at: datetime | None) -> None:
        grant.expires_at[access_token] = expires_at
        self._by_secret[access_token] = grant

    def _refresh(self, grant: Grant, at: datetime) -> dict[str, Any]:
        grant.refreshes += 1
        access_token = self._derive(grant, "access")
        self._issue(grant, access_token, at + timedelta(seconds=grant.expires_in_seconds))
        if self._oauth.rotates:
            assert grant.refresh_token is not None
            del self._by_secret[grant.refresh_token]
            grant.refresh_token = self._derive(grant, "refresh")
            self._by_secret[grant.refresh_token] = grant
        return {
            "token_type": "bearer",
            "access_token": access_token,
            "expires_in": grant.expires_in_seconds,
            "refresh_token": grant.refresh_token,
            "scope": grant.token.scope,
        }

    def _derive(self, grant: Grant, purpose: str) -> str:
        # derived rather than drawn, so that a run's answers can be played again
        text = f"{self._seed}/{grant.token.key}/{purpose}/{grant.refreshes}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _check_client(self, form: Mapping[str, Any]) -> None:
        presented = (form.get("client_id"), form.get("client_secret"))
        if presented != (self._oauth.client_id, self._oauth.client_secret):
            raise OAuthError("invalid_client")
