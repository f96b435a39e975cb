"""Charts: each can be drawn of everything and of nothing, and says unknown where nobody looked."""

import json
from typing import Any

import pandas as pd
import pytest
import vl_convert

from dlt_cronofy.report import charts, figures
from dlt_cronofy.report.drawings import SLOTS, draw_inline

DAYS = pd.to_datetime(["2026-01-05", "2026-01-06", "2026-01-07"])


def days(*seconds: tuple[float, float, float]) -> pd.DataFrame:
    """Rows of `figures.read_days`: connected, disconnected and unknown seconds of consecutive days."""
    names = ["connected_seconds", "disconnected_seconds", "unknown_seconds"]
    frame = pd.DataFrame(list(seconds), columns=names, dtype="float64")
    return frame.assign(day=DAYS[: len(seconds)].astype("datetime64[us]"), provider="google", profiles=1)


def survival(*rows: tuple[str, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["provider", "seconds", "survival"])
    return frame.assign(lower=frame["survival"] / 2, upper=1.0)


def starts(*rows: tuple[int, float]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["outages", "coverage"])
    return frame.assign(day=DAYS[: len(rows)].astype("datetime64[us]"))


def polls(*rows: tuple[int, int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["ok", "failed", "skipped"])
    return frame.assign(day=DAYS[: len(rows)].astype("datetime64[us]"))


SEEN, UNSEEN = (80_000.0, 6_400.0, 0.0), (0.0, 0.0, 86_400.0)
CASES: dict[str, charts.Drawn] = {
    "disconnected": charts.draw_disconnected(figures.add_up(days(SEEN, UNSEEN), ["day"])),
    "disconnected, nothing seen": charts.draw_disconnected(figures.add_up(days(UNSEEN), ["day"])),
    "disconnected, no day": charts.draw_disconnected(figures.add_up(days(), ["day"])),
    "providers": charts.draw_providers(figures.add_up(days(SEEN, UNSEEN), ["provider", "day"])),
    "providers, none": charts.draw_providers(figures.add_up(days(), ["provider", "day"])),
    "calendar": charts.draw_calendar(starts((0, 1.0), (3, 1.0), (0, 0.0))),
    "calendar, no day": charts.draw_calendar(starts()),
    "survival": charts.draw_survival(survival(("all", 3600.0, 0.5), ("all", 7200.0, 0.0))),
    "survival, several": charts.draw_survival(survival(("a", 3600.0, 0.5), ("b", 7200.0, 0.0))),
    "survival, none": charts.draw_survival(survival()),
    "freshness": charts.draw_freshness(
        pd.DataFrame({"age": figures.FRESHNESS_CLASSES, "tokens": range(len(figures.FRESHNESS_CLASSES))})
    ),
    "polls": charts.draw_polls(polls((5, 1, 0), (0, 0, 6))),
    "polls, none": charts.draw_polls(polls()),
}


@pytest.mark.parametrize("name", CASES)
def test_can_be_drawn(name: str) -> None:
    svg = vl_convert.vegalite_to_svg(CASES[name].to_dict())
    assert svg.startswith("<svg")
    # an axis of no days has no length: the page leaves such charts out
    assert "NaN" not in svg or name.endswith((", no day", ", none"))


def drawn_values(chart: Any) -> list[dict[str, Any]]:
    spec = json.loads(chart.to_json())
    return [row for rows in spec["datasets"].values() for row in rows]


def test_a_day_nobody_saw_is_no_day_without_outages() -> None:
    seen, unseen = drawn_values(CASES["disconnected"])
    assert seen["disconnected"] == pytest.approx(6_400 / 86_400)
    assert seen["unknown"] == 0
    assert unseen["disconnected"] is None
    assert unseen["unknown"] == 1


@pytest.mark.parametrize(
    ("outages", "coverage", "expected"),
    [
        (0, 1.0, "0"),
        (0, 0.49, charts.UNOBSERVED),
        (0, float("nan"), charts.UNOBSERVED),
        (1, 0.0, "1"),
        (2, 1.0, "2–4"),
        (4, 1.0, "2–4"),
        (5, 1.0, "5–9"),
        (10, 1.0, "10+"),
    ],
)
def test_days_are_classed_by_the_number_of_outages(outages: int, coverage: float, expected: str) -> None:
    cells = drawn_values(charts.draw_calendar(starts((outages, coverage), (30, 1.0))))
    assert cells[0]["class"] == expected
    assert cells[1]["class"] == "10+"


def test_classes_widen_with_the_population() -> None:
    cells = drawn_values(charts.draw_calendar(starts((7, 1.0), (35, 1.0), (400, 1.0))))
    assert [cell["class"] for cell in cells] == ["1–10", "11–40", "91+"]


def test_a_calendar_ends_after_a_year() -> None:
    many = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=800), "outages": 0, "coverage": 1.0})
    weeks = {cell["week"] for cell in drawn_values(charts.draw_calendar(many))}
    assert len(weeks) == charts.MOST_WEEKS
    assert max(weeks) == "2026-03-09"


def test_an_inline_drawing_takes_its_colors_from_the_page() -> None:
    chart = charts.draw_calendar(starts((0, 1.0), (3, 0.0), (0, 0.0)), SLOTS)
    svg = draw_inline(chart, "one", 'of <b> & "c"')
    assert svg.startswith('<svg viewBox="0 0 400 ')
    assert 'aria-label="of &lt;b> &amp; &quot;c&quot;"' in svg
    assert "var(--heat-0)" in svg
    assert "var(--unknown)" in svg
    assert "#0101" not in svg
    assert "NaN" not in svg


def test_a_curve_of_very_many_steps_has_those_that_can_be_seen() -> None:
    steps = [("all", 60.0 * number, 1 - number / 20_000) for number in range(1, 20_000)]
    chart = charts.draw_survival(survival(*steps)).to_dict()
    [points] = chart["datasets"].values()
    assert len(points) <= charts.MOST_STEPS + 2
    assert {(0.0, 1.0), steps[-1][1:]} <= {(point["seconds"], point["survival"]) for point in points}


def test_ids_of_two_drawings_differ() -> None:
    chart = charts.draw_survival(survival(("all", 3600.0, 0.5)), SLOTS)
    one, other = (set(svg.split('id="')[1:]) for svg in (draw_inline(chart, n, "") for n in ("one", "other")))
    assert not one & other


def test_a_hostile_provider_stays_text_in_a_drawing() -> None:
    rows = figures.add_up(
        days(SEEN, SEEN).assign(provider="</svg><script>alert(1)</script>"), ["provider", "day"]
    )
    svg = draw_inline(charts.draw_providers(rows, SLOTS), "one", "")
    assert "<script" not in svg
    assert svg.count("</svg>") == 1
    assert "&lt;/svg&gt;&lt;script" in svg
