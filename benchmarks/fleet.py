"""Ten million tokens over forty applications, on paper and played: calls, hours, workers, rows, bytes, money.

Paper is closed formulas over the size of each application, without failures. Played is a discrete simulation
of one token in a thousand, with what paper leaves out: failing tokens, second tokens of an account, retries,
windows that answers prolong, and workers that are killed, whose shards run again from their start. A call
that is played stands for a thousand, so a limit of 400 calls a minute is one of 4 calls in 10 minutes, and
hours stay hours. Everything is drawn from a seed. Nothing is called, and no code of `load` runs: played are
the rules of docs/calls.md. The ratio is played to paper.

Every application is swept once a day, or as soon as its sweep before is done. A sweep is planned when it
starts; `/v1/account` is read where that was last done a day or more before the plan. The shards of an
application run one after the other, each with the whole limit: it belongs to the application, so two at once
would take as long. docs/fleet.md has the results.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from random import Random
from statistics import fmean
from typing import Any

from dlt_cronofy.load.steps import MAX_PACKAGE_POLLS

TOKENS, APPLICATIONS = 10_000_000, 40
# of each application; Cronofy documents 500, the default of `requests_per_minute` leaves some to the product
CALLS_A_MINUTE = 400
# sizes fall with rank^-TAIL: the largest application has five and a half times the mean
TAIL = 0.7
DAY_HOURS, DAY_MINUTES, YEAR_DAYS = 24, 24 * 60, 365
# "whole load, first sweep" of benchmarks/throughput.py on two shared cores, rounded down
PROCESS_CALLS_A_SECOND = 1_600
# between the 429 MB of 10,000 tokens and the 623 MB of 100,000 that benchmarks/memory.py measured
PROCESS_MEGABYTES = 461
# 641 MB for 500,000 tokens whose polls are known, by the same benchmark; assumed to grow with their number
PLAN_TOKEN_BYTES = 641e6 / 500_000
# so a shard lasts one to two hours, and a sweep has some hundreds, where Airflow maps 1,024 at most
SHARD_TOKENS = 25_000
# assumed: the profiles of a token, each of which is a row of `profile_changes` when it is first seen
PROFILES_A_TOKEN = 2
# assumed: how often the account behind one token goes down or comes back
CHANGES_A_TOKEN_DAY = 0.005

# measured after a simulated year by benchmarks/growth.py; the README has them
# Parquet with zstd stands for a cloud warehouse: the second of `DailyRuns(25_000, 2)` of daily_runs.py
COLUMNS = "compressed columns"
POLL_BYTES = {"DuckDB": 39, "PostgreSQL": 305, COLUMNS: 47}
CHANGE_BYTES = {"DuckDB": 133, "PostgreSQL": 336, COLUMNS: 79}
# the sealed set of such polls, with four calendars added; and, for account, of as many without an answer
SEALED_TOKEN_BYTES = 315 + 42
# the columns of `polls` that one plan reads, uncompressed (NEWEST_POLLS of history/state.py), same rows
PLAN_POLL_BYTES = 85


@dataclass(frozen=True)
class Prices:
    """What a cloud warehouse costs, in dollars. Inputs: put your own here.

    These are list prices as remembered when this was written. They were not looked up.
    """

    snowflake_credit: float = 3.00
    """one hour of an X-Small warehouse"""
    snowflake_terabyte_month: float = 23.00
    bigquery_gigabyte_month: float = 0.04
    """physical, that is compressed"""
    bigquery_terabyte_scanned: float = 6.25
    loads_a_day: float = APPLICATIONS
    """one for each sweep of an application"""
    seconds_a_package: float = 15
    """assumed: a warehouse is awake for so long to take `MAX_PACKAGE_POLLS` polls"""
    seconds_until_suspended: float = 60
    """after each load"""
    sweeps_planned_a_day: float = 1


@dataclass(frozen=True)
class Fleet:
    """What is swept and how fast.

    Attributes:
        sizes: tokens of each application, the largest first.
        calls_a_minute: what each application may send.
        every_hours: a sweep starts no sooner than that after the one before; 0 is back to back.
        with_account: whether `/v1/account` is read as well.
    """

    sizes: Sequence[int]
    calls_a_minute: float = CALLS_A_MINUTE
    every_hours: float = DAY_HOURS
    with_account: bool = True


def even_sizes() -> list[int]:
    """All applications alike."""
    return [TOKENS // APPLICATIONS] * APPLICATIONS


def tailed_sizes() -> list[int]:
    """A few large applications and many small ones; what rounding leaves goes to the largest."""
    shares = [rank**-TAIL for rank in range(1, APPLICATIONS + 1)]
    sizes = [int(TOKENS * share / sum(shares)) for share in shares]
    sizes[0] += TOKENS - sum(sizes)
    return sizes


def userinfo_hours(tokens: float, calls_a_minute: float) -> float:
    """One call a token."""
    return tokens / calls_a_minute / 60


def steady_hours(tokens: float, calls_a_minute: float) -> float:
    """One of many sweeps back to back, in which some of the tokens have `/v1/account` read as well.

    Where a sweep takes D hours, a token's is read again at the first plan that comes a day after: on average
    D + 24 hours later, which is in D / (D + 24) of its sweeps. With u the hours for userinfo alone,
    D = u · (1 + D / (D + 24)), a quadratic equation.
    """
    alone, half = userinfo_hours(tokens, calls_a_minute), DAY_HOURS / 2
    return alone - half + math.hypot(alone, half)


def period_hours(fleet: Fleet, tokens: float) -> float:
    """From the start of one sweep to the start of the next."""
    return max(fleet.every_hours, steady_hours(tokens, fleet.calls_a_minute))


def calls_a_day(fleet: Fleet, tokens: float) -> float:
    """One a sweep, and one more in period / (period + 24) of the sweeps."""
    period = period_hours(fleet, tokens)
    return tokens * (1 + period / (period + DAY_HOURS)) * DAY_HOURS / period


def changes_a_day(fleet: Fleet, tokens: float) -> float:
    """What goes down and comes back between two polls is not seen: a change shows if their number is odd."""
    period_days = period_hours(fleet, tokens) / DAY_HOURS
    return tokens * (1 - math.exp(-2 * CHANGES_A_TOKEN_DAY * period_days)) / 2 / period_days


@dataclass(frozen=True)
class Frictions:
    """What paper leaves out. All shares and rates are assumed."""

    failing: float = 0.02
    """of the tokens; refused at the first call, and called in every sweep all the same"""
    second: float = 0.05
    """of the tokens are second ones of an account; one of the two is polled in a sweep"""
    retried: float = 0.005
    """of the calls"""
    kills_a_worker_day: float = 0.25
    restart_minutes: float = 5.0
    seal_minutes: float = 1.0
    """from the last answer until it is known that the set is sealed; a kill then makes its rows come twice"""
    answer_seconds: float = 0.2
    """a call counts for a minute and for as long as its answer takes (calls/budget.py)"""


NO_FRICTIONS = Frictions(**{each.name: 0.0 for each in fields(Frictions)})


@dataclass(slots=True)
class Account:
    """One account and its tokens, which take turns."""

    read_at: list[float]
    """minute at which each of its tokens last read `/v1/account`"""
    changes_at: float
    is_failing: bool = False
    is_known: bool = False
    """that it is one account shows when its tokens are polled for the first time, each by itself"""
    turn: int = 0
    is_down: bool = False
    seen_down: bool = False


@dataclass(slots=True)
class Counts:
    """What happened on one day, in played calls and rows."""

    calls: int = 0
    again: int = 0
    """of the calls: lost with a worker, so made again"""
    polls: int = 0
    twice: int = 0
    """rows of sets that were sealed twice; loading merges them by key"""
    changes: int = 0
    shards: int = 0
    kills: int = 0
    busy_minutes: float = 0.0


SCALED = ("calls", "again", "polls", "twice", "changes")
# that may be played in one window
WINDOW_CALLS = 4


@dataclass(frozen=True)
class Window:
    """At most so many calls in any so many minutes."""

    calls: int
    minutes: float
    _frees_at: deque[float] = field(default_factory=deque)

    def opens_at(self, now: float) -> float:
        """When the next call may go."""
        return now if len(self._frees_at) < self.calls else max(now, self._frees_at[0])

    def take(self, at: float) -> None:
        """A call goes."""
        if len(self._frees_at) == self.calls:
            self._frees_at.popleft()
        self._frees_at.append(at + self.minutes)


# an account and whether `/v1/account` is due
Task = tuple[Account, bool]


class Application:
    """One application whose sweeps are played, in minutes since the start."""

    def __init__(self, fleet: Fleet, tokens: int, scale: int, frictions: Frictions, random: Random) -> None:
        minutes = WINDOW_CALLS * scale / fleet.calls_a_minute
        self._window = Window(WINDOW_CALLS, minutes * (1 + frictions.answer_seconds / 60))
        self._fleet, self._frictions, self._random = fleet, frictions, random
        self._shard_tokens = max(1, SHARD_TOKENS // scale)
        self._accounts = self._drawn(max(1, round(tokens / scale)))
        self.days: list[Counts] = []
        self.sweeps: list[tuple[float, float]] = []
        """minute each finished sweep started at, and the hours it took"""

    def play(self, days: int) -> "Application":
        """Sweep after sweep; the one under way at the end is left where it is."""
        # a shard that began before the end may last into the next days
        self.days = [Counts() for _ in range(2 * days)]
        now, end = 0.0, float(days * DAY_MINUTES)
        while now < end:
            began = now
            tasks = self._plan(began)
            for first in range(0, len(tasks), self._shard_tokens):
                if now >= end:
                    return self
                now = self._work(tasks[first : first + self._shard_tokens], now)
            self.sweeps.append((began, (now - began) / 60))
            now = max(now, began + 60 * self._fleet.every_hours)
        return self

    def _drawn(self, tokens: int) -> list[Account]:
        accounts: list[Account] = []
        for _ in range(tokens):
            last = accounts[-1] if accounts else None
            may_be_second = last is not None and not last.is_failing and len(last.read_at) == 1
            if last is not None and may_be_second and self._random.random() < self._frictions.second:
                last.read_at.append(-math.inf)
            else:
                is_failing = self._random.random() < self._frictions.failing
                accounts.append(Account([-math.inf], self._until_change(), is_failing))
        return accounts

    @property
    def shards(self) -> int:
        """Of each sweep after the first."""
        return math.ceil(len(self._accounts) / self._shard_tokens)

    def _until_change(self) -> float:
        return self._random.expovariate(CHANGES_A_TOKEN_DAY / DAY_MINUTES)

    def _plan(self, now: float) -> list[Task]:
        reads = self._fleet.with_account
        return [
            (each, reads and now - each.read_at[each.turn] >= DAY_MINUTES)
            for each in self._accounts
            for _ in range(1 if each.is_known else len(each.read_at))
        ]

    def _day(self, at: float) -> Counts:
        return self.days[int(at // DAY_MINUTES)]

    def _work(self, shard: Sequence[Task], now: float) -> float:
        """Run a shard until it is sealed and known to be; returns when that was."""
        kills_a_minute = self._frictions.kills_a_worker_day / DAY_MINUTES
        while True:
            killed_at = now + self._random.expovariate(kills_a_minute) if kills_a_minute else math.inf
            polled_at = self._poll(shard, now, killed_at)
            ends_at = (
                polled_at[-1] + self._frictions.seal_minutes if len(polled_at) == len(shard) else math.inf
            )
            day = self._day(now)
            day.busy_minutes += min(ends_at, killed_at) - now
            if ends_at < killed_at:
                day.shards += 1
                self._seal(shard, polled_at)
                return ends_at
            day.kills += 1
            if math.isfinite(ends_at):
                day.twice += sum(_rows(task) for task in shard)
            now = killed_at + self._frictions.restart_minutes

    def _poll(self, shard: Sequence[Task], now: float, killed_at: float) -> list[float]:
        """Poll until done or killed; returns when each account was polled."""
        polled_at: list[float] = []
        calls = 0
        for task in shard:
            wanted = _rows(task)
            wanted += self._random.random() < wanted * self._frictions.retried
            for _ in range(wanted):
                now = self._window.opens_at(now)
                if now >= killed_at:
                    self._day(killed_at).again += calls
                    return polled_at
                self._window.take(now)
                self._day(now).calls += 1
                calls += 1
            polled_at.append(now)
        if now + self._frictions.seal_minutes >= killed_at:
            self._day(killed_at).again += calls
        return polled_at

    def _seal(self, shard: Sequence[Task], polled_at: Sequence[float]) -> None:
        """What was polled is known from now on."""
        for task, at in zip(shard, polled_at, strict=True):
            account, reads_account = task
            day = self._day(at)
            day.polls += _rows(task)
            if account.is_failing:
                continue
            if reads_account:
                account.read_at[account.turn] = at
            account.is_known = True
            account.turn = (account.turn + 1) % len(account.read_at)
            while account.changes_at <= at:
                account.is_down = not account.is_down
                account.changes_at += self._until_change()
            day.changes += account.is_down != account.seen_down
            account.seen_down = account.is_down


def _rows(task: Task) -> int:
    """Rows of `polls`, and calls if none is retried: a token that is refused is asked nothing more."""
    account, reads_account = task
    return 2 if reads_account and not account.is_failing else 1


@dataclass(frozen=True)
class Played:
    """Days that were played, the first ones left out."""

    applications: Sequence[Application]
    scale: int
    warm_up_days: int
    days: int

    def a_day(self, name: str) -> float:
        """The mean of one of the counts, of all applications together, in real calls and rows."""
        counted = range(self.warm_up_days, self.days)
        total: float = sum(getattr(each.days[day], name) for each in self.applications for day in counted)
        return self.scale * total / len(counted) if name in SCALED else total / len(counted)

    def first_hours(self, rank: int) -> float:
        """What the first sweep took, of the application that is so many places behind the largest."""
        return self.applications[rank].sweeps[0][1]

    def steady_hours(self, rank: int) -> float:
        """What sweeps took on average, the first days left out."""
        begin = self.warm_up_days * DAY_MINUTES
        return fmean(hours for began, hours in self.applications[rank].sweeps if began >= begin)


WARM_UP_DAYS, DAYS, SCALE, SEED = 4, 20, 1_000, 11
# time enough for one sweep of userinfo of the largest application
SLOWEST_DAYS = 4


def play(
    fleet: Fleet,
    scale: int = SCALE,
    days: int = DAYS,
    warm_up_days: int = WARM_UP_DAYS,
    frictions: Frictions = Frictions(),
    seed: int = SEED,
) -> Played:
    """Play each application by itself; they share nothing."""
    applications = [
        Application(fleet, tokens, scale, frictions, Random(f"{seed} {rank}")).play(days)
        for rank, tokens in enumerate(fleet.sizes)
    ]
    return Played(applications, scale, warm_up_days, days)


LIMITS = (CALLS_A_MINUTE, 2 * CALLS_A_MINUTE, 10 * CALLS_A_MINUTE)
MEDIAN, LARGEST = APPLICATIONS // 2, 0
Figures = dict[str, float]


def measure() -> list[dict[str, Any]]:
    """One row a figure: paper, played and their ratio, for applications of one size and for a long tail."""
    columns = {
        name: (on_paper(sizes), played(sizes))
        for name, sizes in (("even", even_sizes()), ("long tail", tailed_sizes()))
    }
    names = next(iter(columns.values()))[0]
    return [{"figure": name} | _cells(name, columns) for name in names]


def _cells(name: str, columns: dict[str, tuple[Figures, Figures]]) -> dict[str, float | None]:
    cells: dict[str, float | None] = {}
    for column, (paper, simulated) in columns.items():
        value = simulated.get(name)
        cells[f"{column}: paper"] = float(paper[name])
        cells[f"{column}: played"] = None if value is None else float(value)
        cells[f"{column}: ratio"] = None if value is None else value / paper[name]
    return cells


def on_paper(sizes: Sequence[int], prices: Prices = Prices()) -> Figures:
    """The figures in closed form."""
    largest, median = sizes[LARGEST], sizes[MEDIAN]
    usual = Fleet(sizes)
    calls_a_second = _total(calls_a_day, usual) / DAY_MINUTES / 60
    kills = _workers_busy(usual) * Frictions().kills_a_worker_day
    shards = [math.ceil(tokens / SHARD_TOKENS) for tokens in sizes]
    shards_a_day = _total(
        lambda fleet, tokens: math.ceil(tokens / SHARD_TOKENS) * _sweeps(fleet, tokens), usual
    )
    return {
        "tokens of the largest application, thousands": largest / 1e3,
        "hours of userinfo alone, median application": userinfo_hours(median, CALLS_A_MINUTE),
        "hours of userinfo alone, largest": userinfo_hours(largest, CALLS_A_MINUTE),
        "sweeps a day back to back, median application": DAY_HOURS / steady_hours(median, CALLS_A_MINUTE),
        "sweeps a day back to back, largest": DAY_HOURS / steady_hours(largest, CALLS_A_MINUTE),
        # userinfo in every sweep, account in every second one
        "calls a minute the largest needs for a sweep a day": 1.5 * largest / DAY_MINUTES,
        **_by_limit(sizes),
        "workers needed, one an application": len(sizes),
        "of these busy on average": _workers_busy(usual),
        "memory of these workers, GB": len(sizes) * PROCESS_MEGABYTES / 1e3,
        "memory of one plan of all tokens, GB": TOKENS * PLAN_TOKEN_BYTES / 1e9,
        "memory of a plan of the largest application, GB": largest * PLAN_TOKEN_BYTES / 1e9,
        "calls a second, all applications": calls_a_second,
        "processes that could send these without a limit": calls_a_second / PROCESS_CALLS_A_SECOND,
        "shards of a sweep": sum(shards),
        "hours of a shard, both endpoints": 2 * userinfo_hours(SHARD_TOKENS, CALLS_A_MINUTE),
        "MB of its sealed set": SHARD_TOKENS * SEALED_TOKEN_BYTES / 1e6,
        "shards that run again, a day": kills,
        # half a shard is lost with a worker
        "calls made again, % of all": 100 * kills / shards_a_day / 2,
        **_kept(_total(calls_a_day, usual), _total(changes_a_day, usual), prices),
    }


def played(sizes: Sequence[int], prices: Prices = Prices(), scale: int = SCALE) -> Figures:
    """Those of the figures that playing shows."""
    alone = play(Fleet(sizes, with_account=False), scale, SLOWEST_DAYS, 0)
    unpaused = play(Fleet(sizes, every_hours=0), scale)
    limited = {limit: play(Fleet(sizes, limit), scale) for limit in LIMITS}
    usual = limited[CALLS_A_MINUTE]
    return {
        "hours of userinfo alone, median application": alone.first_hours(MEDIAN),
        "hours of userinfo alone, largest": alone.first_hours(LARGEST),
        "sweeps a day back to back, median application": DAY_HOURS / unpaused.steady_hours(MEDIAN),
        "sweeps a day back to back, largest": DAY_HOURS / unpaused.steady_hours(LARGEST),
        **{name: value for limit, each in limited.items() for name, value in _played_at(limit, each).items()},
        "of these busy on average": usual.a_day("busy_minutes") / DAY_MINUTES,
        "calls a second, all applications": usual.a_day("calls") / DAY_MINUTES / 60,
        "shards of a sweep": sum(each.shards for each in usual.applications),
        "shards that run again, a day": usual.a_day("kills"),
        "calls made again, % of all": 100 * usual.a_day("again") / usual.a_day("calls"),
        **_kept(usual.a_day("polls"), usual.a_day("changes"), prices),
    }


def _total(figure: Callable[[Fleet, float], float], fleet: Fleet) -> float:
    return sum(figure(fleet, tokens) for tokens in fleet.sizes)


def _sweeps(fleet: Fleet, tokens: float) -> float:
    return DAY_HOURS / period_hours(fleet, tokens)


def _workers_busy(fleet: Fleet) -> float:
    return _total(calls_a_day, fleet) / fleet.calls_a_minute / DAY_MINUTES


def _by_limit(sizes: Sequence[int]) -> Figures:
    figures: Figures = {}
    for limit in LIMITS:
        first_hours = [2 * userinfo_hours(tokens, limit) for tokens in sizes]
        figures |= _at_limit(limit, first_hours, _total(calls_a_day, Fleet(sizes, limit)))
    return figures


def _played_at(limit: float, each: Played) -> Figures:
    first_hours = [each.first_hours(rank) for rank in range(APPLICATIONS)]
    return _at_limit(limit, first_hours, each.a_day("calls"))


def _at_limit(limit: float, first_hours: Sequence[float], calls: float) -> Figures:
    return {
        f"{limit:,}/min: hours of the first sweep, largest": first_hours[LARGEST],
        f"{limit:,}/min: applications through it in a day": sum(hours <= DAY_HOURS for hours in first_hours),
        f"{limit:,}/min: calls a day, millions": calls / 1e6,
    }


def _kept(polls_a_day: float, changes_a_day: float, prices: Prices) -> Figures:
    """Rows, bytes and money of a year."""
    polls = polls_a_day * YEAR_DAYS
    # every profile is a row when it is first seen
    changes = changes_a_day * YEAR_DAYS + PROFILES_A_TOKEN * TOKENS
    gigabytes = {name: (polls * POLL_BYTES[name] + changes * CHANGE_BYTES[name]) / 1e9 for name in POLL_BYTES}
    plan_gigabytes = polls * PLAN_POLL_BYTES / 1e9
    packing_seconds = polls_a_day / MAX_PACKAGE_POLLS * prices.seconds_a_package
    idle_seconds = prices.loads_a_day * prices.seconds_until_suspended
    awake_hours = min(DAY_HOURS, (packing_seconds + idle_seconds) / 3600)
    return {
        "polls a day, million rows": polls_a_day / 1e6,
        "polls a year, billion rows": polls / 1e9,
        "changes seen a day, thousand rows": changes_a_day / 1e3,
        **{f"{name}: GB after a year": size for name, size in gigabytes.items()},
        "GB that the plans of a sweep read after a year": plan_gigabytes,
        "hours a day that loads keep a warehouse awake": awake_hours,
        "Snowflake: dollars a month, kept after a year": (
            gigabytes[COLUMNS] / 1e3 * prices.snowflake_terabyte_month
        ),
        "Snowflake: dollars a year, loads": awake_hours * YEAR_DAYS * prices.snowflake_credit,
        "BigQuery: dollars a month, kept after a year": (gigabytes[COLUMNS] * prices.bigquery_gigabyte_month),
        # `polls` grows all year, so a plan reads half of it on average
        "BigQuery: dollars a year, plans": (
            prices.sweeps_planned_a_day
            * YEAR_DAYS
            * plan_gigabytes
            / 2
            / 1e3
            * prices.bigquery_terabyte_scanned
        ),
    }
