"""WarehouseState: what is read back from a warehouse that was really loaded."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dlt_cronofy.source.history import state as state_module
from dlt_cronofy.source.history.diff import ProfileState, State
from dlt_cronofy.source.planning.plan import LastPoll
from dlt_cronofy.source.tables import TABLES
from tests.cronofy.bodies import account, calendar, conferencing, profile, service_account, userinfo
from tests.cronofy.clocks import START, ManualClock
from tests.cronofy.server import Server, answer
from tests.cronofy.warehouses import Warehouse

LATER = START + timedelta(days=365)
HOUR = timedelta(hours=1)
UP = profile("pro_1", profile_calendars=[calendar("cal_1")], reason="x")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Loaded twice, for tests that only look."""
    clock = ManualClock()
    with Server() as server:
        server.time = clock.monotonic
        warehouse = Warehouse(tmp_path_factory.mktemp("loaded"), server, clock)
        load_twice(warehouse)
        yield warehouse


@pytest.fixture
def changed(loaded: Warehouse, tmp_path: Path) -> Warehouse:
    """A copy of it, for tests that change it."""
    return replace(loaded, directory=shutil.copytree(loaded.directory, tmp_path / "copy"))


@pytest.fixture
def warehouse(workdir: Path, server: Server, clock: ManualClock) -> Warehouse:
    return Warehouse(workdir, server, clock)


def test_an_empty_warehouse_knows_nothing(warehouse: Warehouse) -> None:
    known = warehouse.state()
    assert known.last_polls() == {}
    assert known.statuses(["k1"]) == {}
    assert known.statuses_of_accounts(["acc_1"]) == {}
    assert known.newest_spans(["acc_1"]) == {}
    assert known.unsupported_digests(set(TABLES)) == set()
    assert known.token_contents(["k1"], set(TABLES)) == {}
    assert known.account_histories(["acc_1"], LATER) == {}
    assert list(known.store_rows(("token_key", "customer"))) == []
    assert known.newest_poll_at() is None


def hours(seen: LastPoll) -> tuple[int | None, ...]:
    """Whole hours after the start of: ok, attempt, account."""
    times = (seen.last_ok_at, seen.last_attempt_at, seen.account_read_at)
    return tuple(None if at is None else round((at - START) / HOUR) for at in times)


def load_twice(warehouse: Warehouse) -> None:
    """Four tokens of two accounts and a service account; two hours later without the second one."""
    warehouse.keys = ["k1", "k2", "k3", "k4"]
    meeting = [conferencing("pro_z")]
    warehouse.serves("k1", userinfo=userinfo(UP, conferencing_profiles=meeting), account=account("acc_1"))
    warehouse.serves("k2", userinfo=userinfo(profile("pro_2"), sub="acc_1"), account=account("acc_1"))
    warehouse.serves("k3", userinfo=service_account(), account=account("ser_1"))
    warehouse.server.on("userinfo", "at-k4", answer(401))
    warehouse.load()
    warehouse.clock.advance(hours=2)
    warehouse.keys = ["k1", "k3", "k4"]
    warehouse.serves(
        "k1", userinfo=userinfo(profile("pro_1", connected=False), conferencing_profiles=meeting)
    )
    warehouse.server.on("userinfo", "at-k3", answer(503))
    warehouse.load()


def test_what_was_loaded_is_known(loaded: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_PARAMETERS", 2)  # several IN lists
    known = loaded.state()

    last_polls = known.last_polls()
    assert {key: hours(seen) for key, seen in last_polls.items()} == {
        "k1": (2, 2, 0),
        "k2": (0, 0, 0),
        "k3": (0, 2, 0),
        "k4": (None, 2, None),
    }
    assert {key: seen.account_id for key, seen in last_polls.items()} == {
        "k1": "acc_1", "k2": "acc_1", "k3": "ser_1", "k4": None,
    }  # fmt: skip

    contents = known.token_contents(["k1", "k2", "k3", "k4", "k5"], set(TABLES))
    assert contents.keys() == {"k1", "k2", "k3"}
    first = contents["k1"]
    assert first.userinfo is not None
    assert first.account is not None
    assert (first.userinfo["email"], first.account["default_tzid"]) == (
        "example@cronofy.com",
        "Europe/London",
    )
    assert first.profiles["calendar", "pro_1"]["state"] == "disconnected"
    assert first.profiles["conferencing", "pro_z"]["state"] == "connected"
    assert first.calendars["cal_1"]["removed_at"] is None
    assert "reason" in first.profiles["calendar", "pro_1"]
    assert contents["k3"].profiles == {}
    assert known.token_contents(["k1"], {"calendars"})["k1"].userinfo is None

    histories = known.account_histories(["acc_1", "ser_1", "acc_9"], LATER)
    assert histories.keys() == {"acc_1"}
    states = {
        (kind, name): state.state
        for kind, found in histories["acc_1"].items()
        for name, state in found.items()
    }
    # pro_2 was removed by the other token's sample, at the start or two hours later
    assert states == {
        ("calendar", "pro_1"): State.DISCONNECTED,
        ("calendar", "pro_2"): State.REMOVED,
        ("conferencing", "pro_z"): State.CONNECTED,
    }
    assert histories["acc_1"]["conferencing"]["pro_z"] == ProfileState(
        State.CONNECTED, "zoom", None, "example@cronofy.com"
    )


def test_the_evidence_is_known(loaded: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_PARAMETERS", 2)
    known = loaded.state()
    statuses = known.statuses(["k1", "k2", "k4", "k5"])
    assert {key: row["last_outcome"] for key, row in statuses.items()} == {
        "k1": "ok", "k2": "ok", "k4": "token_rejected",
    }  # fmt: skip
    assert statuses["k4"]["consecutive_failures"] == 2
    assert known.statuses_of_accounts(["acc_1", "acc_9"]).keys() == {"k1", "k2"}
    spans = known.newest_spans(["acc_1", "ser_1", "acc_9"])
    # three samples of calendars, and two of conferencing: k2 says nothing of it
    assert {key: span["samples"] for key, span in spans.items()} == {
        ("acc_1", "calendar"): 3,
        ("acc_1", "conferencing"): 2,
    }
    stored = sorted(known.store_rows(("token_key", "has_token", "nothing")))
    assert stored == [(key, True, None) for key in ("k1", "k2", "k3", "k4")]
    newest = known.newest_poll_at()
    assert newest is not None
    assert round((newest - START) / HOUR) == 2
    outcomes = known.outcomes_of("run-2", START)
    assert outcomes == {
        ("k1", "userinfo"): "ok", ("k3", "userinfo"): "server_error", ("k4", "userinfo"): "token_rejected",
    }  # fmt: skip


def test_only_the_newest_span_is_known(changed: Warehouse) -> None:
    for hours_later in (48, 24):
        first = f"first_sample_at + to_hours({hours_later}) AS first_sample_at"
        last = "last_sample_at + INTERVAL 3 DAY AS last_sample_at"
        changed.execute(
            f"INSERT INTO coverage SELECT * REPLACE ({first}, {last})"
            f" FROM coverage WHERE first_sample_at < TIMESTAMPTZ '{START + HOUR}'"
        )
    assert changed.counts()["coverage"] == 6
    spans = changed.state().newest_spans(["acc_1"])
    assert [round((span["first_sample_at"] - START) / HOUR) for span in spans.values()] == [48, 48]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("states", "winner"),
    [
        (("connected", "disconnected"), State.DISCONNECTED),
        (("removed", "connected"), State.CONNECTED),
        (("removed", "disconnected", "connected"), State.DISCONNECTED),
    ],
)
def test_of_two_changes_at_one_instant_disconnected_wins(
    changed: Warehouse, states: tuple[str, ...], winner: State
) -> None:
    for number, state in enumerate(states):
        changed.execute(
            f"INSERT INTO profile_changes SELECT * REPLACE ('c{number}' AS change_id, '{state}' AS state,"
            " TIMESTAMPTZ '2025-04-01 00:00:00+00' AS observed_at)"
            " FROM profile_changes WHERE profile_id = 'pro_z' AND kind = 'first_seen' AND run_id = 'run-1'"
        )
    histories = changed.state().account_histories(["acc_1"], LATER)
    assert histories["acc_1"]["conferencing"]["pro_z"].state is winner
    # what a clock saw that was ahead is not known
    histories = changed.state().account_histories(["acc_1"], START + HOUR)
    assert histories["acc_1"]["conferencing"]["pro_z"].state is State.CONNECTED


def test_a_skipped_poll_is_no_attempt(warehouse: Warehouse) -> None:
    """The plan lacks the endpoint, and a load soon stops asking for it."""
    warehouse.keys = [f"k{number}" for number in range(6)]
    for key in warehouse.keys:
        warehouse.server.on("userinfo", f"at-{key}", answer(402))
    warehouse.load("userinfo", "polls", max_open=1)
    skipped = {key for (key,) in warehouse.query("SELECT token_key FROM polls WHERE outcome = 'skipped'")}
    assert len(skipped) == 3
    last_polls = warehouse.state().last_polls()
    assert last_polls.keys() == set(warehouse.keys)
    for key, seen in last_polls.items():
        assert hours(seen) == ((None, None, None) if key in skipped else (None, 0, None))


def test_a_schema_whose_tables_are_gone_knows_nothing(changed: Warehouse) -> None:
    (changed.directory / changed.file).unlink()
    known = changed.state()
    assert known.last_polls() == {}
    assert known.token_contents(["k1"], set(TABLES)) == {}
    assert known.unsupported_digests(set(TABLES)) == set()
