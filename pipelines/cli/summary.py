"""Summaries for the terminal: what a load did, and how the accounts are."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dlt_cronofy.formatting import (
    SECONDS_PER_DAY,
    advice,
    count,
    duration,
    instant,
    percent,
    program,
    provider_name,
    reason_name,
    row_lines,
)
from dlt_cronofy.report.worklist import owner as owner_of
from dlt_cronofy.report.worklist import people
from dlt_cronofy.source.tables import Row

from . import worklist

if TYPE_CHECKING:
    from dlt_cronofy.load.statistics import LoadResult
    from dlt_cronofy.report.health import Health
    from dlt_cronofy.sandbox.demo import DemoResult

SHOWN_ROWS = 8
SHOWN_ACTIONS = 15
WIDEST = 10_000

# the name of a column of a table, its text for a row, and how it differs from plain text
Column = tuple[str, Callable[[Row], str | None], Mapping[str, Any]]
TEXT: dict[str, Any] = {}
NUMBER: dict[str, Any] = {"justify": "right", "no_wrap": True}
# in a narrow terminal the columns with texts give way, those with times and numbers never
WHOLE: dict[str, Any] = {"no_wrap": True}
LONG: dict[str, Any] = {"overflow": "ellipsis"}


ACTIONS: Sequence[Column] = (
    ("contact, by customer", lambda row: f"  {worklist.contact(row)}", LONG),
    ("connection", worklist.connection, LONG),
    ("to do", lambda row: reason_name(row["reason"]), LONG),
    ("for", worklist.lasting, NUMBER),
)
PROVIDERS: Sequence[Column] = (
    ("provider", lambda row: provider_name(row["provider"]), LONG),
    ("profiles", lambda row: f"{row['profiles']:,}", NUMBER),
    ("uptime", lambda row: percent(row["uptime"]), NUMBER),
    ("outages", lambda row: f"{row['outages']:,}", NUMBER),
    ("open", lambda row: f"{row['open_outages']:,}", NUMBER),
    ("time to relink", lambda row: duration(row["median_seconds_to_relink"]), NUMBER),
)
TOKENS: Sequence[Column] = (
    ("whose", worklist.contact, LONG),
    ("last outcome", lambda row: row["last_outcome"], WHOLE),
    ("failing since", lambda row: instant(row["failing_since"]), WHOLE),
    ("last read", lambda row: instant(row["last_ok_at"]), WHOLE),
    ("what to do", lambda row: advice(row["last_outcome"]), TEXT),
)

QUERIES = {
    "who has been down longest, and where do they relink?": """\
SELECT email, provider, round(days_down, 1) AS days, relink_url
FROM needs_relink ORDER BY days DESC, email LIMIT 5""",
    "uptime by provider over the last seven days": """\
SELECT provider, round(100 * sum(connected_seconds)
       / sum(connected_seconds + disconnected_seconds), 2) AS uptime_percent
FROM connectivity_daily
WHERE day > (SELECT max(day) - 7 FROM connectivity_daily)
GROUP BY provider ORDER BY uptime_percent""",
    "what happened last, profile by profile": """\
SELECT observed_at, kind, provider_name, profile_name
FROM profile_changes WHERE kind NOT IN ('first_seen', 'attributes')
ORDER BY observed_at DESC, profile_id LIMIT 5""",
}

# how outages ended
ENDS = {"removed": "ended by removal", "open": "still open", "left": "of accounts that left"}

STOPPED_BY = {
    "max_requests": "--max-requests",
    "max_duration": "--max-duration",
    "retry_after": "Cronofy, which asked for a pause of more than a minute (Retry-After)",
    "requests_shared_in": "requests_shared_in, which became unavailable",
}


def print_load(console: Console, result: "LoadResult") -> None:
    """A few lines: what was due, polled, changed and where it went."""
    _print_lines(console, _load_lines(result))


def print_lost(console: Console, result: "LoadResult") -> None:
    """The users whose refresh token is lost, if any; also of a load that failed."""
    _print_lines(console, _lost_lines(result))


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        # as they are: a key or a path is no markup, and not broken into two
        console.print(line, markup=False, soft_wrap=True)


def _load_lines(result: "LoadResult") -> Iterator[str]:
    if result.finished_packages:
        yield f"Finished {count(len(result.finished_packages), 'package')} that an earlier run left behind."
    for path in result.quarantined_packages:
        yield f"A package that can never be loaded was moved to {path}"
    if not result.due:
        polled = f"all {count(result.tokens, 'token')} were polled successfully a short while ago"
        none = "the token store holds no token that can be polled"
        yield f"Nothing is due: {polled if result.tokens else none}"
    due, requests = count(result.due, "due token"), count(result.requests, "request")
    yield (
        f"Polled {result.polled_tokens:,} of {due} ({result.tokens:,} in the store)"
        f" with {requests} in {result.seconds:.1f} s"
    )
    if result.outcomes:
        yield f"  outcomes  {_listed(result.outcomes)}"
    if result.polls:
        yield f"  changes   {_listed(result.changes) or 'none'}"
    if result.stopped_by:
        left = result.due - result.polled_tokens - result.skipped_tokens
        reason = STOPPED_BY.get(result.stopped_by, result.stopped_by)
        yield f"  stopped by {reason}; {count(left, 'token')} left for the next run"
    yield from _unpolled_lines(result)
    yield from _lost_lines(result)
    yield f"Loaded into {result.destination}, dataset {result.dataset} (run {result.run_id})"


def _unpolled_lines(result: "LoadResult") -> Iterator[str]:
    """What of the store was not polled, and why."""
    if result.fallback_tokens:
        fallback_tokens = count(result.fallback_tokens, "token")
        yield f"  not polled: {fallback_tokens}, because another token of the same account was"
    if result.skipped_tokens:
        yield f"  skipped   {count(result.skipped_tokens, 'token')}, first in the next run"
    if result.left_tokens:
        yield f"  left      {count(result.left_tokens, 'token')} no longer in the token store"
    if result.held_back_tokens:
        missing = count(result.held_back_tokens, "token")
        yield (
            f"  missing   {missing} not in the token store, and not marked as left: too many at once, or"
            " perhaps in rows that cannot be read; load --confirm-left marks them as left"
        )
    yield from row_lines(result.unusable, result.unusable_rows, result.not_connected)


def _lost_lines(result: "LoadResult") -> Iterator[str]:
    if result.lost_refresh_tokens:
        yield f"  refresh tokens lost, authorize again: {', '.join(result.lost_refresh_tokens)}"


def _listed(counts: Mapping[str, int]) -> str:
    return " · ".join(f"{name} {number:,}" for name, number in counts.items())


def print_demo(console: Console, result: "DemoResult", report: Path) -> None:
    """The health summary after the demo, and what to do next."""
    console.print(
        f"Played {result.days} days: {result.loads} loads, {result.requests:,} requests,"
        f" {result.polls:,} polls recorded."
    )
    print_status(console, result.health)
    console.print(f"The same as a report: open {report} in a browser.\n", markup=False)
    console.print(f"The history is in {result.database}. To look around:\n", markup=False)
    console.print(f"export DESTINATION__DUCKDB__CREDENTIALS={result.database}", markup=False)
    console.print(f"{program()} status", markup=False)
    for question, sql in QUERIES.items():
        console.print(f'\n# {question}\n{program()} query "\n{sql}"', markup=False, soft_wrap=True)
    console.print("\nIn a DuckDB client, run USE cronofy; first.")


def print_status(console: Console, health: "Health") -> None:
    """The health summary by itself."""
    for part in health_parts(health):
        # a command is copied in one piece
        console.print(part, soft_wrap=isinstance(part, Text))


def health_parts(health: "Health") -> list[RenderableType]:
    """The health summary, part by part."""
    if health.as_of is None:
        return [Text(f"Nothing was polled yet: run {program()} load")]
    parts: list[RenderableType] = ["", _headline(health)]
    for title, rows in worklist.sections(health.actions):
        parts += _worklist(title, rows)
    # the others are in the worklist
    if tokens := [row for row in health.failing_tokens if row["verdict"] == "failing"]:
        title = f"Could not be read: {_of(len(tokens), 'token')}, longest first"
        parts.append(_table(title, TOKENS, tokens[:SHOWN_ROWS]))
    if health.providers:
        parts.append(_table("By provider, lowest uptime first", PROVIDERS, health.providers))
    return parts


def _worklist(title: str, rows: Sequence[Row]) -> Iterator[RenderableType]:
    """The first rows as a table, each customer above its rows, and where the others are."""
    table = _table(f"{title}: {count(people(rows), 'account')}", ACTIONS, ())
    shown = rows[:SHOWN_ACTIONS]
    for owner, group in groupby(shown, owner_of):
        table.add_row(Text(owner or "customer unknown", style="bold"))
        _add_rows(table, ACTIONS, group)
    yield table
    if more := len(rows) - len(shown):
        command = f"{program()} query --format csv '{worklist.ALL}'"
        yield Text(f"and {more:,} more: {command}\n")


def _headline(health: "Health") -> RenderableType:
    lines = Text("\n").join(
        (Text(worklist.headline(health.actions), style="bold"), *map(Text.from_markup, _figures(health)))
    )
    return Panel(lines, title="Connection health", title_align="left", box=box.ROUNDED)


def _figures(health: "Health") -> Iterator[str]:
    """The lines below the headline."""
    connected, down, unknown = (health.states.get(key, 0) for key in ("connected", "disconnected", "unknown"))
    yield (
        f"{count(connected + down + unknown, 'profile')} of {count(health.accounts, 'account')},"
        f" as of {instant(health.as_of)}: [green]{connected:,} connected[/],"
        f" [red]{down:,} disconnected[/], [yellow]{unknown:,} unknown[/]"
    )
    yield from _past(health)
    yield _evidence(health)
    if left := health.left_accounts:
        yield f"{count(left, 'account')} left and {'is' if left == 1 else 'are'} in none of these lists"


def _past(health: "Health") -> Iterator[str]:
    """Uptime and outages, once there is a day of them."""
    assert health.as_of is not None
    history = (health.as_of - (health.since or health.as_of)).total_seconds()
    if history < SECONDS_PER_DAY:
        yield "Uptime and time to relink are shown after a day of loads"
        return
    if health.uptime is not None:
        yield (
            f"Uptime {percent(health.uptime)} since {instant(health.since)};"
            f" {percent(health.coverage)} of that time was observed, the rest is unknown, not down"
        )
    if ended := health.ended:
        median = health.median_seconds_to_relink
        listed = " · ".join(f"{ENDS.get(reason, reason)} {number:,}" for reason, number in ended.items())
        yield (
            f"{count(sum(ended.values()), 'outage')}: {listed}"
            + (f"; median time to relink {duration(median)}" if median is not None else "")
        )


def _evidence(health: "Health") -> str:
    fresh = health.freshness
    if not fresh or not fresh["tokens"]:
        return "No token could be read yet"
    unreadable = fresh["unreadable_tokens"]
    return (
        f"Newest reading of {count(fresh['tokens'], 'token')}: {duration(fresh['median_age_seconds'])} old in"
        f" the median, {duration(fresh['p95_age_seconds'])} at the 95th percentile"
        + (f"; {count(unreadable, 'token')} cannot be read" if unreadable else "")
    )


def _of(total: int, noun: str) -> str:
    return count(total, noun) if total <= SHOWN_ROWS else f"{SHOWN_ROWS} of {count(total, noun)}"


def print_rows(console: Console, rows: list[Row]) -> None:
    """Rows of any query as a plain table; where that is too wide, one column a line."""
    if not rows:
        console.print("no rows")
        return
    table = _table(None, [_column(name, rows) for name in rows[0]], rows)
    wanted = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    if wanted <= console.options.max_width:
        console.print(table)
        return
    for number, row in enumerate(rows, start=1):
        console.print(f"row {number}", style="bold")
        _print_lines(console, (f"  {name}: {_cell(value)}" for name, value in row.items()))


def _column(name: str, rows: Sequence[Row]) -> Column:
    value = next((row[name] for row in rows if row[name] is not None), None)
    style = {"no_wrap": True} | (NUMBER if isinstance(value, (int, float, Decimal)) else TEXT)
    return name, lambda row: _cell(row[name]), style


def _table(title: str | None, columns: Sequence[Column], rows: Iterable[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, _, style in columns:
        table.add_column(name, **style)
    _add_rows(table, columns, rows)
    return table


def _add_rows(table: Table, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    for row in rows:
        # as text: a name like "[bold]" is a name, not markup
        table.add_row(*(Text(text(row) or "") for _, text, _ in columns))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1000 else _plain(number)
    # a year has no separator
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _plain(number: float) -> str:
    """Four digits that matter, and no exponent."""
    return f"{Decimal(f'{number:.4g}'):f}"
