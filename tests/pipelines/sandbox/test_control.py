from datetime import timedelta
from typing import Any

import httpx
import pytest

from dlt_cronofy.sandbox import MovableClock, SandboxServer, SandboxToken
from tests.pipelines.sandbox.conftest import START, bearer


def test_the_clock_shows_and_moves(http: httpx.Client, clock: MovableClock) -> None:
    assert http.get("/sandbox/clock").json() == {"now": START.isoformat(), "running": False}
    moved = http.post("/sandbox/clock", json={"advance_seconds": 90.5}).json()
    assert moved["now"] == clock.now().isoformat() == (START + timedelta(seconds=90.5)).isoformat()
    http.post("/sandbox/clock", json={"now": "2025-03-05T06:00:00Z"})
    assert clock.now() == START + timedelta(days=4, hours=6)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"now": "soon"}',
        b'{"now": 5}',
        b'{"advance_seconds": "long"}',
        b'{"advance_seconds": 1e300}',
    ],
)
def test_bad_orders_to_the_clock_are_refused(http: httpx.Client, clock: MovableClock, content: bytes) -> None:
    response = http.post("/sandbox/clock", content=content)
    assert response.status_code == 400
    assert response.json()["error"]
    assert clock.now() == START


def test_faults_come_and_go(http: httpx.Client, token: SandboxToken) -> None:
    added = http.post("/sandbox/faults", json={"kind": "status", "status": 402, "endpoint": "userinfo"})
    assert (added.status_code, added.json()) == (201, {"number": 1})
    assert http.get("/sandbox/faults").json()["faults"]["1"]["status"] == 402
    assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 402
    assert http.delete("/sandbox/faults").status_code == 204
    assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("order", [{}, {"kind": "explode"}, {"kind": "reset", "colour": "red"}, ["reset"]])
def test_bad_faults_are_refused(server: SandboxServer, http: httpx.Client, order: Any) -> None:
    assert http.post("/sandbox/faults", json=order).status_code == 400
    assert len(server.faults) == 0


def test_requests_are_counted_without_the_control_endpoints(http: httpx.Client, token: SandboxToken) -> None:
    http.get("/v1/userinfo", headers=bearer(token))
    http.get("/v1/account")
    counted = {"total": 2, "endpoints": {"account": {"401": 1}, "userinfo": {"200": 1}}}
    assert http.get("/sandbox/requests").json() == counted
    assert http.delete("/sandbox/requests").status_code == 204
    assert http.get("/sandbox/requests").json() == {"total": 0, "endpoints": {}}


def test_a_user_withdraws_on_request(http: httpx.Client, token: SandboxToken) -> None:
    assert http.post(f"/sandbox/tokens/{token.key}/revoke").status_code == 204
    assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 401
    assert http.post("/sandbox/tokens/nobody/revoke").status_code == 404
