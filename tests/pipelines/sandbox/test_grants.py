from datetime import timedelta
from typing import Any

import pytest

from dlt_cronofy.sandbox import OAuth, SandboxToken, World
from dlt_cronofy.sandbox.grants import Grants, OAuthError
from tests.pipelines.sandbox.conftest import START, is_good, owner

HOUR = timedelta(hours=1)


def form(refresh_token: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "grant_type": "refresh_token",
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "refresh_token": refresh_token,
    } | changes


def test_a_refresh_issues_an_access_token_that_expires(small_world: World, token: SandboxToken) -> None:
    grants = Grants(small_world, OAuth())
    issued = grants.exchange(form(token.refresh_token), START)
    assert issued == {
        "token_type": "bearer",
        "access_token": issued["access_token"],
        "expires_in": 3600,
        "refresh_token": token.refresh_token,
        "scope": token.scope,
    }
    assert len(issued["access_token"]) == 32
    assert grants.authorize(issued["access_token"], START + HOUR - timedelta(seconds=1)) is not None
    assert grants.authorize(issued["access_token"], START + HOUR) is None
    assert grants.authorize(token.access_token, START + 24 * HOUR) is not None


@pytest.mark.parametrize(("configured", "expected"), [(None, 1800), (600, 600)])
def test_service_accounts_get_shorter_lifetimes(world: World, configured: int | None, expected: int) -> None:
    token = next(
        each for each in world.tokens if owner(world, each).type == "service_account" and is_good(each)
    )
    grants = Grants(world, OAuth(expires_in_seconds=configured))
    assert grants.exchange(form(token.refresh_token), START)["expires_in"] == expected


def test_first_access_tokens_may_expire(small_world: World, token: SandboxToken) -> None:
    grants = Grants(small_world, OAuth(first_expires_in_seconds=3600))
    assert grants.authorize(token.access_token, START) is not None
    assert grants.authorize(token.access_token, START + HOUR) is None
    assert grants.exchange(form(token.refresh_token), START + HOUR)["access_token"] != token.access_token


def test_rotation_spends_the_refresh_token(small_world: World, token: SandboxToken) -> None:
    grants = Grants(small_world, OAuth(rotates=True))
    first = grants.exchange(form(token.refresh_token), START)
    assert first["refresh_token"] != token.refresh_token
    with pytest.raises(OAuthError, match="invalid_grant"):
        grants.exchange(form(token.refresh_token), START)
    second = grants.exchange(form(first["refresh_token"]), START)
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"refresh_token": "nobody's"}, "invalid_grant"),
        ({"refresh_token": None}, "invalid_request"),
        ({"client_id": "someone"}, "invalid_client"),
        ({"client_secret": None}, "invalid_client"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, "invalid_grant"),
    ],
)
def test_refusals(small_world: World, token: SandboxToken, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(OAuthError) as refusal:
        Grants(small_world, OAuth()).exchange(form(token.refresh_token) | changes, START)
    assert str(refusal.value) == code


def test_a_withdrawn_authorization_can_neither_read_nor_refresh(world: World) -> None:
    token = next(each for each in world.tokens if each.revoked_at and each.refresh_token)
    grants = Grants(world, OAuth())
    assert grants.authorize(token.access_token, world.end) is None
    with pytest.raises(OAuthError, match="invalid_grant"):
        grants.exchange(form(token.refresh_token), world.end)


@pytest.mark.parametrize("by", ["access_token", "refresh_token"])
def test_revoking_by_token_ends_both(small_world: World, token: SandboxToken, by: str) -> None:
    grants = Grants(small_world, OAuth())
    for _ in range(2):
        grants.revoke(form(None, token=getattr(token, by)))
    assert grants.authorize(token.access_token, START) is None
    with pytest.raises(OAuthError, match="invalid_grant"):
        grants.exchange(form(token.refresh_token), START)


def test_revoking_by_sub_ends_every_token_of_the_account(small_world: World) -> None:
    ids = [token.account_id for token in small_world.tokens]
    shared = next(each for each in ids if ids.count(each) > 1)
    grants = Grants(small_world, OAuth())
    grants.revoke(form(None, sub=shared))
    for token in small_world.tokens:
        if token.revoked_at is None:
            assert (grants.authorize(token.access_token, START) is None) is (token.account_id == shared)


def test_revoking_the_unknown_is_fine_and_nothing_is_not(small_world: World) -> None:
    grants = Grants(small_world, OAuth())
    grants.revoke(form(None, token="nobody's"))
    with pytest.raises(OAuthError, match="invalid_request"):
        grants.revoke(form(None))


def test_the_secret_does_not_show() -> None:
    assert "sandbox-secret" not in repr(OAuth())
