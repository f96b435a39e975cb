from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from dlt_cronofy.sandbox import World, build_world, people
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
    waves = [wave for wave in demo_world.waves if wave.provider_service]
    wave = max(waves, key=lambda each: each.provider_service in {"office365", "gsuite"})
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


def test_a_wave_takes_a_fifth_of_one_customer_within_the_hour(demo_world: World) -> None:
    [wave] = [wave for wave in demo_world.waves if wave.email_domain]
    profiles = [
        profile
        for account in demo_world.accounts
        if account.customer == people.CUSTOMERS[str(wave.email_domain)]
        for profile in account.profiles
        if profile.history.at(wave.at - timedelta(seconds=1)).link in ("connected", "syncing")
    ]
    down = sum(
        profile.history.at(wave.at + timedelta(hours=1)).link == "disconnected" for profile in profiles
    )
    assert down >= 5
    assert down / len(profiles) > 0.25


def test_every_trouble_is_there_before_a_third_of_the_time_is_over(demo_world: World) -> None:
    at = START + timedelta(days=15)
    now = [
        (profile, profile.history.at(at))
        for account in demo_world.accounts
        for profile in account.profiles
        if profile.provider.profile_type == "calendar"
    ]
    assert [each for each in now if each[1].link == "syncing" and not each[1].calendars]
    assert [
        state
        for _, state in now
        if state.calendars and all(each["calendar_readonly"] for each in state.calendars)
    ]
    protocols = Counter(
        (profile.provider.service, state.protocol) for profile, state in now if state.calendars
    )
    assert set(protocols) >= {("office365", "exchange_web_services"), ("office365", "graph_api")}
    assert {protocol for service, protocol in protocols if service != "office365"} == {None}
    again = [
        (old, new)
        for account in demo_world.accounts
        for old, new in pairwise(account.profiles)
        if old.history.values[-2:][0].link == "disconnected"
        and old.history.values[-1].link == new.history.values[0].link == "absent"
        and old.provider == new.provider
        and old.history.values[-1].profile_name == new.history.values[-1].profile_name
    ]
    assert again
    assert all(
        old.history.times[-1] < new.history.times[1] < old.history.times[-1] + timedelta(days=14)
        for old, new in again
    )


def test_relinking_moves_a_profile_to_graph(demo_world: World) -> None:
    moves = [
        (before.link, after.link)
        for account in demo_world.accounts
        for profile in account.profiles
        for before, after in pairwise(profile.history.values)
        if (before.protocol, after.protocol) == ("exchange_web_services", "graph_api")
    ]
    assert set(moves) <= {("disconnected", "syncing")}


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
    assert any(token.left_at for token in world.tokens)
    assert world.invited


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
