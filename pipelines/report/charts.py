"""Charts of the figures, for the notebook and the report. Pure: frames in, altair charts out.

Each takes a palette and a width in pixels. Unknown is always drawn, in grey, and never as zero.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from dlt_cronofy.formatting import SECONDS_PER_DAY

Drawn = alt.Chart | alt.LayerChart | alt.FacetChart

# a calendar shows that many weeks, a grid that many providers
MOST_WEEKS, MOST_PROVIDERS = 53, 12
# a curve of survival has so many steps: no more can be seen
MOST_STEPS = 360
# of a week in a calendar, in pixels
MOST_CALENDAR_SIDE = 64
# below that width in pixels a legend takes two lines
NARROW = 340
# Altair refuses more than 5,000 rows, which days of many providers reach in a year or two
alt.data_transformers.disable_max_rows()
_DAY_MS = 1000 * SECONDS_PER_DAY
# below that share of the time observed a day says little
MOSTLY_UNKNOWN = 0.5
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
UNOBSERVED = "not observed"


@dataclass(frozen=True)
class Palette:
    """Colors of a chart, in CSS's notation.

    Attributes:
        ink: text.
        muted: labels of axes.
        line: grid.
        connected: also what was read.
        disconnected: also what failed.
        unknown: also what was skipped.
        heat: from none to many.
        series: of things that are side by side.
    """

    ink: str
    muted: str
    line: str
    connected: str
    disconnected: str
    unknown: str
    heat: tuple[str, str, str, str, str]
    series: tuple[str, ...]


LIGHT = Palette(
    ink="#1c2430",
    muted="#556070",
    line="#dfe3e8",
    connected="#0f766e",
    disconnected="#c2410c",
    unknown="#a3aab4",
    heat=("#eef1f4", "#fbd5bf", "#f59f6c", "#dd6420", "#9a3007"),
    # Okabe and Ito's, which people with any color vision tell apart
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
)
"""On white."""

EITHER = Palette(
    ink="#727d8b",
    muted="#727d8b",
    line="rgba(128,128,128,0.3)",
    connected="#14958a",
    disconnected="#dd6420",
    unknown="#a3aab4",
    heat=("rgba(128,128,128,0.15)", "#f7c3a3", "#f59f6c", "#dd6420", "#b03d0c"),
    series=("#2b8ccf", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98"),
)
"""On white or nearly black, where it is not known which."""


def draw_disconnected(
    totals: pd.DataFrame, palette: Palette = LIGHT, width: int = 360, events: pd.DataFrame | None = None
) -> Drawn:
    """The share of the observed time that was disconnected, day by day, before what was not observed.

    Grey is time nobody knows anything of: the darker the day, the less of it was observed.

    Args:
        totals: rows of `figures.add_up` by day.
        palette: colors.
        width: in pixels.
        events: rows with `day` and `label`: what is marked on the days.
    """
    shares = _shares(totals, palette, width, 150, _top(totals))
    if events is not None and len(events):
        middle = events.assign(day=events["day"] + pd.Timedelta(hours=12))
        # above the plot, so that a label hides no bar
        marks = alt.Chart(middle).encode(x=_day_axis(), y=alt.value(-4), tooltip=["label:N"])
        shares = (
            shares
            + marks.mark_point(shape="triangle-down", filled=True, size=50, color=palette.ink, opacity=1)
            + marks.mark_text(dy=-11, fontSize=11, color=palette.ink).encode(text="label:N")
        )
    return _styled(shares, palette)


def draw_stock(stock: pd.DataFrame, palette: Palette = LIGHT, width: int = 360) -> Drawn:
    """How many connections there were at the end of each day: connected, disconnected and unknown.

    Args:
        stock: rows of `figures.read_stock`.
        palette: colors.
        width: in pixels.
    """
    return _draw_daily(
        stock, ["connected", "disconnected", "unknown"], "state", "connections", palette, width
    )


def draw_providers(
    by_provider: pd.DataFrame, palette: Palette = LIGHT, width: int = 360, height: int = 24
) -> Drawn:
    """The same as `draw_disconnected` for each provider, one below the other on one scale.

    Args:
        by_provider: rows of `figures.add_up` by provider and day; the providers with most profiles are drawn.
        palette: colors.
        width: in pixels.
        height: of each, in pixels.
    """
    largest = by_provider.groupby("provider")["profiles"].max().sort_values(ascending=False, kind="stable")
    shown = list(largest.index[:MOST_PROVIDERS])
    rows = by_provider[by_provider["provider"].isin(shown)]
    header = alt.Header(title=None, labelOrient="top", labelAnchor="start", labelPadding=1)
    panel = _shares(rows, palette, width, height, _top(rows), only_ends=True)
    grid = panel.facet(row=alt.Row("provider:N", sort=shown, header=header), spacing=6)
    return _styled(grid, palette)


def _top(rows: pd.DataFrame) -> float:
    """Where the axis of shares ends: the next whole 5 % above all of them."""
    most = (1 - rows["uptime"]).max()
    return 0.05 if pd.isna(most) else min(1.0, 0.05 * math.ceil(max(most, 0.01) / 0.05))


def _shares(
    rows: pd.DataFrame, palette: Palette, width: int, height: int, top: float, *, only_ends: bool = False
) -> alt.LayerChart:
    days = rows.assign(
        until=rows["day"] + pd.Timedelta(days=1),
        disconnected=1 - rows["uptime"],
        unknown=1 - rows["coverage"],
    )
    axis = alt.Axis(format=".0%", values=[0, top]) if only_ends else alt.Axis(format=".0%", tickCount=4)
    tooltip = [
        alt.Tooltip("utcyearmonthdate(day):T", title="day"),
        alt.Tooltip("disconnected:Q", format=".1%", title="disconnected of what was observed"),
        alt.Tooltip("unknown:Q", format=".1%", title="not observed"),
    ]
    end = alt.X2("until:T")
    base = alt.Chart(days, width=width, height=height)
    unseen = base.mark_rect(color=palette.unknown).encode(
        x=_day_axis(),
        x2=end,
        opacity=alt.Opacity("unknown:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None),
        tooltip=tooltip,
    )
    down = base.mark_rect(color=palette.disconnected).encode(
        x=_day_axis(),
        x2=end,
        y=alt.Y("disconnected:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, top])),
        y2=alt.datum(0),
        tooltip=tooltip,
    )
    layers: alt.LayerChart = unseen + down
    return layers


def _day_axis() -> alt.X:
    axis = alt.Axis(format="%-d %b", tickCount=5, tickMinStep=_DAY_MS, labelFlush=True, grid=False)
    # days are UTC days, wherever the chart is looked at
    return alt.X("day:T", title=None, axis=axis, scale=alt.Scale(type="utc"))


def draw_calendar(starts: pd.DataFrame, palette: Palette = LIGHT, width: int = 360) -> Drawn:
    """A calendar of the outages first seen on each day; days hardly observed are marked as such.

    Args:
        starts: rows of `figures.starts_by_day`.
        palette: colors.
        width: in pixels.
    """
    classes, labels = _classed(starts)
    day = starts["day"]
    cells = pd.DataFrame(
        {
            "week": (day - pd.to_timedelta(day.dt.weekday, unit="D")).dt.strftime("%Y-%m-%d"),
            "weekday": [WEEKDAYS[number] for number in day.dt.weekday],
            "class": classes,
            "outages": starts["outages"],
            "day": day,
        }
    )
    weeks = sorted(cells["week"].unique())[-MOST_WEEKS:]
    cells = cells[cells["week"].isin(weeks)]
    colors = alt.Scale(domain=[*labels, UNOBSERVED], range=[*palette.heat, palette.unknown])
    side = min(MOST_CALENDAR_SIDE, max(6, (width - 40) // max(1, len(weeks))))
    legend = alt.Legend(title=None, orient="top", columns=6 if width >= NARROW else 3)
    # a week is a name here: there is no time between two of them
    label = "utcFormat(toDate(datum.value), '%-d %b')"
    axis = alt.Axis(labelExpr=label, labelAngle=0, labelOverlap=True, grid=False, ticks=False)
    chart: alt.Chart = (
        alt.Chart(cells, width=side * len(weeks), height=7 * min(side, 20))
        .mark_rect(stroke=palette.line, strokeWidth=1)
        .encode(
            x=alt.X("week:O", title=None, axis=axis),
            y=alt.Y(
                "weekday:N",
                scale=alt.Scale(domain=list(WEEKDAYS)),
                title=None,
                axis=alt.Axis(grid=False, ticks=False),
            ),
            color=alt.Color("class:N", scale=colors, legend=legend),
            tooltip=[alt.Tooltip("utcyearmonthdate(day):T", title="day"), "outages:Q"],
        )
    )
    return _styled(chart, palette)


def _classed(starts: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Each day's class of the number of outages, and the classes, from none to many: 0, 1, 2-4, 5-9, 10+."""
    most = int(starts["outages"].max()) if len(starts) else 0
    # a larger population has the same classes, ten or a hundred times wider
    unit = 10 ** max(0, len(str(most)) - 2)
    ends = (0, unit, 4 * unit, 9 * unit)
    labels = ["0"] + [
        str(last) if last == first else f"{first}–{last}"
        for first, last in ((1, unit), (unit + 1, 4 * unit), (4 * unit + 1, 9 * unit))
    ]
    labels.append(f"{9 * unit + 1}+")
    classes = [
        UNOBSERVED if not outages and not coverage >= MOSTLY_UNKNOWN else labels[bisect_left(ends, outages)]
        for outages, coverage in zip(starts["outages"], starts["coverage"], strict=True)
    ]
    return classes, labels


def draw_survival(curves: pd.DataFrame, palette: Palette = LIGHT, width: int = 360) -> Drawn:
    """How long outages last: the share not yet relinked, with its 95 % band, against days.

    Args:
        curves: rows of `figures.read_curves`, of one or more providers.
        palette: colors.
        width: in pixels.
    """
    starts = curves[["provider"]].drop_duplicates().assign(seconds=0.0, survival=1.0, lower=1.0, upper=1.0)
    points = pd.concat([starts, _visible_steps(curves)], ignore_index=True) if len(curves) else starts
    points = points.assign(days=points["seconds"] / SECONDS_PER_DAY)
    names = sorted(points["provider"].unique())
    several = len(names) > 1
    color: Any = (
        alt.Color("provider:N", title=None, scale=alt.Scale(domain=names, range=list(palette.series)))
        if several
        else alt.value(palette.connected)
    )
    x = alt.X("days:Q", title="days since it was first seen", axis=alt.Axis(grid=False, tickCount=6))
    share = alt.Axis(format=".0%", tickCount=4)
    base = alt.Chart(points, width=width, height=170)
    band = base.mark_area(interpolate="step-after", opacity=0.22).encode(
        x=x,
        y=alt.Y("lower:Q", title=None, axis=share, scale=alt.Scale(domain=[0, 1])),
        y2="upper:Q",
        color=color,
    )
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(
        x=x,
        y=alt.Y("survival:Q", title=None, axis=share),
        color=color,
        tooltip=[
            "provider:N",
            alt.Tooltip("days:Q", format=".2f"),
            alt.Tooltip("survival:Q", format=".1%"),
            alt.Tooltip("lower:Q", format=".1%"),
            alt.Tooltip("upper:Q", format=".1%"),
        ],
    )
    return _styled(band + line, palette)


def _visible_steps(curves: pd.DataFrame) -> pd.DataFrame:
    """Of steps closer than can be seen the last one: a long history has one for each outage."""
    slots = curves["seconds"] * MOST_STEPS // max(curves["seconds"].max(), 1)
    return curves.sort_values("seconds").groupby(["provider", slots.rename("slot")], sort=True).tail(1)


def draw_freshness(classes: pd.DataFrame, palette: Palette = LIGHT, width: int = 360) -> Drawn:
    """How many tokens were last read how long ago.

    Args:
        classes: rows of `figures.freshness`.
        palette: colors.
        width: in pixels.
    """
    y = alt.Y("age:N", sort=list(classes["age"]), title=None, axis=alt.Axis(grid=False, ticks=False))
    base = alt.Chart(classes, width=width - 110, height=22 * len(classes)).encode(y=y)
    bars = base.mark_bar(color=palette.connected, height=12).encode(
        x=alt.X("tokens:Q", title=None, axis=None), tooltip=["age:N", "tokens:Q"]
    )
    numbers = base.mark_text(align="left", dx=5, color=palette.ink).encode(x="tokens:Q", text="tokens:Q")
    return _styled(bars + numbers, palette)


def draw_polls(polls: pd.DataFrame, palette: Palette = LIGHT, width: int = 360) -> Drawn:
    """Polls a day: how many answered, failed, and were not tried.

    Args:
        polls: rows of `figures.read_polls`.
        palette: colors.
        width: in pixels.
    """
    return _draw_daily(polls, ["ok", "failed", "skipped"], "outcome", "polls", palette, width)


def _draw_daily(
    days: pd.DataFrame, classes: list[str], by: str, what: str, palette: Palette, width: int
) -> Drawn:
    """Bars by UTC day, one class on top of the other; a column of `days` for each: good, bad, neither."""
    counts = days.melt(id_vars=["day"], value_vars=classes, var_name=by, value_name=what)
    counts = counts.assign(rank=counts[by].map(classes.index))
    colors = alt.Scale(domain=classes, range=[palette.connected, palette.disconnected, palette.unknown])
    bars = (
        alt.Chart(counts, width=width, height=120)
        .mark_bar(width=max(1.0, 0.8 * width / max(1, len(days))))
        .encode(
            x=_day_axis(),
            y=alt.Y(f"{what}:Q", title=None, axis=alt.Axis(tickCount=4, format=",.0f")),
            color=alt.Color(f"{by}:N", scale=colors, legend=alt.Legend(title=None, orient="top")),
            order=alt.Order("rank:Q", sort="descending"),
            tooltip=[alt.Tooltip("utcyearmonthdate(day):T", title="day"), f"{by}:N", f"{what}:Q"],
        )
    )
    return _styled(bars, palette)


def _styled(chart: Any, palette: Palette) -> Drawn:
    """One look for all."""
    labels: dict[str, Any] = {"labelColor": palette.muted, "labelFontSize": 11, "titleColor": palette.muted}
    styled: Drawn = (
        chart.configure(background="transparent", font="sans-serif", padding=4)
        .configure_view(stroke=None)
        .configure_axis(
            **labels,
            titleFontSize=11,
            titleFontWeight="normal",
            gridColor=palette.line,
            domain=False,
            tickColor=palette.line,
        )
        .configure_legend(labelColor=palette.ink, labelFontSize=11, symbolType="square", offset=6)
        .configure_header(labelColor=palette.ink, labelFontSize=11)
    )
    return styled
