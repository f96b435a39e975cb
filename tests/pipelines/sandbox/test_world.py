import os
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Any

import pytest

from dlt_cronofy.sandbox import World, build_world
from tests.pipelines.sandbox.conftest import START, is_good, owner

SECOND = timedelta(seconds=1)
PRINT_WORLD = """
from datetime import UTC, datetime
from dlt_cronofy.sandbox import build_world
world = build_world(accounts=25, seed=11, start=datetime(2025, 3, 1, tzinfo=UTC), days=30)
for token in world.tokens:
    print(token.key, token.access_token, token.refresh_token, token.revoked_at, sorted(token.forbidden))
    print(world.body("userinfo", token, world.end), world.truth(token.account_id))
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


def list_states(body: dict[str, Any]) -> dict[tuple[str, str], str]:
    data = body["cronofy.data"]
    listed = chain(
        (("calendar", entry) for entry in data["profiles"]),
        (("conferencing", entry) for entry in data.get("conferencing_profiles", [])),
    )
    return {
        (kind, entry["profile_id"]): "connected" if entry["profile_connected"] else "disconnected"
        for kind, entry in listed
    }


def replay(world: World, account_id: str, at: datetime) -> dict[tuple[str, str], str]:
    states: dict[tuple[str, str], str] = {}
    for change in world.truth(account_id):
        if change.at <= at:
            states[change.profile_type, change.profile_id] = change.state
    return {profile: state for profile, state in states.items() if state != "removed"}


def test_the_truth_is_what_bodies_show_on_both_sides_of_every_change(small_world: World) -> None:
    for token in small_world.tokens:
        if not is_good(token) or owner(small_world, token).service_account:
            continue
        account = owner(small_world, token)
        for at in [START, small_world.end, *account.breakpoints, *(t - SECOND for t in account.breakpoints)]:
            status, body = small_world.body("userinfo", token, at)
            assert status == 200
            assert list_states(body) == replay(small_world, token.account_id, at)


def test_states_name_removed_profiles_too(world: World) -> None:
    account = next(
        each for each in world.accounts if "removed" in world.states(each.account_id, world.end).values()
    )
    states = world.states(account.account_id, world.end)
    assert len(states) == len(account.profiles)
    listed = {profile: state for profile, state in states.items() if state != "removed"}
    assert listed == replay(world, account.account_id, world.end)


def test_nothing_changes_within_a_segment(small_world: World) -> None:
    token = next(
        each for each in small_world.tokens if is_good(each) and len(owner(small_world, each).breakpoints) > 3
    )
    account = owner(small_world, token)
    edges = [START, *account.breakpoints, small_world.end]
    for number, (start, end) in enumerate(pairwise(edges)):
        assert account.segment(start) == account.segment(end - SECOND) == number
        assert small_world.body("userinfo", token, start) == small_world.body("userinfo", token, end - SECOND)


def test_changes_are_ordered_and_real(world: World) -> None:
    for account in world.accounts:
        changes = world.truth(account.account_id)
        assert [change.at for change in changes] == sorted(change.at for change in changes)
        assert all(START <= change.at < world.end for change in changes)
        previous = dict.fromkeys((change.profile_id for change in changes), "removed")
        for change in changes:
            assert previous[change.profile_id] != change.state
            previous[change.profile_id] = change.state


def test_a_revoked_token_gets_401_from_its_end_on(world: World) -> None:
    token = next(each for each in world.tokens if each.revoked_at and each.revoked_at > START)
    assert token.revoked_at is not None
    assert world.body("userinfo", token, token.revoked_at - SECOND)[0] == 200
    assert world.body("userinfo", token.key, token.revoked_at) == (401, {})
    assert world.body("account", token, world.end) == (401, {})


def test_a_narrow_scope_is_forbidden_userinfo_alone(world: World) -> None:
    token = next(each for each in world.tokens if each.forbidden)
    assert world.body("userinfo", token, START) == (403, {})
    assert world.body("account", token, START)[0] == 200
    assert world.body("profiles", token, START)[0] == 200


def test_a_service_account_has_no_profiles_endpoint(world: World) -> None:
    token = next(each for each in world.tokens if owner(world, each).type == "service_account")
    assert world.body("userinfo", token, START)[0] == 200
    assert world.body("profiles", token, START) == (403, {})


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
