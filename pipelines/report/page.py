"""The report as one HTML file that opens offline: no font, no picture and no script from elsewhere."""

import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from dlt_cronofy import formatting as wording
from dlt_cronofy.source.tables import Row

from . import charts, figures, worklist
from .contents import TREND_DAYS, EarlierReport, Report, rows_of
from .drawings import SLOTS, draw_inline
from .figures import ALL
from .mail import Mail, safe_link

# so many rows of the worklist are open at first; who looks for one of the others opens its group
OPEN_ROWS = 60
# lists below it are no longer than that; the warehouse has the rest
MOST_NAMED, MOST_CHANGES, MOST_HISTORY = 20, 10, 20
MOST_EVENTS, MOVED_PROVIDERS, PROVIDER_HEIGHT = 5, 5, 60
PERIOD = "30d"
# samples older than that are worth a word
STALE_SECONDS = 2 * wording.SECONDS_PER_DAY
# `meta` elements that say what the report knew; the next report reads them
AS_OF, SOURCE = "dlt-cronofy-as-of", "dlt-cronofy-source"
SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
SCRIPT_HASH = f"sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}"
DEFAULT_MAIL = Mail()
ENDS = {"open": "still down", "relinked": "relinked", "replaced": "replaced", "removed": "removed"}
_GENERATOR = '<meta name="generator" content="dlt-cronofy '
_META = re.compile(rf'<meta name="({AS_OF}|{SOURCE})" content="([^"]+)">')


@dataclass(frozen=True)
class Figure:
    """One drawing: what it shows, in words too, and its SVG."""

    title: str
    explanation: str
    svg: Markup


@dataclass(frozen=True)
class Tile:
    """One figure, what it is of, and how it was a week before."""

    name: str
    value: str
    of: str
    before: str = ""
    look: str = ""


def render_page(report: Report, mail: Mail = DEFAULT_MAIL) -> str:
    """The whole HTML file; `mail` has the words of the mails that it drafts."""
    health, actions = report.health, report.health.actions
    went_down = report.went_down.iloc[::-1][:MOST_CHANGES]
    flapping = report.flapping[:MOST_NAMED]
    failing = [row for row in rows_of(report.tokens) if row["verdict"] == "failing"]
    failing.sort(key=lambda row: (row["failing_since"], row["token_key"]))
    named = dict.fromkeys([*went_down["account_id"], *flapping["account_id"]])
    acting = {row["account_id"] for row in actions}
    return (
        _environment(health.as_of and health.as_of.year)
        .get_template("page.html.j2")
        .render(
            report=report,
            health=health,
            script=Markup(SCRIPT),  # noqa: S704 - our own
            script_hash=SCRIPT_HASH,
            headline=worklist.headline(actions),
            counted=worklist.counted(actions),
            parts=worklist.parts(actions),
            connections=_connections(report),
            all_down={a for a, row in report.accounts.items() if row["calendar_verdict"] == "down"},
            history=_history(report.outages, {*acting, *named}),
            draft=mail.draft,
            open_rows=OPEN_ROWS,
            most_history=MOST_HISTORY,
            stale_seconds=STALE_SECONDS,
            tiles=list(_tiles(report)) if health.as_of else [],
            figures=list(_figures(report)) if health.as_of else [],
            providers=list(_providers(report)),
            customers=list(rows_of(report.customers[:MOST_NAMED])),
            events=list(rows_of(report.mass_events[:MOST_EVENTS])),
            cohorts=list(rows_of(report.cohorts)) if not report.is_first_look else [],
            freshness=list(rows_of(report.freshness)),
            went_down=list(rows_of(went_down)),
            ended_by_removal=len(report.ended) - report.relinked,
            new_failures=_new_failures(report),
            flapping=list(rows_of(flapping)),
            failing=failing[:MOST_NAMED],
            failing_tokens=len(failing),
            others=[report.accounts[a] for a in named if a not in acting and a in report.accounts],
            version=version("dlt-cronofy"),
            trend_days=min(TREND_DAYS, len(set(report.days["day"]))),
            ends=ENDS,
        )
    )


def is_report(page: str) -> bool:
    """Whether that text is a report of ours, which another one may replace."""
    return _GENERATOR in page


def earlier_report(page: str) -> EarlierReport:
    """What an earlier report knew; nothing if that text is no report, or one of nothing."""
    known = dict(_META.findall(page))
    try:
        moment = datetime.fromisoformat(known.get(AS_OF, ""))
    except ValueError:
        moment = None
    as_of = moment.astimezone(UTC) if moment and moment.tzinfo else None
    return EarlierReport(as_of, known.get(SOURCE))


@cache
def _environment(year: int | None) -> jinja2.Environment:
    """The templates, with filters that leave out the year where it is that of the newest poll."""
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
        # no line ends within one
        "duration": lambda seconds: wording.duration(seconds).replace(" ", "\N{NO-BREAK SPACE}"),
        "rate": lambda rate: "–" if rate is None else f"{rate:.1f}",
        "shortened": wording.digest_shortened,
        "advice": wording.advice,
        "link": safe_link,
        "provider": wording.provider_name,
        "reason": wording.reason_name,
        "number": lambda number: f"{int(number):,}",
        "contact": worklist.contact,
        "connection": worklist.connection_name,
        "lasting": worklist.lasting,
        "anchor": lambda account: "a-" + re.sub(r"[^\w-]", "_", account),
        "event": _event_name,
        "month": lambda day: f"{datetime.fromisoformat(day):%B %Y}",
        "day": partial(_day, year=year),
        "moment": partial(_moment, year=year),
    }
    return environment


def _day(moment: datetime, year: int | None) -> str:
    """`Fri 23 Jan`."""
    shown = f"{moment:%a} {moment.day} {moment:%b}"
    return shown if moment.year == year else f"{shown} {moment.year}"


def _moment(moment: datetime, year: int | None = None) -> str:
    """`Fri 23 Jan, 18:08`."""
    return f"{_day(moment, year)}, {moment:%H:%M}"


def _connections(report: Report) -> dict[str, int]:
    """Owner → connections of all its accounts, those that are well included."""
    found: dict[str, int] = defaultdict(int)
    for row in report.accounts.values():
        found[worklist.owner(row)] += row["profiles"]
    return found


def _history(outages: pd.DataFrame, accounts: set[str]) -> dict[str, list[Row]]:
    """Account → its outages, the newest first."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(outages[outages["account_id"].isin(accounts)].iloc[::-1]):
        found[row["account_id"]].append(row)
    return found


def _new_failures(report: Report) -> int:
    if report.since is None:
        return 0
    return int((report.tokens["failing_since"] > report.since).sum())


def _tiles(report: Report) -> Iterator[Tile]:
    """The figures of the day, each with how it was a week before."""
    health = report.health
    states, whole = health.states, sum(health.states.values())
    down = len({row["account_id"] for row in health.actions if row["reason"] == "relink"})
    stock, before = (figures.last_days(report.stock, 1, skipped) for skipped in (0, 7))

    def compared(column: str) -> str:
        if stock.empty or before.empty:
            return ""
        return _difference(int(stock[column].sum() - before[column].sum()), "than a week ago")

    of = wording.count(whole, "connection")
    yield Tile("connected", f"{states['connected']:,}", f"of {of}", compared("connected"), "good")
    accounts = f"of {wording.count(down, 'account')}"
    yield Tile("down", f"{states['disconnected']:,}", accounts, compared("disconnected"), "bad")
    yield Tile("unknown", f"{states['unknown']:,}", "not checked recently; not down", look="dim")
    if report.is_first_look:
        return
    for column, of in (("uptime", "of what was observed"), ("coverage", "of the time was observed")):
        now, past = (_of_week(report.days, column, skipped) for skipped in (0, 7))
        points = "" if now is None or past is None else _points(now - past)
        yield Tile(f"{column}, last 7 days", wording.percent(now), of, points)
    broke, earlier = _broke(report, 0), _broke(report, 7)
    history = report.health.since and report.health.since <= _back(report, 14)
    yield Tile("broke in 7 days", f"{broke:,}", "", f"{earlier:,} in the week before" if history else "")
    relinks = wording.count(health.ended.get("relinked", 0) + health.ended.get("replaced", 0), "relink")
    median = wording.duration(health.median_seconds_to_relink)
    yield Tile("median time to relink", median, f"{relinks} so far")


def _difference(number: int, than: str) -> str:
    if not number:
        return f"as many as {than.removeprefix('than ')}"
    return f"{abs(number):,} {'more' if number > 0 else 'fewer'} {than}"


def _points(share: float) -> str:
    points = round(100 * share, 1)
    if not points:
        return "as in the week before"
    return f"{abs(points)} points {'more' if points > 0 else 'less'} than the week before"


def _of_week(days: pd.DataFrame, column: str, skipped: int) -> float | None:
    """The uptime or coverage of seven days, before the newest `skipped` ones."""
    week = figures.last_days(days, 7)
    if skipped:
        start = week["day"].min() if len(week) else None
        week = days[days["day"] < start] if start is not None else days[:0]
        week = figures.last_days(week, 7)
        if week["day"].nunique() < 7:
            return None
    if week.empty:
        return None
    value = figures.add_up(week.assign(one=1), ["one"])[column].iloc[0]
    return None if pd.isna(value) else float(value)


def _broke(report: Report, skipped: int) -> int:
    """Outages that began in seven days, before the newest `skipped` ones."""
    seen = report.outages.loc[report.outages["started_after"].notna(), "first_seen_at"]
    return int(((seen > _back(report, skipped + 7)) & (seen <= _back(report, skipped))).sum())


def _back(report: Report, days: int) -> datetime:
    assert report.health.as_of is not None
    return report.health.as_of - timedelta(days=days)


def _providers(report: Report) -> Iterator[Row]:
    """The providers over the last 30 days, lowest uptime first, with open outages and the median."""
    rates = report.rates[(report.rates["period"] == PERIOD) & (report.rates["profiles"] > 0)]
    halves = {row["provider"]: row for row in rows_of(report.halves)}
    down: dict[str, int] = defaultdict(int)
    for row in report.health.actions:
        down[row["provider"]] += row["reason"] == "relink"
    for row in rows_of(rates.sort_values(["uptime", "provider"])):
        yield {**row, "open": down[row["provider"]], "half": halves.get(row["provider"])}


def _figures(report: Report) -> Iterator[Figure]:
    """The drawings; without days, polls or outages there is nothing to draw of them."""
    if not report.days.empty:
        yield from _figures_of_days(report)
    yield _figure(
        "When each account was last checked",
        "Tokens by the time since their last successful poll.",
        charts.draw_freshness(figures.freshness(report.tokens, report.health.as_of), SLOTS),
    )
    if len(moved := _moved(report.days)):
        yield _figure(
            "Share of connections down, by provider",
            f"The same share on one scale: {wording.count(moved['provider'].nunique(), 'provider')} where it"
            " was highest on a day.",
            charts.draw_providers(moved, SLOTS, height=PROVIDER_HEIGHT),
        )
    pooled = report.curves[report.curves["provider"] == ALL]
    if not pooled.empty:
        yield _figure(
            "How long relinking takes",
            "Share of outages not yet relinked, by days since they were first seen (Kaplan-Meier), with its"
            " 95 % confidence band. Outages that were already down when first seen are left out.",
            charts.draw_survival(pooled, SLOTS),
        )
    if not report.polls.empty:
        yield _figure(
            "How polling went",
            "Polls by UTC day and outcome. A day without bars is a day without a load.",
            charts.draw_polls(report.polls, SLOTS),
        )


def _figures_of_days(report: Report) -> Iterator[Figure]:
    totals = figures.add_up(report.days, ["day"])
    marks = _marks(report.mass_events[:MOST_EVENTS], totals)
    marked = " The numbers are those of the list below: many broke at once." if len(marks) else ""
    yield _figure(
        "Share of connections down, by day",
        "Share of the observed time that was disconnected, by UTC day. Grey is unknown, not down: the darker"
        f" the day, the less of it was observed.{marked}",
        charts.draw_disconnected(totals, SLOTS, events=marks),
    )
    if not report.stock.empty:
        yield _figure(
            "Connections at the end of each day",
            "How many were connected, disconnected and unknown at midnight UTC; on the last day at the newest"
            " poll.",
            charts.draw_stock(report.stock, SLOTS),
        )
    starts = figures.starts_by_day(report.outages, totals)
    yield _figure(
        "When connections broke",
        f"Outages first seen on each UTC day: {int(starts['outages'].sum())} in"
        f" {wording.count(len(starts), 'day')}. The next poll finds a break, so a day may show those of the"
        " night before.",
        charts.draw_calendar(starts, SLOTS),
    )


def _moved(days: pd.DataFrame) -> pd.DataFrame:
    """Rows by provider and day, of the providers of which the greatest share was ever down."""
    named = days.assign(provider=days["provider"].map(wording.provider_name))
    by_day = figures.add_up(named, ["provider", "day"])
    highest = (1 - by_day.groupby("provider")["uptime"].min()).nlargest(MOVED_PROVIDERS)
    return by_day[by_day["provider"].isin(highest[highest > 0].index)]


def _marks(events: pd.DataFrame, totals: pd.DataFrame) -> pd.DataFrame:
    """What is marked on the trend: for each day the numbers of its events in the list below."""
    days = events["hour_at"].dt.tz_localize(None).dt.normalize().astype("datetime64[us]")
    numbered = pd.DataFrame({"day": days, "label": [str(number) for number in range(1, len(days) + 1)]})
    shown = numbered[numbered["day"].isin(totals["day"])]
    return shown.groupby("day", as_index=False).agg({"label": ", ".join})


def _event_name(row: Row) -> str:
    return wording.provider_name(row["name"]) if row["grouped_by"] == "provider" else str(row["name"])


def _figure(title: str, explanation: str, chart: charts.Drawn) -> Figure:
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    return Figure(title, explanation, Markup(draw_inline(chart, name, f"{title}. {explanation}")))  # noqa: S704
