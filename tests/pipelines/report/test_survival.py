"""Confidence bands: those of lifelines, and what they say where nobody is left."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.report.survival import halves, with_confidence

DURATIONS = st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=60).filter(
    lambda drawn: any(relinked for _, relinked in drawn)
)


def curve_of(drawn: list[tuple[int, bool]], provider: str = "all") -> pd.DataFrame:
    """The rows of `time_to_relink` for outages of these durations."""
    rows, survival = [], 1.0
    for seconds in sorted({duration for duration, relinked in drawn if relinked}):
        at_risk = sum(duration >= seconds for duration, _ in drawn)
        relinked = sum(duration == seconds and ended for duration, ended in drawn)
        survival *= 1 - relinked / at_risk
        rows.append((provider, float(seconds), at_risk, relinked, survival))
    return pd.DataFrame(rows, columns=["provider", "seconds", "at_risk", "relinked", "survival"])


@given(DURATIONS)
def test_the_band_is_that_of_lifelines(drawn: list[tuple[int, bool]]) -> None:
    import lifelines  # takes half a second

    ours = with_confidence(curve_of(drawn))
    durations, relinked = zip(*drawn, strict=True)
    theirs = lifelines.KaplanMeierFitter().fit(durations, relinked).confidence_interval_survival_function_
    somebody_left = ours["at_risk"] > ours["relinked"]
    expected = theirs.loc[ours["seconds"][somebody_left]].to_numpy()
    np.testing.assert_allclose(ours.loc[somebody_left, ["lower", "upper"]], expected, atol=1e-9)


@given(DURATIONS, DURATIONS)
def test_curves_side_by_side_are_the_curves_alone(
    one: list[tuple[int, bool]], other: list[tuple[int, bool]]
) -> None:
    together = with_confidence(pd.concat([curve_of(one, "b"), curve_of(other, "a")]))
    alone = pd.concat([with_confidence(curve_of(other, "a")), with_confidence(curve_of(one, "b"))])
    pd.testing.assert_frame_equal(together, alone.reset_index(drop=True))


@given(DURATIONS)
def test_the_band_holds_the_curve_and_stays_a_share(drawn: list[tuple[int, bool]]) -> None:
    band = with_confidence(curve_of(drawn))
    assert (band["lower"] >= 0).all()
    assert (band["upper"] <= 1).all()
    assert (band["lower"] <= band["survival"] + 1e-9).all()
    assert (band["survival"] <= band["upper"] + 1e-9).all()


def test_where_nobody_is_left_the_upper_bound_stays() -> None:
    band = with_confidence(curve_of([(1, True), (2, True)]))
    assert band["survival"].tolist() == [0.5, 0.0]
    assert band["lower"].iloc[-1] == 0
    assert band["upper"].iloc[-1] == band["upper"].iloc[0] < 1


@pytest.mark.parametrize(
    ("drawn", "seconds"),
    [
        ([(5, True), (9, True)], 5.0),
        ([(5, True), (9, False), (9, False)], math.nan),
        ([(3, True)] * 3 + [(7, True)] * 3, 3.0),
    ],
)
def test_half_have_relinked_when_the_curve_is_down_to_it(
    drawn: list[tuple[int, bool]], seconds: float
) -> None:
    (row,) = halves(with_confidence(curve_of(drawn))).to_dict("records")
    assert row["seconds"] == pytest.approx(seconds, nan_ok=True)
    assert row["relinked"] == sum(relinked for _, relinked in drawn)
    assert not row["lower_seconds"] > row["seconds"]


def test_without_curves_there_are_no_halves() -> None:
    assert halves(with_confidence(curve_of([]))).empty
