"""The saved plan: what a run polls, written down once, so that a shard that runs again does the same work.

It names tokens by their keys. The tokens themselves stay in the token store, which each worker reads.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import orjson
import pyarrow as pa
from pyarrow import parquet

from dlt_cronofy.load.steps import Plan
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import PollTask
from dlt_cronofy.source.tokens.token import Token

from . import check_shards
from .exchange_directory import ExchangeDirectory

NAME = "plan.parquet"
# of the plan, and so of all that is written by it
VERSION = 5
METADATA = b"dlt-cronofy"

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("task", pa.int32()),  # tokens of one task: the first is polled, the others are its fallbacks
        ("token_key", pa.string()),
        ("data_center", pa.string()),
        ("endpoints", pa.list_(pa.string())),
        ("account_id", pa.string()),
        ("last_poll_ok", pa.bool_()),
    ]
)


class SavedToken(NamedTuple):
    """A token of a task, by its key."""

    token_key: str
    data_center: str | None
    endpoints: Sequence[str]
    account_id: str | None
    last_poll_ok: bool


# the token to be polled, and after it its fallbacks
SavedTask = Sequence[SavedToken]


@dataclass(frozen=True)
class SavedPlan:
    """What one run polls.

    Attributes:
        run_id: the name of the run.
        tokens: how many the store held.
        due: how many of them were due.
        fallback_tokens: how many may be polled instead of these.
        deadline: no request after that, UTC; None where there is none.
        recent_requests: when requests of earlier runs were answered that the server may still count.
        calls: what its tasks take, retries and token refreshes aside.
        spread_seconds: it uses only the rate at which these take so long; None for the configured one.
        is_bounded: whether the run may send no more calls than its tasks have endpoints.
        unusable_rows: how many rows of the store cannot be used; the log of the plan says which.
        not_connected: users of the store without any token.
        shards: those that have anything to do.
        tasks: by shard, in the order in which they are polled.
    """

    run_id: str
    tokens: int
    due: int
    fallback_tokens: int
    deadline: datetime | None
    recent_requests: Sequence[datetime]
    calls: int
    spread_seconds: float | None
    is_bounded: bool
    unusable_rows: int
    not_connected: int
    shards: list[int]
    tasks: Mapping[int, Sequence[SavedTask]] = field(default_factory=dict)

    @property
    def is_cut_short(self) -> bool:
        """Whether tokens that are due were left out for want of calls."""
        return self.is_bounded and sum(map(len, self.tasks.values())) < self.due

    @property
    def spread(self) -> timedelta | None:
        """How long its calls are to take; None for as long as the configured rate makes them."""
        return None if self.spread_seconds is None else timedelta(seconds=self.spread_seconds)

    def affordable(self, shard: int) -> int | None:
        """How many calls a shard may send, retries included; None where there is no limit."""
        return self.calls_of(shard) if self.is_bounded else None

    def calls_of(self, shard: int) -> int:
        """What the tasks of a shard take, retries and token refreshes aside."""
        return sum(len(task[0].endpoints) for task in self.tasks.get(shard, ()))

    def share_of(self, shard: int) -> tuple[int, Sequence[datetime]]:
        """Into how many parts the limits go where each shard keeps one, and this one's of what was sent."""
        parts = max(1, len(self.shards))
        part = self.shards.index(shard) if shard in self.shards else 0
        return parts, self.recent_requests[part::parts]


def shard_of(token_key: str, shards: int) -> int:
    """The shard of a token: a digest of its key, so that no list of them needs to be kept."""
    digest = hashlib.blake2b(token_key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % shards


def save_plan(
    run_id: str,
    plan: Plan,
    shards: int,
    max_requests: int | None = None,
    deadline: datetime | None = None,
    spread: timedelta | None = None,
) -> SavedPlan:
    """Share the tasks of a plan out to shards; those that would have none are left out. Pure.

    What comes after `max_requests` calls is left out, so that the first of all shards is polled.

    Raises:
        ValueError: no shards, or too many.
    """
    check_shards(shards)
    tasks: dict[int, list[SavedTask]] = {}
    for task in _affordable(plan.tasks, max_requests):
        saved = [
            SavedToken(
                each.token.key, each.token.data_center, [*each.endpoints], each.account_id, each.last_poll_ok
            )
            for each in (task, *task.fallbacks)
        ]
        tasks.setdefault(shard_of(task.token.key, shards), []).append(saved)
    return SavedPlan(
        run_id,
        plan.tokens,
        plan.due,
        plan.fallback_tokens,
        deadline,
        plan.recent_requests,
        sum(len(task[0].endpoints) for each in tasks.values() for task in each),
        spread.total_seconds() if spread is not None else None,
        max_requests is not None,
        len(plan.unusable),
        plan.not_connected,
        sorted(tasks),
        tasks,
    )


def _affordable(tasks: Iterable[PollTask], max_requests: int | None) -> Iterable[PollTask]:
    left = max_requests
    for task in tasks:
        if left is not None:
            left -= len(task.endpoints)
            if left < 0:
                return
        yield task


def tasks_with_tokens(
    saved: Iterable[SavedTask], tokens: Iterable[Token]
) -> tuple[list[PollTask], list[SavedTask]]:
    """The tasks of a shard with the tokens of the store, and those of which it has no token any more."""
    by_key = {token.key: token for token in tokens}
    tasks: list[PollTask] = []
    gone: list[SavedTask] = []
    for task in saved:
        found = [
            PollTask(by_key[each.token_key], tuple(each.endpoints), each.account_id, each.last_poll_ok)
            for each in task
            if each.token_key in by_key
        ]
        if found:
            tasks.append(replace(found[0], fallbacks=tuple(found[1:])))
        else:
            gone.append(task)
    return tasks, gone


def write_plan(exchange: ExchangeDirectory, plan: SavedPlan) -> None:
    """Have the plan in the folder of its run."""
    rows = [
        {"shard": shard, "task": number} | token._asdict()
        for shard in plan.shards
        for number, task in enumerate(plan.tasks[shard])
        for token in task
    ]
    facts = {each.name: getattr(plan, each.name) for each in fields(plan) if each.name != "tasks"}
    about = orjson.dumps({"version": VERSION, "facts": facts})
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({METADATA: about}))
    exchange.write(plan.run_id, lambda: NAME, lambda file: parquet.write_table(table, file))


def read_plan(exchange: ExchangeDirectory, run_id: str, shard: int | None = None) -> SavedPlan:
    """The plan of a run; where a shard is given, with the tasks of that one only.

    Raises:
        ConfigurationError: there is none, or one that is damaged or of another version.
    """
    wanted = None if shard is None else [("shard", "=", shard)]
    try:
        with exchange.open(run_id, NAME) as file:
            table = parquet.read_table(file, filters=wanted)
    except FileNotFoundError:
        raise ConfigurationError(f"run {run_id} has no plan in {exchange.root}; plan it again") from None
    except pa.ArrowInvalid:
        raise ConfigurationError(f"the plan of run {run_id} in {exchange.root} is damaged") from None
    about = orjson.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    if about.get("version") != VERSION:
        raise ConfigurationError(
            f"the plan of run {run_id} was written by another version of dlt-cronofy; have one version on all"
            " machines, and remove what an older one left"
        )
    tasks: dict[int, list[SavedTask]] = {}
    for (number, _), rows in groupby(table.to_pylist(), itemgetter("shard", "task")):
        task = [SavedToken(**{name: row[name] for name in SavedToken._fields}) for row in rows]
        tasks.setdefault(number, []).append(task)
    facts = about["facts"]
    facts["deadline"] = facts["deadline"] and datetime.fromisoformat(facts["deadline"])
    facts["recent_requests"] = list(map(datetime.fromisoformat, facts["recent_requests"]))
    return SavedPlan(**facts, tasks=tasks)
