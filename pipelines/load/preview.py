"""Planning aloud: what a load would poll now, in what order and why, and how far a budget gets."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

import dlt
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlt_cronofy.formatting import count, duration, program, row_lines
from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.planning.change_rates import Hazards
from dlt_cronofy.source.planning.plan import HAZARD, LastPoll, Rank, due_tokens, longest_wait_sweeps, order_by
from dlt_cronofy.source.settings import ACCOUNT, PollingSettings
from dlt_cronofy.source.tokens.token import LISTED_ROWS, StoredTokens, Token, UnusableRow
from dlt_cronofy.warehouse.pipeline import location

from .pace import CRONOFY_PER_MINUTE, SHARE_OF_EVERY, enough_per_minute, least_seconds, paced
from .steps import LoadOptions, early_polls, learned_hazards

HAZARD_DAYS = 30
SECONDS_PER_DAY = 86_400.0
# below that, durations are in seconds
SHORT_SECONDS = 120.0


@dataclass(frozen=True)
class PlannedToken:
    """One place of the order. Ages are seconds, as of the plan."""

    place: int
    token_key: str
    endpoints: tuple[str, ...]
    reason: str
    last_attempt_at: datetime | None
    age_seconds: float | None
    changes_per_30_days: float | None
    providers: list[str] | None
    priority: float | None


@dataclass(frozen=True)
class Reach:
    """How far calls get; retries and token refreshes aside, answers that come at once."""

    calls: int  # that all due tokens take
    seconds: float  # that these take at least at the configured rate
    reached_tokens: int  # due tokens that `max_requests` calls read in full
    reached_calls: int  # of one run: `max_requests`, or what the due tokens take if that is less
    reached_seconds: float  # that these take at least
    runs: int  # within so many such runs every token that is due now is polled
    seconds_to_poll_all: float  # until the end of the last of them, one started every `every_seconds`
    longest_wait_sweeps: int  # every token's turn comes within that many times `tokens` polls
    requests_per_second: float  # at this rate
    requests_per_minute: float
    finish_within_seconds: float | None  # `--spread`, else five sixths of `every`
    enough_per_minute: int | None  # the rate at which `reached_calls` end within that time
    share_of_cronofy: float | None  # what that is of Cronofy's 500 calls a minute

    @classmethod
    def of(cls, calls: Sequence[int], settings: PollingSettings, options: LoadOptions) -> "Reach":
        """How far the options' budget gets with tokens that take so many calls each, in that order."""
        needed = sum(calls)
        budget = min(options.max_requests or needed, needed)
        settings = paced(settings, budget, options.spread)
        rates = settings.requests_per_second, settings.requests_per_minute
        sweeps = longest_wait_sweeps(options.order)
        runs = 1 if budget == needed else math.ceil(sweeps * needed / budget)
        run_seconds = least_seconds(budget, *rates)
        within = options.spread or SHARE_OF_EVERY * options.every
        enough = enough_per_minute(budget, within) if within and budget else None
        return cls(
            calls=needed,
            seconds=least_seconds(needed, *rates),
            reached_tokens=sum(total <= budget for total in accumulate(calls)),
            reached_calls=budget,
            reached_seconds=run_seconds,
            runs=runs if needed else 0,
            seconds_to_poll_all=(runs - 1) * max(options.every.total_seconds(), run_seconds) + run_seconds,
            longest_wait_sweeps=sweeps,
            requests_per_second=settings.requests_per_second,
            requests_per_minute=settings.requests_per_minute,
            finish_within_seconds=within.total_seconds() or None,
            enough_per_minute=enough,
            share_of_cronofy=None if enough is None else enough / CRONOFY_PER_MINUTE,
        )


@dataclass(frozen=True)
class Preview(Reach):
    """What a load would do; the keys of `plan --json`."""

    at: datetime
    order: str
    every_seconds: float
    endpoints: tuple[str, ...]
    tokens: int  # of the store that can be used
    due: int
    fresh: int  # read less than `every_seconds` ago, or less than a day where `/v1/account` alone is read
    fallback_tokens: int  # polled only where another one of their account is refused
    never_polled: int
    failing: int
    notified: int  # due by a notification that no poll has followed yet
    spread_seconds: float | None
    only: tuple[str, ...]  # the tokens and accounts that were asked for; all where there are none
    max_requests: int | None
    first: list[PlannedToken]
    not_connected: int  # users of the store without any token
    unusable_rows: int  # of the store
    unusable: list[UnusableRow]  # the first `LISTED_ROWS` of them

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def preview_load(
    pipeline: dlt.Pipeline,
    settings: PollingSettings,
    tokens: Sequence[Token],
    options: LoadOptions,
    now: datetime,
    limit: int,
    notified: Mapping[str, datetime] | None = None,
) -> Preview:
    """What a load with these options would do now; reads the warehouse and nothing else.

    `notified` is when the application was last notified, by token_key or account_id.
    """
    state = SqlWarehouseState(pipeline, SOURCE_NAME)
    with state.connected():
        if state.lacks_evidence():
            raise ConfigurationError(
                f"{location(pipeline)} is of an earlier release, which kept no evidence:"
                f" run {program()} rebuild once"
            )
        last_polls, hazards = state.last_polls(), learned_hazards(options.order, state, now)
    early = early_polls(tokens, last_polls, options, notified)
    wanted = [token for token in tokens if early.wants(token, last_polls.get(token.key) or LastPoll())]
    due = due_tokens(wanted, last_polls, now, options.endpoints, options.every, early)
    fallback_tokens = sum(len(each.task.fallback_tokens) for each in due)
    places = list(order_by(hazards)(due, now))
    reach = Reach.of([len(each.due.task.endpoints) for each in places], settings, options)
    stored = StoredTokens.of(tokens)
    return Preview(
        at=now,
        order=options.order,
        every_seconds=options.every.total_seconds(),
        endpoints=tuple(options.endpoints),
        tokens=len(tokens),
        due=len(due),
        fallback_tokens=fallback_tokens,
        fresh=len(wanted) - len(due) - fallback_tokens,
        never_polled=sum(each.waits_since is None for each in due),
        failing=sum(not each.task.last_poll_ok for each in due),
        notified=sum(each.notified_at is not None for each in due),
        spread_seconds=options.spread.total_seconds() if options.spread is not None else None,
        only=tuple(options.only or ()),
        max_requests=options.max_requests,
        **asdict(reach),
        first=[_planned(number, place, hazards, now) for number, place in enumerate(places[:limit], start=1)],
        not_connected=len(stored.not_connected),
        unusable_rows=len(stored.unusable),
        unusable=list(stored.unusable[:LISTED_ROWS]),
    )


def _planned(number: int, place: Rank, hazards: Hazards | None, now: datetime) -> PlannedToken:
    task, since = place.due.task, place.due.waits_since
    # a warehouse without history has learned nothing
    per_day = place.hazard_per_day if hazards is not None and hazards.mean_per_day else None
    return PlannedToken(
        place=number,
        token_key=task.token.key,
        endpoints=task.endpoints,
        reason=place.reason.value,
        last_attempt_at=since,
        age_seconds=None if since is None else (now - since).total_seconds(),
        changes_per_30_days=None if per_day is None else HAZARD_DAYS * per_day,
        providers=None if hazards is None else hazards.providers(task.account_id),
        priority=place.priority,
    )


def print_preview(console: Console, preview: Preview) -> None:
    """A few lines: who is due, how long that takes, how far a budget gets; then the first places."""
    for line in preview_lines(preview):
        console.print(line, markup=False, soft_wrap=True)
    if preview.first:
        first = f"The first {len(preview.first)} of " if len(preview.first) < preview.due else ""
        by = "hazard and age" if preview.order == HAZARD else "age"
        console.print(f"\n{first}{count(preview.due, 'due token')}, by {by}\n", style="bold")
        console.print(_order_table(preview))


def preview_lines(preview: Preview) -> Iterator[str]:
    """The summary, line by line."""
    why = "read" if preview.endpoints == (ACCOUNT,) else "polled successfully"
    age = SECONDS_PER_DAY if preview.endpoints == (ACCOUNT,) else preview.every_seconds
    yield (
        f"{count(preview.tokens, 'token')} in the store: {preview.due:,} due,"
        f" {preview.fresh:,} fresh ({why} less than {_time(age)} ago)"
    )
    yield from row_lines(preview.unusable, preview.unusable_rows, preview.not_connected)
    if preview.fallback_tokens:
        why = "polled only if another token of the same account is refused"
        yield f"  fallback  {count(preview.fallback_tokens, 'token')}, {why}"
    if not preview.due:
        return
    if preview.only:
        yield f"  only      {', '.join(preview.only)}: due or not, and nothing else"
    due = f"{preview.never_polled:,} never polled · {preview.failing:,} failed at the last attempt"
    yield f"  due       {due}" + (f" · {preview.notified:,} notified, first" if preview.notified else "")
    rate = f"{preview.requests_per_second:g} a second and {preview.requests_per_minute:g} a minute"
    yield f"  calls     {preview.calls:,} for all that are due: at least {_time(preview.seconds)} at {rate}"
    if preview.max_requests is not None:
        with_calls = f"with {count(preview.reached_calls, 'call')} of --max-requests"
        yield (
            f"  reached   {count(preview.reached_tokens, 'token')} {with_calls}:"
            f" at least {_time(preview.reached_seconds)}"
        )
    yield from _rate_lines(preview)
    schedule = f" when one starts every {_time(preview.every_seconds)}" if preview.runs > 1 else ""
    yield f"  all seen  within {count(preview.runs, 'run')}, {_time(preview.seconds_to_poll_all)}{schedule}"


def _rate_lines(preview: Preview) -> Iterator[str]:
    """What rate would do, and what the configured one leaves for the product."""
    enough, within = preview.enough_per_minute, preview.finish_within_seconds
    if enough is None or within is None or preview.share_of_cronofy is None:
        return
    if enough > CRONOFY_PER_MINUTE:
        yield (
            f"  rate      to finish within {_time(within)}, {enough:,} a minute are needed,"
            f" more than Cronofy's {CRONOFY_PER_MINUTE}"
        )
        return
    share = f"{math.ceil(100 * preview.share_of_cronofy)} % of Cronofy's {CRONOFY_PER_MINUTE}"
    yield f"  rate      to finish within {_time(within)}, {enough:,} a minute is enough ({share})"
    left = CRONOFY_PER_MINUTE - min(preview.requests_per_minute, CRONOFY_PER_MINUTE)
    would = CRONOFY_PER_MINUTE - enough
    with_spread = (
        f", --spread {within / 60:g}m leaves {would:,}"
        if preview.spread_seconds is None and would > left
        else ""
    )
    yield f"  left      {left:,g} of {CRONOFY_PER_MINUTE} a minute for your product{with_spread}"


def _order_table(preview: Preview) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ["place", "token", "because", "last attempt"]
    if preview.order == HAZARD:
        headings += [f"changes in {HAZARD_DAYS} d", "priority", "provider"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("token", "because", "provider") else "right")
    for each in preview.first:
        # as text: a key is no markup
        table.add_row(*(Text(cell) for cell in [*_cells(each)][: len(headings)]))
    return table


def _cells(planned: PlannedToken) -> Iterator[str]:
    yield f"{planned.place:,}"
    yield planned.token_key
    yield planned.reason
    yield "never" if planned.age_seconds is None else f"{_time(planned.age_seconds)} ago"
    for number in (planned.changes_per_30_days, planned.priority):
        yield "–" if number is None else f"{number:.2f}"
    yield ", ".join(planned.providers or ())


def _time(seconds: float) -> str:
    if seconds < SHORT_SECONDS:
        return f"{math.ceil(seconds)} s"
    return duration(seconds)
