"""`time_to_relink` against lifelines, which other people wrote and trust."""

import random
import warnings

import pytest

from tests.pipelines.views.histories import history
from tests.pipelines.views.warehouse import Warehouse, fill, read

SECONDS_PER_HOUR = 3600.0
ENDINGS = {"relinked": "a+", "removed": "-", "open": None}


def simulate(dice: random.Random, accounts: int) -> tuple[str, list[float], list[bool]]:
    """Polls of accounts with one outage each; duration and end of those whose start is known."""
    lines, durations, relinked = [], [], []
    for number in range(accounts):
        down_at, hours = dice.randint(1, 20), dice.randint(1, 12)  # whole hours, so that there are ties
        ending = dice.choice(list(ENDINGS))
        known_start = dice.random() < 0.8
        if known_start:
            lines.append((0, f"acc{number} ok a+"))
        lines.append((down_at, f"acc{number} ok a-"))
        listed = ENDINGS[ending] or "a-"
        lines.append((down_at + hours, f"acc{number} ok {listed}"))
        if known_start:
            durations.append(hours * SECONDS_PER_HOUR)
            relinked.append(ending == "relinked")
    return "\n".join(f"{hour} {line}" for hour, line in sorted(lines)), durations, relinked


@pytest.mark.parametrize("seed", range(5))
def test_survival_is_what_lifelines_says(warehouse: Warehouse, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifelines import KaplanMeierFitter

    text, durations, relinked = simulate(random.Random(seed), accounts=120)
    fill(warehouse, history(text).tables())
    columns = ["provider_service", "seconds", "at_risk", "relinked", "survival"]
    columns += ["survival_lower", "survival_upper"]
    ours = sorted(row[1:] for row in read(warehouse, "time_to_relink", columns) if row[0] == "all")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = KaplanMeierFitter().fit(durations, relinked)
    events = fitted.event_table[fitted.event_table["observed"] > 0]
    band = fitted.confidence_interval_survival_function_
    theirs = [
        (seconds, row["at_risk"], row["observed"], float(fitted.predict(seconds)), *band.loc[seconds])
        for seconds, row in events.iterrows()
    ]
    assert len(ours) == len(theirs) > 5
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(reference, abs=1e-9)


def test_there_is_no_band_where_nobody_is_left(warehouse: Warehouse) -> None:
    fill(warehouse, history("0 ann ok a+\n1 ann ok a-\n3 ann ok a+").tables())
    columns = ["seconds", "survival", "survival_lower", "survival_upper"]
    assert read(warehouse, "time_to_relink", ["provider", *columns])[0] == ("all", 7200.0, 0.0, None, None)
