"""The fleet of benchmarks/fleet.py: paper is checked by hand, playing by paper."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet import (
    APPLICATIONS,
    NO_FRICTIONS,
    TOKENS,
    WINDOW_CALLS,
    Fleet,
    Frictions,
    Played,
    Prices,
    calls_a_day,
    even_sizes,
    measure,
    on_paper,
    play,
    steady_hours,
    tailed_sizes,
    userinfo_hours,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "fleet.md"
SPLITS = ("even", "long tail")
SCALE = 2_000
# kills are few, so chance counts
NOISY = {"shards that run again, a day": 0.5, "calls made again, % of all": 0.5}


def total(fleet: Played, name: str) -> int:
    return sum(getattr(day, name) for each in fleet.applications for day in each.days)


def test_both_splits_are_of_all_tokens() -> None:
    for sizes in (even_sizes(), tailed_sizes()):
        assert (len(sizes), sum(sizes)) == (APPLICATIONS, TOKENS)
        assert sizes == sorted(sizes, reverse=True)
    assert 5 < tailed_sizes()[0] / even_sizes()[0] < 6


def test_hours_by_hand() -> None:
    assert userinfo_hours(250_000, 400) == pytest.approx(10 + 25 / 60)
    # 16 hours of userinfo, and account in every second sweep
    assert steady_hours(384_000, 400) == pytest.approx(24)
    # 250,000 tokens: 10.4167 - 12 + sqrt(10.4167² + 12²)
    assert steady_hours(250_000, 400) == pytest.approx(14.307, abs=0.001)
    # each sweep of an endless one reads both
    assert steady_hours(1e12, 400) == pytest.approx(2 * userinfo_hours(1e12, 400))


def test_calls_by_hand() -> None:
    assert calls_a_day(Fleet(even_sizes()), 250_000) == pytest.approx(375_000)
    # as many as the limit allows
    assert calls_a_day(Fleet(tailed_sizes()), tailed_sizes()[0]) == pytest.approx(400 * 60 * 24)


def test_rows_bytes_and_money_by_hand() -> None:
    prices = Prices(snowflake_credit=2, loads_a_day=12, seconds_a_package=6, seconds_until_suspended=300)
    figures = on_paper(even_sizes(), prices)
    assert figures["shards of a sweep"] == 400
    assert figures["polls a day, million rows"] == pytest.approx(15)
    # 15 million at 39 bytes; half of 1 - e^-0.01 of the tokens a day and two each at first, at 133
    changes = 365 * 10e6 * (1 - math.exp(-0.01)) / 2 + 20e6
    assert figures["DuckDB: GB after a year"] == pytest.approx((365 * 15e6 * 39 + changes * 133) / 1e9)
    # 3,750 packages and 12 loads: 26,100 seconds a day
    assert figures["Snowflake: dollars a year, loads"] == pytest.approx(7.25 * 365 * 2)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return measure()


@pytest.mark.parametrize("sizes", [even_sizes(), tailed_sizes()], ids=SPLITS)
def test_without_frictions_playing_is_paper(sizes: list[int]) -> None:
    fleet = play(Fleet(sizes), days=12, frictions=NO_FRICTIONS)
    figures = on_paper(sizes)
    assert fleet.a_day("calls") == pytest.approx(1e6 * figures["400/min: calls a day, millions"], rel=0.02)
    assert fleet.a_day("polls") == pytest.approx(fleet.a_day("calls"), rel=1e-4)
    assert fleet.first_hours(0) == pytest.approx(
        figures["400/min: hours of the first sweep, largest"], rel=0.02
    )
    assert total(fleet, "kills") == total(fleet, "again") == total(fleet, "twice") == 0


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_with_frictions_playing_is_near_paper(rows: list[dict[str, Any]], split: str) -> None:
    ratios = {row["figure"]: row[f"{split}: ratio"] for row in rows if row[f"{split}: ratio"] is not None}
    assert len(ratios) == 30
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(1, abs=NOISY.get(name, 0.08)), name


def test_back_to_back_without_frictions_playing_is_paper() -> None:
    sizes = [1_362_388, 250_000]
    fleet = play(Fleet(sizes, every_hours=0), frictions=NO_FRICTIONS)
    for rank, tokens in enumerate(sizes):
        assert fleet.steady_hours(rank) == pytest.approx(steady_hours(tokens, 400), rel=0.03)


def test_a_shard_that_was_killed_runs_again_and_its_rows_count_once() -> None:
    frictions = Frictions(retried=0, kills_a_worker_day=3, seal_minutes=10)
    fleet = play(Fleet(even_sizes()), SCALE, frictions=frictions)
    assert total(fleet, "kills") > 0
    assert total(fleet, "twice") > 0
    assert total(fleet, "calls") == total(fleet, "polls") + total(fleet, "again")


def test_no_application_is_called_more_often_than_allowed() -> None:
    fleet = play(Fleet(tailed_sizes(), every_hours=0), SCALE, days=8)
    allowed = 400 * 60 * 24 / SCALE + WINDOW_CALLS
    assert max(day.calls for each in fleet.applications for day in each.days) <= allowed


def test_the_same_seed_plays_the_same() -> None:
    def days(seed: int) -> list[object]:
        fleet = play(Fleet(tailed_sizes()), SCALE, days=6, seed=seed)
        return [(each.days, each.sweeps) for each in fleet.applications]

    assert days(1) == days(1) != days(2)


@pytest.mark.long
def test_the_page_shows_these_figures(rows: list[dict[str, Any]]) -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    for row in rows:
        cells = ["" if cell is None else f"{cell:,.2f}" for cell in list(row.values())[1:]]
        line = f"| {row['figure']} | {' | '.join(cells)} |".replace("  ", " ")
        assert line in page
