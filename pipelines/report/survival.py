"""Confidence of a Kaplan-Meier curve: how sure its survival is. Pure."""

import math

import numpy as np
import pandas as pd

# two-sided 95 % of the normal distribution
Z_95 = 1.959963984540054
# survival is a product of ratios: half of them means half, however it was rounded; as health.py
HALF = 0.5000001


def with_confidence(curves: pd.DataFrame, z: float = Z_95) -> pd.DataFrame:
    """Add a pointwise confidence band to Kaplan-Meier curves.

    The variance is Greenwood's, the interval that of log(-log(survival)), which stays between 0 and 1
    (Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 1980).

    Args:
        curves: rows of the view `time_to_relink`: provider, seconds, at_risk, relinked, survival;
            one curve per provider.
        z: quantile of the normal distribution; the default gives 95 %.

    Returns:
        The rows ordered by provider and seconds, with `lower` and `upper`. Where nobody is left the
        variance has no end: the band is what it was before, down to 0.
    """
    ordered = curves.sort_values(["provider", "seconds"], ignore_index=True)
    # a frame without rows has no types
    numbers = ["seconds", "at_risk", "relinked", "survival"]
    ordered = ordered.astype(dict.fromkeys(numbers, "float64")) if ordered.empty else ordered
    left = ordered["at_risk"] - ordered["relinked"]
    terms = ordered["relinked"] / (ordered["at_risk"] * left).where(left > 0)
    variance = terms.groupby(ordered["provider"]).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        log_survival = np.log(ordered["survival"].where(left > 0))
        spread = z * np.sqrt(variance) / log_survival
        lower = np.exp(log_survival * np.exp(-spread))
        upper = np.exp(log_survival * np.exp(spread))
    last_upper = upper.groupby(ordered["provider"]).ffill().fillna(1.0)
    return ordered.assign(lower=lower.fillna(0.0), upper=last_upper)


def halves(curves: pd.DataFrame) -> pd.DataFrame:
    """When half have relinked, with the bounds of its confidence interval.

    Args:
        curves: what `with_confidence` returns.

    Returns:
        Per provider: relinked, seconds, lower_seconds, upper_seconds. Seconds are NaN where the
        curve, or its bound, never comes down to a half.
    """
    rows = [
        {
            "provider": provider,
            "relinked": int(curve["relinked"].sum()),
            "seconds": _first_down_to_half(curve, "survival"),
            "lower_seconds": _first_down_to_half(curve, "lower"),
            "upper_seconds": _first_down_to_half(curve, "upper"),
        }
        for provider, curve in curves.groupby("provider", sort=True)
    ]
    names = ["provider", "relinked", "seconds", "lower_seconds", "upper_seconds"]
    return pd.DataFrame(rows, columns=names)


def _first_down_to_half(curve: pd.DataFrame, column: str) -> float:
    down = curve.loc[curve[column] < HALF, "seconds"]
    return float(down.min()) if len(down) else math.nan
