"""Knowledge: what is read back from a warehouse that was really loaded."""

from datetime import timedelta
from pathlib import Path

import pytest

from sources.cronofy.history import knowledge as knowledge_module
from sources.cronofy.history.changes import ProfileState, State
from sources.cronofy.history.knowledge import Evidence
from sources.cronofy.tables import TABLES
from tests.cronofy.bodies import account, calendar, conferencing, profile, service_account, userinfo
from tests.cronofy.clocks import START, ManualClock
from tests.cronofy.server import Server, answer
from tests.cronofy.warehouses import Warehouse

HOUR = timedelta(hours=1)
MARGIN = timedelta(seconds=1)
UP = profile("pro_1", profile_calendars=[calendar("cal_1")], reason="x")


@pytest.fixture
def warehouse(workdir: Path, server: Server, clock: ManualClock) -> Warehouse:
    return Warehouse(workdir, server, clock)


def test_an_empty_warehouse_knows_nothing(warehouse: Warehouse) -> None:
    known = warehouse.knowledge()
    assert known.evidence() == {}
    assert known.token_contents(["k1"], set(TABLES)) == {}
    assert known.account_histories(["acc_1"]) == {}
    assert known.last_samples(["acc_1"]) == {}


def hours(evidence: Evidence) -> tuple[int | None, ...]:
    """Whole hours after the start of: ok, attempt, account."""
    times = (evidence.last_ok_at, evidence.last_attempt_at, evidence.account_read_at)
    return tuple(None if at is None else round((at - START) / HOUR) for at in times)


def test_what_was_loaded_is_known(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge_module, "MAX_PARAMETERS", 2)  # several IN lists
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
    known = warehouse.knowledge()

    evidence = known.evidence()
    assert {key: hours(seen) for key, seen in evidence.items()} == {
        "k1": (2, 2, 0),
        "k2": (0, 0, 0),
        "k3": (0, 2, 0),
        "k4": (None, 2, None),
    }
    assert {key: seen.account_id for key, seen in evidence.items()} == {
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

    histories = known.account_histories(["acc_1", "ser_1", "acc_9"])
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

    samples = known.last_samples(["acc_1", "ser_1", "acc_9"])
    assert samples.keys() - {"ser_1"} == {"acc_1"}
    assert samples.get("ser_1", {}) == {}
    for kind in ("calendar", "conferencing"):
        assert abs(samples["acc_1"][kind] - START - 2 * HOUR) < MARGIN


@pytest.mark.parametrize("missing", ["every poll", "the newest poll", "no poll"])
def test_a_change_tells_of_a_sample_whose_poll_is_missing(warehouse: Warehouse, missing: str) -> None:
    """As a load leaves it that was killed when its changes were written and its polls were not."""
    import duckdb

    up, down = (profile("pro_1", connected=each) for each in (True, False))
    warehouse.serves("k1", userinfo=userinfo(up, conferencing_profiles=[conferencing("pro_z")]))
    warehouse.load("userinfo", "profile_changes", "polls")
    warehouse.clock.advance(hours=2)
    warehouse.serves("k1", userinfo=userinfo(down, conferencing_profiles=[conferencing("pro_z")]))
    warehouse.load("userinfo", "profile_changes", "polls")
    runs = {"every poll": "run-", "the newest poll": "run-2", "no poll": "none"}
    with duckdb.connect(str(warehouse.directory / warehouse.file)) as connection:
        connection.execute(f"DELETE FROM cronofy.cronofy.polls WHERE run_id LIKE '{runs[missing]}%'")
    [(account, samples)] = warehouse.knowledge().last_samples(["acc_1"]).items()
    assert account == "acc_1"
    # nothing of the conferencing profile changed with the missing poll, so nothing tells of that
    sampled = {kind: round((at - START) / HOUR) for kind, at in samples.items()}
    assert sampled == {"calendar": 2, "conferencing": 2 if missing == "no poll" else 0}
    # what a late sample is put into says the same
    since = START + 3 * HOUR
    histories = warehouse.knowledge().sampled_histories(["acc_1"], since)
    assert {kind: history.last_before(since) for (_, kind), history in histories.items()} == samples


@pytest.mark.parametrize(
    ("states", "winner"),
    [
        (("connected", "disconnected"), State.DISCONNECTED),
        (("removed", "connected"), State.CONNECTED),
        (("removed", "disconnected", "connected"), State.DISCONNECTED),
    ],
)
def test_of_two_changes_at_one_instant_disconnected_wins(
    warehouse: Warehouse, states: tuple[str, ...], winner: State
) -> None:
    import duckdb

    warehouse.serves("k1", userinfo=userinfo(UP), account=account())
    warehouse.load()
    with duckdb.connect(str(warehouse.directory / warehouse.file)) as connection:
        connection.execute("USE cronofy.cronofy")
        for number, state in enumerate(states):
            connection.execute(
                "INSERT INTO profile_changes SELECT * REPLACE (? AS change_id, ? AS state,"
                " TIMESTAMPTZ '2025-04-01 00:00:00+00' AS observed_at)"
                " FROM profile_changes WHERE kind = 'first_seen' AND observed_at < TIMESTAMPTZ '2025-03-30'",
                [f"c{number}", state],
            )
    histories = warehouse.knowledge().account_histories(["acc_1"])
    assert histories["acc_1"]["calendar"]["pro_1"].state is winner


def test_a_skipped_poll_is_no_evidence(warehouse: Warehouse) -> None:
    import duckdb

    warehouse.serves("k1", userinfo=userinfo(UP), account=account())
    warehouse.load()
    with duckdb.connect(str(warehouse.directory / warehouse.file)) as connection:
        connection.execute(
            "INSERT INTO cronofy.cronofy.polls SELECT * REPLACE ('p' AS poll_id, 'skipped' AS outcome,"
            " TIMESTAMPTZ '2025-04-01 00:00:00+00' AS polled_at) FROM cronofy.cronofy.polls LIMIT 1"
        )
    assert hours(warehouse.knowledge().evidence()["k1"]) == (0, 0, 0)


def test_a_schema_whose_tables_are_gone_knows_nothing(warehouse: Warehouse) -> None:
    warehouse.serves("k1", userinfo=userinfo(UP), account=account())
    warehouse.load()
    (warehouse.directory / warehouse.file).unlink()
    known = warehouse.knowledge()
    assert known.evidence() == {}
    assert known.token_contents(["k1"], set(TABLES)) == {}
