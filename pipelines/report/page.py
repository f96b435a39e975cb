"""The report as one HTML file that opens offline: no script, no font, no picture from elsewhere."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from dlt_cronofy import formatting as wording
from dlt_cronofy.warehouse.pipeline import Row

from . import charts, figures
from .contents import MOST_NAMED, TREND_DAYS, Report
from .drawings import SLOTS, draw_inline
from .figures import ALL

# people to ask, and changes to tell; the warehouse has the rest
MOST_OUTAGES, MOST_CHANGES = 200, 10
PERIOD = "30d"
SAFE_LINK = re.compile(r"https?://", re.IGNORECASE)
AS_OF = "dlt-cronofy-as-of"
"""Name of the `meta` element that says what the report knew; the next report reads it."""
_GENERATOR = '<meta name="generator" content="dlt-cronofy '
_AS_OF = re.compile(rf'<meta name="{AS_OF}" content="([^"]+)">')


@dataclass(frozen=True)
class Figure:
    """One drawing: what it shows, in words too, and its SVG."""

    title: str
    explanation: str
    svg: Markup


def render_page(report: Report) -> str:
    """The whole HTML file."""
    page = _templates().get_template("page.html.j2")
    return page.render(
        report=report,
        health=report.health,
        figures=list(_figures(report)) if report.health.as_of else [],
        providers=list(_providers(report)),
        outages=report.health.open_outages[:MOST_OUTAGES],
        went_down=list(_rows(report.went_down.iloc[::-1][:MOST_CHANGES])),
        ended_by_removal=len(report.ended) - report.relinked,
        new_failures=_new_failures(report),
        flapping=list(_rows(report.flapping[:MOST_NAMED])),
        failing=report.health.failing_tokens[:MOST_NAMED],
        people=len({row["account_id"] for row in report.health.open_outages}),
        version=version("dlt-cronofy"),
        trend_days=TREND_DAYS,
    )


def is_report(page: str) -> bool:
    """Whether that text is a report of ours, which another one may replace."""
    return _GENERATOR in page


def last_as_of(page: str) -> datetime | None:
    """The newest poll that an earlier report knew; None if that text is no report, or one of nothing."""
    found = _AS_OF.search(page)
    try:
        moment = datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment and moment.tzinfo else None


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "percent": wording.percent,
        "instant": wording.instant,
        "duration": wording.duration,
        "rate": lambda rate: "–" if rate is None else f"{rate:.1f}",
        "shortened": wording.digest_shortened,
        "advice": wording.advice,
        "link": lambda url: url if url and SAFE_LINK.match(url) else None,
        "days_as_seconds": lambda days: float(days) * wording.SECONDS_PER_DAY,
    }
    return environment


def _rows(frame: pd.DataFrame) -> Iterator[Row]:
    """Rows as dictionaries, without pandas' own ways to say nothing."""
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _new_failures(report: Report) -> int:
    if report.since is None:
        return 0
    return int((report.tokens["failing_since"] > report.since).sum())


def _providers(report: Report) -> Iterator[Row]:
    """The providers of `status`, with newest coverage and rate and the confidence of the median."""
    coverage = {row["provider"]: row["coverage"] for row in _rows(figures.add_up(report.days, ["provider"]))}
    rates = {row["provider"]: row for row in _rows(_of_period(report.rates))}
    halves = {row["provider"]: row for row in _rows(report.halves)}
    for row in report.health.providers:
        yield {
            **row,
            "rate": rates.get(row["provider"], {}).get("disconnections_per_1000_days"),
            "coverage": coverage.get(row["provider"]),
            "half": halves.get(row["provider"]),
        }


def _of_period(rates: pd.DataFrame) -> pd.DataFrame:
    return rates[rates["period"] == PERIOD]


def _figures(report: Report) -> Iterator[Figure]:
    """The drawings; without days, polls or outages there is nothing to draw of them."""
    if not report.days.empty:
        yield from _figures_of_days(report)
    pooled = report.curves[report.curves["provider"] == ALL]
    if not pooled.empty:
        yield _figure(
            "How long relinking takes",
            "Share of outages not yet relinked, by days since they were first seen (Kaplan-Meier), with its"
            " 95 % confidence band. Outages that were already down when first seen are left out.",
            charts.draw_survival(pooled, SLOTS),
        )
    yield _figure(
        "When each account was last checked",
        "Tokens by the time since their last successful poll.",
        charts.draw_freshness(figures.freshness(report.tokens, report.health.as_of), SLOTS),
    )
    if not report.polls.empty:
        yield _figure(
            "How polling went",
            "Polls by UTC day and outcome. A day without bars is a day without a load.",
            charts.draw_polls(report.polls, SLOTS),
        )


def _figures_of_days(report: Report) -> Iterator[Figure]:
    totals = figures.add_up(report.days, ["day"])
    yield _figure(
        "Share of connections down, by day",
        "Share of the observed profile time that was disconnected, by UTC day. Grey is unknown, not down:"
        " the darker the day, the less of it was observed.",
        charts.draw_disconnected(totals, SLOTS),
    )
    starts = figures.starts_by_day(report.outages, totals)
    yield _figure(
        "When connections broke",
        f"Outages first seen on each UTC day: {int(starts['outages'].sum())} in"
        f" {wording.count(len(starts), 'day')}. The next poll finds a break, so a day may show those of the"
        " night before.",
        charts.draw_calendar(starts, SLOTS),
    )
    yield _figure(
        "Share of connections down, by provider",
        f"The same share on one scale, of the providers with most profiles; at most {charts.MOST_PROVIDERS}.",
        charts.draw_providers(figures.add_up(report.days, ["provider", "day"]), SLOTS),
    )


def _figure(title: str, explanation: str, chart: charts.Drawn) -> Figure:
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    return Figure(title, explanation, Markup(draw_inline(chart, name, f"{title}. {explanation}")))  # noqa: S704
