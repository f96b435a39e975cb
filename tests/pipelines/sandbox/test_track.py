from datetime import UTC, datetime, timedelta

import pytest

from dlt_cronofy.sandbox.records import Track

T = [datetime(2025, 3, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(6)]


def test_joins_equal_neighbours_and_sorts() -> None:
    track = Track.of([(T[3], "b"), (T[1], "a"), (T[2], "a"), (T[4], "a")])
    assert track == Track((T[1], T[3], T[4]), ("a", "b", "a"))


@pytest.mark.parametrize(
    ("instant", "value"),
    [(T[0], "a"), (T[1], "a"), (T[3] - timedelta(microseconds=1), "a"), (T[3], "b"), (T[5], "b")],
)
def test_a_value_holds_from_its_time_on(instant: datetime, value: str) -> None:
    assert Track.of([(T[1], "a"), (T[3], "b")]).at(instant) == value


def test_the_later_of_two_changes_at_one_instant_wins() -> None:
    assert Track.of([(T[1], "a"), (T[1], "b")]).values == ("b",)


def test_between_starts_with_what_held_at_the_start() -> None:
    track = Track.of([(T[0], "a"), (T[1], "b"), (T[3], "c"), (T[5], "d")])
    assert track.between(T[2], T[5]) == Track((T[2], T[3]), ("b", "c"))
