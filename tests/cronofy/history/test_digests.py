"""Digests: keyed, the same for the same answer, and of no use to anyone without the key."""

import hashlib
import zlib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.history import digests
from dlt_cronofy.source.history.digests import (
    DIGEST_BYTES,
    KnownAnswer,
    Listed,
    body_digests,
    is_same,
    listed_of,
)
from dlt_cronofy.source.privacy import Mode, PersonalData
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import ClientCredentials, PollingSettings
from dlt_cronofy.source.tokens.token import Token
from tests.cronofy.bodies import profile, userinfo

BODY = orjson.dumps(userinfo(profile()))
TOKEN = Token("k1", Secret("at-1"), Secret("rt-1"), data_center="us")
SETTINGS = PollingSettings()
CLIENT = ClientCredentials("client", Secret("client-secret"))
HASH = PersonalData(Mode.HASH, Secret("sixteen letters!"))


def digest(settings: PollingSettings = SETTINGS, token: Token = TOKEN, body: bytes = BODY) -> str:
    return body_digests(settings)(token)(body)


def test_the_same_answer_has_the_same_digest_in_every_run() -> None:
    assert digest() == digest()
    assert digest(replace(SETTINGS, client=CLIENT)) == digest(replace(SETTINGS, client=CLIENT))
    # an access token is a new one every few hours, and settings that shape no row change nothing
    refreshed = replace(TOKEN, access_token=Secret("at-2"))
    assert digest(token=refreshed) == digest()
    assert digest(replace(SETTINGS, max_attempts=1, timeout_seconds=1.0)) == digest()


def test_any_other_answer_has_another_digest() -> None:
    for position in range(0, len(BODY), 7):
        changed = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]
        assert digest(body=changed) != digest()


@pytest.mark.parametrize(
    "other",
    [
        replace(TOKEN, refresh_token=Secret("rt-2")),
        replace(TOKEN, refresh_token=None),
        replace(TOKEN, refresh_token=None, access_token=Secret("at-2")),
    ],
    ids=["refresh token", "no refresh token", "access token alone"],
)
def test_without_a_secret_of_the_application_every_token_has_a_key_of_its_own(other: Token) -> None:
    assert digest(token=other) != digest()


def test_with_the_secret_of_the_application_a_new_token_knows_the_same_answers() -> None:
    settings = replace(SETTINGS, client=CLIENT)
    assert digest(settings, replace(TOKEN, refresh_token=Secret("rt-2"))) == digest(settings)


SHAPES = [
    SETTINGS,
    replace(SETTINGS, client=CLIENT),
    replace(SETTINGS, client=ClientCredentials("client", Secret("another-secret"))),
    replace(SETTINGS, personal_data=PersonalData(Mode.DROP)),
    replace(SETTINGS, personal_data=HASH),
    replace(SETTINGS, personal_data=PersonalData(Mode.HASH, Secret("seventeen letters"))),
    replace(SETTINGS, personal_data=HASH, client=CLIENT),
    replace(SETTINGS, token_labels=("customer",)),
    replace(SETTINGS, token_labels=("customer", "plan")),
    replace(SETTINGS, token_labels=("plan", "customer")),
]


def test_everything_that_shapes_rows_and_every_secret_changes_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [digest(settings) for settings in SHAPES]
    monkeypatch.setattr(digests, "FORMAT", "another release")
    found += [digest(settings) for settings in SHAPES]
    assert len(set(found)) == 2 * len(SHAPES)


@pytest.mark.parametrize("settings", SHAPES)
def test_no_digest_is_a_hash_that_anyone_can_make(settings: PollingSettings) -> None:
    """Of the body, or of the body and anything that is public; a guess cannot be tested."""
    found = digest(settings)
    assert len(found) == 2 * DIGEST_BYTES
    for body in (BODY, orjson.dumps(orjson.loads(BODY), option=orjson.OPT_SORT_KEYS)):
        for name in hashlib.algorithms_guaranteed:
            hashed = hashlib.new(name, body, usedforsecurity=False)
            text = hashed.hexdigest(64) if "shake" in name else hashed.hexdigest()  # type: ignore[call-arg]
            assert found not in text
            assert text[: len(found)] != found
        for key in (b"", b"k1", b"us", b"client", digests.FORMAT.encode(), bytes(32)):
            keyed = hashlib.blake2b(body, key=key, digest_size=DIGEST_BYTES).hexdigest()
            assert keyed != found
        assert f"{zlib.crc32(body):08x}" not in found


COUNTS = st.one_of(st.none(), st.integers(0, 10**6))
HELD = st.dictionaries(
    st.sampled_from(["userinfo", "profiles", "calendars", "profile_changes"]),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4).map(tuple),
)


@given(st.builds(Listed, COUNTS, COUNTS, COUNTS, COUNTS), HELD, st.binary())
def test_what_is_kept_of_an_answer_is_read_back(
    listed: Listed, held: dict[str, tuple[int, ...]], body: bytes
) -> None:
    found = digest(body=body)
    known = str(KnownAnswer(found, listed, held))
    assert listed_of(known) == listed
    assert is_same(known, found)
    assert not is_same(known, digest(body=body + b" "))
    for table, counts in held.items():
        assert f":{table}={'.'.join(map(str, counts))}:" in known


def test_nothing_known_and_nothing_digested_are_never_the_same() -> None:
    known = str(KnownAnswer(digest(), Listed()))
    assert not is_same(None, digest())
    assert not is_same(known, None)
    assert not is_same(None, None)
    assert not is_same(known, digest()[:-1])


@pytest.mark.parametrize(
    ("listed", "types"),
    [
        (Listed(), ()),
        (Listed(0, 0), ("calendar",)),
        (Listed(None, None, 2, 1), ("conferencing",)),
        (Listed(1, 0, 0, 0), ("calendar", "conferencing")),
    ],
)
def test_an_answer_is_a_sample_of_the_types_it_has_a_list_of(listed: Listed, types: tuple[str, ...]) -> None:
    assert listed.types == types
