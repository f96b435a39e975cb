"""The OAuth side: which tokens are good now, refreshing and revoking them."""

import hashlib
import hmac
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
    """How the token endpoints behave.

    Attributes:
        client_id: what a refresh or a revocation must present.
        client_secret: likewise.
        expires_in_seconds: lifetime of refreshed access tokens; None for 3600, and 1800 for service accounts.
        first_expires_in_seconds: lifetime of the token file's access tokens from the world's start on; None
            for no expiry.
        rotates: whether a refresh replaces the refresh token, which makes the used one `invalid_grant`.
    """

    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105 - the sandbox's own, printed in its help
    expires_in_seconds: int | None = None
    first_expires_in_seconds: int | None = None
    rotates: bool = False

    def __repr__(self) -> str:
        return f"OAuth(client_id={self.client_id!r}, rotates={self.rotates})"


class OAuthError(Exception):
    """A refusal by a token endpoint; `code` is the RFC 6749 error, such as `invalid_grant`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


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
    """Finds the grant of an access token in constant time, and refreshes and revokes grants.

    Args:
        world: the tokens, and who they belong to.
        oauth: how the token endpoints behave.
    """

    def __init__(self, world: World, oauth: OAuth) -> None:
        self._seed = world.seed
        self._oauth = oauth
        self._by_access: dict[str, Grant] = {}
        self._by_refresh: dict[str, Grant] = {}
        self._by_key: dict[str, Grant] = {}
        for token in world.tokens:
            self._add(token, world)

    def authorize(self, access_token: str, at: datetime) -> Grant | None:
        """Returns the grant of a good access token; None if it is unknown, expired or revoked."""
        grant = self._by_access.get(access_token)
        if grant is None or grant.is_revoked(at):
            return None
        expires_at = grant.expires_at[access_token]
        return grant if expires_at is None or at < expires_at else None

    def find(self, secret: str) -> Grant | None:
        """Returns the grant that an access or refresh token belongs to, good or not."""
        return self._by_refresh.get(secret) or self._by_access.get(secret)

    def revoke_key(self, key: str) -> None:
        """Revokes the grant of one token key; raises KeyError if there is none."""
        self._by_key[key].revoked = True

    def exchange(self, form: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        """Answers POST /oauth/token.

        Args:
            form: grant_type, client_id, client_secret, refresh_token.
            at: the time of the request.

        Returns:
            token_type, access_token, expires_in (seconds), refresh_token, scope.

        Raises:
            OAuthError: as RFC 6749 says. No authorization code is ever known here.
        """
        self._check_client(form)
        grant_type = form.get("grant_type")
        if grant_type == "authorization_code":
            raise OAuthError("invalid_grant")
        if grant_type != "refresh_token":
            raise OAuthError("unsupported_grant_type" if grant_type else "invalid_request")
        refresh_token = form.get("refresh_token")
        if not refresh_token:
            raise OAuthError("invalid_request")
        grant = self._by_refresh.get(str(refresh_token))
        if grant is None or grant.is_revoked(at):
            raise OAuthError("invalid_grant")
        return self._refresh(grant, at)

    def revoke(self, form: Mapping[str, Any]) -> None:
        """Answers POST /oauth/token/revoke: by `token` (access or refresh), else by `sub`.

        Unknown and revoked ones are fine.

        Raises:
            OAuthError: the client is unknown, or neither `token` nor `sub` is given.
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
        self._by_key[token.key] = grant
        self._issue(
            grant, token.access_token, None if first is None else world.start + timedelta(seconds=first)
        )
        if token.refresh_token is not None:
            self._by_refresh[token.refresh_token] = grant

    def _issue(self, grant: Grant, access_token: str, expires_at: datetime | None) -> None:
        grant.expires_at[access_token] = expires_at
        self._by_access[access_token] = grant

    def _refresh(self, grant: Grant, at: datetime) -> dict[str, Any]:
        self._forget_expired(grant, at)
        grant.refreshes += 1
        access_token = self._derive(grant, "access")
        self._issue(grant, access_token, at + timedelta(seconds=grant.expires_in_seconds))
        if self._oauth.rotates:
            assert grant.refresh_token is not None
            del self._by_refresh[grant.refresh_token]
            grant.refresh_token = self._derive(grant, "refresh")
            self._by_refresh[grant.refresh_token] = grant
        return {
            "token_type": "bearer",
            "access_token": access_token,
            "expires_in": grant.expires_in_seconds,
            "refresh_token": grant.refresh_token,
            "scope": grant.token.scope,
        }

    def _forget_expired(self, grant: Grant, at: datetime) -> None:
        expired = [secret for secret, end in grant.expires_at.items() if end is not None and at >= end]
        for secret in expired:
            del grant.expires_at[secret]
            del self._by_access[secret]

    def _derive(self, grant: Grant, purpose: str) -> str:
        # derived rather than drawn, so that a run's answers can be played again
        text = f"{self._seed}/{grant.token.key}/{purpose}/{grant.refreshes}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _check_client(self, form: Mapping[str, Any]) -> None:
        presented = f"{form.get('client_id')}\0{form.get('client_secret')}".encode()
        expected = f"{self._oauth.client_id}\0{self._oauth.client_secret}".encode()
        if not hmac.compare_digest(presented, expected):
            raise OAuthError("invalid_client")
