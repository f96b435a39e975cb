"""How long a disconnection waits to be seen: notifications in `due_query` beside none, at the same calls.

Simulated on the sandbox's population with the planner of `load` itself. A load starts every five minutes and
may send so many calls that a sweep takes an hour, six hours or a day; both plans send the same number. A
notification is in the application's table ten seconds after the profile broke. The delay is the time from
the break to the next poll of its token. The goal: the mean delay with notifications is below a tenth.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from dlt_cronofy.source.planning.plan import EarlyPolls, LastPoll, due_tokens, order_by
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.token import Token

from .planner import DISCONNECTED, POPULATIONS, START, Population

LOAD_EVERY, NOTIFIED_AFTER = timedelta(minutes=5), timedelta(seconds=10)
SWEEPS = {"1 h": timedelta(hours=1), "6 h": timedelta(hours=6), "1 d": timedelta(days=1)}
# disconnections of these days count; a sweep before them gives every token its turn
FIRST, DAYS = START + timedelta(days=50), 14

Breaks = list[tuple[datetime, str]]


def measure() -> list[dict[str, Any]]:
    """One row a sweep: mean and 95th percentile of the delay in minutes, without and with, and the ratios."""
    population = POPULATIONS["sandbox"](np.random.default_rng(11))
    return [_compared(name, sweep, population) for name, sweep in SWEEPS.items()]


def _compared(name: str, sweep: timedelta, population: Population) -> dict[str, Any]:
    breaks = sorted(_breaks(population))
    (calls, without), (same_calls, with_them) = (
        _play(len(population), sweep, breaks, is_notified=each) for each in (False, True)
    )
    assert calls == same_calls
    means = [float(np.mean(each)) for each in (without, with_them)]
    p95s = [float(np.quantile(each, 0.95)) for each in (without, with_them)]
    return {
        "a sweep takes": name,
        "calls": calls,
        "disconnections": len(without),
        "mean min, without": means[0],
        "mean min, with": means[1],
        "mean ratio": means[1] / means[0],
        "p95 min, without": p95s[0],
        "p95 min, with": p95s[1],
        "p95 ratio": p95s[1] / p95s[0],
    }


def _breaks(population: Population) -> Iterator[tuple[datetime, str]]:
    """When which account had a profile that broke."""
    for number, links in enumerate(population):
        for link in links:
            for day, state in link.steps[1:]:
                at = START + timedelta(days=day)
                if state == DISCONNECTED and FIRST <= at < FIRST + timedelta(days=DAYS):
                    yield at, str(number)


def _play(tokens: int, sweep: timedelta, breaks: Breaks, *, is_notified: bool) -> tuple[int, list[float]]:
    """The calls that were sent, and the delay of each disconnection in minutes."""
    stored = [Token(str(number), Secret("none"), data_center="us") for number in range(tokens)]
    last_polls: dict[str, LastPoll] = {}
    notified: dict[str, datetime] = {}
    waiting: dict[str, list[datetime]] = {}
    to_come = iter([*breaks, (datetime.max.replace(tzinfo=START.tzinfo), "")])
    next_break = next(to_come)
    delays: list[float] = []
    sent, allowed, order, now = 0, 0.0, order_by(None), FIRST - sweep
    while now < FIRST + timedelta(days=DAYS) + sweep:
        while next_break[0] <= now:
            at, key = next_break
            waiting.setdefault(key, []).append(at)
            next_break = next(to_come)
        if is_notified:
            arrived = {key: max(at) for key, at in waiting.items() if max(at) + NOTIFIED_AFTER <= now}
            notified |= {key: at + NOTIFIED_AFTER for key, at in arrived.items()}
        allowed += tokens * (LOAD_EVERY / sweep)
        due = due_tokens(stored, last_polls, now, ("userinfo",), early=EarlyPolls(notified=notified))
        for _, place in zip(range(int(allowed) - sent), order(due, now), strict=False):
            key = place.due.task.token.key
            last_polls[key] = LastPoll(key, last_ok_at=now, last_attempt_at=now)
            delays += [(now - at) / timedelta(minutes=1) for at in waiting.pop(key, [])]
            sent += 1
        now += LOAD_EVERY
    return sent, delays
