"""The plan: which tokens are due, and which of them first. Pure.

Two orders. `oldest` is by the age of the evidence. `hazard` makes changes wait less for the poll that shows
them, and the longest waits above all: a change that waits for w costs w². Where changes are a Poisson process
of hazard λ and a token was polled `a` ago, a poll is then worth λ·a³ · 2/3, its Whittle index: the order is
by ∛λ · a. Were the cost w, it would be √λ · a; that gains a little more in the mean, and the changes that
wait longest pay for it with a tenth and more (`benchmarks/planner.py`).

Sources: K. C. Sia, J. Cho, H.-K. Cho, "Efficient monitoring algorithm for fast news alerts", IEEE TKDE 19
(2007): √λ for the delay. J. Cho, H. Garcia-Molina, "Effective page refresh policies for web crawlers", ACM
TODS 28 (2003). Y. Azar, E. Horvitz, E. Lubetzky, Y. Peres, D. Shahaf, "Tractable near-optimal policies for
crawling", PNAS 115 (2018): an index for each page instead of one plan for all. A. Kolobov, Y. Peres, C. Lu,
E. Horvitz, "Staying up to date with online content changes using reinforcement learning for scheduling",
NeurIPS 2019: the same with hazards that are learned meanwhile.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ..records import PollTask
from ..settings import ACCOUNT, PROFILES
from ..tokens.token import Token
from .change_rates import Hazards

# userinfo holds everything /v1/account says, so once a day is plenty
ACCOUNT_EVERY = timedelta(days=1)
# Cronofy refuses /v1/account to the tokens of application calendars (403)
APPLICATION_CALENDAR = "apc_"
NEVER = datetime.min.replace(tzinfo=UTC)

ORDERS = OLDEST, HAZARD = "oldest", "hazard"

# Of so many places of the hazard order the first belongs to the oldest evidence. Among N tokens at most N
# such places pass before a token's turn comes, so each is polled at least once in that many times N polls,
# however these are spread over runs; first polls of new tokens come on top.
OLDEST_EVERY = 3


class Reason(StrEnum):
    """Why a token has its place."""

    NOTIFIED = "notified"
    NEVER_POLLED = "never polled"
    OLDEST = "oldest evidence"
    HAZARD = "hazard"


@dataclass(slots=True)
class LastPoll:
    """When a token was last polled, and what account it belongs to.

    Attributes:
        last_ok_at: newest ok poll of another endpoint than `/v1/account`.
        last_attempt_at: newest attempt at another endpoint than `/v1/account`.
        account_read_at: newest attempt at `/v1/account`.
    """

    account_id: str | None = None
    last_ok_at: datetime | None = None
    last_attempt_at: datetime | None = None
    account_read_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EarlyPolls:
    """What makes tokens due before their time. Names are keys of tokens or ids of accounts.

    Attributes:
        only: where there are any, these tokens are due, and no others.
        notified: when the application was last notified of something, by name.
    """

    only: Collection[str] = ()
    notified: Mapping[str, datetime] = field(default_factory=dict)

    def wants(self, token: Token, seen: LastPoll) -> bool:
        """Whether the token is one of those that are to be polled at all."""
        return not self.only or token.key in self.only or seen.account_id in self.only

    def unknown_names(self, tokens: Iterable[Token], last_polls: Mapping[str, LastPoll]) -> list[str]:
        """The names in `only` that no token of the store and no account of one has."""
        keys = {token.key for token in tokens}
        accounts = {seen.account_id for key, seen in last_polls.items() if key in keys}
        return sorted(set(self.only) - keys - accounts)

    def notified_at(self, token: Token, seen: LastPoll, answered_at: datetime | None) -> datetime | None:
        """The notification that no poll of the token and no good one of its account has followed yet."""
        if not self.notified:
            return None
        names = filter(None, (token.key, seen.account_id))
        at = max((self.notified[name] for name in names if name in self.notified), default=NEVER)
        return at if at > max(seen.last_attempt_at or NEVER, answered_at or NEVER) else None


NONE_EARLY = EarlyPolls()


@dataclass(frozen=True, slots=True)
class DueToken:
    """A token that is due: what to read, and since when it waits.

    Attributes:
        seniority: the last attempt, then the last success; the smallest waits longest.
        notified_at: the notification that makes it due, and first.
    """

    task: PollTask
    seniority: tuple[datetime, datetime]
    notified_at: datetime | None = None

    @property
    def waits_since(self) -> datetime | None:
        """The last attempt, failed ones included; None before the first."""
        return None if self.seniority[0] == NEVER else self.seniority[0]


@dataclass(frozen=True, slots=True)
class Rank:
    """One place of the plan.

    Attributes:
        hazard_per_day: changes a day expected of the token's account; None where it played no part.
        priority: ∛(changes a day) · days since the last attempt; None likewise.
    """

    due: DueToken
    reason: Reason
    hazard_per_day: float | None = None
    priority: float | None = None


Order = Callable[[Sequence[DueToken], datetime], Iterable[Rank]]


def plan_polls(
    tokens: Iterable[Token],
    last_polls: Mapping[str, LastPoll],
    now: datetime,
    endpoints: Sequence[str],
    every: timedelta = timedelta(0),
    order: Order | None = None,
    early: EarlyPolls = NONE_EARLY,
) -> list[PollTask]:
    """The due tokens with the endpoints to read, in that order; by default oldest evidence first."""
    due = due_tokens(tokens, last_polls, now, endpoints, every, early)
    return [place.due.task for place in (order or oldest_first)(due, now)]


def due_tokens(
    tokens: Iterable[Token],
    last_polls: Mapping[str, LastPoll],
    now: datetime,
    endpoints: Sequence[str],
    every: timedelta = timedelta(0),
    early: EarlyPolls = NONE_EARLY,
) -> list[DueToken]:
    """The tokens that are due, in the order given, with the endpoints to read.

    A token is due unless it was polled successfully less than `every` ago; `/v1/account` is read at
    most once a day whatever `every` says. Of the tokens of one account that were well when they were last
    polled, the one that waits longest is polled and the others may stand in for it; none of them is due
    where one was polled less than `every` ago. Tokens of `early` are due whenever they were polled; a
    notification says nothing that `/v1/account` could show.
    """
    alone = tuple(endpoints) == (ACCOUNT,)
    # one object for all tokens: there may be very many
    with_account, without = tuple(endpoints), tuple(name for name in endpoints if name != ACCOUNT)
    due: dict[object, DueToken] = {}
    waiting: dict[object, list[DueToken]] = {}
    fresh = set()
    if alone:
        early = EarlyPolls(early.only)
    answered = _answered_at(last_polls) if early.notified else {}
    for token in tokens:
        seen = last_polls.get(token.key) or LastPoll()
        if not early.wants(token, seen):
            continue
        notified_at = early.notified_at(token, seen, answered.get(seen.account_id))
        last_poll_ok = seen.last_attempt_at == seen.last_ok_at
        shared = last_poll_ok and seen.account_id is not None and not alone
        account = (token.data_center, seen.account_id) if shared else token.key
        account_due = _account_due(seen, now) or (alone and bool(early.only))
        account_due = account_due and not is_application_calendar(seen.account_id)
        task_endpoints = with_account if account_due else without
        is_early = notified_at is not None or bool(early.only)
        if not (alone or is_early or _is_due(seen.last_ok_at, now, every)):
            fresh.add(account)
        elif task_endpoints:
            order = calling_order(task_endpoints, ask_account=account_due and seen.account_id is None)
            task = PollTask(token, order, seen.account_id, last_poll_ok)
            found = DueToken(task, _seniority(seen, alone=alone), notified_at)
            if due.setdefault(account, found) is not found:
                waiting.setdefault(account, [due[account]]).append(found)
    due |= {account: _one_of(several) for account, several in waiting.items()}
    return [found for account, found in due.items() if found.notified_at or account not in fresh]


def is_application_calendar(account_id: str | None) -> bool:
    """Whether an account is an application calendar, as its id says."""
    return account_id is not None and account_id.startswith(APPLICATION_CALENDAR)


def _answered_at(last_polls: Mapping[str, LastPoll]) -> dict[str | None, datetime]:
    """The newest good poll of each account, by whichever of its tokens."""
    newest: dict[str | None, datetime] = {}
    for seen in last_polls.values():
        if seen.last_ok_at is not None:
            newest[seen.account_id] = max(seen.last_ok_at, newest.get(seen.account_id, NEVER))
    newest.pop(None, None)
    return newest


def _one_of(due: list[DueToken]) -> DueToken:
    """One account's token that is due, the others in line behind it; as old as the account's evidence."""
    first, *others = _by_seniority(due)
    task = replace(first.task, fallbacks=tuple(each.task for each in others))
    notified_at = max(filter(None, (each.notified_at for each in due)), default=None)
    return DueToken(task, max(each.seniority for each in due), notified_at)


def calling_order(endpoints: tuple[str, ...], *, ask_account: bool) -> tuple[str, ...]:
    """The calls for one token, in order.

    `/v1/profiles` does not say whose profiles it lists. Where no answer has named the account yet and it
    may be asked for, `/v1/account` (the smallest body that does) goes before it.
    """
    if endpoints == (PROFILES,) and ask_account:
        return (ACCOUNT, PROFILES)
    return endpoints


def oldest_first(due: Sequence[DueToken], now: datetime) -> Iterator[Rank]:  # noqa: ARG001 - an Order
    """By the last attempt, failed ones included, and of ties in the order given.

    Were it that of the last success, tokens that always fail would use up every short run.
    """
    for each in _by_seniority(due):
        yield Rank(each, Reason.NEVER_POLLED if each.waits_since is None else Reason.OLDEST)


def hazard_first(hazards: Hazards, oldest_every: int = OLDEST_EVERY) -> Order:
    """The order by ∛hazard · age, in which every `oldest_every`-th place belongs to the oldest evidence.

    Tokens that were never polled come first. With equal hazards this is `oldest_first`.
    """

    def order(due: Sequence[DueToken], now: datetime) -> Iterator[Rank]:
        by_age = _by_seniority(due)
        new = sum(each.waits_since is None for each in by_age)
        yield from (Rank(each, Reason.NEVER_POLLED) for each in by_age[:new])
        yield from _interleaved([_scored(each, hazards, now) for each in by_age[new:]], oldest_every)

    return order


def notified_first(order: Order) -> Order:
    """That order, after the tokens that are due by a notification: of these the oldest first."""

    def ordered(due: Sequence[DueToken], now: datetime) -> Iterator[Rank]:
        notified = (each for each in due if each.notified_at is not None)
        for each in sorted(notified, key=lambda each: each.notified_at or NEVER):
            yield Rank(each, Reason.NOTIFIED)
        yield from order([each for each in due if each.notified_at is None], now)

    return ordered


def order_by(hazards: Hazards | None) -> Order:
    """Notified tokens, then by hazard where anything was learned of hazards, else oldest first."""
    learned = hazards is not None and hazards.mean_per_day
    return notified_first(hazard_first(hazards) if hazards is not None and learned else oldest_first)


def longest_wait_sweeps(order: str) -> int:
    """How many times the polls of one sweep may pass before every token's turn has come."""
    return OLDEST_EVERY if order == HAZARD else 1


def _interleaved(by_age: Sequence[Rank], oldest_every: int) -> Iterator[Rank]:
    """By priority, but for every `oldest_every`-th place."""
    # sorting keeps the order of ties, which is by age
    by_priority = iter(sorted(range(len(by_age)), key=lambda index: -(by_age[index].priority or 0.0)))
    oldest = iter(range(len(by_age)))
    is_placed = bytearray(len(by_age))
    for position in range(len(by_age)):
        of_oldest = position % oldest_every == 0
        index = next(each for each in (oldest if of_oldest else by_priority) if not is_placed[each])
        is_placed[index] = True
        place = by_age[index]
        yield Rank(place.due, Reason.OLDEST, place.hazard_per_day, place.priority) if of_oldest else place


def _scored(due: DueToken, hazards: Hazards, now: datetime) -> Rank:
    # evidence from the future is of a clock that was wrong
    age_days = max(0.0, (now - due.seniority[0]) / timedelta(days=1))
    hazard = hazards.per_day(due.task.account_id)
    return Rank(due, Reason.HAZARD, hazard, math.cbrt(hazard) * age_days)


def _by_seniority(due: Sequence[DueToken]) -> list[DueToken]:
    return sorted(due, key=lambda each: each.seniority)


def _seniority(seen: LastPoll, *, alone: bool) -> tuple[datetime, datetime]:
    if alone:
        return (seen.account_read_at or NEVER, NEVER)
    return (seen.last_attempt_at or NEVER, seen.last_ok_at or NEVER)


def _account_due(seen: LastPoll, now: datetime) -> bool:
    return _is_due(seen.account_read_at, now, ACCOUNT_EVERY)


def _is_due(last: datetime | None, now: datetime, every: timedelta) -> bool:
    # evidence from far in the future is a clock that was wrong, not a reason to wait until it is right
    return last is None or abs(now - last) >= every
