"""Tokens that are given: read as often as wanted, and refreshed ones handed to a function."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.base import Renewal, StoreError
from dlt_cronofy.source.tokens.given_store import GivenStore
from dlt_cronofy.source.tokens.token import Token, token_key

SECRET = "hunter2-is-secret"
EXPIRES = datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)


def renewal(key: str = "k", used: str = "rt", refresh: str = "rt2", access: str = SECRET) -> Renewal:
    return Renewal(Token(key, Secret("at"), Secret(used)), Secret(access), Secret(refresh), EXPIRES)


def test_one_bad_entry_is_left_out_by_a_callable_too() -> None:
    store = GivenStore(lambda: iter(["at", {"access_token": "at2", "expires_at": SECRET}]))
    found = store.read()
    assert [row.place for row in found.unusable] == ["tokens, entry 2"]
    assert store.current(found[0]) == found[0]


@pytest.mark.parametrize("given", [["a", "b"], iter(["a", "b"]), lambda: iter(["a", "b"]), '["a", "b"]'])
def test_given_tokens_are_read_as_often_as_wanted(given: Any) -> None:
    store = GivenStore(given)
    expected = [Token(token_key(each, None), Secret(each), labels=(None,)) for each in "ab"]
    assert store.read() == store.read() == expected
    assert store.folder is None


def test_given_tokens_cannot_be_written_back_without_a_hook() -> None:
    store = GivenStore(["at"])
    message = store.why_not_saved()
    assert message is not None
    assert "cannot be written back: use tokens_file, tokens_query or on_refresh" in message
    with pytest.raises(StoreError, match="cannot be written back"):
        store.save([renewal()])


def test_a_hook_takes_every_renewal_once() -> None:
    taken: list[Renewal] = []
    store = GivenStore(["at"], taken.append)
    assert store.why_not_saved() is None
    assert store.save([renewal("a"), renewal("b")]) == []
    assert store.save([renewal("a", "rt2", "rt3")]) == []
    assert taken == [renewal("a"), renewal("b"), renewal("a", "rt2", "rt3")]


async def awaited(_: Renewal) -> None:
    """A hook that does nothing unless it is awaited."""


def yielding(_: Renewal) -> Iterator[None]:
    yield


class Awaited:
    async def __call__(self, _: Renewal) -> None:
        """As above."""


class Vault:
    def keep(self, renewal: Renewal) -> None:
        """As it should be."""


PLAIN = "on_refresh cannot be called: it must be a plain function, not async and without yield"
ONE = "on_refresh cannot be called: it must take one argument, the renewal"


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (awaited, PLAIN),
        (partial(awaited), PLAIN),
        (Awaited(), PLAIN),
        (yielding, PLAIN),
        (lambda: None, ONE),
        (lambda key, access, refresh: None, ONE),
        (Vault.keep, ONE),
        (Vault().keep, None),
        (lambda renewal, log=print: None, None),
        (print, None),
        ({}.update, None),
        ([].append, None),
    ],
)
def test_a_hook_that_cannot_be_called_is_said_before(hook: Any, why: str | None) -> None:
    assert GivenStore(["at"], hook).why_not_saved() == why


@pytest.mark.parametrize("hook", [lambda each: awaited(each) or None, lambda each: yielding(each) or None])
def test_a_hook_that_only_says_that_it_will_has_failed(hook: Any) -> None:
    store = GivenStore(["at"], hook)
    assert store.why_not_saved() is None
    with pytest.raises(StoreError, match="on_refresh failed for 1 of 1: it must be a plain function"):
        store.save([renewal()])


def test_a_failing_hook_is_named_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    taken: list[str] = []
    broken = {"b"}

    def hook(renewed: Renewal) -> None:
        if renewed.token.key in broken:
            raise LookupError(renewed.access_token.reveal())
        taken.append(renewed.token.key)

    store = GivenStore(["at"], hook)
    batch = [renewal(key) for key in "abc"]
    with pytest.raises(StoreError, match=r"on_refresh failed for 1 of 3: LookupError$") as error:
        store.save(batch)
    assert error.value.__context__ is None
    assert SECRET not in caplog.text
    # the others were handed over, and are not given a second time
    broken.clear()
    assert store.save(batch) == []
    assert taken == ["a", "c", "b"]


def test_what_a_list_holds_now_cannot_be_told() -> None:
    store = GivenStore([{"key": "k", "access_token": "at"}])
    [token] = store.read()
    assert store.current(token) is None


def test_a_callable_is_asked_again_after_half_a_minute() -> None:
    now, calls = 0.0, 0

    def rows() -> Iterator[dict[str, str]]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(SECRET)
        yield {"key": "k", "access_token": f"at{calls}"}

    store = GivenStore(rows, monotonic=lambda: now)
    token, gone = Token("k", Secret("at")), Token("gone", Secret("at"))
    seen = []
    for now in (0.0, 29.9, 30.0, 60.0, 61.0, 90.0):  # noqa: B007 - the store looks at it
        found = store.current(token)
        seen.append(found and found.access_token.reveal())
        assert store.current(gone) is None
    assert seen == ["at1", "at1", "at2", None, None, "at4"]
