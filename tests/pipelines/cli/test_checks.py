"""`check`: up to three calls per data center, and what a load would refresh is no fault."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dlt_cronofy.cli.checks import Checked, check_calls, check_store
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import ClientCredentials, PollingSettings
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.file_store import FileStore
from dlt_cronofy.source.tokens.given_store import GivenStore
from dlt_cronofy.source.tokens.token import Token
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.server import Reply, ScriptedServer
from tests.pipelines.conftest import Answers

PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
CLIENT = ClientCredentials("id", Secret("secret"))
HOST = "127.0.0.1"


def token(key: str, refresh: str | None = None, expires_at: datetime | None = None) -> Token:
    """Keys that begin with - have no access token."""
    access = "" if key.startswith("-") else key
    return Token(key, Secret(access), Secret(refresh) if refresh else None, "us", expires_at)


def checked(
    server: ScriptedServer, tokens: list[Token], store: TokenStore | None = None, **settings: Any
) -> Checked:
    polling = PollingSettings(base_url=server.base_url, **settings)
    unwritable = check_store(polling, store, tokens) if store is not None else None
    [found] = check_calls(polling, tokens, unwritable)
    assert found.calls == len(server.log) <= 3
    is_client_tried = any(request.endpoint == "token" for request, _ in server.log)
    assert is_client_tried == (polling.client is not None and any(token.refresh_token for token in tokens))
    assert json.loads(json.dumps(found.as_dict()))["is_well"] == found.is_well
    return found


# replies by token, tokens, client?, tokens that are called, outcome, part of the line, is it well?
CASES: dict[str, tuple[dict[str, Reply], list[Token], bool, list[str], str, str]] = {
    "the first is good": ({}, [token("ok"), token("a")], False, ["ok"], "ok", "answered ok in"),
    "another one is good": (
        {}, [token("a"), token("b"), token("ok")], False, ["a", "b", "ok"], "ok", "answered ok in",
    ),
    "three are enough": (
        {}, [*map(token, "abc"), token("ok")], False, ["a", "b", "c"], "token_rejected",
        "expired or revoked; authorize again",
    ),
    "a load refreshes it": (
        {}, [token("a", "rt"), token("b", "rt")], True, ["a", "b"], "token_rejected",
        "(HTTP 401): expired; a load refreshes it",
    ),
    "one of them": (
        {}, [token("a"), token("b", "rt")], True, ["a", "b"], "token_rejected",
        "expired; a load refreshes it",
    ),
    "a good one beside it": ({}, [token("a", "rt"), token("ok")], True, ["a", "ok"], "ok", "answered ok in"),
    "known to have expired comes last": (
        {}, [token("a", "rt", PAST), token("ok", "rt", FUTURE)], True, ["ok"], "ok", "answered ok in",
    ),
    "no credentials to refresh with": (
        {}, [token("a", "rt")], False, ["a"], "token_rejected",
        "expired or revoked; with client_id and client_secret in [sources.cronofy] a load refreshes it",
    ),
    "a refresh token only": (
        {}, [token("-a", "rt")], True, [], "skipped",
        "was not called (no access token): a load gets one with the refresh token",
    ),
    "a refresh token only, after a bad one": (
        {}, [token("-a", "rt"), token("a")], True, ["a"], "skipped", "a load gets one with the refresh token",
    ),
    "scope": (
        {"a": Reply(403)}, [token("a", "rt")], True, ["a"], "forbidden", "authorize again with more scope",
    ),
    "scope of one": ({"a": Reply(403)}, [token("a", "rt"), token("ok")], True, ["a", "ok"], "ok", "ok in"),
    "not the token's fault": (
        {"a": Reply(503)}, [token("a", "rt"), token("ok")], True, ["a"], "server_error", "try again later",
    ),
    "no answer": (
        {"a": Reply(cut="reset")}, [token("a", "rt"), token("ok")], True, ["a"], "network_error",
        "did not answer in",
    ),
}  # fmt: skip
BAD = {"three are enough", "no credentials to refresh with", "scope", "not the token's fault", "no answer"}


@pytest.mark.parametrize("case", CASES)
def test_what_is_tried_and_what_it_comes_to(case: str, answers: Answers, server: ScriptedServer) -> None:
    replies, tokens, has_client, called, outcome, words = CASES[case]
    answers.by_token = {"ok": userinfo("acc_1", [profile("pro_1")]), **replies}
    found = checked(server, tokens, client=CLIENT if has_client else None)
    assert [request.token for request, _ in server.log if request.endpoint == "userinfo"] == called
    assert {request.endpoint for request, _ in server.log} <= {"userinfo", "token"}
    assert found.response.outcome == outcome
    line = str(found)
    assert line.startswith(f"us: {server.base_url} ")
    assert words in line
    assert found.is_well == (case not in BAD)


@pytest.mark.parametrize("tokens", [[token("ok", "rt")], [token("a", "rt"), token("b", "rt"), token("c")]])
@pytest.mark.parametrize("code", ["invalid_client", "invalid_grant"])
def test_wrong_credentials_of_the_application_are_found(
    tokens: list[Token], code: str, answers: Answers, server: ScriptedServer
) -> None:
    """The token endpoint is asked with a refresh token that is nobody's."""
    refusal = Reply(400, json.dumps({"error": code}).encode())
    answers.by_token = {"ok": userinfo("acc_1", [profile("pro_1")]), "": refusal}
    found = checked(server, tokens, client=CLIENT)
    assert found.is_well == (code == "invalid_grant")
    assert ("are not accepted (invalid_client): expired tokens will not be" in str(found)) != found.is_well


def test_what_cannot_be_written_back_is_not_refreshed(server: ScriptedServer, tmp_path: Path) -> None:
    tokens = [token("a", "rt")]
    found = checked(server, tokens, GivenStore(tokens), client=CLIENT)
    assert not found.is_well
    assert found.advice is not None
    assert found.advice.startswith(
        "expired tokens will not be refreshed: tokens in [sources.cronofy] cannot be written"
    )
    server.log.clear()
    (tmp_path / "tokens.csv").write_text("access_token,refresh_token\na,rt\n")
    assert checked(server, tokens, FileStore(str(tmp_path / "tokens.csv")), client=CLIENT).is_well


def test_each_data_center_is_tried(server: ScriptedServer, answers: Answers) -> None:
    answers.by_token = {"ok": userinfo("acc_1", [profile("pro_1")])}
    tokens = [Token(key, Secret(access), data_center=center) for key, access, center in
              (("1", "a", "us"), ("2", "ok", "de"), ("3", "ok", "us"))]  # fmt: skip
    found = check_calls(PollingSettings(base_url=server.base_url), tokens)
    assert [(each.data_center, each.calls, each.is_well) for each in found] == [
        ("us", 2, True),
        ("de", 1, True),
    ]
