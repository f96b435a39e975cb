"""The hazard: what the change log teaches of an account, and how far it is believed."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.planning.change_rates import (
    STATES,
    Hazards,
    Histories,
    collect_histories,
    gamma_shape,
    shrunk_factor,
    with_unseen_changes,
)
from tests.cronofy.clocks import START

DAYS = 40.0
Row = dict[str, Any]


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def rows(
    account_id: str, steps: list[tuple[float | None, str]], provider: str = "gsuite", samples: int = 41
) -> Iterator[Row]:
    """What the warehouse tells of one profile: (day, state from then on); no day is before the window."""
    before = None
    for day, state in steps:
        yield {
            "account_id": account_id,
            "provider": provider,
            "seen_at": None if day is None else at(day),
            "samples": samples,
            "first_at": START,
            "last_at": at(DAYS),
            **{name: (name == state) - (name == before) for name in STATES},
            **{f"left_{name}": int(name == before) for name in STATES},
        }
        before = state


def flapping(account_id: str, changes: int, provider: str = "gsuite") -> list[Row]:
    """A profile that was connected before the window and changes that often, a day apart; an even number."""
    states = [(1.0 + day, "disconnected" if day % 2 == 0 else "connected") for day in range(changes)]
    return list(rows(account_id, [(None, "connected"), *states], provider))


@pytest.mark.parametrize(
    ("steps", "profiles", "days", "changes"),
    [
        ([(None, "connected")], (1, 0, 0), (40, 0, 0), (0, 0, 0)),
        ([(0.0, "connected")], (1, 0, 0), (40, 0, 0), (0, 0, 0)),
        ([(30.0, "connected")], (1, 0, 0), (10, 0, 0), (0, 0, 0)),
        ([(None, "connected"), (10.0, "disconnected")], (0, 1, 0), (10, 30, 0), (1, 0, 0)),
        (
            [(None, "connected"), (10.0, "disconnected"), (15.0, "connected"), (35.0, "removed")],
            (0, 0, 1),
            (30, 5, 5),
            (2, 1, 0),
        ),
    ],
)
def test_time_in_each_state_and_changes_out_of_it(
    steps: list[tuple[float | None, str]],
    profiles: tuple[int, ...],
    days: tuple[int, ...],
    changes: tuple[int, ...],
) -> None:
    histories = collect_histories(rows("acc_1", steps))
    assert [column[0] for column in histories.profiles] == list(profiles)
    assert [column[0] for column in histories.days] == pytest.approx(days, abs=1e-5)
    # one sample a day: what samples miss is little
    found = [column[0] for column in histories.changes]
    assert [round(each) for each in found] == list(changes)


def test_each_provider_of_an_account_has_its_row() -> None:
    first = [*rows("acc_1", [(None, "connected")], "gsuite"), *rows("acc_1", [(None, "connected")], "zoom")]
    histories = collect_histories([*first, *rows("acc_2", [(None, "connected")], "zoom")])
    assert list(histories) == [range(2), range(2, 3)]
    hazards = Hazards(histories)
    assert hazards.providers("acc_1") == ["gsuite", "zoom"]
    assert (hazards.providers("acc_2"), hazards.providers("acc_9")) == (["zoom"], [])


def test_nothing_is_known_of_an_empty_warehouse() -> None:
    hazards = Hazards(Histories())
    assert (hazards.per_day("acc_1"), hazards.per_day(None), hazards.mean_per_day) == (0.0, 0.0, 0.0)


def test_one_sample_teaches_nothing() -> None:
    [row] = rows("acc_1", [(0.0, "connected")], samples=1)
    hazards = Hazards(collect_histories([row | {"last_at": START}]))
    assert hazards.per_day("acc_1") == 0.0


def test_an_account_without_history_gets_the_mean() -> None:
    hazards = Hazards(collect_histories([*flapping("acc_1", 12), *flapping("acc_2", 0)]))
    assert hazards.per_day("acc_9") == hazards.per_day(None) == hazards.mean_per_day
    known = [hazards.per_day("acc_1"), hazards.per_day("acc_2")]
    assert hazards.mean_per_day == pytest.approx(sum(known) / 2, rel=0.1)


def test_what_changes_often_is_expected_to_go_on() -> None:
    steady = [row for number in range(50) for row in flapping(f"acc_{number}", 0)]
    hazards = Hazards(collect_histories([*steady, *flapping("often", 12), *flapping("once", 2)]))
    steady_per_day = hazards.per_day("acc_0")
    assert hazards.per_day("often") > 2 * hazards.per_day("once") > 4 * steady_per_day
    assert hazards.per_day("often") < 12 / DAYS  # less than it showed: luck is part of it
    assert steady_per_day > 0


def test_a_disconnected_profile_waits_for_somebody() -> None:
    relinked: list[tuple[float | None, str]] = [
        (None, "connected"),
        (20.0, "disconnected"),
        (22.0, "connected"),
    ]
    past = [row for number in range(20) for row in rows(f"acc_{number:02}", relinked)]
    down: list[tuple[float | None, str]] = [(None, "connected"), (39.0, "disconnected")]
    hazards = Hazards(collect_histories([*past, *rows("down", down), *rows("up", [(None, "connected")])]))
    assert hazards.per_day("down") > 5 * hazards.per_day("up")


def test_a_provider_that_breaks_often_is_told_from_one_that_does_not() -> None:
    history = [
        row
        for number in range(60)
        for row in flapping(
            f"acc_{number:02}", 2 if number < 30 else 0, "icloud" if number < 40 else "gsuite"
        )
    ]
    new = [*rows("new a", [(39.9, "connected")], "icloud"), *rows("new b", [(39.9, "connected")], "gsuite")]
    hazards = Hazards(collect_histories([*history, *new]))
    assert hazards.per_day("new a") > 2 * hazards.per_day("new b")


@pytest.mark.parametrize("seed", range(5))
def test_accounts_that_differ_by_chance_alone_get_one_hazard(seed: int) -> None:
    """Counts of one Poisson distribution are shrunk to their mean all the way, or nearly."""
    expected = np.full(2000, 0.7)
    counts = np.random.default_rng(seed).poisson(expected)
    shape = gamma_shape(counts.tolist(), expected.tolist())
    assert shape > 10
    factors = [shrunk_factor(float(count), 0.7, shape) for count in range(4)]
    assert max(factors) / min(factors) < 1.4


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_the_shape_of_gamma_hazards_is_found(shape: float) -> None:
    random = np.random.default_rng(5)
    expected = random.uniform(0.5, 4.0, 20_000)
    counts = random.poisson(expected * random.gamma(shape, 1 / shape, expected.size))
    found = gamma_shape(counts.tolist(), expected.tolist())
    assert found == pytest.approx(shape, rel=0.15)


@pytest.mark.parametrize("per_interval", [0.05, 0.5, 1.5])
def test_changes_that_samples_miss_are_made_up_for(per_interval: float) -> None:
    """The estimate of Cho and Garcia-Molina is nearly unbiased where counting changed samples is not."""
    samples = 60
    shown = np.random.default_rng(3).binomial(samples, 1 - math.exp(-per_interval), 4000)
    estimates = [with_unseen_changes(float(count), samples) / samples for count in shown]
    assert np.mean(estimates) == pytest.approx(per_interval, rel=0.03)
    if per_interval >= 0.5:
        assert np.mean(shown) / samples < 0.8 * per_interval


@given(st.integers(0, 100), st.floats(0, 100))
def test_unseen_changes_only_add(changes: int, samples: float) -> None:
    found = with_unseen_changes(float(changes), samples)
    assert math.isfinite(found)
    assert found >= changes * (1 - 1e-9)
    assert bool(found) is bool(changes)


@given(st.floats(0, 50), st.floats(0, 50), st.floats(1e-3, 1e6))
def test_shrinking_stays_between_what_was_expected_and_what_was_seen(
    count: float, expected: float, shape: float
) -> None:
    factor = shrunk_factor(count, expected, shape)
    seen = count / expected if expected else math.inf
    assert min(1.0, seen) - 1e-9 <= factor <= max(1.0, seen) + 1e-9


@given(st.permutations(range(6)))
def test_the_order_of_accounts_changes_no_hazard(order: list[int]) -> None:
    def learned(numbers: list[int]) -> list[float]:
        history = [row for number in numbers for row in flapping(f"acc_{number}", 2 * number)]
        hazards = Hazards(collect_histories(history))
        return [hazards.per_day(f"acc_{number}") for number in range(6)]

    assert learned(order) == pytest.approx(learned(list(range(6))), rel=1e-12)
