"""Answers that say the same again, end to end: nobody parses them, and no row is missing for it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from dlt_cronofy.source import cronofy_source
from dlt_cronofy.source.privacy import Mode, PersonalData
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tables import CONTENT, TABLES
from tests.cronofy.bodies import account, calendar, conferencing, profile, service_account, userinfo
from tests.cronofy.clocks import ManualClock
from tests.cronofy.server import Server
from tests.cronofy.warehouses import Warehouse

UP = profile("pro_1", profile_calendars=[calendar("cal_1"), calendar("cal_2")])
DOWN = profile("pro_1", connected=False, profile_calendars=[calendar("cal_1"), calendar("cal_2")])
BOTH = userinfo(UP, profile("pro_2", connected=False), conferencing_profiles=[conferencing()])
TABLE_NAMES = [table.name for table in CONTENT]
# when something was seen, and by which load, differs where it is written again
WHEN = ("observed_at", "previous_poll_at", "change_id", "run_id", "_dlt_load_id")


@pytest.fixture
def warehouse(workdir: Path, server: Server, clock: ManualClock) -> Warehouse:
    """One account with all there is, one without profiles, and a service account."""
    found = Warehouse(workdir, server, clock, keys=["k1", "k2", "ser"])
    found.serves("k1", userinfo=BOTH, account=account("acc_1"))
    found.serves("k2", userinfo=userinfo(sub="acc_2"), account=account("acc_2"))
    found.serves("ser", userinfo=service_account(), account=account("ser_1"))
    return found


def content(warehouse: Warehouse, table: str) -> list[tuple[Any, ...]]:
    names = ", ".join(name for name in warehouse.columns(table) if name not in WHEN)
    return warehouse.query(f"SELECT {names} FROM {table} ORDER BY ALL")


def contents(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    return {name: content(warehouse, name) for name in TABLE_NAMES}


def assert_no_digest_is_a_hash_of_a_body(warehouse: Warehouse) -> None:
    digests = "SELECT userinfo_digest, account_digest FROM token_status WHERE token_key = 'k1'"
    [kept] = warehouse.query(digests)
    for found, body in zip(kept, (BOTH, account("acc_1")), strict=True):
        digest = found.split(":")[0]
        raw = orjson.dumps(body)
        names = ("md5", "sha1", "sha256", "sha512")
        hashes = [hashlib.new(name, raw, usedforsecurity=False).hexdigest() for name in names]
        hashes += [hashlib.blake2b(raw, digest_size=size).hexdigest() for size in (16, 32, 64)]
        assert all(digest not in each for each in hashes)


def test_an_unchanged_sweep_parses_nothing_and_writes_evidence_alone(
    warehouse: Warehouse, parsed: list[str]
) -> None:
    warehouse.load()
    assert len(parsed) == 6
    assert_no_digest_is_a_hash_of_a_body(warehouse)
    before = {name: warehouse.rows(name) for name in TABLE_NAMES}
    listed = "SELECT token_key, endpoint, account_id, COLUMNS('profiles$|disconnected$') FROM polls"
    first = warehouse.query(f"{listed} WHERE run_id = 'run-1' ORDER BY ALL")
    parsed.clear()
    warehouse.clock.advance(hours=25)
    assert warehouse.load() == {"userinfo": 3, "account": 3}
    assert parsed == []
    # of the service account there are no samples; k1 has both types
    assert warehouse.counts("run-2") == {"polls": 6, "token_status": 3, "coverage": 3, "runs": 1}
    assert {name: warehouse.rows(name) for name in TABLE_NAMES} == before
    assert warehouse.query(f"{listed} WHERE run_id = 'run-2' ORDER BY ALL") == first
    statuses = "SELECT token_key, last_outcome, consecutive_failures FROM token_status ORDER BY 1"
    assert warehouse.query(statuses) == [
        ("k1", "ok", 0), ("k2", "ok", 0), ("ser", "ok", 0),
    ]  # fmt: skip
    [(ran,)] = warehouse.query("SELECT polled FROM runs WHERE run_id = 'run-2'")
    assert ran == 6


@pytest.mark.long
def test_the_digests_of_two_tokens_with_one_body_differ(warehouse: Warehouse) -> None:
    """Without a secret of the application each token has a key of its own."""
    warehouse.serves("k2", userinfo=BOTH)
    warehouse.load()
    both = warehouse.query("SELECT DISTINCT split_part(userinfo_digest, ':', 1) FROM token_status")
    assert len(both) == 3


WAYS = {
    # dlt makes a table again where it knows of none
    "dropped": "DROP TABLE {table}; DELETE FROM _dlt_version",
    "emptied": "DELETE FROM {table}",
    "of one lost": "DELETE FROM {table} WHERE token_key = 'k1'",
}


@pytest.mark.long
@pytest.mark.parametrize("together", [True, False], ids=["all tables at once", "one after the other"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_that_went_missing_are_there_again_after_the_next_sweep(
    warehouse: Warehouse, parsed: list[str], way: str, together: bool
) -> None:
    """Whatever table they were in, and although every answer is what it was."""
    warehouse.load()
    before = contents(warehouse)
    for tables in [TABLE_NAMES] if together else [[table] for table in TABLE_NAMES]:
        for table in tables:
            warehouse.execute(WAYS[way].format(table=table))
        if way == "dropped":
            warehouse.lose_working_directory()
        warehouse.clock.advance(hours=25)
        warehouse.load()
        assert {table: content(warehouse, table) for table in tables} == {
            each: before[each] for each in tables
        }
    # and then all is well
    assert contents(warehouse) == before
    parsed.clear()
    warehouse.clock.advance(hours=25)
    warehouse.load()
    assert parsed == []


@pytest.mark.long
@pytest.mark.parametrize("table", TABLE_NAMES)
def test_a_table_that_is_newly_selected_fills_itself(warehouse: Warehouse, table: str) -> None:
    others = [name for name in TABLE_NAMES if name != table]
    warehouse.load(*others, "polls", "userinfo" if table != "userinfo" else "calendars")
    warehouse.clock.advance(hours=25)
    warehouse.load()
    found = content(warehouse, table)
    expected = {"userinfo": 3, "account": 3, "profiles": 3, "calendars": 2, "profile_changes": 3}
    assert len(found) == expected[table]


@pytest.mark.long
def test_a_table_that_was_not_loaded_when_its_rows_changed_catches_up(warehouse: Warehouse) -> None:
    """Also where there are as many rows as before."""
    warehouse.load()
    renamed = userinfo(
        UP | {"profile_name": "new", "profile_calendars": [calendar("cal_1", calendar_name="new")]},
        name="new",
    )
    warehouse.serves("k1", userinfo=renamed)
    warehouse.clock.advance(hours=1)
    warehouse.load("calendars", "polls")
    assert warehouse.query("SELECT count(*) FROM profiles WHERE profile_name = 'new'") == [(0,)]
    warehouse.clock.advance(hours=1)
    warehouse.load()
    for table, column in (("userinfo", "name"), ("profiles", "profile_name"), ("calendars", "calendar_name")):
        assert warehouse.query(f"SELECT count(*) FROM {table} WHERE {column} = 'new'") == [(1,)]
    changes = "SELECT profile_id, kind FROM profile_changes WHERE run_id = 'run-3' ORDER BY 1"
    assert warehouse.query(changes) == [("pro_1", "attributes"), ("pro_2", "removed")]


@pytest.mark.long
def test_what_one_token_shows_is_neither_undone_nor_missed_by_the_digest_of_another(
    warehouse: Warehouse,
) -> None:
    """Two tokens of an account are polled in turns, and the user relinks between them."""
    warehouse.keys = ["a", "b"]
    for key in warehouse.keys:
        warehouse.serves(key, userinfo=userinfo(UP), account=account())
    warehouse.load()
    shown = [("a", UP), ("b", DOWN), ("a", UP), ("b", DOWN), ("a", DOWN)]
    for key, listed in shown:
        warehouse.clock.advance(hours=1)
        for each in warehouse.keys:
            warehouse.serves(each, userinfo=userinfo(listed))
        warehouse.load("userinfo", "profiles", "profile_changes", "polls")
        assert warehouse.server.asked() == {f"at-{key}": 1}
        # an account's profiles are the same whichever of its tokens asks
        state = "connected" if listed is UP else "disconnected"
        assert warehouse.query("SELECT token_key, state FROM profiles ORDER BY 1") == [
            ("a", state), ("b", state),
        ]  # fmt: skip
    changes = "SELECT kind, token_key, run_id, date_diff('minute', previous_poll_at, observed_at)"
    assert warehouse.query(f"{changes} FROM profile_changes ORDER BY observed_at OFFSET 1") == [
        ("disconnected", "b", "run-3", 60),
        ("connected", "a", "run-4", 60),
        ("disconnected", "b", "run-5", 60),
    ]
    assert warehouse.query("SELECT samples FROM coverage") == [(7,)]


@pytest.mark.long
def test_a_new_setting_for_personal_data_reads_every_answer_once(
    warehouse: Warehouse, parsed: list[str]
) -> None:
    warehouse.load()
    for mode in (Mode.HASH, Mode.DROP, Mode.KEEP):
        key = Secret("sixteen letters!") if mode is Mode.HASH else None
        for expected in (["account"] * 3 + ["userinfo"] * 3, []):
            parsed.clear()
            warehouse.clock.advance(hours=25)
            warehouse.load(personal_data=PersonalData(mode, key))
            assert sorted(parsed) == expected
        names = {name for (name,) in warehouse.query("SELECT name FROM userinfo WHERE token_key = 'k1'")}
        assert names == {"Jane Doe"} if mode is Mode.KEEP else "Jane Doe" not in names
    # only what changed was written, and the log has nothing to say of it
    assert warehouse.query("SELECT DISTINCT kind FROM profile_changes") == [("first_seen",)]
    assert warehouse.query("SELECT run_id FROM userinfo WHERE token_key = 'ser'") == [("run-6",)]


@pytest.mark.long
def test_new_labels_read_every_answer_once_and_change_no_content(
    warehouse: Warehouse, parsed: list[str]
) -> None:
    warehouse.load()
    before = {name: warehouse.rows(name) for name in TABLE_NAMES}
    for expected in (6, 0):
        parsed.clear()
        warehouse.clock.advance(hours=25)
        warehouse.load(token_labels=("customer", "plan"))
        assert len(parsed) == expected
    assert {name: warehouse.rows(name) for name in TABLE_NAMES} == before
    assert "plan" in warehouse.columns("token_status")


def texts(warehouse: Warehouse, tables: Iterable[str] = TABLES) -> str:
    return "\n".join(repr(row) for name in tables for row in warehouse.query(f"SELECT * FROM {name}"))


@pytest.mark.long
def test_nothing_of_the_store_that_is_no_label_is_in_any_table(
    warehouse: Warehouse, parsed: list[str]
) -> None:
    """A new label makes every answer be read once more, and changes no content."""
    rows = [
        {
            "key": key,
            "access_token": f"at-{key}",
            "refresh_token": f"refresh-{key}",
            "plan": f"plan of {key}",
            "customer": f"customer of {key}",
            "note": f"note on {key}",
        }
        for key in warehouse.keys
    ]
    contents_found = []
    for labels, kept in ((None, {"customer"}), (["plan"], {"plan", "customer"})):
        source = cronofy_source(tokens=rows, base_url=warehouse.server.url, token_labels=labels)
        parsed.clear()
        warehouse.run(source)
        # the accounts wait a day
        assert sorted(parsed) == (["userinfo"] * 3 if labels else ["account"] * 3 + ["userinfo"] * 3)
        found = texts(warehouse)
        contents_found.append({name: warehouse.rows(name) for name in TABLE_NAMES})
        for what in ("plan", "customer", "note"):
            assert (f"{what} o" in found) is (what in kept), what
    assert contents_found[0] == contents_found[1]
    assert "at-k1" not in found
    assert "refresh-" not in found
    # a label that is no longer kept is not written, and what was written stays
    assert warehouse.query("SELECT token_key, customer, plan FROM token_status ORDER BY 1") == [
        (key, f"customer of {key}", f"plan of {key}") for key in ("k1", "k2", "ser")
    ]
    for path in warehouse.directory.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not any(word in held for word in (b"note on", b"at-k1", b"refresh-k1")), path
