"""Who has to do what: one world with one of each, and the rows that it makes in the views of the present."""

from datetime import timedelta
from typing import Any

import pytest

from tests.pipelines.views.histories import MIDNIGHT, at
from tests.pipelines.views.warehouse import Warehouse, create_tables, create_views, read

Row = dict[str, Any]
NOW = 24 * 40  # hours; everything is sampled every hour from the start
DAYS = 24


def token(key: str, account_id: str | None = None, **columns: Any) -> Row:
    row = {
        "token_key": key,
        "account_id": account_id,
        "application": "app",
        "endpoint": "userinfo",
        "has_token": True,
        "last_polled_at": at(NOW),
        "last_ok_at": at(NOW),
        "last_outcome": "ok",
        "consecutive_failures": 0,
    }
    return row | columns


def failing(outcome: str, since: float, ok_at: float | None) -> Row:
    return {
        "last_outcome": outcome,
        "failing_since": at(since),
        "last_ok_at": None if ok_at is None else at(ok_at),
        "consecutive_failures": 3,
    }


def change(account_id: str, profile_id: str, hour: float, state: str, **columns: Any) -> Row:
    before = columns.pop("before", None if hour == 0 else at(hour - 1))
    row = {
        "change_id": f"{account_id}/{profile_id}/{hour}",
        "token_key": account_id,
        "account_id": account_id,
        "profile_type": "calendar",
        "profile_id": profile_id,
        "observed_at": at(hour),
        "previous_poll_at": before,
        "state": state,
        "kind": state,
        "provider_name": "google",
        "provider_service": "gsuite",
        "profile_name": f"{profile_id}@{account_id}.test",
        "profile_initial_sync_required": False,
    }
    return row | columns


def calendar(account_id: str, profile_id: str, name: str, hour: float = 0, **columns: Any) -> Row:
    row = {
        "token_key": account_id,
        "account_id": account_id,
        "profile_id": profile_id,
        "calendar_id": f"{profile_id}/{name}",
        "calendar_readonly": False,
        "calendar_deleted": False,
        "observed_at": at(hour),
    }
    return row | columns


def userinfo(account_id: str, email: str | None = None, **columns: Any) -> Row:
    row = {
        "token_key": account_id,
        "account_id": account_id,
        "email": email or f"{account_id}@mail.{account_id}.test",
        "name": account_id.title(),
        "type": "account",
        "scope": "read_write",
        "observed_at": at(0),
    }
    return row | columns


def sampled(account_id: str, last: float = NOW) -> Row:
    return {
        "account_id": account_id,
        "profile_type": "calendar",
        "first_sample_at": at(0),
        "last_sample_at": at(last),
        "samples": int(last),
    }


WELL = ("well", "reader")
ACCOUNTS = (
    *WELL, "broke", "born_broken", "stuck", "syncing", "readonly", "old_protocol", "on_premises", "revoked",
    "scopeless", "half", "gone", "unseen", "removed", "replaced", "empty",
)  # fmt: skip

REFUSED = ("gone", "revoked", "scopeless")
UNTRIED = dict.fromkeys(("endpoint", "last_polled_at", "last_ok_at", "last_outcome"))
AS_EVER = (*WELL, "broke", "syncing", "half")

WORLD: dict[str, list[Row]] = {
    "token_status": [
        *(token(each, each, customer="Acme") for each in ACCOUNTS if each not in REFUSED),
        token("revoked", "revoked", customer="Acme", **failing("grant_revoked", 30, 29)),
        token("revoked/2", "revoked", customer="Acme", **failing("token_rejected", 40, 39)),
        token("scopeless", "scopeless", **failing("forbidden", 0, None)),
        token("half/2", "half", **failing("token_rejected", 10, 9)),
        token("slow", "slow", **failing("timeout", 20, 19)),
        token("never_read", **failing("token_rejected", 0, None), customer="Umbrella"),
        token("gone", "gone", customer="Acme", left_at=at(100), **failing("token_rejected", 99, 98)),
        token("moved_out", "moved_out", has_token=False),
        token("newcomer", has_token=False, **UNTRIED),
        token("service", "service"),
    ],
    "userinfo": [
        *(userinfo(each) for each in ACCOUNTS if each != "reader"),
        userinfo("reader", "reader@READER.test", scope="read_events"),
        userinfo("slow"),
        userinfo("service", type="service_account"),
    ],
    "coverage": [
        *(sampled(each, NOW - 30 if each == "unseen" else NOW) for each in ACCOUNTS),
        sampled("slow", NOW - 40),
    ],
    "profile_changes": [
        *(change(each, "a", 0, "connected", kind="first_seen") for each in AS_EVER),
        change("broke", "a", 50, "disconnected", profile_relink_url="https://relink.test/broke"),
        change("born_broken", "a", 0, "disconnected", profile_relink_url="https://relink.test/born"),
        change("stuck", "a", 0, "connected", kind="first_seen"),
        change("stuck", "a", 60, "connected", kind="attributes", profile_initial_sync_required=True),
        change("syncing", "b", NOW - 5, "connected", profile_initial_sync_required=True),
        change("readonly", "a", 0, "connected", kind="first_seen"),
        change("old_protocol", "a", 70, "connected", provider_name="exchange", provider_service="office365"),
        change("on_premises", "a", 0, "connected", provider_name="exchange", provider_service="exchange"),
        change("revoked", "a", 0, "disconnected"),
        change("scopeless", "a", 0, "connected"),
        change("gone", "a", 0, "disconnected"),
        change("unseen", "a", 20, "disconnected"),
        change("removed", "a", 0, "connected"),
        change("removed", "a", 80, "removed"),
        change("replaced", "a", 0, "connected", profile_name="Me@Work.test"),
        change("replaced", "a", 10, "disconnected", profile_name="Me@Work.test"),
        change("replaced", "a", 20, "removed", profile_name="Me@Work.test"),
        change("replaced", "b", 20 + 13 * DAYS, "connected", profile_name="me@work.test"),
        change("empty", "a", 0, "connected"),
        change("slow", "a", 0, "connected"),
        change("moved_out", "a", 0, "disconnected"),
    ],
    "profiles": [
        {
            "token_key": account_id,
            "account_id": account_id,
            "profile_type": "calendar",
            "profile_id": "a",
            "state": "connected",
            "observed_at": at(70),
            "provider_protocol": "exchange_web_services",
            "graph_api_migration_url": f"https://migrate.test/{account_id}",
        }
        for account_id in ("old_protocol", "on_premises")
    ],
    "calendars": [
        *(calendar(each, "a", "main") for each in ACCOUNTS if each not in ("readonly", "reader", "empty")),
        calendar("reader", "a", "main", calendar_readonly=True),
        calendar("readonly", "a", "main", 90, calendar_readonly=True),
        calendar("readonly", "a", "old", 5, calendar_deleted=True),
        calendar("readonly", "a", "gone", 6, removed_at=at(6)),
        calendar("replaced", "b", "main", calendar_deleted=None),
    ],
    "runs": [{"run_id": "run", "last_polled_at": at(NOW)}],
}  # fmt: skip

NEEDED = {
    # account, profile, reason: since, since_known, url, hours since the evidence
    ("revoked", None, "authorize"): (40, True, None, 0),
    (None, None, "authorize"): (0, False, None, 0),
    ("scopeless", None, "widen_scope"): (0, False, None, 0),
    ("broke", "a", "relink"): (50, True, "https://relink.test/broke", 0),
    ("born_broken", "a", "relink"): (0, False, "https://relink.test/born", 0),
    ("revoked", "a", "relink"): (0, False, None, 0),
    ("unseen", "a", "relink"): (20, True, None, 30),
    ("stuck", "a", "initial_sync"): (60, True, None, 0),
    ("readonly", "a", "no_writable_calendar"): (90, True, None, 0),
    ("old_protocol", "a", "migrate"): (70, True, "https://migrate.test/old_protocol", 0),
}
RANKS = ("authorize", "widen_scope", "relink", "initial_sync", "no_writable_calendar", "migrate")

# account, profile: state, hour of `since`, usable, reason
HEALTH = {
    ("well", "a"): ("connected", 0, True, None),
    ("reader", "a"): ("connected", 0, True, None),
    ("broke", "a"): ("disconnected", 50, False, "relink"),
    ("born_broken", "a"): ("disconnected", 0, False, "relink"),
    ("stuck", "a"): ("connected", 0, False, "initial_sync"),
    ("syncing", "a"): ("connected", 0, True, None),
    ("syncing", "b"): ("connected", NOW - 5, False, None),
    ("readonly", "a"): ("connected", 0, False, "no_writable_calendar"),
    ("old_protocol", "a"): ("connected", 70, True, "migrate"),
    ("on_premises", "a"): ("connected", 0, True, None),
    ("revoked", "a"): ("disconnected", 0, False, "authorize"),
    ("scopeless", "a"): ("connected", 0, True, "widen_scope"),
    ("half", "a"): ("connected", 0, True, None),
    ("gone", "a"): ("left", 100, False, None),
    ("unseen", "a"): ("unknown", NOW - 30 + 24, False, "relink"),
    ("removed", "a"): ("removed", 80, False, None),
    ("replaced", "a"): ("removed", 20, False, None),
    ("replaced", "b"): ("connected", 20 + 13 * DAYS, True, None),
    ("empty", "a"): ("connected", 0, False, None),
    ("slow", "a"): ("unknown", NOW - 40 + 24, False, None),
    ("moved_out", "a"): ("left", None, False, None),
}

VERDICTS = {
    "healthy": {"well", "reader", "stuck", "syncing", "readonly", "old_protocol", "on_premises", "scopeless",
                "half", "replaced", "empty"},
    "down": {"broke", "born_broken", "revoked"},
    "unknown": {"unseen", "slow"},
    "no_profiles": {"removed"},
    "left": {"gone"},
    "not_connected": {"moved_out"},
    "service_account": {"service"},
}  # fmt: skip

TOKENS = {
    "left": {"gone"},
    "not_connected": {"moved_out", "newcomer"},
    "authorize": {"revoked", "revoked/2", "half/2", "never_read"},
    "widen_scope": {"scopeless"},
    "failing": {"slow"},
}


@pytest.fixture(scope="module")
def world(warehouse: Warehouse) -> Warehouse:
    create_tables(warehouse)
    for table, rows in WORLD.items():
        warehouse.insert(table, rows)
    create_views(warehouse)
    return warehouse


def hour(instant: Any) -> float | None:
    return None if instant is None else (instant - MIDNIGHT) / timedelta(hours=1)


def test_everybody_who_must_do_something_is_in_the_worklist_and_nobody_else(world: Warehouse) -> None:
    columns = (
        *("account_id", "profile_id", "reason", "since", "since_known", "url"),
        *("evidence_age_seconds", "rank", "days"),
    )
    rows = read(world, "needs_action", columns)
    found = {row[:3]: (hour(row[3]), row[4], row[5], row[6] / 3600) for row in rows}
    assert found == NEEDED
    assert len(rows) == len(NEEDED)
    assert all(rank == 1 + RANKS.index(row[2]) for *row, rank, _ in rows)
    assert all(days == pytest.approx((NOW - hour(row[3])) / 24) for *row, _, days in rows)  # type: ignore[operator]


def test_the_worklist_names_people_and_customers(world: Warehouse) -> None:
    columns = (
        *("account_id", "reason", "customer", "email", "email_domain", "name"),
        *("token_keys", "provider", "profile_name"),
    )
    rows = {row[:2]: row[2:] for row in read(world, "needs_action", columns)}
    assert rows["broke", "relink"] == (
        "Acme", "broke@mail.broke.test", "mail.broke.test", "Broke", "broke", "gsuite", "a@broke.test",
    )  # fmt: skip
    assert rows["revoked", "authorize"][-3:] == ("revoked,revoked/2", None, None)
    assert rows[None, "authorize"] == ("Umbrella", None, None, None, "never_read", None, None)


def test_needs_relink_is_the_reason_relink_of_it(world: Warehouse) -> None:
    relink = [key[:2] for key in NEEDED if key[2] == "relink"]
    assert read(world, "needs_relink", ("account_id", "profile_id")) == sorted(relink, key=repr)


def test_every_profile_has_its_state_and_the_most_urgent_reason(world: Warehouse) -> None:
    columns = ["account_id", "profile_id", "state", "since", "usable", "reason"]
    rows = read(world, "profile_health", columns)
    assert {row[:2]: (row[2], hour(row[3]), *row[4:]) for row in rows} == HEALTH
    assert len(rows) == len(HEALTH)


def test_what_profile_health_knows_besides(world: Warehouse) -> None:
    columns = (
        *("account_id", "profile_id", "linked_at", "open_outage_at", "initial_sync_since"),
        *("calendars", "writable_calendars", "outages_30d"),
    )
    rows = {row[:2]: row[2:] for row in read(world, "profile_health", columns)}
    assert rows["well", "a"] == (None, None, None, 1, 1, 0)
    assert rows["broke", "a"] == (None, at(50), None, 1, 1, 0)
    assert rows["stuck", "a"] == (None, None, at(60), 1, 1, 0)
    assert rows["syncing", "b"] == (at(NOW - 5), None, at(NOW - 5), 0, 0, 0)
    assert rows["readonly", "a"] == (None, None, None, 2, 0, 0)
    assert rows["gone", "a"][1] is None
    [(uptime,)] = world.query(
        "SELECT uptime_30d FROM cronofy.profile_health WHERE account_id = 'well' AND profile_id = 'a'"
    )
    assert uptime == 1.0


def test_accounts_that_left_or_never_connected_stand_apart(world: Warehouse) -> None:
    found: dict[str, set[str]] = {}
    columns = ("account_id", "verdict", "calendar_verdict", "profiles", "conferencing_verdict")
    for account_id, verdict, of_calendars, profiles, of_conferencing in read(
        world, "account_health", columns
    ):
        found.setdefault(verdict, set()).add(account_id)
        assert of_calendars == verdict
        assert of_conferencing == (
            verdict if verdict in ("left", "not_connected", "service_account") else "no_profiles"
        )
        assert profiles == 0 or verdict not in ("left", "not_connected")
    assert found == VERDICTS


def test_tokens_have_a_verdict_too(world: Warehouse) -> None:
    found: dict[str, set[str]] = {}
    for token_key, verdict in read(world, "token_health", ("token_key", "verdict")):
        found.setdefault(verdict, set()).add(token_key)
    assert found.pop("readable") == {row["token_key"] for row in WORLD["token_status"]} - set().union(
        *TOKENS.values()
    )
    assert found == TOKENS


def test_an_outage_that_was_replaced_is_over_when_the_new_profile_was_seen(world: Warehouse) -> None:
    columns = "end_reason, ended_at, replaced_at, seconds, detection_seconds, outage_number, customer"
    sql = f"SELECT {columns} FROM cronofy.outages WHERE account_id = 'replaced'"
    replaced_at = 20 + 13 * DAYS
    assert world.query(sql) == [
        ("replaced", at(20), at(replaced_at), (replaced_at - 10) * 3600.0, 3600.0, 1, "Acme")
    ]


def test_only_present_tokens_that_can_be_read_make_freshness(world: Warehouse) -> None:
    columns = ("provider", "tokens", "unreadable_tokens", "read_within_hold", "median_age_seconds")
    rows = {row[0]: row[1:] for row in read(world, "freshness", columns)}
    readable = [row for row in WORLD["token_status"] if row["last_outcome"] in ("ok", "timeout")]
    present = [row for row in readable if row["has_token"]]
    assert rows["all"] == (len(present), 5, pytest.approx((len(present) - 1) / len(present)), 0.0)
    assert rows["office365"] == (1, 0, 1.0, 0.0)


def test_nobody_who_left_is_in_the_stock_of_later_days(world: Warehouse) -> None:
    down = "SELECT disconnected, unknown FROM cronofy.stock_daily WHERE provider = 'gsuite' ORDER BY day"
    days = world.query(down)
    # born_broken, revoked, gone and unseen; later broke came, gone went, and unseen and slow are unknown
    assert (days[0], days[-1]) == ((4, 0), (3, 2))
