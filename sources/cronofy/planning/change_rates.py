"""The hazard: how often the profiles of an account change, estimated from the past. Pure.

A change is a profile that connects, disconnects, is removed or reappears. Each profile is in one of three
states, and each state has a hazard of its own: a disconnected profile waits for a person to relink it within
days, a connected one breaks once in months. What one account shows in the window is little, so it is shrunk
towards what its provider shows, and that towards all providers: Gamma-Poisson empirical Bayes, the shape by
the method of moments. Where accounts differ no more than chance makes them differ, they get the same hazard.

Sources: J. Cho, H. Garcia-Molina, "Estimating frequency of change", ACM TOIT 3 (2003): what samples miss.
D. Clayton, J. Kaldor, Biometrics 43 (1987): Gamma-Poisson empirical Bayes for rates.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

# Hazards move: what is older than that counts no more. The present state of a profile does not age.
WINDOW = timedelta(days=60)
STATES = ("connected", "disconnected", "removed")

# dispersion within this many standard errors of none is taken for chance
CHANCE_ERRORS = 2.0

DAY = timedelta(days=1)

Row = Mapping[str, Any]


class Histories:
    """What each account showed within the window: one row per account and provider, in compact columns.

    Numbers are in arrays and names are kept once, for the sake of a million accounts.

    Attributes:
        provider: the number of the row's provider.
        profiles: how many profiles are in each state now, a column a state.
        days: profile-days spent in each state.
        changes: changes out of each state, with those that samples miss.
    """

    def __init__(self) -> None:
        self.providers: dict[str, int] = {}
        self.provider = array("i")
        self.profiles = tuple(array("f") for _ in STATES)
        self.days = tuple(array("f") for _ in STATES)
        self.changes = tuple(array("f") for _ in STATES)
        self._numbers: dict[str, int] = {}
        self._first_rows = array("l", [0])

    def __len__(self) -> int:
        """How many accounts there are."""
        return len(self._first_rows) - 1

    def __iter__(self) -> Iterator[range]:
        """The rows of each account."""
        return (self._rows_of(number) for number in range(len(self)))

    def number(self, account_id: str | None) -> int | None:
        """The place of an account in the order of `__iter__`; None where nothing is known of it."""
        return None if account_id is None else self._numbers.get(account_id)

    def rows(self, account_id: str | None) -> range:
        """The rows of an account; none where nothing is known of it."""
        number = self.number(account_id)
        return range(0) if number is None else self._rows_of(number)

    def add(self, account_id: str, history: Iterable[Row]) -> None:
        """Take in one account: its rows as in `collect_histories`."""
        for provider, rows in groupby(history, itemgetter("provider")):
            self.provider.append(self.providers.setdefault(provider or "", len(self.providers)))
            self._add_provider(list(rows))
        self._numbers[account_id] = len(self)
        self._first_rows.append(len(self.provider))

    def _rows_of(self, number: int) -> range:
        return range(self._first_rows[number], self._first_rows[number + 1])

    def _add_provider(self, rows: Sequence[Row]) -> None:
        first_at, last_at, samples = (rows[0][name] for name in ("first_at", "last_at", "samples"))
        watched_days = (last_at - first_at) / DAY
        # a span of samples may have begun before the window
        sampled_days = (last_at - (rows[0].get("sampled_from") or first_at)) / DAY
        # a sum of integers may come as a decimal
        samples_per_day = (float(samples) - 1) / sampled_days if sampled_days > 0 else 0.0
        # what the first sample shows came about before the time watched, however late it was seen
        ages = [
            0.0 if row["seen_at"] is None else max(0.0, (row["seen_at"] - first_at) / DAY) for row in rows
        ]
        steps = list(zip(rows, ages, strict=True))
        for state, name in enumerate(STATES):
            profiles = sum(float(row[name]) for row in rows)
            # the integral of a step function over the time watched
            lost_days = sum(float(row[name]) * age for row, age in steps)
            days = max(0.0, profiles * watched_days - lost_days)
            seen = sum(float(row[f"left_{name}"]) for row, age in steps if age > 0)
            self.profiles[state].append(max(0.0, profiles))
            self.days[state].append(days)
            self.changes[state].append(with_unseen_changes(seen, days * samples_per_day))


def collect_histories(rows: Iterable[Row]) -> Histories:
    """The histories of accounts, from rows that are ordered by account and provider.

    Args:
        rows: each with account_id, provider, seen_at (UTC; None before the window), the net number of
            profiles that entered each of `STATES` then, `left_` and the state: how many changed out of it,
            and of the account's samples: how many in the spans that reach into the window, sampled_from (the
            first of these), first_at (the same, but not before the window), last_at.
    """
    histories = Histories()
    for account_id, history in groupby(rows, itemgetter("account_id")):
        histories.add(account_id, history)
    return histories


def with_unseen_changes(changes: float, samples: float) -> float:
    """How many changes there were where `changes` of `samples` samples showed one.

    Between two samples a profile may change more than once, and the samples show one change or none. Where
    changes are a Poisson process, `-log((n - X + 0.5) / (n + 0.5))` per interval is nearly unbiased (Cho and
    Garcia-Molina 2003).
    """
    samples = max(samples, changes)
    return -samples * math.log((samples - changes + 0.5) / (samples + 0.5)) if changes else 0.0


class Hazards:
    """The hazard of each account: changes a day expected of its profiles as they stand now."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        by_row = _row_hazards(histories)
        self._by_account = array("d", (sum(by_row[row] for row in rows) for rows in histories))
        count = len(self._by_account)
        self.mean_per_day = math.fsum(self._by_account) / count if count else 0.0
        """what is expected of an account of which nothing is known"""

    def per_day(self, account_id: str | None) -> float:
        """Changes a day expected of that account."""
        number = self._histories.number(account_id)
        return self.mean_per_day if number is None else self._by_account[number]

    def providers(self, account_id: str | None) -> list[str]:
        """The providers of the account's profiles, those with most profiles first."""
        histories, names = self._histories, list(self._histories.providers)
        listed = {
            row: histories.profiles[0][row] + histories.profiles[1][row] for row in histories.rows(account_id)
        }
        rows = sorted(listed, key=lambda row: (-listed[row], names[histories.provider[row]]))
        return [names[histories.provider[row]] for row in rows if listed[row]]


def _row_hazards(histories: Histories) -> "array[float]":
    """Changes a day expected of each row."""
    hazards = array("d", bytes(8 * len(histories.provider)))
    days = math.fsum(map(math.fsum, histories.days))
    changes = math.fsum(map(math.fsum, histories.changes))
    if not days:
        return hazards
    overall = (changes + 0.5) / days
    for state in range(len(STATES)):
        _add_state(hazards, histories, state, overall)
    return hazards


def _add_state(hazards: "array[float]", histories: Histories, state: int, overall: float) -> None:
    """Add the profiles in one state, each with its provider's hazard times a factor of the row's own."""
    days, changes, profiles = histories.days[state], histories.changes[state], histories.profiles[state]
    by_provider = _provider_hazards(histories, state, overall)
    expected = array("d", (by_provider[p] * d for p, d in zip(histories.provider, days, strict=True)))
    shape = gamma_shape(changes, expected)
    for row, provider in enumerate(histories.provider):
        if profiles[row]:
            factor = shrunk_factor(changes[row], expected[row], shape)
            hazards[row] += profiles[row] * by_provider[provider] * factor


def _provider_hazards(histories: Histories, state: int, overall: float) -> list[float]:
    """Changes a day of one profile in that state, by provider number."""
    days, changes = ([0.0] * len(histories.providers) for _ in range(2))
    for row, provider in enumerate(histories.provider):
        days[provider] += histories.days[state][row]
        changes[provider] += histories.changes[state][row]
    # one change's worth of prior: a state that was hardly seen is like the others
    hazard = (math.fsum(changes) + 1.0) / (math.fsum(days) + 1.0 / overall)
    expected = [hazard * each for each in days]
    shape = gamma_shape(changes, expected)
    return [hazard * shrunk_factor(seen, due, shape) for seen, due in zip(changes, expected, strict=True)]


def gamma_shape(counts: Iterable[float], expected: Sequence[float]) -> float:
    """The shape of the Gamma distribution of the factors by which hazards differ from the expected ones.

    For Poisson counts X of mean fμ the mean of (X - μ)² - X is Var(f)μ², and the shape is 1 / Var(f). It is
    infinite where the counts differ no more than chance lets equal hazards differ.
    """
    surplus = math.fsum((count - mean) ** 2 - count for count, mean in zip(counts, expected, strict=True))
    squares = math.fsum(mean * mean for mean in expected)
    # the variance of that sum, were all factors 1
    surplus -= CHANCE_ERRORS * math.sqrt(2.0 * squares)
    return squares / surplus if surplus > 0 else math.inf


def shrunk_factor(count: float, expected: float, shape: float) -> float:
    """By which factor a hazard differs from the expected one: the mean of the posterior distribution."""
    return 1.0 if math.isinf(shape) else (count + shape) / (expected + shape)
