"""Loads of a world that changes and fails: the tables say what the server truly answered."""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from .conftest import Serve
from .place import Place
from .server import ScriptedServer
from .world import ATTRIBUTES, Change, Record, World, faults, wrong_shapes

PlaceFor = Callable[[ScriptedServer], Place]


def live(place: Place, server: ScriptedServer, world: World, loads: int) -> tuple[Record, list[str]]:
    """Play the loads; returns the record of what was answered and the run ids."""
    record, run_ids = Record(), []
    place.write_tokens(world.owners)
    for number in range(loads):
        world.turn()
        server.log.clear()
        place.clock.offset = timedelta(hours=9 * number)
        result = place.load()
        run_ids.append(result.run_id)
        record.add_run(number, server.log)
    return record, run_ids


@pytest.mark.long
@pytest.mark.parametrize("loads", [4, 8])
def test_the_tables_equal_the_record(loads: int, serve: Serve, place_for: PlaceFor) -> None:
    """One test for all tables: the loads are what takes the time."""
    world = World(seed=1)
    server = serve(world.answer)
    place = place_for(server)
    lived = (place, *live(place, server, world, loads))
    check_the_world_was_rich(lived[1])
    check_profile_changes(*lived)
    check_polls(*lived)
    check_profiles(*lived)
    check_userinfo_and_account(*lived)
    check_calendars(*lived)
    check_previous_polls(lived[0])


def check_the_world_was_rich(record: Record) -> None:
    kinds = Counter(change.kind for changes in record.changes.values() for change in changes)
    assert set(kinds) == {"first_seen", "connected", "disconnected", "removed", "reappeared", "attributes"}
    assert min(kinds.values()) >= 4
    outcomes = Counter(outcome for _, _, _, outcome, _ in record.polls)
    troubles = (faults({}) | wrong_shapes({"cronofy.data": {}, "sub": ""})).values()
    assert set(outcomes) == {"ok", *(reply.outcome for reply in troubles)}
    assert max(attempts for *_, attempts in record.polls) == 2


def check_profile_changes(place: Place, record: Record, run_ids: list[str]) -> None:
    written: dict[tuple[str, str, str], list[Change]] = defaultdict(list)
    for row in sorted(place.rows("profile_changes"), key=lambda row: row["observed_at"]):
        attributes = None if row["state"] == "removed" else tuple(row[name] for name in ATTRIBUTES)
        written[row["account_id"], row["profile_type"], row["profile_id"]].append(
            Change(run_ids.index(row["run_id"]), row["kind"], row["state"], row["previous_state"], attributes)
        )
    assert written.keys() == record.changes.keys()
    wrong = {
        key: (written[key], record.changes[key]) for key in written if written[key] != record.changes[key]
    }
    assert wrong == {}


def check_polls(place: Place, record: Record, run_ids: list[str]) -> None:
    written = [
        (run_ids.index(row["run_id"]), row["token_key"], row["endpoint"], row["outcome"], row["attempts"])
        for row in place.rows("polls")
    ]
    assert sorted(written) == sorted(record.polls)


def check_profiles(place: Place, record: Record, run_ids: list[str]) -> None:
    written = {
        (row["token_key"], row["profile_type"], row["profile_id"]): (
            row["account_id"],
            row["state"],
            None if row["state"] == "removed" else tuple(row[name] for name in ATTRIBUTES),
            run_ids.index(row["run_id"]),
        )
        for row in place.rows("profiles")
    }
    assert len(written) == place.counts()["profiles"]
    assert written == record.profiles
    connected = {"connected": True, "disconnected": False, "removed": None}
    assert all(row["profile_connected"] is connected[row["state"]] for row in place.rows("profiles"))


def check_userinfo_and_account(place: Place, record: Record, run_ids: list[str]) -> None:
    written = {row["token_key"]: row for row in place.rows("userinfo")}
    assert written.keys() == record.userinfo.keys()
    for token, document in record.userinfo.items():
        row = written[token]
        expected = (document["sub"], document["cronofy.type"], document.get("email"), document.get("name"))
        assert (row["account_id"], row["type"], row["email"], row["name"]) == expected
        assert row["scope"] == document["cronofy.data"]["authorization"]["scope"]
        assert run_ids.index(row["run_id"]) == record.userinfo_runs[token]
    accounts = {row["token_key"]: (row["account_id"], row["email"]) for row in place.rows("account")}
    assert accounts == {token: (each["account_id"], each["email"]) for token, each in record.accounts.items()}


def check_calendars(place: Place, record: Record, run_ids: list[str]) -> None:
    written = {
        (row["token_key"], row["calendar_id"]): (
            row["profile_id"],
            row["calendar_name"],
            row["permission_level"],
            row["removed_at"] is None,
        )
        for row in place.rows("calendars")
    }
    assert written == record.calendars
    assert {listed for *_, listed in written.values()} == {True, False}


def check_previous_polls(place: Place) -> None:
    """previous_poll_at is the account's last sample of that type before the change, null for the first."""
    samples = defaultdict(list)
    for poll in sorted(place.rows("polls"), key=lambda row: row["polled_at"]):
        for profile_type, column in (("calendar", "profiles"), ("conferencing", "conferencing_profiles")):
            if poll["outcome"] == "ok" and poll[column] is not None:
                samples[poll["account_id"], profile_type].append(poll["polled_at"])
    for change in place.rows("profile_changes"):
        times = samples[change["account_id"], change["profile_type"]]
        assert change["observed_at"] in times
        earlier = [time for time in times if time < change["observed_at"]]
        assert change["previous_poll_at"] == (earlier[-1] if earlier else None)
        assert all(first < second for first, second in pairwise(times))


@pytest.mark.long
def test_losing_dlts_working_files_between_loads_changes_nothing(serve: Serve, place_for: PlaceFor) -> None:
    """The same world as seed 1 would show, with the working files deleted before every load."""
    world = World(seed=1)
    server = serve(world.answer)
    place = place_for(server)
    record, run_ids = Record(), []
    place.write_tokens(world.owners)
    for number in range(4):
        world.turn()
        server.log.clear()
        place.clock.offset = timedelta(hours=9 * number)
        place.forget()
        assert not place.working_dir.exists()
        run_ids.append(place.load().run_id)
        assert place.working_dir.is_dir()
        record.add_run(number, server.log)
    check_profile_changes(place, record, run_ids)
    check_polls(place, record, run_ids)
    check_profiles(place, record, run_ids)
    check_userinfo_and_account(place, record, run_ids)
    check_calendars(place, record, run_ids)
