from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from dlt_cronofy.sandbox import Limits, MovableClock, OAuth, SandboxServer, SandboxToken, World, serve
from dlt_cronofy.sandbox.records import ENDPOINTS
from tests.pipelines.sandbox.conftest import START, bearer, breakpoints

CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}


def test_every_answer_is_the_worlds(
    small_world: World, clock: MovableClock, server: SandboxServer, http: httpx.Client
) -> None:
    for day in (0, 9, 18, 29):
        at = clock.move_to(START + timedelta(days=day))
        for token in small_world.tokens:
            for endpoint in ENDPOINTS:
                response = http.get(f"/v1/{endpoint}", headers=bearer(token))
                status, body = small_world.body(endpoint, token, at)
                assert response.status_code == status
                assert (response.json() if response.status_code == 200 else {}) == body
    assert server.traffic.total == 4 * 3 * len(small_world.tokens)


def test_the_state_follows_the_clock_in_both_directions(world: World, clock: MovableClock) -> None:
    account = max(world.accounts, key=lambda each: len(breakpoints(each)))
    token = next(each for each in world.tokens if each.account_id == account.account_id)
    with serve(world, clock=clock) as server, httpx.Client(base_url=server.base_url, trust_env=False) as http:
        first = breakpoints(account)[:5]
        for at in [*first, *reversed(first)]:
            clock.move_to(at)
            status, body = world.body("userinfo", token, at)
            response = http.get("/v1/userinfo", headers=bearer(token))
            assert (response.status_code, response.json() if response.content else {}) == (status, body)


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="Cronofy"'),
        ({"Authorization": "Basic dXNlcg=="}, 'Bearer realm="Cronofy"'),
        (bearer("nobody's"), 'Bearer realm="Cronofy", error="invalid_token"'),
        (bearer("sandbox-secret"), 'Bearer realm="Cronofy", error="invalid_token"'),
    ],
)
def test_401_names_the_challenge(http: httpx.Client, headers: dict[str, str], challenge: str) -> None:
    response = http.get("/v1/userinfo", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == challenge
    assert response.content == b""


def test_an_application_calendar_has_no_account(small_world: World, http: httpx.Client) -> None:
    token = next(each for each in small_world.tokens if each.account_id.startswith("apc_"))
    response = http.get("/v1/account", headers=bearer(token))
    assert (response.status_code, response.text) == (403, "Forbidden")
    assert response.headers["Content-Type"].startswith("text/plain")


def test_every_answer_has_a_request_id_of_its_own(
    server: SandboxServer, http: httpx.Client, token: SandboxToken
) -> None:
    server.faults.add("status", status=503, endpoint="profiles")
    answers = [http.get(f"/v1/{endpoint}", headers=bearer(token)) for endpoint in (*ENDPOINTS, "account")]
    answers += [http.get("/v1/userinfo"), http.post("/oauth/token")]
    ids = [UUID(answer.headers["X-Request-Id"]) for answer in answers]
    assert len(set(ids)) == len(answers)


def test_a_json_answer_says_so(http: httpx.Client, token: SandboxToken) -> None:
    response = http.get("/v1/account", headers=bearer(token))
    assert response.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/userinfo", 405),
        ("GET", "/oauth/token", 405),
        ("GET", "/v1/calendars", 404),
        ("GET", "/", 404),
    ],
)
def test_other_requests(http: httpx.Client, method: str, path: str, status: int) -> None:
    assert http.request(method, path).status_code == status


def refresh(http: httpx.Client, token: SandboxToken, encoding: str = "json") -> httpx.Response:
    fields = {**CLIENT, "grant_type": "refresh_token", "refresh_token": token.refresh_token or ""}
    if encoding == "json":
        return http.post("/oauth/token", json=fields)
    return http.post("/oauth/token", data=fields)


@pytest.mark.parametrize("encoding", ["json", "data"])
def test_refresh_takes_json_and_forms(http: httpx.Client, token: SandboxToken, encoding: str) -> None:
    response = refresh(http, token, encoding=encoding)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert http.get("/v1/userinfo", headers=bearer(response.json()["access_token"])).status_code == 200


@pytest.mark.parametrize(
    ("content", "content_type", "error"),
    [
        (b"{", "application/json", "invalid_client"),
        (b"[]", "application/json", "invalid_client"),
        (b"{}", "application/json", "invalid_client"),
        (b"", "application/x-www-form-urlencoded", "invalid_client"),
    ],
)
def test_bad_token_requests_get_oauth_errors(
    http: httpx.Client, content: bytes, content_type: str, error: str
) -> None:
    response = http.post("/oauth/token", content=content, headers={"Content-Type": content_type})
    assert (response.status_code, response.json()) == (400, {"error": error})


def test_an_expired_access_token_can_be_refreshed(
    small_world: World, clock: MovableClock, token: SandboxToken
) -> None:
    oauth = OAuth(first_expires_in_seconds=3600, rotates=True)
    with (
        serve(small_world, clock=clock, oauth=oauth) as server,
        httpx.Client(base_url=server.base_url, trust_env=False) as http,
    ):
        assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 200
        clock.advance(timedelta(hours=2))
        assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 401
        fresh = refresh(http, token).json()
        assert http.get("/v1/userinfo", headers=bearer(fresh["access_token"])).status_code == 200
        assert refresh(http, token).json() == {"error": "invalid_grant"}


def test_revocation(http: httpx.Client, token: SandboxToken) -> None:
    response = http.post("/oauth/token/revoke", json={**CLIENT, "token": token.refresh_token})
    assert (response.status_code, response.content) == (200, b"")
    assert http.get("/v1/userinfo", headers=bearer(token)).status_code == 401
    assert refresh(http, token).json() == {"error": "invalid_grant"}


@pytest.mark.parametrize("retry_after", [False, True])
def test_limits_count_all_endpoints_together(
    small_world: World, token: SandboxToken, retry_after: bool
) -> None:
    limits = Limits(per_second=100, per_minute=6, retry_after=retry_after)
    with (
        serve(small_world, limits=limits) as server,
        httpx.Client(base_url=server.base_url, trust_env=False) as http,
    ):
        statuses = [http.get(f"/v1/{endpoint}", headers=bearer(token)).status_code for endpoint in ENDPOINTS]
        statuses += [http.get("/v1/userinfo").status_code for _ in range(2)]
        statuses.append(refresh(http, token).status_code)
        refused = http.get("/v1/userinfo", headers=bearer(token))
    assert statuses == [200, 200, 200, 401, 401, 200]
    assert refused.status_code == 429
    assert ("Retry-After" in refused.headers) is retry_after
    if retry_after:
        assert 50 <= int(refused.headers["Retry-After"]) <= 60
    assert server.traffic.counts()["userinfo"] == {"200": 1, "401": 2, "429": 1}
