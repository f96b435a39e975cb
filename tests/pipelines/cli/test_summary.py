"""What people read after a load and after the demo."""

import io
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from dlt_cronofy.cli.summary import health_parts, print_load
from dlt_cronofy.formatting import advice, duration, instant
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.report.health import Health
from dlt_cronofy.source.records import Outcome

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOADED: dict[str, Any] = {
    "run_id": "run-1",
    "tokens": 10,
    "due": 4,
    "fresh": 6,
    "destination": "connections.duckdb",
    "dataset": "cronofy",
    "polled_tokens": 4,
    "requests": 5,
    "polls": 5,
    "outcomes": {"ok": 3, "forbidden": 2},
    "changes": {"first_seen": 2, "disconnected": 1},
}


def text_of(*parts: Any) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


LINES: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "an ordinary load": (
        {},
        (
            "Polled 4 of 4 due tokens (10 in the store) with 5 requests",
            "ok 3 · forbidden 2",
            "first_seen 2 · disconnected 1",
            "connections.duckdb, dataset cronofy (run run-1)",
        ),
        ("stopped by", "Finished", "never be loaded"),
    ),
    "one of everything": (
        {"due": 1, "polled_tokens": 1, "requests": 1},
        ("Polled 1 of 1 due token (10", "with 1 request in"),
        ("1 due tokens", "1 requests"),
    ),
    "lost refresh tokens": (
        {"lost_refresh_tokens": ["user_1", "[bold]", "k" * 130]},
        (f"refresh tokens lost, authorize again: user_1, [bold], {'k' * 130}",),
        (),
    ),
    "nothing changed": ({"changes": {}}, ("none",), ("first_seen",)),
    "nothing was due": (
        {"due": 0, "polled_tokens": 0, "requests": 0, "polls": 0, "outcomes": {}, "changes": {}},
        ("Polled 0 of 0 due tokens",),
        ("outcomes", "changes"),
    ),
    "stopped": (
        {"due": 9, "stopped_by": "max_requests"},
        ("stopped by --max-requests", "5 tokens left for the next run"),
        (),
    ),
    "an earlier run had left something": (
        {"finished_packages": ["1"], "quarantined_packages": ["/data/quarantine/2"]},
        ("Finished 1 package", "/data/quarantine/2"),
        (),
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_print_load(case: str) -> None:
    fields, expected, absent = LINES[case]
    console = Console(file=io.StringIO(), width=120, highlight=False)
    print_load(console, LoadResult(**(LOADED | fields)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert [part for part in expected if part not in shown] == []
    assert [part for part in absent if part in shown] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 min"),
        (90, "2 min"),
        (3599, "1 h 0 min"),
        (3600 * 5 + 60 * 7, "5 h 7 min"),
        (86_400 * 3 + 3600 * 4, "3 d 4 h"),
        (86_400 * 40, "40 d"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_every_failed_outcome_has_advice() -> None:
    assert [outcome.value for outcome in Outcome if not advice(outcome)] == ["ok"]
    assert advice("unheard_of") == ""


def health(**fields: Any) -> Health:
    values: dict[str, Any] = {
        "as_of": NOON,
        "since": NOON,
        "tokens": 3,
        "accounts": 2,
        "states": {"connected": 3, "disconnected": 1, "unknown": 2},
        "uptime": 0.75,
        "coverage": None,
        "providers": [],
        "open_outages": [],
        "ended": {"relinked": 2, "open": 1},
        "median_seconds_to_relink": 7200.0,
        "failing_tokens": [],
        "polls": {"ok": 9},
        "never_read_tokens": 0,
        "oldest_evidence_at": NOON,
    }
    return Health(**(values | fields))


def test_an_empty_warehouse_says_what_to_do() -> None:
    assert "run dlt-cronofy load" in text_of(*health_parts(health(as_of=None)))


def test_the_headline_counts() -> None:
    shown = text_of(*health_parts(health()))
    for part in (
        "6 profiles of 2 accounts, as of 2026-03-01 12:00: 3 connected, 1 disconnected, 2 unknown",
        "Uptime 75.0 % since 2026-03-01 12:00; – of that time",
        "3 outages: 2 relinked, 0 ended by removal, 1 still open; median time to relink 2 h 0 min",
    ):
        assert part in shown
    assert "Needs relinking" not in shown
    assert "Could not be read" not in shown


def test_tables_show_the_first_and_count_the_rest() -> None:
    outage = {
        "email": "[bold]ann@example.com",
        "name": None,
        "token_keys": "key1",
        "provider": None,
        "profile_type": "conferencing",
        "profile_name": None,
        "first_seen_at": NOON,
        "started_after": None,
        "days_down": 2.5,
    }
    token = {"token_key": "key[1]", "last_outcome": "forbidden", "failing_since": NOON, "last_ok_at": None}
    shown = text_of(*health_parts(health(open_outages=[outage] * 20, failing_tokens=[token])))
    assert "8 of 20 open outages" in shown
    assert shown.count("ann@example.com") == 8
    assert "[bold]ann@example.com" in shown, "what people are called is no markup"
    assert "before 2026-03-01 12:00" in shown
    assert "1 token, longest first" in shown
    assert "key[1]" in shown
    assert "never" in shown
    assert "authorize again, with more scope" in shown


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (None, "never"),
        (datetime(2026, 1, 31, 23, 30, tzinfo=UTC), "2026-01-31 23:30"),
        (datetime(2026, 2, 1, 5, 15, tzinfo=timezone(timedelta(hours=5, minutes=45))), "2026-01-31 23:30"),
    ],
)
def test_instants_are_shown_in_utc(moment: datetime | None, shown: str) -> None:
    assert instant(moment) == shown
