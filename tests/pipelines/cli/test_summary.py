"""What people read after a load and after the demo."""

import io
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from dlt_cronofy.cli.summary import health_parts, print_load, print_rows, print_status
from dlt_cronofy.formatting import advice, duration, instant
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.report.health import Health
from dlt_cronofy.report.worklist import by_owner
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


def text_of(*parts: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
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
        (0, "under 1 min"),
        (90, "2 min"),
        (3599, "1 h"),
        (3600 * 5 + 60 * 7, "5 h 7 min"),
        (86_400 * 3 + 3600 * 4, "3 days 4 h"),
        (86_400, "1 day"),
        (86_400 * 40, "40 days"),
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
        "since": NOON - timedelta(days=30),
        "tokens": 3,
        "accounts": 2,
        "states": {"connected": 15_369, "disconnected": 1, "unknown": 2},
        "uptime": 0.75,
        "coverage": None,
        "providers": [],
        "open_outages": [],
        "ended": {"relinked": 2, "open": 1, "left": 1},
        "median_seconds_to_relink": 7200.0,
        "failing_tokens": [],
        "polls": {"ok": 9},
        "never_read_tokens": 0,
        "oldest_evidence_at": NOON,
        "freshness": {
            "tokens": 8_000,
            "unreadable_tokens": 1,
            "median_age_seconds": 3600.0,
            "p95_age_seconds": 90_000.0,
        },
    }
    return Health(**(values | fields))


ACTION = {
    "account_id": "acc_1",
    "customer": None,
    "email": "ann@northwind.example",
    "email_domain": "northwind.example",
    "name": "Ann",
    "token_keys": "key1",
    "profile_type": "calendar",
    "profile_id": "pro_1",
    "profile_name": "ann@northwind.example",
    "provider": "office365",
    "reason": "relink",
    "rank": 3,
    "since": NOON,
    "since_known": True,
    "days": 2.5,
}
NEVER_READ = ACTION | {
    "account_id": None,
    "email": None,
    "email_domain": None,
    "name": None,
    "profile_type": None,
    "profile_name": None,
    "provider": None,
    "token_keys": "key[1]",
    "reason": "authorize",
    "rank": 1,
    "since_known": False,
    "days": 0.0,
}


def actions(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [ACTION | change for change in changes]


def test_an_empty_warehouse_says_what_to_do() -> None:
    assert "run dlt-cronofy load" in text_of(*health_parts(health(as_of=None)))


def test_the_headline_counts() -> None:
    shown = text_of(*health_parts(health(left_accounts=2)))
    for part in (
        "No account needs action",
        "15,372 profiles of 2 accounts, as of 2026-03-01 12:00: 15,369 connected, 1 disconnected, 2 unknown",
        "Uptime 75.0 % since 2026-01-30 12:00; – of that time",
        "4 outages: relinked 2 · still open 1 · of accounts that left 1; median time to relink 2 h",
        "Newest reading of 8,000 tokens: 1 h old in the median, 1 day 1 h at the 95th percentile; 1 token",
        "2 accounts left and are in none of these lists",
    ):
        assert part in shown
    assert "Worked before" not in shown
    assert "Could not be read" not in shown


def test_on_the_first_day_there_is_no_past() -> None:
    shown = text_of(*health_parts(health(since=NOON, actions=[NEVER_READ], freshness={}, providers=[])))
    assert "By provider" not in shown
    assert "Uptime and time to relink are shown after a day of loads" in shown
    assert "No token could be read yet" in shown
    assert "just found" in shown
    assert "75.0 %" not in shown


def test_the_worklist_names_people_and_keeps_what_never_worked_apart() -> None:
    migrate = ACTION | {"reason": "migrate", "rank": 6, "since_known": False}
    never = ACTION | {"account_id": "acc_2", "email": None, "since_known": False, "profile_name": "[bold]"}
    shown = text_of(*health_parts(health(actions=[NEVER_READ, ACTION, never, migrate])))
    headline, before, unseen, deadline = (
        shown.index(part)
        for part in (
            "3 accounts need action: authorize again 1 · relink 2 · move to Microsoft Graph 1",
            "Worked before: 1 account",
            "Never seen working: 2 accounts",
            "Works, but has a deadline: 1 account",
        )
    )
    assert headline < before < unseen < deadline
    assert re.search(r"ann@northwind.example +Microsoft 365 +relink +2 days 12 h", shown[before:unseen])
    assert re.search(r"key\[1\] +authorize again +just found", shown[unseen:deadline])
    assert re.search(r"Ann +Microsoft 365: \[bold\] +relink +over 2 days 12 h", shown[unseen:deadline])


def test_the_most_urgent_customer_comes_first_and_is_named_once() -> None:
    rows = actions(
        {"customer": "Adatum", "account_id": "a"},
        {"customer": "Fabrikam", "account_id": "b"},
        {"customer": "Northwind", "account_id": "c", "reason": "initial_sync", "rank": 4},
        {"customer": "Fabrikam", "account_id": "d", "reason": "initial_sync", "rank": 4},
        {"email_domain": "contoso.example", "account_id": "e", "reason": "authorize", "rank": 1},
    )
    assert [row["account_id"] for row in by_owner(rows)] == ["e", "b", "d", "a", "c"]
    shown = text_of(*health_parts(health(actions=rows)))
    assert shown.count("Fabrikam") == 1


def test_the_first_rows_are_shown_and_the_others_counted() -> None:
    console = Console(file=io.StringIO(), width=60, highlight=False)
    print_status(console, health(actions=[ACTION] * 1_200))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert len(re.findall(r"relink +2 days 12 h", shown)) == 15
    sql = "SELECT * FROM needs_action ORDER BY rank, since"
    assert f"and 1,185 more: dlt-cronofy query --format csv '{sql}'\n" in shown


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_keeps_durations_and_times_whole(width: int) -> None:
    token = {**ACTION, "token_key": "k", "verdict": "failing", "last_outcome": "timeout"}
    token |= {"failing_since": NOON, "last_ok_at": None}
    long = ACTION | {"customer": "A customer with a long name", "email": f"{'x' * 60}@a.example"}
    shown = text_of(*health_parts(health(actions=[long], failing_tokens=[token])), width=width)
    assert "2 days 12 h" in shown
    assert "2026-03-01 12:00" in shown
    assert max(map(len, shown.splitlines())) <= width


def test_failing_tokens_that_are_in_the_worklist_are_not_listed_twice() -> None:
    failing = {**ACTION, "verdict": "failing", "last_outcome": "timeout", "failing_since": NOON}
    failing |= {"last_ok_at": NOON}
    refused = failing | {"verdict": "authorize", "last_outcome": "token_rejected"}
    shown = text_of(*health_parts(health(failing_tokens=[failing, refused])))
    assert "Could not be read: 1 token" in shown
    assert "will be retried by the next load" in shown


def test_numbers_of_a_query_are_readable() -> None:
    rows = [{"year": 2026, "tokens": 15_369, "days": 3.512e-05, "ratio": 12_345.6, "late": True}]
    console = Console(file=io.StringIO(), width=120, highlight=False)
    print_rows(console, rows)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split()[-5:] == ["2026", "15,369", "0.00003512", "12,346", "True"]


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
