"""Tokens: what they are called, and which of a store can be called with."""

import hashlib
from typing import Any

import pytest

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import (
    StoredTokens,
    log_unusable,
    token_key,
    without_refreshing,
)

SECRET = "hunter2-is-secret"


def read_tokens(tokens: Any) -> StoredTokens:
    return StoredTokens.of(open_store(tokens).read())


@pytest.mark.parametrize(
    ("access", "refresh", "hashed"), [("at", "rt", "rt"), ("at", None, "at"), ("at", "", "at")]
)
def test_a_token_without_a_key_is_named_by_what_lasts(access: str, refresh: str | None, hashed: str) -> None:
    assert token_key(access, refresh) == "tok_" + hashlib.sha256(hashed.encode()).hexdigest()[:16]


def test_a_key_survives_a_refresh() -> None:
    [before] = read_tokens([{"access_token": "old", "refresh_token": "rt"}])
    [after] = read_tokens([{"access_token": "new", "refresh_token": "rt"}])
    assert before.key == after.key


GOOD = [{"key": key, "access_token": f"at-{key}"} for key in "abcd"]


def test_tokens_to_be_refreshed_first_need_client_credentials() -> None:
    rows = [{"key": "a", "access_token": "at"}, {"key": "b", "refresh_token": SECRET}]
    found = without_refreshing(read_tokens(rows), "tokens")
    assert [each.key for each in found] == ["a"]
    [row] = found.unusable
    assert str(row).startswith("tokens, entry 2: access_token is missing; client_id and client_secret")
    with pytest.raises(ConfigurationError, match=r"entry 1: .* \(key 'b'\); 1 of 1 rows"):
        without_refreshing(read_tokens(rows[1:]), "tokens")


def test_the_log_names_the_first(caplog: pytest.LogCaptureFixture) -> None:
    log_unusable([*GOOD])  # type: ignore[list-item]
    log_unusable(read_tokens(GOOD))
    assert caplog.records == []
    log_unusable(read_tokens([*GOOD, "a b"]))
    log_unusable(read_tokens([*GOOD, None, "a b", {"key": 1.5, "access_token": "x"}, 5]))
    one, several = caplog.messages
    assert one.startswith("1 row of the token store cannot be used: tokens, entry 5: access_token holds")
    assert one.endswith("characters that no token has")
    assert several.startswith("4 rows of the token store cannot be used: tokens, entry 5: not a table with")
    assert several.endswith("an exact whole number nor a UUID; and 1 more")
