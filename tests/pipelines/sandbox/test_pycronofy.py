"""The vendor's own client must work against the sandbox: it knows nothing of it."""

from collections.abc import Iterator

import pycronofy
import pytest
from pycronofy import settings
from pycronofy.exceptions import PyCronofyRequestError

from dlt_cronofy.sandbox import MovableClock, OAuth, SandboxServer, SandboxToken, World, serve
from tests.pipelines.sandbox.conftest import START


@pytest.fixture
def rotating(small_world: World, clock: MovableClock) -> Iterator[SandboxServer]:
    with serve(small_world, clock=clock, oauth=OAuth(rotates=True)) as server:
        yield server


@pytest.fixture
def client(rotating: SandboxServer, token: SandboxToken, monkeypatch: pytest.MonkeyPatch) -> pycronofy.Client:
    monkeypatch.setattr(settings, "API_BASE_URL", rotating.base_url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return pycronofy.Client(
        client_id="sandbox-client",
        client_secret="sandbox-secret",
        access_token=token.access_token,
        refresh_token=token.refresh_token,
    )


def test_reads(client: pycronofy.Client, small_world: World, token: SandboxToken) -> None:
    assert client.userinfo() == small_world.body("userinfo", token, START)[1]
    assert client.account() == small_world.body("account", token, START)[1]["account"]
    assert client.list_profiles() == small_world.body("profiles", token, START)[1]["profiles"]
    assert client.account()["account_id"] == client.userinfo()["sub"] == token.account_id


def test_refreshes(client: pycronofy.Client, token: SandboxToken) -> None:
    for _ in range(2):
        fresh = client.refresh_authorization()
        assert fresh["access_token"] != token.access_token
        assert fresh["refresh_token"] != token.refresh_token
        assert client.is_authorization_expired() is False
        assert client.userinfo()["sub"] == token.account_id


def test_revokes(client: pycronofy.Client, token: SandboxToken) -> None:
    client.revoke_authorization()
    client.auth.update(access_token=token.access_token, refresh_token=token.refresh_token)
    with pytest.raises(PyCronofyRequestError) as rejected:
        client.userinfo()
    assert rejected.value.response.status_code == 401
    with pytest.raises(PyCronofyRequestError) as refused:
        client.refresh_authorization()
    assert refused.value.response.json() == {"error": "invalid_grant"}
