"""Every view on histories short enough to check by eye."""

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from tests.pipelines.views.histories import MIDNIGHT, at, history
from tests.pipelines.views.warehouse import Warehouse, create_views, fill, read

Rows = list[tuple[Any, ...]]


def select(warehouse: Warehouse, text: str, view: str, columns: str, **tables: list[dict[str, Any]]) -> Rows:
    """A view's rows on a history, instants as hours since midnight."""
    fill(warehouse, {**history(text).tables(), **tables})
    return [tuple(hours(value) for value in row) for row in read(warehouse, view, columns.split())]


def hours(value: Any) -> Any:
    return (value - MIDNIGHT).total_seconds() / 3600 if isinstance(value, datetime) else value


INTERVALS = {
    "a sample holds until the next one": (
        """
        0   ann  ok  a+
        6   ann  ok  a-
        18  ann  ok  a+
        20  ann  ok  a+
        """,
        [(0, 6, "connected", False), (18, 20, "connected", True), (6, 18, "disconnected", False)],
    ),
    "but for 24 hours at most": (
        """
        0   ann  ok  a+
        30  ann  ok  a+
        31  ann  ok  a+
        """,
        [(0, 24, "connected", False), (24, 30, "unknown", False), (30, 31, "connected", True)],
    ),
    "a sample that comes just as the last one runs out leaves no gap": (
        """
        0   ann  ok  a+
        24  ann  ok  a+
        25  ann  ok  a+
        """,
        [(0, 25, "connected", True)],
    ),
    "failed polls are no samples, but time goes on": (
        """
        0   ann  ok            a+
        12  ann  server_error
        30  ann  server_error
        """,
        [(0, 24, "connected", False), (24, 30, "unknown", True)],
    ),
    "a body without a list is no sample": (
        """
        0   ann  ok  a+
        12  ann  ok
        30  ann  ok
        """,
        [(0, 24, "connected", False), (24, 30, "unknown", True)],
    ),
    "an empty list removes": (
        """
        0   ann  ok  a+
        6   ann  ok  -
        12  ann  ok  -
        """,
        [(0, 6, "connected", False), (6, 12, "removed", True)],
    ),
    "all tokens of an account are one stream": (
        """
        0   ann/desk   ok  a+
        20  ann/phone  ok  a+
        40  ann/desk   ok  a+
        41  ann/phone  ok  a+
        """,
        [(0, 41, "connected", True)],
    ),
    "at one instant disconnected wins over connected over removed": (
        """
        0  ann/desk   ok  a+
        1  ann/desk   ok  a+
        1  ann/phone  ok  a-
        2  ann/desk   ok  a+
        2  ann/phone  ok  -
        3  ann/desk   ok  a+
        """,
        [(0, 1, "connected", False), (1, 2, "disconnected", False), (2, 3, "connected", True)],
    ),
    "what was first seen at as_of has had no time to last": (
        """
        0  bob  ok  b+
        1  ann  ok  a+
        """,
        [(0, 1, "connected", True)],
    ),
    "what changed at as_of has not lasted either": (
        """
        0  ann  ok  a+
        1  ann  ok  a-
        """,
        [(0, 1, "connected", True)],
    ),
}


@pytest.mark.parametrize(("text", "expected"), INTERVALS.values(), ids=INTERVALS.keys())
def test_profile_intervals(warehouse: Warehouse, text: str, expected: Rows) -> None:
    assert sorted(select(warehouse, text, "profile_intervals", "start_at end_at state is_current")) == sorted(
        expected
    )


def test_profile_intervals_sample_conferencing_apart(warehouse: Warehouse) -> None:
    text = """
        0   ann           ok  a+ | b+
        20  ann:profiles  ok  a+
        40  ann:profiles  ok  a+
    """
    assert select(warehouse, text, "profile_intervals", "profile_type start_at end_at state") == [
        ("calendar", 0, 40, "connected"),
        ("conferencing", 0, 24, "connected"),
        ("conferencing", 24, 40, "unknown"),
    ]


def test_a_change_without_the_row_of_its_poll_is_a_sample_all_the_same(warehouse: Warehouse) -> None:
    tables = history("""
        0   ann  ok  a+
        20  ann  ok  a-
        40  bob  ok  b+
    """).tables()
    lost = [row for row in tables["polls"] if row["polled_at"] != at(20)]
    fill(warehouse, {**tables, "polls": lost})
    rows = read(warehouse, "profile_intervals", ("start_at", "end_at", "state"))
    assert [tuple(hours(value) for value in row) for row in rows] == [
        (0, 20, "connected"),
        (20, 40, "disconnected"),
    ]
    rows = read(warehouse, "outages", ("started_after", "first_seen_at", "last_seen_at"))
    assert [tuple(hours(value) for value in row) for row in rows] == [(0, 20, 20)]


def test_a_change_after_the_newest_poll_is_not_yet_known(warehouse: Warehouse) -> None:
    tables = history("""
        0  ann  ok  a+
        2  ann  ok  a+
        9  ann  ok  a-
    """).tables()
    fill(warehouse, {**tables, "polls": [row for row in tables["polls"] if row["polled_at"] < at(9)]})
    assert read(warehouse, "outages", ("account_id",)) == []
    assert read(warehouse, "profile_intervals", ("state", "end_at")) == [("connected", at(2))]


def test_a_change_of_attributes_splits_nothing(warehouse: Warehouse) -> None:
    tables = history("""
        0  ann  ok  a-
        6  ann  ok  a-
        9  ann  ok  a-
    """).tables()
    (first,) = {row["change_id"]: row for row in tables["profile_changes"]}.values()
    later = {
        **first,
        "change_id": "later",
        "observed_at": at(6),
        "kind": "attributes",
        "profile_name": "renamed",
    }
    fill(warehouse, {**tables, "profile_changes": [later, first]})
    assert read(warehouse, "profile_intervals", ("start_at", "end_at")) == [(at(0), at(9))]
    assert read(warehouse, "outages", ("first_seen_at", "last_seen_at")) == [(at(0), at(9))]
    assert read(warehouse, "needs_relink", ("profile_name",)) == [("renamed",)]


@pytest.mark.parametrize("hold_seconds", [3600, 0.25])
def test_another_hold(warehouse: Warehouse, hold_seconds: float) -> None:
    create_views(warehouse, hold_seconds=hold_seconds)
    try:
        fill(warehouse, history("0 ann ok a+\n3 bob ok b+").tables(), timedelta(seconds=hold_seconds))
        rows = read(warehouse, "profile_intervals", ("start_at", "end_at", "state"))
    finally:
        create_views(warehouse)
    ends = at(hold_seconds / 3600)
    assert sorted(rows) == [(at(0), ends, "connected"), (ends, at(3), "unknown")]


def test_a_late_poll_tells_nothing(warehouse: Warehouse) -> None:
    tables = history("""
        0  ann  ok  a+
        2  ann  ok  a-
        3  ann  ok  a-
    """).tables()
    tables["polls"].append({**tables["polls"][0], "poll_id": "late", "polled_at": at(1), "is_late": True})
    fill(warehouse, tables)
    assert read(warehouse, "outages", ("started_after", "first_seen_at")) == [(at(0), at(2))]


def test_a_link_is_taken_from_where_it_is_newest(warehouse: Warehouse) -> None:
    """A link that changes is no change: only `profiles` has it."""
    profile = {"account_id": "ann", "profile_type": "calendar", "profile_id": "a", "token_key": "ann"}
    text = "0 ann ok a-\n2 ann ok a-"
    for hour, expected in ((1, "https://newer"), (-1, "https://app.example.test/relink/a/0")):
        row = {**profile, "observed_at": at(hour), "profile_relink_url": "https://newer"}
        assert select(warehouse, text, "needs_relink", "relink_url", profiles=[row]) == [(expected,)]


def test_provider_is_never_null(warehouse: Warehouse) -> None:
    """It is the service, the name where there is no service, as for conferencing, and else unknown."""
    tables = history("0 ann ok a+ b+ c+\n6 ann ok a- b- c-\n9 ann ok a+ b+ c+").tables()
    for row in tables["profile_changes"]:
        if row["profile_id"] in ("b", "c"):
            row["provider_service"] = None
        if row["profile_id"] == "c":
            row["provider_name"] = None
    fill(warehouse, tables)
    known = [("OFFICE365", None), ("gmail", "gmail"), ("unknown", None)]
    for view in ("profile_intervals", "outages", "connectivity_daily", "provider_daily", "provider_health"):
        rows = read(warehouse, view, ("provider", "provider_service"))
        assert sorted(set(rows), key=repr) == sorted(known, key=repr), view
    curves = read(warehouse, "time_to_relink", ("provider", "provider_service", "at_risk"))
    assert sorted(curves) == sorted([*((*each, 1) for each in known), ("all", "all", 3)])


def test_window_is_the_same_as_period(warehouse: Warehouse) -> None:
    rows = select(warehouse, "0 ann ok a+\n1 ann ok a+", "provider_health", 'period "window"')
    assert rows == [("30d", "30d"), ("7d", "7d"), ("all", "all")]


OUTAGE = "started_after first_seen_at last_seen_at ended_at end_reason min_seconds max_seconds seconds"
OUTAGES = {
    "from the first sample that says so to the first that says otherwise": (
        """
        0   ann  ok  a+
        5   ann  ok  a+
        6   ann  ok  a-
        7   ann  ok  a-
        10  ann  ok  a+
        """,
        [(5, 6, 7, 10, "relinked", 1 * 3600, 5 * 3600, 4 * 3600)],
    ),
    "unknown gaps do not split": (
        """
        0    ann  ok  a+
        6    ann  ok  a-
        200  ann  ok  a-
        201  ann  ok  a+
        """,
        [(0, 6, 200, 201, "relinked", 194 * 3600, 201 * 3600, 195 * 3600)],
    ),
    "already down when first seen": (
        """
        0  ann  ok  a-
        3  ann  ok  a+
        """,
        [(None, 0, 0, 3, "relinked", 0, None, 3 * 3600)],
    ),
    "still open: failed polls prove nothing": (
        """
        0   ann  ok            a+
        6   ann  ok            a-
        9   ann  ok            a-
        12  ann  token_rejected
        """,
        [(0, 6, 9, None, "open", 3 * 3600, None, 3 * 3600)],
    ),
    "removed, and back disconnected: a second outage after the last removed sample": (
        """
        0  ann  ok  a-
        1  ann  ok  -
        2  ann  ok  -
        3  ann  ok  a-
        """,
        [(None, 0, 0, 1, "removed", 0, None, 3600), (2, 3, 3, None, "open", 0, None, 0)],
    ),
    "polls that list conferencing only are no samples of calendars": (
        """
        0  ann  ok  a+
        1  ann  ok  |  c+
        2  ann  ok  a-
        3  ann  ok  |  c+
        4  ann  ok  a+
        """,
        [(0, 2, 2, 4, "relinked", 0, 4 * 3600, 2 * 3600)],
    ),
}


@pytest.mark.parametrize(("text", "expected"), OUTAGES.values(), ids=OUTAGES.keys())
def test_outages(warehouse: Warehouse, text: str, expected: Rows) -> None:
    assert sorted(select(warehouse, text, "outages", OUTAGE), key=lambda row: row[1]) == expected


def test_outages_show_a_relink_url_only_while_open(warehouse: Warehouse) -> None:
    text = """
        0  ann  ok  a- b-
        1  ann  ok  a- b+
    """
    assert select(warehouse, text, "outages", "profile_id relink_url") == [
        ("a", "https://app.example.test/relink/a/0"),
        ("b", None),
    ]


def test_needs_relink(warehouse: Warehouse) -> None:
    text = """
        0   ann/phone  ok  a+
        6   ann/desk   ok  a-
        30  ann/phone  ok  a-
        36  bob        ok  b+
    """
    userinfo = [
        {
            "token_key": "ann/desk",
            "account_id": "ann",
            "email": "old@x.test",
            "name": "Ann",
            "observed_at": at(0),
        },
        {"token_key": "ann/phone", "account_id": "ann", "email": "ann@x.test", "observed_at": at(6)},
        {"token_key": "bob", "account_id": "bob", "email": "bob@x.test", "observed_at": at(36)},
    ]
    columns = (
        "account_id email name token_keys profile_id profile_name provider_service first_seen_at last_seen_at"
    )
    assert select(warehouse, text, "needs_relink", columns, userinfo=userinfo) == [
        ("ann", "ann@x.test", "Ann", "ann/desk,ann/phone", "a", "a@example.test", "gmail", 6, 30)
    ]
    assert read(warehouse, "needs_relink", ("days_down", "evidence_age_seconds", "relink_url")) == [
        (1.0, 6 * 3600.0, "https://app.example.test/relink/a/0")
    ]


def test_connectivity_daily(warehouse: Warehouse) -> None:
    text = """
        22  ann  ok  a+
        30  ann  ok  a-
        32  ann  ok  a+
        66  ann  ok  -
        80  ann  ok  -
    """
    columns = "day connected_seconds disconnected_seconds unknown_seconds removed_seconds uptime coverage"
    assert select(warehouse, text, "connectivity_daily", columns) == [
        (date(2026, 3, 2), 2 * 3600, 0, 0, 0, 1, 1),
        (date(2026, 3, 3), 22 * 3600, 2 * 3600, 0, 0, 22 / 24, 1),
        (date(2026, 3, 4), 8 * 3600, 0, 10 * 3600, 6 * 3600, 1, 8 / 18),
        (date(2026, 3, 5), 0, 0, 0, 8 * 3600, None, None),
    ]


def test_connectivity_daily_has_no_row_for_the_day_that_begins_at_as_of(warehouse: Warehouse) -> None:
    rows = select(warehouse, "22 ann ok a+\n24 ann ok a+", "connectivity_daily", "day connected_seconds")
    assert rows == [(date(2026, 3, 2), 2 * 3600)]


def test_provider_daily(warehouse: Warehouse) -> None:
    text = """
        0   ann  ok  a+ b+
        6   bob  ok  a-
        12  ann  ok  a+ b+
    """
    columns = "provider_service day profiles connected_seconds disconnected_seconds uptime coverage"
    assert select(warehouse, text, "provider_daily", columns) == [
        ("gmail", date(2026, 3, 2), 2, 12 * 3600, 6 * 3600, 12 / 18, 1),
        ("office365", date(2026, 3, 2), 1, 12 * 3600, 0, 1, 1),
    ]


HEALTH = "period profiles outages_started disconnections_per_1000_days uptime coverage"


def test_provider_health(warehouse: Warehouse) -> None:
    people = [f"p{number:02}" for number in range(20)]
    text = "\n".join(
        [f"0 {person} ok a+" for person in people]
        + [f"{12 + number} p00 ok a{sign}" for number, sign in ((0, "-"), (12, "+"))]
        + [f"24 {person} ok a+" for person in people[1:]]
        + [f"{24 * 10} p00 ok a+"]
    )
    connected_days = 20 * 2 - 0.5
    assert select(warehouse, text, "provider_health", HEALTH) == [
        (
            "30d",
            20,
            1,
            pytest.approx(1000 / connected_days),
            pytest.approx(39.5 / 40),
            pytest.approx(40 / 200),
        ),
        ("7d", 20, 0, None, None, 0),
        (
            "all",
            20,
            1,
            pytest.approx(1000 / connected_days),
            pytest.approx(39.5 / 40),
            pytest.approx(40 / 200),
        ),
    ]


def test_provider_health_rates_need_20_profiles(warehouse: Warehouse) -> None:
    text = """
        0   ann  ok  a+
        12  ann  ok  a-
        24  ann  ok  a-
    """
    assert select(warehouse, text, "provider_health", f"{HEALTH} connected_seconds") == [
        ("30d", 1, 1, None, None, None, 12 * 3600),
        ("7d", 1, 1, None, None, None, 12 * 3600),
        ("all", 1, 1, None, None, None, 12 * 3600),
    ]


def test_provider_health_does_not_blame_the_window_for_what_was_down_before(warehouse: Warehouse) -> None:
    assert {row[2] for row in select(warehouse, "0 ann ok a-\n1 ann ok a-", "provider_health", HEALTH)} == {0}


ACCOUNTS = {
    "healthy": "0 ann ok a+ b+",
    "degraded": "0 ann ok a+ b-",
    "down": "0 ann ok a- b-",
    "no_profiles": "0 ann ok",
    "no_profiles, once it had some": "0 ann ok a-\n1 ann ok -",
    "unknown": "0 ann ok a-\n24 bob ok -",
    "unknown, while calendars are fine": "0 ann ok a+ | c+\n20 ann ok a+\n30 bob ok -",
    "degraded, for all we know": "0 ann ok a+ | c+\n20 ann ok a-\n30 bob ok -",
    "down, as of the newest sample": "0 ann ok a+\n1 ann ok a-",
    "healthy, the removed one aside": "0 ann ok a+ b-\n1 ann ok a+",
}


@pytest.mark.parametrize(("verdict", "text"), ACCOUNTS.items())
def test_account_health(warehouse: Warehouse, verdict: str, text: str) -> None:
    verdicts: dict[str, str] = dict(select(warehouse, text, "account_health", "account_id verdict"))
    assert verdicts["ann"] == verdict.partition(",")[0]


def test_account_health_counts(warehouse: Warehouse) -> None:
    text = """
        0   ann  ok  a+ b- | c+
        20  ann  ok  a+ b-
        30  ann  timeout
    """
    columns = "account_id profiles connected disconnected unknown verdict last_sample_at"
    assert select(warehouse, text, "account_health", columns) == [("ann", 3, 1, 1, 1, "degraded", 20)]


TOKEN = "account_id endpoint last_polled_at last_ok_at last_outcome failing_since consecutive_failures"
TOKENS = {
    "works": ("0 ann timeout\n1 ann ok a+", ("ann", "userinfo", 1, 1, "ok", None, 0)),
    "fails": (
        "0 ann ok a+\n1 ann timeout\n2 ann token_rejected\n3 ann token_rejected",
        ("ann", "userinfo", 3, 0, "token_rejected", 1, 3),
    ),
    "never worked": ("1 ann forbidden\n2 ann timeout", (None, "userinfo", 2, None, "timeout", 1, 2)),
    "skipped polls are no attempts": (
        "0 ann ok a+\n1 ann timeout\n2 ann skipped",
        ("ann", "userinfo", 1, 0, "timeout", 1, 1),
    ),
    "never tried": ("0 ann skipped", (None, "userinfo", None, None, None, None, 0)),
    "judged by userinfo, not by an endpoint the plan forbids": (
        "0 ann ok a+\n1 ann:account plan_required",
        ("ann", "userinfo", 0, 0, "ok", None, 0),
    ),
    "or by what is polled instead": (
        "0 ann skipped\n1 ann:account timeout\n2 ann:calendars ok",
        ("ann", "account", 1, None, "timeout", 1, 1),
    ),
}


@pytest.mark.parametrize(("text", "expected"), TOKENS.values(), ids=TOKENS.keys())
def test_token_health(warehouse: Warehouse, text: str, expected: tuple[Any, ...]) -> None:
    assert select(warehouse, text, "token_health", TOKEN) == [expected]


def test_time_to_relink(warehouse: Warehouse) -> None:
    text = """
        0  ann  ok  a+ b+
        0  bob  ok  a+ b-
        0  cid  ok  a+
        1  ann  ok  a- b-
        1  bob  ok  a- b-
        1  cid  ok  a-
        2  ann  ok  a+ b-
        2  bob  ok  a- b+
        2  cid  ok  -
        3  bob  ok  a+ b+
        3  ann  ok  a+ b-
    """
    # a: relinked after 1 h (ann) and 2 h (bob), removed after 1 h (cid); b: open for 2 h (ann); bob's b was
    # down when first seen and is left out
    columns = "provider_service seconds at_risk relinked survival"
    assert select(warehouse, text, "time_to_relink", columns) == [
        ("all", 3600, 4, 1, pytest.approx(3 / 4)),
        ("all", 7200, 2, 1, pytest.approx(3 / 8)),
        ("gmail", 3600, 3, 1, pytest.approx(2 / 3)),
        ("gmail", 7200, 1, 1, 0),
    ]


def test_flapping_profiles(warehouse: Warehouse) -> None:
    """Three outages in 30 days, one that was there at the first look too; `b` has two, `c` one too old."""
    rows = {"a": "-+-+-+", "b": "+-+-++", "c": "-+-+-+"}
    hours = {"a": (0, 1, 2, 3, 4, 5), "b": (0, 1, 2, 3, 4, 5), "c": (-720, 1, 2, 3, 4, 5)}
    lines = [
        (hour, f"{hour} {name}_owner ok {name}{sign}")
        for name, signs in rows.items()
        for hour, sign in zip(hours[name], signs, strict=True)
    ]
    text = "\n".join(line for _, line in sorted(lines))
    columns = "account_id profile_id provider outages_30d state last_changed_at"
    assert select(warehouse, text, "flapping_profiles", columns) == [
        ("a_owner", "a", "gmail", 3, "connected", 5)
    ]


def test_flapping_counts_from_30_days_before_as_of_on(warehouse: Warehouse) -> None:
    text = "0 ann ok a-\n1 ann ok a+\n2 ann ok a-\n3 ann ok a+\n4 ann ok a-\n720 bob ok b+"
    assert select(warehouse, text, "flapping_profiles", "outages_30d state") == [(3, "disconnected")]
    assert select(warehouse, f"{text}\n721 bob ok b+", "flapping_profiles", "outages_30d") == []


def test_poll_coverage(warehouse: Warehouse) -> None:
    tables = history("""
        0   ann  ok            a+
        0   bob  timeout
        20  ann  server_error
        20  bob  ok            b+
        30  ann  skipped
        30  bob  ok            b+
    """).tables()
    for row in tables["polls"]:
        row["run_id"] = f"run_{hours(row['polled_at']):02.0f}"
    fill(warehouse, tables)
    columns = (
        "grain",
        "run_id",
        "day",
        "polled",
        "ok",
        "failed",
        "timeout",
        "server_error",
        "skipped",
        "oldest_evidence_age_seconds",
    )
    assert read(warehouse, "poll_coverage", columns) == [
        ("day", None, date(2026, 3, 2), 4, 2, 2, 1, 1, 0, 20 * 3600),
        ("day", None, date(2026, 3, 3), 1, 1, 0, 0, 0, 1, 30 * 3600),
        ("run", "run_00", date(2026, 3, 2), 2, 1, 1, 1, 0, 0, 0),
        ("run", "run_20", date(2026, 3, 2), 2, 1, 1, 0, 1, 0, 20 * 3600),
        ("run", "run_30", date(2026, 3, 3), 1, 1, 0, 0, 0, 1, 30 * 3600),
    ]


def test_empty_tables_answer_with_no_rows(warehouse: Warehouse) -> None:
    fill(warehouse, {})
    for view in (
        "profile_intervals",
        "outages",
        "provider_daily",
        "account_health",
        "poll_coverage",
        "token_health",
    ):
        assert read(warehouse, view, "*") == []
