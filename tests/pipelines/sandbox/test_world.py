import os
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from dlt_cronofy.sandbox import World, build_world
from dlt_cronofy.sandbox.records import Endpoint
from tests.pipelines.sandbox.conftest import START, breakpoints, is_good, owner

SECOND = timedelta(seconds=1)
PRINT_WORLD = """
from datetime import UTC, datetime
from dlt_cronofy.sandbox import build_world
world = build_world(accounts=25, seed=11, start=datetime(2025, 3, 1, tzinfo=UTC), days=30)
for token in world.tokens:
    print(token.key, token.access_token, token.refresh_token, token.revoked_at, sorted(token.forbidden))
    print(world.body("userinfo", token, world.end))
"""


def print_world(hash_seed: str) -> bytes:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", PRINT_WORLD], env=environment, check=True, capture_output=True
    ).stdout


def test_equal_arguments_give_equal_worlds_in_any_process() -> None:
    assert print_world("1") == print_world("2") != b""
    arguments: dict[str, Any] = {"accounts": 25, "seed": 11, "start": START, "days": 30}
    assert build_world(**arguments) == build_world(**arguments)
    assert build_world(**arguments) != build_world(**arguments | {"seed": 12})


def test_nothing_changes_between_two_breakpoints(small_world: World) -> None:
    steady = [each for each in small_world.tokens if not owner(small_world, each).volatile_links]
    token = max(filter(is_good, steady), key=lambda each: len(breakpoints(owner(small_world, each))))
    edges = [START, *breakpoints(owner(small_world, token)), small_world.end]
    assert len(edges) > 5
    shown = [
        (small_world.body("userinfo", token, start), small_world.body("userinfo", token, end - SECOND))
        for start, end in pairwise(edges)
    ]
    assert all(first == last for first, last in shown)
    assert all(before != after for (_, before), (after, _) in pairwise(shown))


def test_every_link_shows_as_it_is(small_world: World) -> None:
    for token in filter(is_good, small_world.tokens):
        account = owner(small_world, token)
        for at in [START, small_world.end, *breakpoints(account)]:
            body = small_world.body("userinfo", token, at)[1]["cronofy.data"]
            listed = [*body.get("profiles", []), *body.get("conferencing_profiles", [])]
            links = {profile.profile_id: profile.history.at(at).link for profile in account.profiles}
            assert {entry["profile_id"]: entry["profile_connected"] for entry in listed} == {
                key: link != "disconnected" for key, link in links.items() if link != "absent"
            }


def test_a_revoked_token_gets_401_from_its_end_on(world: World) -> None:
    token = next(each for each in world.tokens if each.revoked_at and each.revoked_at > START)
    assert token.revoked_at is not None
    assert world.body("userinfo", token, token.revoked_at - SECOND)[0] == 200
    assert world.body("userinfo", token, token.revoked_at) == (401, {})
    assert world.body("account", token, world.end) == (401, {})


def test_a_narrow_scope_is_forbidden_userinfo_alone(world: World) -> None:
    token = next(each for each in world.tokens if each.forbidden)
    assert world.body("userinfo", token, START) == (403, {})
    assert world.body("account", token, START)[0] == 200
    assert world.body("profiles", token, START)[0] == 200


@pytest.mark.parametrize(
    ("kind", "endpoint"), [("service_account", "profiles"), ("application_calendar", "account")]
)
def test_some_kinds_lack_an_endpoint(world: World, kind: str, endpoint: Endpoint) -> None:
    token = next(each for each in world.tokens if owner(world, each).type == kind)
    assert world.body("userinfo", token, START)[0] == 200
    assert world.body(endpoint, token, START) == (403, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": datetime(2025, 3, 1)}, "time zone"),
        ({"accounts": 0}, "at least one"),
        ({"days": 0}, "some time"),
    ],
)
def test_refuses_what_makes_no_world(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"accounts": 1, "start": START, "days": 1}
    with pytest.raises(ValueError, match=message):
        build_world(**arguments | changes)
