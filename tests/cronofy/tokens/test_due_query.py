"""`due_query`: the application's notifications by token or account, and what is wrong with a query."""

import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.due_query import read_notified

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "app.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE notices (token, account, arrived_at)")
        rows = [
            ("7", "acc_7", "2026-01-05T11:00:00Z"),
            ("7", None, "2026-01-05T11:30:00+00:00"),
            ("7", None, "2026-01-05 10:00:00"),
            (8, None, 1767611400),
            (None, "acc_9", "2026-01-05T09:00:00Z"),
            ("not yet", None, None),
        ]
        connection.executemany("INSERT INTO notices VALUES (?, ?, ?)", rows)
        connection.commit()
    return file


def settings(database: Path, query: str) -> PollingSettings:
    return PollingSettings(due_query=query, tokens_database=Secret(f"sqlite:///{database}"))


def test_the_newest_notification_of_each_name_counts(database: Path) -> None:
    query = "SELECT token AS key, account AS account_id, arrived_at AS NOTIFIED_AT FROM notices;"
    assert read_notified(settings(database, query), NOW) == {
        "7": datetime(2026, 1, 5, 11, 30, tzinfo=UTC),
        "acc_7": datetime(2026, 1, 5, 11, tzinfo=UTC),
        "8": datetime(2026, 1, 5, 11, 10, tzinfo=UTC),
        "acc_9": datetime(2026, 1, 5, 9, tzinfo=UTC),
    }


def test_one_kind_of_name_will_do_and_without_a_query_nothing_is_read(database: Path) -> None:
    query = "SELECT account AS account_id, arrived_at AS notified_at FROM notices"
    assert set(read_notified(settings(database, query), NOW)) == {"acc_7", "acc_9"}
    assert read_notified(PollingSettings(), NOW) == {}


def test_a_time_far_ahead_does_not_count_and_is_told_of(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    query = "SELECT token AS key, arrived_at AS notified_at FROM notices WHERE token IS NOT NULL"
    early = datetime(2026, 1, 5, 10, 20, tzinfo=UTC)
    with caplog.at_level(logging.WARNING):
        found = read_notified(settings(database, query), early)
    assert found == {
        "7": datetime(2026, 1, 5, 11, tzinfo=UTC),
        "8": early + timedelta(minutes=50),
    }
    assert "due_query: 1 row(s) are dated more than an hour ahead" in caplog.text


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT nothing FROM notices", "failed: OperationalError"),
        ("SELECT", "failed: OperationalError"),
        ("SELECT token AS key FROM notices", "must return the columns key or account_id, and notified_at"),
        ("SELECT arrived_at AS notified_at FROM notices", "must return the columns"),
        ("CREATE TABLE other (key)", "must return the columns"),
        ("SELECT token AS key, 'soon' AS notified_at FROM notices", "notified_at is no point in time"),
        ("SELECT 1.5 AS key, arrived_at AS notified_at FROM notices", "a value of key is neither text"),
    ],
)
def test_a_broken_query_is_one_line_that_quotes_no_value(database: Path, query: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_notified(settings(database, query), NOW)
    assert str(caught.value).startswith("due_query in [sources.cronofy]")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "soon" not in str(caught.value)
