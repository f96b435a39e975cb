from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dlt_cronofy.sandbox.bodies import build_account, build_body, build_userinfo
from dlt_cronofy.sandbox.people import CALENDAR_PROVIDERS, CONFERENCING_PROVIDERS
from dlt_cronofy.sandbox.records import Account, Body, Link, Profile, ProfileState, Protocol, Track

AT = datetime(2025, 3, 1, tzinfo=UTC)
LATER = AT + timedelta(days=1)
WORK: Body = {
    "calendar_id": "cal_n23kjnwrw2_jsdfjksn234",
    "calendar_name": "Work",
    "calendar_readonly": False,
    "calendar_deleted": False,
    "calendar_primary": True,
    "calendar_integrated_conferencing_available": True,
    "calendar_attachments_available": False,
    "permission_level": "sandbox",
}


def profile(
    provider: str, link: Link, name: str = "jane@contoso.example", profile_id: str = "pro_n23kjnwrw2"
) -> Profile:
    known = CALENDAR_PROVIDERS | CONFERENCING_PROVIDERS
    calendars = (WORK,) if provider in CALENDAR_PROVIDERS else ()
    return Profile(profile_id, known[provider], Track.of([(AT, ProfileState(link, name, calendars))]))


def user(*profiles: Profile, **changes: Any) -> Account:
    fields: dict[str, Any] = {
        "account_id": "acc_5700a00eb0ccd07000000000",
        "type": "account",
        "email": "jane@contoso.example",
        "name": "Jane Doe",
        "omits_name": False,
        "zoneinfo": "Europe/London",
        "data_center": "us",
        "profiles": profiles,
    }
    return Account(**(fields | changes))


def test_userinfo_of_an_account() -> None:
    account = user(profile("gsuite", "syncing"), profile("zoom", "connected", profile_id="pro_zoom"))
    assert build_userinfo(account, "read_write", AT) == {
        "sub": "acc_5700a00eb0ccd07000000000",
        "email": "jane@contoso.example",
        "name": "Jane Doe",
        "zoneinfo": "Europe/London",
        "cronofy.type": "account",
        "cronofy.data": {
            "authorization": {"scope": "read_write", "status": "active"},
            "profiles": [
                {
                    "provider_name": "google",
                    "provider_service": "gsuite",
                    "profile_id": "pro_n23kjnwrw2",
                    "profile_name": "jane@contoso.example",
                    "profile_connected": True,
                    "profile_initial_sync_required": True,
                    "profile_calendars": [WORK],
                }
            ],
            "conferencing_profiles": [
                {
                    "provider_name": "zoom",
                    "profile_id": "pro_zoom",
                    "profile_name": "jane@contoso.example",
                    "profile_connected": True,
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("link", "connected", "syncing", "has_url"),
    [("connected", True, False, False), ("syncing", True, True, False), ("disconnected", False, False, True)],
)
def test_a_relink_url_shows_while_disconnected(
    link: Link, connected: bool, syncing: bool, has_url: bool
) -> None:
    [entry] = build_body("profiles", user(profile("icloud", link)), "read_write", AT)["profiles"]
    assert entry["profile_connected"] is connected
    assert entry["profile_initial_sync_required"] is syncing
    assert ("profile_relink_url" in entry) is has_url
    assert "profile_calendars" not in entry


def test_a_stuck_sync_has_no_calendar_and_a_relink_url_though_connected() -> None:
    stuck = Profile("pro_1", CALENDAR_PROVIDERS["google"], Track.of([(AT, ProfileState("syncing", "j@x"))]))
    [entry] = build_userinfo(user(stuck), "read_write", AT)["cronofy.data"]["profiles"]
    assert entry["profile_connected"] is entry["profile_initial_sync_required"] is True
    assert entry["profile_calendars"] == []
    assert entry["profile_relink_url"].startswith("https://app.cronofy.com/v2/relink/google?email=j%40x")


@pytest.mark.parametrize("protocol", ["exchange_web_services", "graph_api"])
def test_a_migration_url_shows_on_exchange_web_services(protocol: Protocol) -> None:
    state = ProfileState("connected", "j@x", (WORK,), protocol)
    profile = Profile("pro_1", CALENDAR_PROVIDERS["office365"], Track.of([(AT, state)]))
    [entry] = build_userinfo(user(profile), "read_write", AT)["cronofy.data"]["profiles"]
    assert entry["provider_protocol"] == protocol
    assert ("graph_api_migration_url" in entry) is (protocol == "exchange_web_services")


def test_links_of_some_accounts_differ_from_answer_to_answer() -> None:
    account = user(profile("icloud", "disconnected"), volatile_links=True)
    entries = [build_body("profiles", account, "read_write", at)["profiles"][0] for at in (AT, AT, LATER)]
    first, same, other = (entry.pop("profile_relink_url") for entry in entries)
    assert first == same != other
    assert entries[0] == entries[2]


@pytest.mark.parametrize(("data_center", "host"), [("us", "app.cronofy.com"), ("de", "app-de.cronofy.com")])
def test_a_relink_url_points_at_the_data_center(data_center: str, host: str) -> None:
    account = user(profile("icloud", "disconnected", name="j+d@contoso.example"), data_center=data_center)
    [entry] = build_body("profiles", account, "read_write", AT)["profiles"]
    assert entry["profile_relink_url"] == f"https://{host}/v2/relink/apple?email=j%2Bd%40contoso.example"


def test_an_absent_profile_is_not_listed() -> None:
    body = build_userinfo(user(profile("gsuite", "absent"), profile("zoom", "absent")), "read_write", AT)
    assert body["cronofy.data"]["profiles"] == []
    assert body["cronofy.data"]["conferencing_profiles"] == []


def test_a_disconnected_conferencing_profile_has_the_url_and_no_more() -> None:
    body = build_userinfo(user(profile("ms_teams", "disconnected")), "read_write", AT)
    [entry] = body["cronofy.data"]["conferencing_profiles"]
    assert set(entry) == {
        "provider_name",
        "profile_id",
        "profile_name",
        "profile_connected",
        "profile_relink_url",
    }


@pytest.mark.parametrize(("omits_name", "shown"), [(True, {}), (False, {"name": None})])
def test_a_name_may_be_null_or_missing(omits_name: bool, shown: dict[str, None]) -> None:
    account = user(name=None, omits_name=omits_name)
    body = build_userinfo(account, "read_write", AT)
    assert {key: value for key, value in body.items() if key == "name"} == shown
    details = build_account(account, "read_write")["account"]
    assert {key: value for key, value in details.items() if key == "name"} == shown


def test_a_service_account_has_no_profile_list() -> None:
    account = user(
        account_id="ser_61a8b807a341fc00bee53042",
        type="service_account",
        email="svc@contoso.example",
        name=None,
        omits_name=True,
        extras={"cronofy.service_account.domain": "contoso.example"},
        data={"service_account": {"provider_name": "exchange"}},
        authorization={"delegated_scope": "read_write"},
    )
    assert build_userinfo(account, "s", AT) == {
        "sub": "ser_61a8b807a341fc00bee53042",
        "email": "svc@contoso.example",
        "cronofy.type": "service_account",
        "cronofy.data": {
            "authorization": {"scope": "s", "status": "active", "delegated_scope": "read_write"},
            "service_account": {"provider_name": "exchange"},
        },
        "cronofy.service_account.domain": "contoso.example",
    }


def test_an_application_calendar_has_no_person() -> None:
    account = user(
        profile("cronofy", "connected", name="app01"),
        account_id="apc_618a6dc923347b00a4ac6438",
        type="application_calendar",
        email=None,
        name=None,
        omits_name=True,
        extras={"application_calendar_id": "app01"},
        data={"application_calendar": {"application_calendar_id": "app01"}},
    )
    body = build_userinfo(account, "read_write", AT)
    assert set(body) == {"sub", "cronofy.type", "cronofy.data", "application_calendar_id"}
    assert set(body["cronofy.data"]) == {"authorization", "application_calendar", "profiles"}
    assert body["cronofy.data"]["application_calendar"] == {"application_calendar_id": "app01"}
    assert body["cronofy.data"]["profiles"][0]["provider_service"] == "cronofy"


def test_account() -> None:
    assert build_account(user(), "read_write") == {
        "account": {
            "account_id": "acc_5700a00eb0ccd07000000000",
            "email": "jane@contoso.example",
            "name": "Jane Doe",
            "scope": "read_write",
            "default_tzid": "Europe/London",
            "type": "account",
        },
        "sub": "acc_5700a00eb0ccd07000000000",
    }
