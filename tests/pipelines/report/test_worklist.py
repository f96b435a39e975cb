"""The worklist: its order, its words, and its table."""

import csv
import io
from datetime import UTC, datetime

import pytest

from dlt_cronofy.report import worklist
from dlt_cronofy.report.command import worklist_csv
from dlt_cronofy.source.tables import Row

RANKS = ("authorize", "widen_scope", "relink", "initial_sync", "no_writable_calendar", "migrate")


def action(account: str, reason: str = "relink", **differs: object) -> Row:
    nothing: Row = dict.fromkeys(("customer", "email_domain", "name", "email", "token_keys"))
    return {
        **nothing,
        "account_id": account,
        "profile_type": "calendar",
        "profile_id": "pro_1",
        "profile_name": None,
        "provider": "gsuite",
        "reason": reason,
        "rank": RANKS.index(reason) + 1,
        "since": datetime(2026, 5, 1, tzinfo=UTC),
        "since_known": True,
        "days": 1.0,
        "url": None,
        "evidence_age_seconds": 0.0,
        **differs,
    }


def test_customers_come_by_urgency_then_size_and_the_unknown_last() -> None:
    rows = [
        action("a", customer="Small", email_domain="small.example"),
        action("b", email_domain="large.example"),
        action("c", email_domain="large.example"),
        action("d", "authorize", customer="Urgent"),
        action("e", customer="Urgent"),
        action("f", "authorize"),
    ]
    [part] = worklist.parts(rows)
    assert [group.name for group in part.groups] == ["Urgent", "large.example", "Small", ""]
    assert [row["account_id"] for row in part.groups[0].rows] == ["d", "e"]
    assert part.groups[0].reasons == "authorize again 1 · relink 1"
    assert part.people == 6


def test_what_never_worked_and_what_has_a_deadline_stand_apart() -> None:
    rows = [action("a", "migrate", since_known=False), action("b", since_known=False), action("c")]
    found = {
        part.title: [row["account_id"] for group in part.groups for row in group.rows]
        for part in worklist.parts(rows)
    }
    assert found == {worklist.BROKE: ["c"], worklist.NEVER: ["b"], worklist.DEADLINE: ["a"]}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "No account needs action"),
        ([action("a")], "1 account needs action"),
        (
            [action("a"), action("a", customer="N"), action("b", customer="N")],
            "2 accounts of 1 customer need action",
        ),
    ],
)
def test_the_headline_counts_people(rows: list[Row], expected: str) -> None:
    assert worklist.headline(rows) == expected


def test_rows_are_counted_in_words_by_urgency() -> None:
    rows = [action("a"), action("b"), action("c", "authorize")]
    assert worklist.counted(rows) == ["1 account to authorize again", "2 connections down"]


@pytest.mark.parametrize(
    ("days", "since_known", "expected"),
    [
        (0.0, True, "just found"),
        (1.0, True, "1 day"),
        (30.0, False, "at least 30 days"),
        (0.125, True, "3 h"),
    ],
)
def test_how_long_it_lasts(days: float, since_known: bool, expected: str) -> None:
    assert worklist.lasting({"days": days, "since_known": since_known}) == expected


def test_the_table_has_every_row_and_no_formula() -> None:
    rows = [
        action("a", name="=HYPERLINK(1)", days=1.23456),
        action("b", name="Björk, Ada", since_known=False),
    ]
    content = worklist_csv(rows).decode("utf-8-sig")
    found = list(csv.DictReader(io.StringIO(content)))
    assert [row["account_id"] for row in found] == ["a", "b"]
    assert found[0]["name"] == "'=HYPERLINK(1)"
    assert found[0]["days"] == "1.23"
    assert found[0]["since"] == "2026-05-01T00:00:00+00:00"
    assert found[1] | {"name": "Björk, Ada", "since_known": "False", "provider": "gsuite"} == found[1]
