"""The frames of report and notebook: they are the views, filtered and added up."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dlt
import pandas as pd
import pytest

from dlt_cronofy.report import figures
from dlt_cronofy.report.figures import Scope
from dlt_cronofy.report.frames import Read, frame_reader
from dlt_cronofy.report.health import read_health
from dlt_cronofy.warehouse.dataset import held_open, loaded_dataset
from tests.pipelines.report.conftest import FAILED_POLL, pipeline_on
from tests.pipelines.views.warehouse import Row

pytestmark = pytest.mark.timeout(300)

READERS: list[Callable[[Read, Scope], pd.DataFrame]] = [
    figures.read_actions,
    figures.read_days,
    figures.read_outages,
    figures.read_curves,
    figures.read_flapping,
    figures.read_tokens,
    figures.read_polls,
]
each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
SCOPES = [
    Scope(),
    Scope(provider="office365", first_day=date(2026, 1, 10), last_day=date(2026, 1, 20)),
    Scope(account_id="it's nobody's"),
    Scope(search="NORTHWIND"),
]
each_scope = pytest.mark.parametrize("scope", SCOPES, ids=["all", "a part", "nothing", "a search"])


@pytest.mark.sampled(14)
@each_scope
@each_reader
def test_postgres_gives_the_same_frame(
    reader: Callable[[Read, Scope], pd.DataFrame],
    scope: Scope,
    demo_read: Read,
    postgres_pipeline: dlt.Pipeline,
) -> None:
    ours, theirs = reader(demo_read, scope), reader(frame_reader(postgres_pipeline), scope)
    # an empty frame of a driver that sends rows has no types to go by
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=not ours.empty)


def test_all_days_add_up_to_the_health(demo_pipeline: dlt.Pipeline, demo_read: Read) -> None:
    with loaded_dataset(demo_pipeline) as client:
        health = read_health(client)
    days = figures.read_days(demo_read)
    (everything,) = figures.add_up(days.assign(one=1), ["one"]).to_dict("records")
    assert everything["uptime"] == pytest.approx(health.uptime)
    assert everything["coverage"] == pytest.approx(health.coverage)
    by_provider = figures.add_up(days, ["provider"]).set_index("provider")["uptime"]
    for row in health.providers:
        assert by_provider[row["provider"]] == pytest.approx(row["uptime"])


def test_days_are_those_of_provider_daily(demo_read: Read) -> None:
    ours = figures.add_up(figures.read_days(demo_read), ["provider", "day"]).set_index(["provider", "day"])
    theirs = demo_read("SELECT provider, day, uptime, coverage FROM provider_daily")
    theirs = theirs.set_index(["provider", "day"])
    pd.testing.assert_frame_equal(ours.loc[theirs.index, ["uptime", "coverage"]], theirs)


def test_a_period_and_its_complement_are_the_whole(demo_read: Read) -> None:
    middle = date(2026, 1, 17)
    halves = [Scope(last_day=middle), Scope(first_day=middle + timedelta(days=1))]
    for reader in (figures.read_days, figures.read_outages):
        parts = pd.concat([reader(demo_read, scope) for scope in halves])
        keys = list(parts.columns[:2])
        whole = reader(demo_read, Scope())
        assert len(parts) == len(whole) > 50
        assert sorted(map(tuple, parts[keys].astype(str).to_numpy())) == sorted(
            map(tuple, whole[keys].astype(str).to_numpy())
        )


def test_curves_of_everything_are_the_view(demo_read: Read) -> None:
    columns = ["provider", "seconds", "at_risk", "relinked", "survival"]
    view = demo_read(f"SELECT {', '.join(columns)} FROM time_to_relink")
    ordered = view.sort_values(columns[:2], ignore_index=True)
    pd.testing.assert_frame_equal(figures.read_curves(demo_read)[columns], ordered)


def test_curves_of_an_account_count_its_outages_only(demo_read: Read) -> None:
    outages = figures.read_outages(demo_read)
    eligible = outages[outages["started_after"].notna() & (outages["end_reason"] == "relinked")]
    account = eligible["account_id"].value_counts().index[0]
    curves = figures.read_curves(demo_read, Scope(account_id=account))
    pooled = curves[curves["provider"] == figures.ALL]
    assert pooled["relinked"].sum() == (eligible["account_id"] == account).sum() > 1


def test_starts_are_those_of_provider_health(demo_read: Read) -> None:
    totals = figures.add_up(figures.read_days(demo_read), ["day"])
    starts = figures.starts_by_day(figures.read_outages(demo_read), totals)
    rates = figures.read_rates(demo_read)
    expected = rates.loc[rates["period"] == "all", "outages_started"].sum()
    assert starts["outages"].sum() == expected > 50
    assert len(starts) == len(totals)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (0, "up to 1 h"),
        (1, "up to 1 h"),
        (1.01, "up to 6 h"),
        (30, "up to 3 d"),
        (1000, "older"),
        (None, "never read"),
    ],
)
def test_evidence_is_counted_by_its_age(hours: float | None, expected: str) -> None:
    as_of = datetime(2026, 5, 1, tzinfo=UTC)
    last_ok = pd.Timestamp(as_of - timedelta(hours=hours)) if hours is not None else pd.NaT
    tokens = pd.DataFrame({"last_ok_at": pd.Series([last_ok], dtype="datetime64[us, UTC]")})
    counts = figures.freshness(tokens, as_of).set_index("age")["tokens"]
    assert counts.sum() == 1
    assert counts[expected] == 1


def test_changes_are_counted_after_an_instant(demo_read: Read) -> None:
    everything = figures.read_changes(demo_read, datetime(2020, 1, 1, tzinfo=UTC)).set_index("kind")[
        "profiles"
    ]
    assert {"first_seen", "connected", "disconnected", "removed"} <= set(everything.index)
    assert figures.read_changes(demo_read, datetime(2030, 1, 1, tzinfo=UTC)).empty


@pytest.mark.parametrize("polls", [[], [FAILED_POLL]], ids=["no poll", "a failed poll"])
def test_an_empty_warehouse_has_empty_frames(
    polls: list[Row], warehouse_with: Callable[[list[Row]], Path], tmp_path: Path
) -> None:
    pipeline = pipeline_on(warehouse_with(polls), tmp_path)
    with held_open(pipeline):
        read = frame_reader(pipeline)
        for reader in READERS:
            frame = reader(read, Scope(provider="google", first_day=date(2026, 1, 1)))
            assert len(frame) <= len(polls), reader
