"""The plan: which tokens are due, and which of them first. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from .calls.polling import PollTask, calling_order
from .history.knowledge import Evidence
from .settings import ACCOUNT
from .tokens import Token

# userinfo holds everything /v1/account says, so once a day is plenty
ACCOUNT_EVERY = timedelta(days=1)
NEVER = datetime.min.replace(tzinfo=UTC)


def plan_polls(
    tokens: Iterable[Token],
    evidence: Mapping[str, Evidence],
    now: datetime,
    endpoints: Sequence[str],
    every: timedelta = timedelta(0),
) -> list[PollTask]:
    """The due tokens with the endpoints to read, oldest evidence first.

    A token is due unless it was polled successfully less than `every` ago; `/v1/account` is read at
    most once a day whatever `every` says. The order is that of the last attempt, failed ones
    included: were it that of the last success, tokens that always fail would use up every short run.
    """
    due = []
    for token in tokens:
        seen = evidence.get(token.key) or Evidence()
        task_endpoints = tuple(name for name in endpoints if name != ACCOUNT or _account_due(seen, now))
        alone = tuple(endpoints) == (ACCOUNT,)
        if task_endpoints and (alone or _is_due(seen.last_ok_at, now, every)):
            may_ask = seen.account_id is None and _account_due(seen, now)
            order = calling_order(task_endpoints, ask_account=may_ask)
            was_well = seen.last_attempt_at == seen.last_ok_at
            due.append((seen, PollTask(token, order, seen.account_id, was_well)))
    due.sort(key=lambda pair: _seniority(pair[0], alone=tuple(endpoints) == (ACCOUNT,)))
    return [task for _, task in due]


def _seniority(seen: Evidence, *, alone: bool) -> tuple[datetime, datetime]:
    if alone:
        return (seen.account_read_at or NEVER, NEVER)
    return (seen.last_attempt_at or NEVER, seen.last_ok_at or NEVER)


def _account_due(seen: Evidence, now: datetime) -> bool:
    return _is_due(seen.account_read_at, now, ACCOUNT_EVERY)


def _is_due(last: datetime | None, now: datetime, every: timedelta) -> bool:
    # evidence from far in the future is a clock that was wrong, not a reason to wait until it is right
    return last is None or abs(now - last) >= every
