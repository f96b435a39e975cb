from collections import Counter
from datetime import timedelta

import pytest

from dlt_cronofy.sandbox import World, build_world
from tests.pipelines.sandbox.conftest import START


@pytest.fixture(scope="module", params=range(1, 6))
def demo_world(request: pytest.FixtureRequest) -> World:
    return build_world(accounts=200, seed=request.param, start=START, days=45)


def count_states(world: World) -> Counter[str]:
    return Counter(
        profile.history.at(world.end).link
        for account in world.accounts
        for profile in account.profiles
        if profile.provider.profile_type == "calendar"
    )


def list_outage_days(world: World) -> list[float]:
    days = []
    for profile in (each for account in world.accounts for each in account.profiles):
        down = None
        for at, state in zip(profile.history.times, profile.history.values, strict=True):
            if state.link == "disconnected":
                down = down or at
            elif down:
                days.append((at - down) / timedelta(days=1))
                down = None
    return sorted(days)


def test_the_end_is_believable(demo_world: World) -> None:
    states = count_states(demo_world)
    assert 0.015 < states["disconnected"] / (states.total() - states["absent"]) < 0.09
    dead = sum(token.is_revoked(demo_world.end) for token in demo_world.tokens)
    assert 0.015 < dead / len(demo_world.tokens) < 0.035


def test_outages_last_about_a_day_in_the_median(demo_world: World) -> None:
    days = list_outage_days(demo_world)
    assert len(days) > 50
    assert 0.5 < days[len(days) // 2] < 2.5
    assert days[-1] > 8


def test_a_wave_takes_many_profiles_of_one_service_within_the_hour(demo_world: World) -> None:
    assert demo_world.waves
    wave = max(demo_world.waves, key=lambda each: each.provider_service in {"office365", "gsuite"})
    profiles = [
        profile
        for account in demo_world.accounts
        for profile in account.profiles
        if profile.provider.service == wave.provider_service
        and profile.history.at(wave.at - timedelta(seconds=1)).link in ("connected", "syncing")
    ]
    down = sum(
        profile.history.at(wave.at + timedelta(hours=1)).link == "disconnected" for profile in profiles
    )
    assert down / len(profiles) > 0.15


@pytest.mark.parametrize("accounts", [10, 12, 60])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_kind_occurs_from_ten_accounts_on(accounts: int, seed: int) -> None:
    world = build_world(accounts=accounts, seed=seed, start=START, days=30)
    kinds = Counter(account.type for account in world.accounts)
    assert len(world.accounts) == accounts
    assert kinds["service_account"] >= 1
    assert kinds["application_calendar"] >= 1
    assert max(Counter(token.account_id for token in world.tokens).values()) == 3
    assert any(token.forbidden for token in world.tokens)
    assert any(token.revoked_at for token in world.tokens)


def test_variety(world: World) -> None:
    users = [account for account in world.accounts if account.type == "account"]
    services = [account for account in world.accounts if account.type == "service_account"]
    assert any(account.name is None and account.omits_name for account in users)
    assert any(account.name is None and not account.omits_name for account in users)
    assert any(account.name and not account.name.isascii() for account in users)
    assert all(account.email and account.email.isascii() for account in users)
    assert any(service.extras for service in services)
    assert any(not service.extras for service in services)
    assert any(len(account.profiles) > 2 for account in users)
    assert any(token.refresh_token is None for token in world.tokens)
    assert {token.data_center for token in world.tokens} == {"us", "uk", "de", "sg", "au", "ca"}
    assert any(
        profile.history.values[0].link == "absent" for account in users for profile in account.profiles
    ), "some profiles are linked later"


def test_identifiers(world: World) -> None:
    ids = [account.account_id for account in world.accounts]
    assert all(len(each) == 28 and each.isascii() for each in ids)
    assert {each[:4] for each in ids} == {"acc_", "ser_", "apc_"}
    assert len(set(ids)) == len(ids)
    for attribute in ("key", "access_token"):
        assert len({getattr(token, attribute) for token in world.tokens}) == len(world.tokens)
    assert all(len(token.access_token) == 32 for token in world.tokens)


def test_a_token_does_not_show_in_its_repr(world: World) -> None:
    token = world.tokens[0]
    assert token.access_token not in repr(token)
    assert token.key in repr(token)
