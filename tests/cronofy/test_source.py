"""The dlt source end to end: loopback HTTP in, DuckDB out."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from dlt.common.schema import Schema

from dlt_cronofy.source import cronofy_source, resources
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.capture import EXTRAS
from dlt_cronofy.source.resources import endpoints_for
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.sweep import Rows, Sweep
from dlt_cronofy.source.tables import CONTENT as CONTENT_TABLES
from dlt_cronofy.source.tables import TABLES
from tests.cronofy.bodies import account, calendar, conferencing, profile, profiles, service_account, userinfo
from tests.cronofy.clocks import ManualClock
from tests.cronofy.server import Server, answer, later, raw
from tests.cronofy.warehouses import Warehouse

UP = profile("pro_1", profile_calendars=[calendar("cal_1")])
DOWN = profile("pro_1", connected=False, profile_calendars=[calendar("cal_1")])
CONTENT = tuple(table.name for table in CONTENT_TABLES)
# what a load writes of one token of which it finds nothing new
EVIDENCE_ALONE = {"polls": 1, "token_status": 1, "coverage": 1, "runs": 1}


@pytest.fixture
def warehouse(workdir: Path, server: Server, clock: ManualClock) -> Warehouse:
    found = Warehouse(workdir, server, clock)
    found.serves("k1", userinfo=userinfo(UP), account=account(), profiles=profiles(profile("pro_1")))
    return found


@pytest.mark.parametrize(
    ("tables", "endpoints"),
    [
        (set(TABLES), ("userinfo", "account")),
        ({"userinfo"}, ("userinfo",)),
        ({"calendars"}, ("userinfo",)),
        ({"account"}, ("account",)),
        ({"profiles"}, ("profiles",)),
        ({"profile_changes", "polls"}, ("profiles",)),
        ({"account", "profiles"}, ("account", "profiles")),
        ({"calendars", "profiles"}, ("userinfo",)),
        ({"polls"}, ("userinfo",)),
    ],
    ids=lambda value: "+".join(sorted(value)),
)
def test_the_selected_tables_decide_what_is_called(tables: set[str], endpoints: tuple[str, ...]) -> None:
    assert endpoints_for(tables) == endpoints


@pytest.mark.long
def test_a_second_load_writes_only_evidence_and_account_waits_a_day_and_no_token_is_kept(
    warehouse: Warehouse,
) -> None:
    assert warehouse.load() == {"userinfo": 1, "account": 1}
    assert warehouse.counts() == {
        "userinfo": 1, "account": 1, "profiles": 1, "calendars": 1, "profile_changes": 1, "polls": 2,
        "token_status": 1, "coverage": 1, "runs": 1,
    }  # fmt: skip
    before = {name: warehouse.rows(name) for name in CONTENT}
    warehouse.clock.advance(hours=23)
    assert warehouse.load() == {"userinfo": 1}
    assert warehouse.counts("run-2") == EVIDENCE_ALONE
    assert {name: warehouse.rows(name) for name in before} == before
    warehouse.clock.advance(hours=1, minutes=1)
    assert warehouse.load() == {"userinfo": 1, "account": 1}
    assert warehouse.counts("run-3") == EVIDENCE_ALONE | {"polls": 2}
    for path in warehouse.directory.rglob("*"):
        assert path.is_dir() or b"at-k1" not in path.read_bytes(), path


def test_the_tables_exist_with_their_columns_even_when_empty(warehouse: Warehouse) -> None:
    warehouse.server.on("userinfo", "at-k1", answer(403))
    warehouse.server.on("account", "at-k1", answer(403))
    warehouse.load()
    assert warehouse.counts() == {"polls": 2, "token_status": 1, "runs": 1}
    for name, table in TABLES.items():
        assert {*table.schema.names, "_dlt_load_id"} <= warehouse.columns(name).keys()
    assert warehouse.columns("polls")["polled_at"] == "TIMESTAMP WITH TIME ZONE"
    assert (
        warehouse.query("SELECT outcome, http_status, message FROM polls")
        == [("forbidden", 403, "HTTP 403")] * 2
    )


@pytest.mark.long
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_the_time_zone_of_the_session_changes_nothing(
    warehouse: Warehouse, clock: ManualClock, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that dlt was given a time zone to think in, as by its own scheduler."""
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS__SESSION_TIMEZONE", zone)
    monkeypatch.setattr("dlt.common.time._CONTEXT_TZ", ZoneInfo(zone))
    first, then = clock.read(), clock.read() + timedelta(hours=20)
    warehouse.load()
    # the day changes in one of the zones, and not in UTC
    clock.advance(hours=20)
    warehouse.serves("k1", userinfo=userinfo(DOWN))
    assert warehouse.load() == {"userinfo": 1}
    polls = "SELECT date_trunc('second', polled_at) FROM polls ORDER BY 1"
    assert warehouse.query(polls) == [(first,), (first,), (then,)]
    changes = (
        "SELECT kind, date_trunc('second', observed_at), date_trunc('second', previous_poll_at)"
        " FROM profile_changes ORDER BY observed_at"
    )
    assert warehouse.query(changes) == [("first_seen", first, None), ("disconnected", then, first)]
    seen = warehouse.state().last_polls()["k1"]
    assert seen.last_ok_at is not None
    assert seen.last_ok_at.replace(microsecond=0) == then
    spans = "SELECT date_trunc('second', first_sample_at), date_trunc('second', last_sample_at) FROM coverage"
    assert warehouse.query(spans) == [(first, then)]
    assert len(warehouse.state().requests_since(then)) == 1


@pytest.mark.long
def test_unknown_fields_reach_the_warehouse_at_every_level(warehouse: Warehouse) -> None:
    warehouse.load()
    warehouse.clock.advance(hours=1)
    body = userinfo(
        UP | {"reason": "password", "profile_calendars": [calendar("cal_1", color="red")]},
        conferencing_profiles=[conferencing(seats=3)],
        plan={"name": "gold"},
        email=5,
    )
    warehouse.serves("k1", userinfo=body)
    warehouse.load()
    assert warehouse.query("SELECT plan, email, email__v_bigint FROM userinfo") == [
        ('{"name":"gold"}', None, 5)
    ]
    assert warehouse.query("SELECT profile_id, reason, seats FROM profiles ORDER BY 1") == [
        ("pro_1", "password", None),
        ("pro_z", None, 3),
    ]
    assert warehouse.query("SELECT color FROM calendars") == [("red",)]
    # a removed row keeps what it had, and the warehouse is all that is needed to go on
    warehouse.lose_working_directory()
    warehouse.serves("k1", userinfo=userinfo())
    warehouse.load()
    assert warehouse.query("SELECT state, reason FROM profiles WHERE profile_id = 'pro_1'") == [
        ("removed", "password")
    ]
    assert warehouse.query("SELECT removed_at IS NULL, color FROM calendars") == [(False, "red")]
    last = "SELECT kind, previous_state FROM profile_changes WHERE profile_id = 'pro_1' AND run_id = 'run-3'"
    assert warehouse.query(last) == [("removed", "connected")]


@pytest.mark.long
@pytest.mark.parametrize(
    "batches",
    [
        [{"plan": "gold"}, {}, {}],
        [{}, {"plan": "gold"}, {}],
        [{"plan": "gold"}, {"plan": 3}, {"plan": "silver"}],
        [{"plan": 3}, {"plan": "gold"}, {}],
        [{"plan": "gold", "tier": 1}, {"tier": 2, "plan": "silver"}, {"tier": 3}],
    ],
    ids=["first only", "in the middle", "another type in between", "two types, then none", "another order"],
)
def test_batches_of_one_load_may_have_different_fields(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, batches: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("dlt_cronofy.source.sweep.BATCH_POLLS", 1)
    warehouse.keys = [f"k{number}" for number in range(len(batches))]
    for number, (key, fields) in enumerate(zip(warehouse.keys, batches, strict=True)):
        # batches are in the order of answers
        body = answer(200, userinfo(UP, sub=f"acc_{number}", **fields))
        warehouse.server.on("userinfo", f"at-{key}", later(0.01 * number, body))
    warehouse.load("userinfo", "polls")
    found = warehouse.query("SELECT COLUMNS('^(plan|tier)') FROM userinfo ORDER BY token_key")
    assert [{each for each in row if each is not None} for row in found] == [
        set(fields.values()) for fields in batches
    ]


def test_batches_that_come_faster_than_dlt_writes_them_agree_on_their_columns(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dlt's schema learns of a column when its batch is written, which may be after the next one is made."""
    fields: list[dict[str, Any]] = [
        {},
        {"plan": "gold"},
        {"plan": 3},
        {"tier": 1},
        {"tier": "x", "plan": "y"},
    ]

    async def batches(*_: object) -> AsyncIterator[Rows]:
        for number, extras in enumerate(fields):
            yield {"userinfo": [{"token_key": f"k{number}", EXTRAS: extras}]}

    async def frames() -> list[pa.Table]:
        sweep = Sweep(PollingSettings(), clock=warehouse.clock)
        return [tables["userinfo"] async for tables in resources._polled(sweep, None)]

    class Selected:
        selected_resources: ClassVar = {"userinfo": None}

    monkeypatch.setattr(Sweep, "run", batches)
    monkeypatch.setattr("dlt.current.source", Selected)
    monkeypatch.setattr("dlt.current.source_schema", lambda: Schema("cronofy"))
    monkeypatch.setattr("dlt.current.pipeline", warehouse.pipeline)
    monkeypatch.setattr(resources, "load_package_state", lambda: {"load_id": "load-1"})
    found = asyncio.run(frames())
    assert len(found) == 1 + len(fields)  # the first has no rows: every table exists from the start
    types: dict[str, set[str]] = defaultdict(set)
    for each in found:
        for column in each.schema:
            types[column.name].add(str(column.type))
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}
    assert types["plan"] == {"string"}
    assert types["plan__v_bigint"] == {"int64"}


ODD_FIELDS: dict[str, dict[str, Any]] = {
    "a text that became an object": {"email": {"work": "x@y"}},
    "a name used elsewhere": {"scope": "new at the top"},
    "a name in another case": {"zoneInfo": "x"},
}


@pytest.mark.long
def test_no_field_breaks_a_load(warehouse: Warehouse) -> None:
    warehouse.keys = [f"k{number}" for number in range(len(ODD_FIELDS))]
    for key, fields in zip(warehouse.keys, ODD_FIELDS.values(), strict=True):
        warehouse.serves(
            key, userinfo=userinfo(UP, sub=f"acc_{key}", **fields), account=account(f"acc_{key}")
        )
    warehouse.load()
    assert warehouse.counts() == {
        "userinfo": 3, "account": 3, "profiles": 3, "calendars": 3, "profile_changes": 3, "polls": 6,
        "token_status": 3, "coverage": 3, "runs": 1,
    }  # fmt: skip


@pytest.mark.long
def test_a_lost_working_directory_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.serves("k1", userinfo=userinfo(UP | {"reason": "x"}))
    warehouse.load()
    warehouse.lose_working_directory()
    warehouse.serves("k1", userinfo=userinfo(DOWN | {"reason": "y"}))
    warehouse.clock.advance(hours=1)
    assert warehouse.load() == {"userinfo": 1}
    assert warehouse.query("SELECT state, reason FROM profiles") == [("disconnected", "y")]
    assert warehouse.query("SELECT kind, previous_state FROM profile_changes ORDER BY observed_at") == [
        ("first_seen", None),
        ("disconnected", "connected"),
    ]


def test_the_profiles_endpoint_fills_the_same_tables_for_one_call_a_token(warehouse: Warehouse) -> None:
    tables = ("profiles", "profile_changes", "polls")
    assert warehouse.load(*tables) == {"account": 1, "profiles": 1}
    written = {"profiles": 1, "profile_changes": 1}
    assert warehouse.counts() == EVIDENCE_ALONE | written | {"polls": 2}
    warehouse.clock.advance(hours=1)
    warehouse.serves("k1", profiles=profiles(profile("pro_1", connected=False)))
    # the account is known by now, and /v1/account is called once a day at most
    assert warehouse.load(*tables) == {"profiles": 1}
    assert warehouse.counts("run-2") == EVIDENCE_ALONE | written
    assert warehouse.query("SELECT account_id, kind FROM profile_changes ORDER BY observed_at") == [
        ("acc_1", "first_seen"),
        ("acc_1", "disconnected"),
    ]


@pytest.mark.long
def test_history_goes_on_over_several_loads_of_a_failing_world(warehouse: Warehouse) -> None:
    warehouse.keys = ["k1", "k2", "k3"]
    warehouse.serves("k2", userinfo=userinfo(UP, sub="acc_2"), account=account("acc_2"))
    warehouse.serves("k3", userinfo=service_account(), account=account("ser_1"))
    warehouse.load()
    steps = [
        ("k1", answer(200, userinfo(DOWN))),
        ("k1", answer(500)),
        ("k1", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")),
        ("k1", answer(200, userinfo())),
        ("k1", answer(200, b"<html>")),
        ("k1", answer(200, userinfo(UP))),
    ]
    for key, behavior in steps:
        warehouse.server.on("userinfo", f"at-{key}", behavior)
        warehouse.clock.advance(hours=1)
        warehouse.load()
    assert warehouse.query(
        "SELECT kind, previous_state, state, hour(observed_at - TIMESTAMPTZ '2025-03-01 12:00:00+00'),"
        " hour(previous_poll_at - TIMESTAMPTZ '2025-03-01 12:00:00+00')"
        " FROM profile_changes WHERE account_id = 'acc_1' ORDER BY observed_at"
    ) == [
        ("first_seen", None, "connected", 0, None),
        ("disconnected", "connected", "disconnected", 1, 0),
        ("removed", "disconnected", "removed", 4, 1),
        ("reappeared", "removed", "connected", 6, 4),
    ]
    assert warehouse.query("SELECT account_id, kind FROM profile_changes WHERE account_id <> 'acc_1'") == [
        ("acc_2", "first_seen")
    ]
    assert warehouse.query(
        "SELECT outcome FROM polls WHERE token_key = 'k1' AND endpoint = 'userinfo' ORDER BY polled_at"
    ) == [("ok",), ("ok",), ("server_error",), ("network_error",), ("ok",), ("bad_payload",), ("ok",)]
    assert warehouse.query("SELECT DISTINCT profiles FROM polls WHERE token_key = 'k3'") == [(None,)]


def test_the_source_configures_itself(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And names in the log a token that it leaves out."""
    monkeypatch.setenv(
        "SOURCES__CRONOFY__TOKENS",
        '[{"key": "k1", "access_token": "at-k1"}, {"key": "k2", "access_token": "at k2"}, {"key": "k3"}]',
    )
    monkeypatch.setenv("SOURCES__CRONOFY__BASE_URL", warehouse.server.url)
    # instead of what the selected tables need
    warehouse.run(cronofy_source(endpoints=["account"]))
    assert warehouse.server.called() == {"account": 1}
    assert warehouse.query("SELECT DISTINCT token_key, data_center, outcome FROM polls") == [
        ("k1", "us", "ok")
    ]
    assert "1 row of the token store cannot be used: tokens, entry 2: access_token" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no tokens"),
        ({"tokens": ["t"], "tokens_file": "x.csv"}, "two token stores"),
        ({"tokens": ["t"], "data_center": "mars"}, "data_center"),
        ({"tokens": ["t"], "timeout": -1.0}, "timeout"),
        ({"tokens": ["t"], "endpoints": ["events"]}, "unknown endpoint events"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_called(
    workdir: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        cronofy_source(**options)
