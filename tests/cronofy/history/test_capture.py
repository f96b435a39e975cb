"""Capture: what a batch of polls writes, given what the warehouse knows. Only change is written."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlt_cronofy.source.history.capture import EXTRAS, instant_text, row_key
from dlt_cronofy.source.records import Outcome
from tests.cronofy.bodies import (
    Json,
    account,
    application_calendar,
    calendar,
    conferencing,
    failed_poll,
    minute,
    poll,
    profile,
    profiles,
    service_account,
    userinfo,
)
from tests.cronofy.capturing import HOLD, World

UP = profile("pro_1", profile_calendars=[calendar("cal_1"), calendar("cal_2")])
DOWN = profile("pro_1", connected=False, profile_calendars=[calendar("cal_1"), calendar("cal_2")])


@pytest.fixture
def world() -> World:
    return World()


def kinds(rows: dict[str, list[Json]]) -> list[tuple[str, str, str]]:
    return [(row["profile_type"], row["profile_id"], row["kind"]) for row in rows.get("profile_changes", [])]


def counts(rows: dict[str, list[Json]]) -> dict[str, int]:
    return {name: len(found) for name, found in rows.items()}


def of(rows: dict[str, list[Json]], table: str, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row.get(column) for column in columns) for row in rows.get(table, [])]


def test_the_first_userinfo_fills_every_table_but_account(world: World) -> None:
    rows = world.add(poll(userinfo(UP, conferencing_profiles=[conferencing()]), 1))
    assert counts(rows) == {"userinfo": 1, "profiles": 2, "calendars": 2, "profile_changes": 2, "polls": 1}
    assert {row["run_id"] for found in rows.values() for row in found} == {"run-1"}
    assert {row["token_key"] for found in rows.values() for row in found} == {"k1"}
    assert {row["account_id"] for found in rows.values() for row in found} == {"acc_1"}
    assert {row["observed_at"] for row in rows["profiles"] + rows["calendars"] + rows["userinfo"]} == {
        minute(1)
    }
    assert of(rows, "profiles", "profile_type", "profile_id", "state", "profile_connected") == [
        ("calendar", "pro_1", "connected", True),
        ("conferencing", "pro_z", "connected", True),
    ]
    assert of(rows, "calendars", "calendar_id", "profile_id", "removed_at") == [
        ("cal_1", "pro_1", None),
        ("cal_2", "pro_1", None),
    ]
    assert kinds(rows) == [("calendar", "pro_1", "first_seen"), ("conferencing", "pro_z", "first_seen")]
    [polled] = rows["polls"]
    assert polled | {"requested_at": None, "poll_id": None} == {
        "poll_id": None, "run_id": "run-1", "token_key": "k1", "account_id": "acc_1", "endpoint": "userinfo",
        "data_center": "us", "requested_at": None, "polled_at": minute(1), "outcome": "ok",
        "http_status": 200, "attempts": 1, "refreshes": 0, "latency_ms": 1000, "profiles": 1,
        "disconnected": 0, "conferencing_profiles": 1, "conferencing_disconnected": 0, "message": None,
        "server_request_id": None,
        "is_late": None,
    }  # fmt: skip


def test_account_fills_its_own_table_alone(world: World) -> None:
    rows = world.add(poll(account(), 1, endpoint="account"))
    assert counts(rows) == {"account": 1, "polls": 1}
    assert of(rows, "account", "token_key", "account_id", "default_tzid") == [
        ("k1", "acc_1", "Europe/London")
    ]
    assert of(rows, "polls", "profiles", "conferencing_profiles") == [(None, None)]


def test_profiles_fill_profiles_and_changes_without_calendars(world: World) -> None:
    rows = world.add(poll(profiles(UP), 1, endpoint="profiles", account_id="acc_1"))
    assert counts(rows) == {"profiles": 1, "profile_changes": 1, "polls": 1}
    assert of(rows, "polls", "profiles", "disconnected", "conferencing_profiles") == [(1, 0, None)]


def test_profiles_of_an_unknown_account_are_current_state_without_history(world: World) -> None:
    rows = world.add(poll(profiles(UP), 1, endpoint="profiles"))
    assert counts(rows) == {"profiles": 1, "polls": 1}
    assert of(rows, "profiles", "account_id") == [(None,)]


def test_a_service_account_has_no_profiles_rather_than_none(world: World) -> None:
    rows = world.add(poll(service_account(), 1))
    assert counts(rows) == {"userinfo": 1, "polls": 1}
    assert of(rows, "polls", "outcome", "profiles", "disconnected", "conferencing_profiles") == [
        ("ok", None, None, None)
    ]


def test_an_application_calendar_is_an_account_like_others(world: World) -> None:
    rows = world.add(poll(application_calendar(), 1))
    assert counts(rows) == {"userinfo": 1, "profiles": 1, "calendars": 1, "profile_changes": 1, "polls": 1}


def test_only_the_wanted_tables_are_written() -> None:
    rows = World({"polls", "calendars"}).add(poll(userinfo(UP), 1))
    assert counts(rows) == {"polls": 1, "calendars": 2}


def test_polls_count_what_is_listed_and_what_of_it_is_down(world: World) -> None:
    body = userinfo(profile("a"), profile("b", connected=False), profile("b"), conferencing_profiles=[])
    columns = ("profiles", "disconnected", "conferencing_profiles", "conferencing_disconnected")
    assert of(world.add(poll(body, 1)), "polls", *columns) == [(2, 1, 0, 0)]


@pytest.mark.parametrize("is_recognized", [True, False], ids=["recognized", "compared"])
@pytest.mark.parametrize(
    ("body", "endpoint", "samples"),
    [
        (userinfo(), "userinfo", 1),
        (userinfo(UP, conferencing_profiles=[conferencing(connected=False)]), "userinfo", 2),
        (userinfo(DOWN, plan={"a": None}), "userinfo", 1),
        (service_account(), "userinfo", 0),
        (application_calendar(), "userinfo", 1),
        (account(), "account", 0),
        (profiles(DOWN), "profiles", 1),
    ],
    ids=["empty", "full", "unknown fields", "service account", "application calendar", "account", "profiles"],
)
def test_the_same_answer_again_writes_one_poll_and_moves_the_evidence(
    world: World, body: Json, endpoint: str, samples: int, *, is_recognized: bool
) -> None:
    first, *again = (poll(body, at, endpoint=endpoint, account_id="acc_1") for at in (1, 2, 3))
    listed = ("profiles", "disconnected", "conferencing_profiles", "conferencing_disconnected", "account_id")
    shown = of(world.add(first), "polls", *listed)
    for number, each in enumerate(again, 2):
        # a new release has other digests, and finds the same
        rows = world.add(each if is_recognized else replace(each, digest=f"other {number}"))
        assert counts(rows) == {"polls": 1}
        assert of(rows, "polls", *listed) == shown
        status = world.status()
        assert (status["endpoint"], status["last_ok_at"]) == (endpoint, minute(number))
        assert [span["samples"] for span in world.evidence.changed_spans()] == [number] * samples


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.OK])
def test_a_failed_poll_touches_only_polls_and_the_status_of_its_token(world: World, outcome: Outcome) -> None:
    world.add(poll(userinfo(UP, DOWN | {"profile_id": "pro_2"}), 1))
    rows = world.add(failed_poll(outcome, 2, account_id="acc_1"))
    assert counts(rows) == {"polls": 1}
    assert of(rows, "polls", "outcome", "account_id", "profiles", "message") == [
        (outcome.value, "acc_1", None, "failed")
    ]
    assert world.evidence_rows().keys() == (set() if outcome is Outcome.SKIPPED else {"token_status"})
    assert world.status()["last_ok_at"] == minute(1)
    assert counts(world.add(poll(userinfo(UP, DOWN | {"profile_id": "pro_2"}), 3))) == {"polls": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"sub":"acc_1"',
        {"sub": None},
        userinfo(profile(connected="yes")),
        userinfo(UP, profile("pro_2", connected=None)),
        userinfo(data={"profiles": {}}),
    ],
    ids=["empty", "HTML", "cut", "no sub", "not a boolean", "one of two without state", "no list"],
)
def test_a_200_of_another_shape_is_a_failed_poll(world: World, body: Json | bytes) -> None:
    world.add(poll(userinfo(UP), 1))
    rows = world.add(poll(body, 2, account_id="acc_1"))
    assert counts(rows) == {"polls": 1}
    assert of(rows, "polls", "outcome", "http_status", "profiles") == [("bad_payload", 200, None)]
    assert world.evidence_rows().keys() == {"token_status"}
    assert world.status()["last_outcome"] == "bad_payload"
    assert counts(world.add(poll(userinfo(UP), 3))) == {"polls": 1}


@pytest.mark.parametrize(
    ("before", "after", "written"),
    [
        (userinfo(UP), userinfo(UP, name="Jane D"), {"userinfo": 1}),
        (userinfo(UP), userinfo(UP, plan="gold"), {"userinfo": 1}),
        (userinfo(UP), userinfo(DOWN), {"profiles": 1, "profile_changes": 1}),
        (userinfo(UP), userinfo(UP | {"new_field": 1}), {"profiles": 1}),
        (userinfo(UP), userinfo(UP | {"profile_name": "n"}), {"profiles": 1, "profile_changes": 1}),
        (
            userinfo(UP),
            userinfo(UP | {"profile_calendars": [calendar("cal_1", calendar_name="n"), calendar("cal_2")]}),
            {"calendars": 1},
        ),
        (
            userinfo(UP),
            userinfo(UP | {"profile_calendars": [calendar("cal_1", color="red"), calendar("cal_2")]}),
            {"calendars": 1},
        ),
    ],
    ids=[
        "name",
        "a new field",
        "state",
        "a new profile field",
        "profile name",
        "calendar",
        "a calendar field",
    ],
)
def test_a_change_is_written_where_it_is(world: World, before: Json, after: Json, written: Json) -> None:
    world.add(poll(before, 1))
    assert counts(world.add(poll(after, 2))) == written | {"polls": 1}
    assert counts(world.add(poll(after, 3))) == {"polls": 1}


def test_a_life_of_changes(world: World) -> None:
    life = [
        userinfo(UP),
        userinfo(DOWN),
        userinfo(DOWN),
        userinfo(),
        userinfo(),
        userinfo(DOWN),
        userinfo(UP),
    ]
    changes = [
        row for at, body in enumerate(life) for row in world.add(poll(body, at)).get("profile_changes", [])
    ]
    columns = ("kind", "previous_state", "state", "observed_at", "previous_poll_at")
    assert [tuple(row[column] for column in columns) for row in changes] == [
        ("first_seen", None, "connected", minute(0), None),
        ("disconnected", "connected", "disconnected", minute(1), minute(0)),
        ("removed", "disconnected", "removed", minute(3), minute(2)),
        ("reappeared", "removed", "disconnected", minute(5), minute(4)),
        ("connected", "disconnected", "connected", minute(6), minute(5)),
    ]
    assert changes[2]["profile_name"] == "example@cronofy.com"
    assert changes[2]["profile_relink_url"] is None
    assert changes[3]["profile_relink_url"].startswith("https://")


def test_an_empty_list_removes_profiles_and_calendars(world: World) -> None:
    world.add(poll(userinfo(UP, DOWN | {"profile_id": "pro_2", "profile_calendars": []}), 1))
    rows = world.add(poll(userinfo(), 2))
    columns = (
        "profile_id",
        "state",
        "profile_connected",
        "profile_relink_url",
        "provider_name",
        "observed_at",
    )
    assert of(rows, "profiles", *columns) == [
        ("pro_1", "removed", None, None, "google", minute(2)),
        ("pro_2", "removed", None, None, "google", minute(2)),
    ]  # fmt: skip
    assert of(rows, "calendars", "calendar_id", "removed_at", "calendar_name", "observed_at") == [
        ("cal_1", minute(2), "Home", minute(2)),
        ("cal_2", minute(2), "Home", minute(2)),
    ]
    assert [kind for *_, kind in kinds(rows)] == ["removed", "removed"]
    assert "userinfo" not in rows


@pytest.mark.parametrize(
    "data", [{"profiles": None}, {"profiles": None, "conferencing_profiles": None}], ids=["one", "both"]
)
def test_no_list_removes_nothing(world: World, data: Json) -> None:
    world.add(poll(userinfo(UP, conferencing_profiles=[conferencing()]), 1))
    rows = world.add(poll(userinfo(data=data), 2))
    assert counts(rows) == {"polls": 1}
    assert of(rows, "polls", "profiles", "conferencing_profiles") == [(None, None)]


def test_a_missing_conferencing_list_removes_no_conferencing_profile(world: World) -> None:
    world.add(poll(userinfo(UP, conferencing_profiles=[conferencing()]), 1))
    assert counts(world.add(poll(userinfo(UP), 2))) == {"polls": 1}
    rows = world.add(poll(userinfo(UP, conferencing_profiles=[]), 3))
    assert kinds(rows) == [("conferencing", "pro_z", "removed")]


def test_the_profiles_endpoint_leaves_conferencing_and_calendars_alone(world: World) -> None:
    world.add(poll(userinfo(UP, conferencing_profiles=[conferencing()]), 1))
    rows = world.add(poll(profiles(), 2, endpoint="profiles", account_id="acc_1"))
    assert kinds(rows) == [("calendar", "pro_1", "removed")]
    assert of(rows, "profiles", "profile_type", "state") == [("calendar", "removed")]
    assert "calendars" not in rows


def test_userinfo_and_profiles_agree_on_one_profile(world: World) -> None:
    plain = profile("pro_1")
    world.add(poll(userinfo(plain | {"profile_calendars": [calendar()]}), 1))
    assert counts(world.add(poll(profiles(plain), 2, endpoint="profiles", account_id="acc_1"))) == {
        "polls": 1
    }


def test_conferencing_profiles_have_a_history_of_their_own(world: World) -> None:
    both = userinfo(profile("pro_1"), conferencing_profiles=[conferencing("pro_1")])
    world.add(poll(both, 1))
    one_down = userinfo(profile("pro_1"), conferencing_profiles=[conferencing("pro_1", connected=False)])
    rows = world.add(poll(one_down, 2))
    assert kinds(rows) == [("conferencing", "pro_1", "disconnected")]
    assert of(rows, "profile_changes", "previous_poll_at") == [(minute(1),)]


def test_a_calendar_that_returns_is_listed_again(world: World) -> None:
    without = userinfo(UP | {"profile_calendars": [calendar("cal_2")]})
    world.add(poll(userinfo(UP), 1))
    removed = world.add(poll(without, 2))
    assert of(removed, "calendars", "calendar_id", "removed_at") == [("cal_1", minute(2))]
    assert counts(world.add(poll(without, 3))) == {"polls": 1}
    returned = world.add(poll(userinfo(UP), 4))
    assert of(returned, "calendars", "calendar_id", "removed_at", "observed_at") == [
        ("cal_1", None, minute(4))
    ]


def test_a_profile_that_says_nothing_of_its_calendars_keeps_them(world: World) -> None:
    silent = profile("pro_1")
    other = profile("pro_2", profile_calendars=[calendar("cal_9")])
    world.add(poll(userinfo(UP, other), 1))
    assert counts(world.add(poll(userinfo(silent, other), 2))) == {"polls": 1}
    rows = world.add(poll(userinfo(silent, other | {"profile_calendars": []}), 3))
    assert of(rows, "calendars", "calendar_id", "removed_at") == [("cal_9", minute(3))]


def test_a_calendar_that_moves_to_another_profile_is_one_row(world: World) -> None:
    world.add(poll(userinfo(UP, profile("pro_2", profile_calendars=[])), 1))
    moved = userinfo(
        UP | {"profile_calendars": [calendar("cal_1")]},
        profile("pro_2", profile_calendars=[calendar("cal_2")]),
    )
    rows = world.add(poll(moved, 2))
    assert of(rows, "calendars", "calendar_id", "profile_id", "removed_at") == [("cal_2", "pro_2", None)]


def test_a_calendar_deleted_at_the_provider_stays_listed(world: World) -> None:
    world.add(poll(userinfo(UP), 1))
    deleted = userinfo(
        UP | {"profile_calendars": [calendar("cal_1", calendar_deleted=True), calendar("cal_2")]}
    )
    rows = world.add(poll(deleted, 2))
    assert of(rows, "calendars", "calendar_id", "calendar_deleted", "removed_at") == [("cal_1", True, None)]


def test_two_tokens_of_one_account_are_one_stream_of_samples(world: World) -> None:
    first = world.add(poll(userinfo(UP), 1, key="k1"), poll(userinfo(UP), 2, key="k2"))
    assert counts(first) == {"userinfo": 2, "profiles": 2, "calendars": 4, "profile_changes": 1, "polls": 2}
    rows = world.add(poll(userinfo(DOWN), 3, key="k2"), poll(userinfo(DOWN), 4, key="k1"))
    assert of(rows, "profile_changes", "token_key", "kind", "previous_poll_at") == [
        ("k2", "disconnected", minute(2))
    ]
    assert of(rows, "profiles", "token_key", "state") == [("k2", "disconnected"), ("k1", "disconnected")]


def test_two_tokens_that_disagree_are_two_samples(world: World) -> None:
    rows = world.add(
        poll(userinfo(UP), 1, key="k1"), poll(userinfo(DOWN), 2, key="k2"), poll(userinfo(UP), 3, key="k1")
    )
    assert of(rows, "profile_changes", "token_key", "kind") == [
        ("k1", "first_seen"),
        ("k2", "disconnected"),
        ("k1", "connected"),
    ]


def test_a_token_authorized_for_another_account_lets_go_of_the_first(world: World) -> None:
    world.add(poll(userinfo(UP, sub="acc_1"), 1))
    other = profile("pro_9", profile_calendars=[calendar("cal_9")])
    rows = world.add(poll(userinfo(other, sub="acc_2"), 2, account_id="acc_1"))
    assert of(rows, "userinfo", "account_id") == [("acc_2",)]
    assert of(rows, "polls", "account_id") == [("acc_2",)]
    assert of(rows, "profiles", "profile_id", "state", "account_id") == [
        ("pro_9", "connected", "acc_2"),
        ("pro_1", "removed", "acc_1"),
    ]
    assert of(rows, "calendars", "calendar_id", "removed_at") == [
        ("cal_9", None), ("cal_1", minute(2)), ("cal_2", minute(2))
    ]  # fmt: skip
    # the first account was not sampled: nothing is known of its profiles now
    assert of(rows, "profile_changes", "account_id", "profile_id", "kind") == [
        ("acc_2", "pro_9", "first_seen")
    ]


def test_the_same_profile_under_another_account_is_another_profile(world: World) -> None:
    world.add(poll(userinfo(UP, sub="acc_1"), 1))
    rows = world.add(poll(userinfo(UP, sub="acc_2"), 2))
    assert of(rows, "profiles", "profile_id", "state", "account_id") == [("pro_1", "connected", "acc_2")]
    assert of(rows, "profile_changes", "account_id", "kind", "previous_poll_at") == [
        ("acc_2", "first_seen", None)
    ]


def test_equal_ids_of_different_accounts_do_not_meet(world: World) -> None:
    rows = world.add(
        poll(userinfo(UP, sub="acc_1"), 1, key="k1"), poll(userinfo(DOWN, sub="acc_2"), 2, key="k2")
    )
    assert of(rows, "profile_changes", "account_id", "state", "kind") == [
        ("acc_1", "connected", "first_seen"),
        ("acc_2", "disconnected", "first_seen"),
    ]


def test_row_keys_are_the_documented_ones(world: World) -> None:
    rows = world.add(poll(userinfo(UP), 1))
    assert rows["polls"][0]["poll_id"] == row_key("run-1", "k1", "userinfo")
    assert rows["profile_changes"][0]["change_id"] == row_key(
        "acc_1", "calendar", "pro_1", "2025-03-01T12:01:00.000000+00:00"
    )
    assert instant_text(minute(1)) == "2025-03-01T12:01:00.000000+00:00"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_row_keys_tell_parts_apart(parts: list[str]) -> None:
    assert len(row_key(*parts)) == 32
    joined = ["".join(parts)]
    assert (row_key(*joined) == row_key(*parts)) == (joined == parts)
    assert row_key(*parts, "") != row_key(*parts)


def test_the_accounts_that_changed_are_those_with_a_row_in_the_change_log(world: World) -> None:
    world.add(
        poll(userinfo(UP, sub="acc_1"), 1, key="k1"),
        poll(userinfo(sub="acc_2"), 1, key="k2"),
        poll(service_account(), 1, key="k3"),
        poll(account("acc_4"), 1, endpoint="account", key="k4"),
        poll(profiles(UP), 1, endpoint="profiles", key="k5"),
        poll(profiles(UP), 1, endpoint="profiles", key="k6", account_id="acc_6"),
        failed_poll(Outcome.FORBIDDEN, 1, account_id="acc_7", key="k7"),
    )
    assert world.changed_accounts == {"acc_1", "acc_6"}
    world.add(poll(userinfo(UP, sub="acc_1"), 2, key="k1"), poll(userinfo(DOWN, sub="acc_2"), 2, key="k2"))
    assert world.changed_accounts == {"acc_2"}


# late polls


def test_a_late_poll_leaves_its_row_and_nothing_else(world: World) -> None:
    world.add(poll(userinfo(UP), 5))
    for late in (poll(userinfo(DOWN), 4), poll(userinfo(UP), 3), failed_poll(Outcome.FORBIDDEN, 2)):
        rows = world.add(late)
        assert counts(rows) == {"polls": 1}
        assert of(rows, "polls", "polled_at", "is_late") == [(late.response.polled_at, True)]
        assert world.evidence_rows() == {}
        row = world.counts.row()
        assert (row["polled"], row["first_polled_at"], row["oldest_evidence_at"]) == (1, None, None)
    assert counts(world.add(poll(userinfo(UP), 6))) == {"polls": 1}
    assert world.evidence.changed_spans()[0]["samples"] == 2


def test_a_poll_is_late_by_the_samples_of_its_accounts_other_tokens(world: World) -> None:
    world.add(poll(userinfo(UP), 5, key="k1"))
    late = world.add(poll(userinfo(DOWN), 4, key="k2"), poll(account(), 4.5, key="k2", endpoint="account"))
    assert counts(late) == {"polls": 2, "account": 1}
    assert of(late, "polls", "endpoint", "is_late") == [("userinfo", True), ("account", None)]
    # a failed one shows nothing of the account
    assert of(world.add(failed_poll(Outcome.FORBIDDEN, 4.6, key="k2")), "polls", "is_late") == [(None,)]


def test_other_types_and_endpoints_make_no_poll_late(world: World) -> None:
    world.add(poll(account(), 9, endpoint="account"))
    both = userinfo(UP, conferencing_profiles=[conferencing()])
    assert of(world.add(poll(both, 5)), "polls", "is_late") == [(None,)]
    world.add(poll(profiles(UP), 6, endpoint="profiles"))
    # the calendar profiles were sampled since, and an answer is late as a whole
    late = world.add(poll(both | {"email": "new@example.com"}, 5.5))
    assert of(late, "polls", "is_late") == [(True,)]
    assert counts(late) == {"polls": 1}


# digests


def test_an_answer_that_is_recognized_is_not_compared(world: World) -> None:
    world.add(poll(userinfo(UP), 1))
    world.known.tokens.clear()
    world.known.histories.clear()
    assert counts(world.add(poll(userinfo(UP), 2))) == {"polls": 1}


@pytest.mark.parametrize("missing", ["k1", "k2"], ids=["its own", "a fallback token's"])
def test_an_answer_whose_rows_are_gone_is_compared_again(world: World, missing: str) -> None:
    world.add(poll(userinfo(UP), 1, key="k1"), poll(userinfo(UP), 2, key="k2"))
    del world.known.tokens[missing]
    again = poll(userinfo(UP), 3, account_id="acc_1", fallback_tokens=("k2",))
    assert counts(world.add(again)) == {"polls": 1}
    world.known.unsupported = {missing}
    # a fallback token's row of userinfo is filled when it is polled itself
    own = {"userinfo": 1} if missing == "k1" else {}
    rows = world.add(replace(again, response=poll(userinfo(UP), 4).response))
    assert counts(rows) == {"polls": 1, "profiles": 1, "calendars": 2} | own
    assert {row["token_key"] for row in rows["profiles"]} == {missing}


def test_a_change_that_another_token_shows_outdates_what_an_account_answered_last(world: World) -> None:
    """The bytes of the first answer are a change again, though that token never answered others."""
    connected, disconnected = userinfo(UP), userinfo(DOWN)
    world.add(poll(connected, 1, key="k1"))
    world.add(poll(disconnected, 2, key="k2"))
    assert world.status("k1")["userinfo_digest"] is None
    rows = world.add(poll(connected, 3, key="k1"))
    assert of(rows, "profile_changes", "token_key", "kind", "previous_poll_at") == [
        ("k1", "connected", minute(2))
    ]
    rows = world.add(poll(disconnected, 4, key="k2"))
    assert kinds(rows) == [("calendar", "pro_1", "disconnected")]


def test_a_change_of_one_endpoint_outdates_the_others(world: World) -> None:
    world.add(poll(userinfo(UP), 1), poll(profiles(profile("pro_1")), 2, endpoint="profiles"))
    down = profiles(profile("pro_1", connected=False))
    assert kinds(world.add(poll(down, 3, endpoint="profiles"))) == [("calendar", "pro_1", "disconnected")]
    assert kinds(world.add(poll(userinfo(UP), 4))) == [("calendar", "pro_1", "connected")]
    assert kinds(world.add(poll(down, 5, endpoint="profiles"))) == [("calendar", "pro_1", "disconnected")]


def test_rows_that_one_endpoint_wrote_outdate_what_the_others_answered(world: World) -> None:
    """What is no change in the log is one in `profiles` all the same."""
    plain, marked = profile("pro_1", reason="x"), profile("pro_1", reason="y")
    world.add(poll(userinfo(plain), 1), poll(profiles(plain), 2, endpoint="profiles"))
    assert counts(world.add(poll(userinfo(marked), 3))) == {"polls": 1, "profiles": 1}
    rows = world.add(poll(profiles(plain), 4, endpoint="profiles"))
    assert counts(rows) == {"polls": 1, "profiles": 1}
    assert rows["profiles"][0][EXTRAS] == {"reason": "x"}


def test_what_a_token_answered_for_another_account_says_nothing_of_this_one(world: World) -> None:
    listed = profiles(UP)
    world.add(poll(account("acc_1"), 1, endpoint="account"), poll(listed, 2, endpoint="profiles"))
    rows = world.add(poll(account("acc_2"), 3, endpoint="account"), poll(listed, 4, endpoint="profiles"))
    assert of(rows, "profile_changes", "account_id", "kind", "previous_poll_at") == [
        ("acc_2", "first_seen", None)
    ]
    assert of(rows, "profiles", "account_id") == [("acc_2",)]
    assert world.status()["account_id"] == "acc_2"


def test_a_bad_answer_leaves_the_digest_of_the_last_good_one(world: World) -> None:
    world.add(poll(userinfo(UP), 1))
    digest = world.status()["userinfo_digest"]
    world.add(poll(b"<html>", 2))
    assert world.status()["userinfo_digest"] == digest
    assert counts(world.add(poll(userinfo(UP), 3))) == {"polls": 1}


def test_an_answer_of_an_account_that_nobody_knows_is_read_until_it_is_known(world: World) -> None:
    world.add(poll(profiles(UP), 1, endpoint="profiles"))
    assert "profile_changes" not in world.status()["profiles_digest"]
    rows = world.add(poll(account(), 2, endpoint="account"), poll(profiles(UP), 3, endpoint="profiles"))
    assert counts(rows) == {"polls": 2, "account": 1, "profiles": 1, "profile_changes": 1}


@pytest.mark.parametrize(
    ("tables", "body", "endpoint", "held"),
    [
        (None, userinfo(UP, DOWN | {"profile_id": "pro_2"}), "userinfo", [
            "userinfo=1", "profiles=2.1.0.0", "calendars=2", "profile_changes=2.1.0.0",
        ]),
        (None, userinfo(conferencing_profiles=[conferencing(connected=False)]), "userinfo", [
            "userinfo=1", "profiles=0.0.1.1", "calendars=0", "profile_changes=0.0.1.1",
        ]),
        (None, service_account(), "userinfo", [
            "userinfo=1", "profiles=0.0.0.0", "calendars=0", "profile_changes=0.0.0.0",
        ]),
        (None, account(), "account", ["account=1"]),
        (None, profiles(UP), "profiles", ["profiles=1.0.0.0", "profile_changes=1.0.0.0"]),
        # a table that is not loaded is not compared
        (("polls", "calendars"), userinfo(UP), "userinfo", ["calendars=2"]),
        (("polls",), account(), "account", []),
    ],
)  # fmt: skip
def test_a_digest_speaks_for_the_tables_that_are_loaded(
    tables: tuple[str, ...] | None, body: Json, endpoint: str, held: list[str]
) -> None:
    world = World() if tables is None else World(tables)
    world.add(poll(body, 1, endpoint=endpoint, account_id="acc_1"))
    _, _, *named, end = world.status()[f"{endpoint}_digest"].split(":")
    assert (named, end) == (held, "")


# fallback tokens


def test_the_answer_of_one_token_fills_the_rows_of_those_that_are_not_polled(world: World) -> None:
    world.add(poll(userinfo(UP), 1, key="k1"), poll(userinfo(UP), 2, key="k2"))
    rows = world.add(poll(userinfo(DOWN), 3, account_id="acc_1", fallback_tokens=("k2",)))
    assert of(rows, "profiles", "token_key", "state") == [("k1", "disconnected"), ("k2", "disconnected")]
    assert of(rows, "profile_changes", "token_key") == [("k1",)]
    # k2 was not polled, and its own answer is compared when it is
    assert world.status("k2")["last_polled_at"] == minute(2)
    assert counts(world.add(poll(userinfo(DOWN), 4, key="k2"))) == {"polls": 1}


def test_fallback_tokens_of_another_account_than_the_answer_names_are_left_alone(world: World) -> None:
    world.add(poll(userinfo(UP), 1, key="k1"), poll(userinfo(UP), 2, key="k2"))
    rows = world.add(
        poll(userinfo(DOWN, sub="acc_2"), 3, account_id="acc_1", fallback_tokens=("k2",)),
    )
    assert of(rows, "profiles", "token_key", "account_id") == [("k1", "acc_2")]


# spans


def test_a_gap_longer_than_hold_starts_another_span_and_still_dates_the_change(world: World) -> None:
    later = HOLD.total_seconds() / 60 + 1
    world.add(poll(userinfo(UP), 0))
    rows = world.add(poll(userinfo(DOWN), later))
    assert of(rows, "profile_changes", "kind", "previous_poll_at") == [("disconnected", minute(0))]
    [span] = world.evidence.changed_spans()
    assert (span["first_sample_at"], span["samples"]) == (minute(later), 1)


@pytest.mark.parametrize(
    ("first", "second", "at_once", "again"),
    [
        (DOWN, UP, ["disconnected"], ["connected"]),
        (DOWN, None, ["disconnected"], ["removed"]),
        (UP, None, [], ["removed"]),
        (UP, DOWN, ["disconnected"], []),
    ],
)
def test_of_two_samples_at_one_instant_disconnected_wins_over_connected_over_removed(
    world: World, first: Json | None, second: Json | None, at_once: list[str], again: list[str]
) -> None:
    def kinds_at(at: float, *listed: Json | None) -> list[tuple[Any, ...]]:
        bodies = [userinfo(each) if each else userinfo() for each in listed]
        keys = ("k1", "k2")[-len(listed) :]
        rows = world.add(*(poll(body, at, key=key) for key, body in zip(keys, bodies, strict=True)))
        return of(rows, "profile_changes", "kind", "previous_poll_at")

    assert kinds_at(0, UP, UP) == [("first_seen", None)]
    assert kinds_at(1, first, second) == [(kind, minute(0)) for kind in at_once]
    assert [span["samples"] for span in world.evidence.changed_spans()] == [2]
    # what was outweighed is a change as soon as it stands alone
    assert kinds_at(2, second) == [(kind, minute(1)) for kind in again]


LISTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.booleans(), max_size=3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["k1", "k2"]), LISTS), max_size=12))
def test_rows_replayed_give_back_every_answer(history: list[tuple[str, dict[str, bool]]]) -> None:
    """Current state per token, and change log per account, from the written rows alone."""
    world = World()
    current: dict[tuple[str, str], Json] = {}
    log: dict[str, str] = {}
    for at, (key, listed) in enumerate(history):
        body = userinfo(*(profile(name, connected=connected) for name, connected in listed.items()))
        rows = world.add(poll(body, at, key=key))
        for row in rows.get("profiles", []):
            assert EXTRAS not in row or not row[EXTRAS]
            current[key, row["profile_id"]] = row
        for change in rows.get("profile_changes", []):
            assert change["previous_state"] == log.get(change["profile_id"])
            log[change["profile_id"]] = change["state"]
        shown = {name: "connected" if connected else "disconnected" for name, connected in listed.items()}
        assert {
            name: row["state"]
            for (token_key, name), row in current.items()
            if token_key == key and row["state"] != "removed"
        } == shown
        assert {name: state for name, state in log.items() if state != "removed"} == shown


POLLS = st.tuples(
    st.sampled_from(["k1", "k2"]),
    st.sampled_from(["userinfo", "profiles"]),
    st.one_of(st.none(), LISTS),
    st.sampled_from([-3, 1, 1, 2, 5, 30 * 60]),
)


@settings(deadline=None)
@given(st.lists(POLLS, max_size=14))
def test_each_change_lies_after_the_newest_sample_before_it(
    drawn: list[tuple[str, str, dict[str, bool] | None, int]],
) -> None:
    """Whatever tokens and endpoints these came from; failed polls and late ones are no samples."""
    world, at = World(), 0
    samples: list[float] = []
    world.add(poll(account(), at, endpoint="account"), poll(account(), at, endpoint="account", key="k2"))
    for key, endpoint, listed, ahead in drawn:
        is_late = ahead < 0
        at += max(ahead, 0)
        moment = at + ahead if is_late else at
        shown = [profile(name, connected=connected) for name, connected in (listed or {}).items()]
        body = userinfo(*shown) if endpoint == "userinfo" else profiles(*shown)
        response = poll(body, moment, endpoint=endpoint, key=key)
        if listed is None:
            response = failed_poll(Outcome.TIMEOUT, moment, endpoint=endpoint, key=key)
        rows = world.add(response)
        if listed is None or rows["polls"][0]["is_late"]:
            assert counts(rows) == {"polls": 1}
            continue
        before = minute(max(samples)) if samples else None
        assert all(row["previous_poll_at"] == before for row in rows.get("profile_changes", []))
        assert all(row["observed_at"] == minute(moment) for row in rows.get("profile_changes", []))
        samples.append(moment)
        assert samples == sorted(samples)
