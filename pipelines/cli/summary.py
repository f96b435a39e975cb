"""Summaries for the terminal: what a load did, and how the accounts are."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

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
    digest_shortened,
    duration,
    instant,
    percent,
    row_lines,
)
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.report.health import Health
from dlt_cronofy.warehouse.pipeline import Row

from .console import program

if TYPE_CHECKING:
    from dlt_cronofy.sandbox.demo import DemoResult

SHOWN_OUTAGES, SHOWN_TOKENS = 8, 8
WIDEST = 10_000

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


STOPPED_BY = {
    "max_requests": "--max-requests",
    "max_duration": "--max-duration",
    "retry_after": "Cronofy, which asked for a pause of more than a minute (Retry-After)",
    "requests_shared_in": "requests_shared_in, which became unavailable",
}


def print_load(console: Console, result: LoadResult) -> None:
    """A few lines: what was due, polled, changed and where it went."""
    if result.finished_packages:
        console.print(
            f"Finished {count(len(result.finished_packages), 'package')} that an earlier run left behind."
        )
    for path in result.quarantined_packages:
        console.print(f"A package that can never be loaded was moved to {path}", markup=False)
    if not result.due:
        console.print(f"Nothing is due: {_why_none_is_due(result)}")
    console.print(
        f"Polled {result.polled_tokens:,} of {count(result.due, 'due token')}"
        f" ({result.tokens:,} in the store)"
        f" with {count(result.requests, 'request')} in {result.seconds:.1f} s"
    )
    if result.outcomes:
        console.print(f"  outcomes  {_listed(result.outcomes)}")
    if result.polls:
        console.print(f"  changes   {_listed(result.changes) or 'none'}")
    if result.stopped_by:
        left = result.due - result.polled_tokens - result.skipped_tokens
        reason = STOPPED_BY.get(result.stopped_by, result.stopped_by)
        console.print(f"  stopped by {reason}; {count(left, 'token')} left for the next run")
    for line in _unpolled_lines(result):
        console.print(line, markup=False, soft_wrap=True)
    print_lost(console, result)
    console.print(
        f"Loaded into {result.destination}, dataset {result.dataset} (run {result.run_id})", markup=False
    )


def _unpolled_lines(result: LoadResult) -> Iterator[str]:
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


def _why_none_is_due(result: LoadResult) -> str:
    if not result.tokens:
        return "the token store holds no token that can be polled"
    return f"all {count(result.tokens, 'token')} were polled successfully a short while ago"


def print_lost(console: Console, result: LoadResult) -> None:
    """The users whose refresh token is lost, if any; also of a load that failed."""
    if result.lost_refresh_tokens:
        lost = ", ".join(result.lost_refresh_tokens)
        # as they are: a key is no markup, and not broken into two
        console.print(f"  refresh tokens lost, authorize again: {lost}", markup=False, soft_wrap=True)


def print_demo(console: Console, result: "DemoResult", report: Path) -> None:
    """The health summary after the demo, and what to do next."""
    console.print(
        f"Played {result.days} days: {result.loads} loads, {result.requests:,} requests,"
        f" {result.polls:,} polls recorded."
    )
    for part in health_parts(result.health):
        console.print(part)
    console.print(f"The same as a report: open {report} in a browser.\n", markup=False)
    console.print(f"The history is in {result.database}. To look around:\n", markup=False)
    console.print(f"export DESTINATION__DUCKDB__CREDENTIALS={result.database}", markup=False)
    console.print(f"{program()} status", markup=False)
    for question, sql in QUERIES.items():
        console.print(f'\n# {question}\n{program()} query "\n{sql}"', markup=False, soft_wrap=True)
    console.print("\nIn a DuckDB client, run USE cronofy.cronofy; first.")


def print_status(console: Console, health: Health) -> None:
    """The health summary by itself."""
    for part in health_parts(health):
        console.print(part)


def health_parts(health: Health) -> list[RenderableType]:
    """The health summary, part by part."""
    if health.as_of is None:
        return [Text(f"Nothing was polled yet: run {program()} load")]
    parts: list[RenderableType] = ["", _headline(health), _provider_table(health)]
    if health.open_outages:
        parts.append(_outage_table(health))
    if health.failing_tokens:
        parts.append(_token_table(health))
    return parts


def _headline(health: Health) -> RenderableType:
    connected, down, unknown = (health.states.get(key, 0) for key in ("connected", "disconnected", "unknown"))
    profiles = (
        f"{count(connected + down + unknown, 'profile')} of {count(health.accounts, 'account')},"
        f" as of {instant(health.as_of)}: [green]{connected} connected[/],"
        f" [red]{down} disconnected[/], [yellow]{unknown} unknown[/]"
    )
    uptime = (
        f"Uptime {percent(health.uptime)} since {instant(health.since)};"
        f" {percent(health.coverage)} of that time was observed, the rest is unknown, not down"
    )
    ended, median = health.ended, health.median_seconds_to_relink
    outages = (
        f"{count(sum(ended.values()), 'outage')}: {ended.get('relinked', 0)} relinked,"
        f" {ended.get('removed', 0)} ended by removal, {ended.get('open', 0)} still open"
        + (f"; median time to relink {duration(median)}" if median is not None else "")
    )
    evidence = (
        f"Longest unread token: last read {instant(health.oldest_evidence_at)};"
        f" {count(health.never_read_tokens, 'token')} could never be read"
    )
    lines = [profiles, uptime, outages, evidence]
    return Panel(
        Text.from_markup("\n".join(lines)), title="Connection health", title_align="left", box=box.ROUNDED
    )


def _provider_table(health: Health) -> Table:
    table = _table("By provider")
    table.add_column("provider")
    for name in ("profiles", "uptime", "outages", "open", "median time to relink"):
        table.add_column(name, justify="right")
    for row in health.providers:
        _add_row(
            table,
            row["provider"],
            str(row["profiles"]),
            percent(row["uptime"]),
            str(row["outages"]),
            str(row["open_outages"]),
            duration(row["median_seconds_to_relink"]),
        )
    return table


def _outage_table(health: Health) -> Table:
    shown = health.open_outages[:SHOWN_OUTAGES]
    table = _table(
        f"Needs relinking: {_of(len(shown), len(health.open_outages), 'open outage')}, longest first"
    )
    table.add_column("contact", overflow="ellipsis", no_wrap=True)
    table.add_column("provider")
    table.add_column("profile, if named differently", overflow="ellipsis", no_wrap=True)
    table.add_column("down since")
    table.add_column("down for", justify="right")
    for row in shown:
        _add_row(
            table,
            digest_shortened(row["email"] or row["name"]) or row["token_keys"],
            row["provider"] or row["profile_type"],
            "" if row["profile_name"] == row["email"] else digest_shortened(row["profile_name"]),
            _down_since(row),
            duration(float(row["days_down"]) * SECONDS_PER_DAY),
        )
    return table


def _token_table(health: Health) -> Table:
    shown = health.failing_tokens[:SHOWN_TOKENS]
    table = _table(
        f"Could not be read: {_of(len(shown), len(health.failing_tokens), 'token')}, longest first"
    )
    table.add_column("token")
    table.add_column("last outcome")
    table.add_column("failing since")
    table.add_column("last read")
    table.add_column("what to do")
    for row in shown:
        _add_row(
            table,
            row["token_key"],
            row["last_outcome"],
            instant(row["failing_since"]),
            instant(row["last_ok_at"]),
            advice(row["last_outcome"]),
        )
    return table


def print_rows(console: Console, rows: list[Row]) -> None:
    """Rows of any query as a plain table."""
    if not rows:
        console.print("no rows")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        value = next((row[name] for row in rows if row[name] is not None), None)
        numeric = isinstance(value, (int, float, Decimal))
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        _add_row(table, *(_cell(value) for value in row.values()))
    wanted = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    if wanted <= console.options.max_width:
        console.print(table)
        return
    # too wide to read side by side: one column a line
    for number, row in enumerate(rows, start=1):
        console.print(f"row {number}", style="bold")
        for name, value in row.items():
            console.print(f"  {name}: {_cell(value)}", soft_wrap=True, markup=False)


def _add_row(table: Table, *cells: str | None) -> None:
    # as text: a name like "[bold]" is a name, not markup
    table.add_row(*(Text(cell or "") for cell in cells))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    return str(value)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _down_since(row: Row) -> str:
    # an outage that was open at the first look began at an unknown time before it
    return ("" if row["started_after"] else "before ") + instant(row["first_seen_at"])


def _of(shown: int, total: int, noun: str) -> str:
    return count(total, noun) if shown == total else f"{shown} of {count(total, noun)}"


def _listed(counts: dict[str, int]) -> str:
    return " · ".join(f"{name} {number:,}" for name, number in counts.items())
