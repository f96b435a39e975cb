"""How long a change waits to be seen when a run cannot poll all tokens: hazard order beside oldest first.

Simulated, with the estimator and the planner of `load` themselves: what the polls show becomes rows as the
warehouse would return them, hazards are learned from these, and the plan's first tokens are polled. A run
every 12 hours polls a third or a seventh of the tokens; hazards are learned again every second day. Both
orders see the same changes; those between day 50 and day 140 count. A change that was reverted before anybody
looked counts with the delay until the token's next poll. p95 is the delay that one change in twenty exceeds.
A sweep is as many polls as there are tokens; no token may wait longer than `OLDEST_EVERY` of them.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from dlt_cronofy.sandbox.world import build_world
from dlt_cronofy.source.planning.change_rates import STATES, WINDOW, Hazards, collect_histories
from dlt_cronofy.source.planning.plan import LastPoll, Order, due_tokens, hazard_first, oldest_first
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.token import Token

TOKENS, DAYS = 400, 150
# changes from one day until the other count: hazards are learned by then, and all are seen in the end
COUNTED_DAYS = (50, 140)
RUN_EVERY, LEARN_EVERY_RUNS = timedelta(hours=12), 4
BUDGETS = {"1/3": 3, "1/7": 7}
START = datetime(2025, 1, 1, tzinfo=UTC)
CONNECTED, DISCONNECTED, REMOVED = range(len(STATES))

Random = np.random.Generator
# (days since the start, the state from then on), in order of time
Steps = list[tuple[float, int]]


@dataclass
class Link:
    """One profile: its provider, and its states over time."""

    provider: str
    steps: Steps

    def __post_init__(self) -> None:
        self.times = [day for day, _ in self.steps]

    def at(self, day: float) -> int | None:
        """Its state; None before it exists."""
        index = bisect_right(self.times, day) - 1
        return self.steps[index][1] if index >= 0 else None


Population = list[list[Link]]
"""the profiles of each account"""


def measure() -> list[dict[str, Any]]:
    """One row a population and budget: delays in hours under both orders, their ratios, the longest wait."""
    return [
        _compared(name, budget, population)
        for name, draw in POPULATIONS.items()
        for population in (draw(np.random.default_rng(11)),)
        for budget in BUDGETS
    ]


def _compared(name: str, budget: str, population: Population) -> dict[str, Any]:
    calls = len(population) // BUDGETS[budget]
    before, after = (Simulation(population, calls, by_hazard=by).run() for by in (False, True))
    means, p95s = (
        [float(figure(each.delays)) for each in (before, after)]
        for figure in (np.mean, lambda delays: np.quantile(delays, 0.95))
    )
    return {
        "population": name,
        "a run polls": budget,
        "changes": len(before.delays),
        "mean h, oldest": means[0],
        "mean h, hazard": means[1],
        "mean ratio": means[1] / means[0],
        "p95 h, oldest": p95s[0],
        "p95 h, hazard": p95s[1],
        "p95 ratio": p95s[1] / p95s[0],
        "longest wait, sweeps": after.longest_wait_sweeps,
    }


@dataclass
class Simulation:
    """One population under one order."""

    population: Population
    calls: int
    by_hazard: bool
    delays: list[float] = field(default_factory=list)
    """hours from each change to the next poll of its token"""
    longest_wait_sweeps: float = 0.0

    def __post_init__(self) -> None:
        numbers = range(len(self.population))
        self._tokens = [Token(str(number), Secret("none"), data_center="us") for number in numbers]
        self._evidence: dict[str, LastPoll] = {}
        self._polled: list[list[float]] = [[] for _ in numbers]
        self._polled_at_call = [0 for _ in numbers]
        self._seen: list[list[int | None]] = [[None] * len(links) for links in self.population]
        # by account and provider: (day, the net profiles that entered each state, those that left each)
        self._log: list[dict[str, list[tuple[float, list[int], list[int]]]]] = [
            defaultdict(list) for _ in numbers
        ]
        self._sent = 0

    def run(self) -> "Simulation":
        """Play all runs."""
        order: Order = oldest_first
        for number in range(round(DAYS / (RUN_EVERY / timedelta(days=1)))):
            now = START + number * RUN_EVERY
            if self.by_hazard and number % LEARN_EVERY_RUNS == 0:
                order = hazard_first(Hazards(collect_histories(self._rows(now))))
            due = due_tokens(self._tokens, self._evidence, now, ("userinfo",), RUN_EVERY / 2)
            for _, place in zip(range(self.calls), order(due, now), strict=False):
                self._poll(int(place.due.task.token.key), now)
        for number in range(len(self.population)):
            self._note_wait(number)
        return self

    def _note_wait(self, number: int) -> None:
        waited = (self._sent - self._polled_at_call[number]) / len(self.population)
        self.longest_wait_sweeps = max(self.longest_wait_sweeps, waited)

    def _poll(self, number: int, now: datetime) -> None:
        day = (now - START) / timedelta(days=1)
        polled = self._polled[number]
        self._sent += 1
        if polled and day >= COUNTED_DAYS[0]:
            self._note_wait(number)
        self._polled_at_call[number] = self._sent
        for position, link in enumerate(self.population[number]):
            self._capture(number, position, day)
            since = polled[-1] if polled else math.inf
            self.delays += [24 * (day - at) for at in link.times[1:] if since < at <= day and _counts(at)]
        polled.append(day)
        self._evidence[str(number)] = LastPoll(str(number), last_ok_at=now, last_attempt_at=now)

    def _capture(self, number: int, position: int, day: float) -> None:
        """What change capture would log."""
        link, before = self.population[number][position], self._seen[number][position]
        state = link.at(day)
        if state == before or state is None or (before is None and state == REMOVED):
            return
        entered, left = [0] * len(STATES), [0] * len(STATES)
        entered[state] += 1
        if before is not None:
            entered[before] -= 1
            left[before] += 1
        self._seen[number][position] = state
        self._log[number][link.provider].append((day, entered, left))

    def _rows(self, now: datetime) -> Iterator[dict[str, Any]]:
        """The rows of the warehouse's query for histories."""
        since = (now - WINDOW - START) / timedelta(days=1)
        for number, providers in enumerate(self._log):
            samples = self._polled[number][bisect_right(self._polled[number], since) :]
            if not samples:
                continue
            shared = {
                "account_id": str(number),
                "samples": len(samples),
                "first_at": START + timedelta(days=samples[0]),
                "last_at": START + timedelta(days=samples[-1]),
            }
            for provider, changes in providers.items():
                for day, entered, left in changes:
                    yield {
                        **shared,
                        "provider": provider,
                        "seen_at": START + timedelta(days=day) if day > since else None,
                        **dict(zip(STATES, entered, strict=True)),
                        **{f"left_{state}": count for state, count in zip(STATES, left, strict=True)},
                    }


def _counts(day: float) -> bool:
    return COUNTED_DAYS[0] <= day < COUNTED_DAYS[1]


def _telegraph(rng: Random, hazards: Sequence[tuple[float, float]]) -> Steps:
    """A profile that changes at the hazard of the time: (from day, changes a day), in order of time."""
    steps: Steps = [(-1.0, CONNECTED)]
    for (begin, per_day), end in zip(hazards, [*(day for day, _ in hazards[1:]), float(DAYS)], strict=True):
        days = np.sort(rng.uniform(begin, end, rng.poisson(per_day * (end - begin))))
        steps += [
            (float(day), CONNECTED if (len(steps) + n) % 2 == 0 else DISCONNECTED)
            for n, day in enumerate(days)
        ]
    return steps


def _repaired(rng: Random, breaks_per_day: float, days_down: float = 3.0, at: Sequence[float] = ()) -> Steps:
    """A profile that breaks at a steady hazard and at given times, and is relinked after some days."""
    steps: Steps = [(-1.0, CONNECTED)]
    day = 0.0
    while True:
        day = min(day + rng.exponential(1 / breaks_per_day), *(each for each in at if each > day), math.inf)
        if day >= DAYS:
            return steps
        steps.append((day, DISCONNECTED))
        day += rng.exponential(days_down)
        steps.append((day, CONNECTED))


def _of(draw: Callable[[Random, int], Steps]) -> Callable[[Random], Population]:
    """Accounts with one profile each, of three providers in turn."""
    return lambda rng: [[Link(f"provider {n % 3}", draw(rng, n))] for n in range(TOKENS)]


def _sandbox(_: Random) -> Population:
    """The accounts of the built-in sandbox and all that happens to them there."""
    world = build_world(accounts=TOKENS, seed=7, start=START, days=DAYS)
    states = {"absent": REMOVED, "disconnected": DISCONNECTED}
    population = []
    for account in world.accounts:
        links = []
        for profile in account.profiles:
            steps: Steps = []
            for at, value in zip(profile.history.times, profile.history.values, strict=True):
                state = states.get(value.link, CONNECTED)
                if not steps and state == REMOVED:
                    continue  # not linked yet
                if not steps or steps[-1][1] != state:
                    steps.append(((at - START) / timedelta(days=1), state))
            if steps:
                links.append(Link(profile.provider.slug, steps))
        population.append(links)
    return population


def _switching(rng: Random, number: int) -> Steps:
    """One token in five is lively; half-way it is another one."""
    middle = sum(COUNTED_DAYS) / 2
    return _telegraph(
        rng, [(0, 0.2 if number % 5 == 0 else 0.01), (middle, 0.2 if number % 5 == 1 else 0.01)]
    )


def _wave(rng: Random, number: int) -> Steps:
    """Twice, half of one provider's profiles break within a day."""
    waves = [day + rng.uniform() for day in (70.0, 115.0) if rng.uniform() < 0.5]
    return _repaired(rng, 0.01, at=waves if number % 3 == 0 else ())


# how hazards are spread over the tokens; "relinked" ones wait three days for a person when they are down
POPULATIONS: dict[str, Callable[[Random], Population]] = {
    "sandbox": _sandbox,
    "equal": _of(lambda rng, _: _telegraph(rng, [(0, 0.04)])),
    "equal, relinked": _of(lambda rng, _: _repaired(rng, 0.02)),
    "gamma 0.5": _of(lambda rng, _: _telegraph(rng, [(0, rng.gamma(0.5, 0.08))])),
    "lognormal 1.5": _of(lambda rng, _: _telegraph(rng, [(0, min(2.0, 0.02 * rng.lognormal(0, 1.5)))])),
    "3 % flap": _of(lambda rng, n: _telegraph(rng, [(0, 1.0 if n % 33 == 0 else 0.01)])),
    "waves": _of(_wave),
    "switch": _of(_switching),
}
