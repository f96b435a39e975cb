import json
import time
from typing import Any

import httpx
import pytest

from dlt_cronofy.sandbox import SandboxServer, SandboxToken, World, serve
from dlt_cronofy.sandbox.faults import KINDS
from tests.pipelines.sandbox.conftest import bearer


def read(http: httpx.Client, token: SandboxToken, **settings: Any) -> httpx.Response:
    return http.get("/v1/userinfo", headers=bearer(token), **settings)


@pytest.mark.parametrize(
    ("settings", "status", "headers", "body"),
    [
        ({"kind": "status", "status": 402}, 402, {}, b""),
        ({"kind": "status", "status": 423}, 423, {}, b""),
        (
            {"kind": "status", "status": 503, "body": "down", "retry_after": 7},
            503,
            {"retry-after": "7"},
            b"down",
        ),
        (
            {"kind": "body", "body": '{"sub":1}'},
            200,
            {"content-type": "application/json"},
            b'{"sub":1}',
        ),
        ({"kind": "empty"}, 200, {"content-length": "0"}, b""),
        (
            {"kind": "redirect", "url": "https://elsewhere.example/"},
            302,
            {"location": "https://elsewhere.example/"},
            b"",
        ),
    ],
)
def test_complete_answers(
    server: SandboxServer,
    http: httpx.Client,
    token: SandboxToken,
    settings: dict[str, Any],
    status: int,
    headers: dict[str, str],
    body: bytes,
) -> None:
    server.faults.add(
        **{"fault": settings["kind"]} | {k: v for k, v in settings.items() if k != "kind"}, count=1
    )
    response = read(http, token)
    assert (response.status_code, response.content) == (status, body)
    assert headers.items() <= dict(response.headers).items()
    assert read(http, token).status_code == 200


def test_truncated_json_is_a_complete_http_answer(
    server: SandboxServer, http: httpx.Client, token: SandboxToken
) -> None:
    right = read(http, token)
    server.faults.add("truncated")
    response = read(http, token)
    assert right.content.startswith(response.content)
    assert 0 < len(response.content) == int(response.headers["Content-Length"]) < len(right.content)
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_html_and_wrong_shape(server: SandboxServer, http: httpx.Client, token: SandboxToken) -> None:
    server.faults.add("html", count=1)
    assert read(http, token).headers["Content-Type"].startswith("text/html")
    server.faults.add("wrong_shape", count=1)
    assert "sub" not in read(http, token).json()


@pytest.mark.parametrize(
    ("partial", "expected"), [(False, httpx.ReadError), (True, httpx.RemoteProtocolError)]
)
def test_reset_breaks_the_connection_and_the_server_goes_on(
    server: SandboxServer, http: httpx.Client, token: SandboxToken, partial: bool, expected: type[Exception]
) -> None:
    server.faults.add("reset", partial=partial, count=1)
    with pytest.raises(expected):
        read(http, token)
    assert read(http, token).status_code == 200
    assert server.traffic.counts()["userinfo"] == {"200": 1, "reset": 1}


def test_a_hang_outlasts_the_client(server: SandboxServer, http: httpx.Client, token: SandboxToken) -> None:
    server.faults.add("hang", seconds=60, count=1)
    with pytest.raises(httpx.ReadTimeout):
        read(http, token, timeout=0.1)
    assert read(http, token).status_code == 200


def test_a_hang_ends_without_an_answer(
    server: SandboxServer, http: httpx.Client, token: SandboxToken
) -> None:
    server.faults.add("hang", seconds=0.05, count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        read(http, token)


def test_a_drip_is_slow_and_right(server: SandboxServer, http: httpx.Client, token: SandboxToken) -> None:
    right = read(http, token)
    server.faults.add("drip", seconds=0.2)
    started = time.monotonic()
    assert read(http, token).json() == right.json()
    assert time.monotonic() - started > 0.15


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_shutting_down_does_not_wait_for_slow_faults(
    small_world: World, token: SandboxToken, kind: Any
) -> None:
    with serve(small_world) as server, httpx.Client(base_url=server.base_url, trust_env=False) as http:
        server.faults.add(kind, seconds=600)
        stream = http.stream("GET", "/v1/userinfo", headers=bearer(token), timeout=0.1)
        with pytest.raises(httpx.TimeoutException), stream as response:
            response.read()
        started = time.monotonic()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["status", "reset"])
def test_faults_hit_the_chosen_token_alone(
    server: SandboxServer, http: httpx.Client, small_world: World, token: SandboxToken, kind: Any
) -> None:
    server.faults.add(kind, token_key="user_none")
    server.faults.add("status", status=423, token_key=token.key, endpoint="userinfo")
    statuses = {each.key: read(http, each).status_code for each in small_world.tokens}
    assert [key for key, status in statuses.items() if status == 423] == [token.key]
    assert http.get("/v1/account", headers=bearer(token)).status_code == 200


def test_faults_reach_the_token_endpoint(
    server: SandboxServer, http: httpx.Client, token: SandboxToken
) -> None:
    server.faults.add("status", status=500, endpoint="token", token_key=token.key)
    fields = {"grant_type": "refresh_token", "refresh_token": token.refresh_token}
    assert http.post("/oauth/token", json=fields).status_code == 500
    assert http.post("/oauth/token", json=fields | {"refresh_token": "other"}).status_code == 400


def test_a_reset_refresh_has_not_happened(
    server: SandboxServer, http: httpx.Client, token: SandboxToken
) -> None:
    server.faults.add("reset", endpoint="token", count=1)
    with pytest.raises(httpx.ReadError):
        http.post("/oauth/token", data={"refresh_token": token.refresh_token or ""})
    assert server.app.grants.find(token.access_token) is not None


def test_every_kind_can_be_committed(server: SandboxServer, token: SandboxToken) -> None:
    for kind in KINDS:
        server.faults.clear()
        server.faults.add(kind, seconds=0.02, url="https://elsewhere.example/")
        with httpx.Client(base_url=server.base_url, trust_env=False) as http:
            try:
                read(http, token)
            except httpx.TransportError:
                assert kind in {"reset", "hang"}
    assert server.traffic.total == len(KINDS)
