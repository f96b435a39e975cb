"""The saved plan: what a run polls, written down once, so that a shard that runs again does the same work.

It names tokens by their keys. The tokens themselves stay in the token store, which each worker reads.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from typing import IO, Any

import orjson
import pyarrow as pa
from pyarrow import parquet

from dlt_cronofy.load.steps import Plan
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import PollTask
from dlt_cronofy.source.tokens.token import Token

from . import MAX_SHARDS
from .exchange_directory import ExchangeDirectory

NAME = "plan.parquet"
VERSION = 3
METADATA = b"dlt-cronofy"

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("task", pa.int32()),  # tokens of one task: the first is polled, the others may stand in for it
        ("token_key", pa.string()),
        ("data_center", pa.string()),
        ("endpoints", pa.list_(pa.string())),
        ("account_id", pa.string()),
        ("last_poll_ok", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class SavedToken:
    """A token of a task, by its key."""

    token_key: str
    data_center: str | None
    endpoints: tuple[str, ...]
    account_id: str | None
    last_poll_ok: bool


# the token to be polled, and after it those that may stand in for it
SavedTask = Sequence[SavedToken]


@dataclass(frozen=True)
class SavedPlan:
    """What one run polls.

    Attributes:
        run_id: the name of the run.
        tokens: how many the store held.
        due: how many of them were due.
        fallback_tokens: how many may stand in for these.
        tasks: by shard, in the order in which they are polled.
        deadline: no request after that, UTC; None where there is none.
        recent_requests: when requests of earlier runs were answered that the server may still count.
        unusable_rows: how many rows of the store cannot be used; the log of the plan says which.
        not_connected: users of the store without any token.
        is_bounded: whether the run may send no more calls than its tasks have endpoints.
    """

    run_id: str
    tokens: int = 0
    due: int = 0
    fallback_tokens: int = 0
    tasks: Mapping[int, Sequence[SavedTask]] = field(default_factory=dict)
    deadline: datetime | None = None
    recent_requests: Sequence[datetime] = field(default=())
    is_bounded: bool = False
    unusable_rows: int = 0
    not_connected: int = 0

    @property
    def shards(self) -> list[int]:
        """Those that have anything to do."""
        return sorted(self.tasks)

    @property
    def fresh(self) -> int:
        """How many were read recently enough."""
        return self.tokens - self.due - self.fallback_tokens

    @property
    def is_cut_short(self) -> bool:
        """Whether tokens that are due were left out for want of calls."""
        return sum(map(len, self.tasks.values())) < self.due

    def affordable(self, shard: int) -> int | None:
        """How many calls a shard may send, retries included; None where there is no limit."""
        if not self.is_bounded:
            return None
        return sum(len(task[0].endpoints) for task in self.tasks.get(shard, ()))

    def share_of(self, shard: int) -> tuple[int, Sequence[datetime]]:
        """Into how many parts the limits go where each shard keeps one, and this one's of what was sent."""
        parts = max(1, len(self.tasks))
        place = self.shards.index(shard) if shard in self.tasks else 0
        return parts, self.recent_requests[place::parts]


def shard_of(token_key: str, shards: int) -> int:
    """The shard of a token: a digest of its key, so that no list of them needs to be kept."""
    digest = hashlib.blake2b(token_key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % shards


def check_shards(shards: int) -> int:
    """How many shards there may be.

    Raises:
        ConfigurationError: none, or too many.
    """
    if not 1 <= shards <= MAX_SHARDS:
        raise ConfigurationError(f"shards must be between 1 and {MAX_SHARDS}, not {shards}")
    return shards


def save_plan(
    run_id: str,
    plan: Plan,
    shards: int,
    max_requests: int | None = None,
    deadline: datetime | None = None,
) -> SavedPlan:
    """Share the tasks of a plan out to shards. Pure.

    Args:
        run_id: the name of the run.
        plan: what is due, in order.
        shards: how many at most; those without a task are left out.
        max_requests: leave out what comes after that many calls, so that the first of all is polled.
        deadline: no request after that.

    Raises:
        ConfigurationError: no shards, or too many.
    """
    check_shards(shards)
    tasks: defaultdict[int, list[SavedTask]] = defaultdict(list)
    for task in _affordable(plan.tasks, max_requests):
        chain = [
            SavedToken(
                each.token.key, each.token.data_center, each.endpoints, each.account_id, each.last_poll_ok
            )
            for each in (task, *task.fallbacks)
        ]
        tasks[shard_of(task.token.key, shards)].append(chain)
    return SavedPlan(
        run_id,
        plan.tokens,
        len(plan.tasks),
        plan.fallback_tokens,
        dict(tasks),
        deadline,
        plan.recent_requests,
        max_requests is not None,
        len(plan.unusable),
        plan.not_connected,
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
    frozen: Iterable[SavedTask], tokens: Iterable[Token]
) -> tuple[list[PollTask], list[SavedTask]]:
    """The tasks of a shard with the tokens of the store, and those of which it has no token any more."""
    by_key = {token.key: token for token in tokens}
    tasks: list[PollTask] = []
    gone: list[SavedTask] = []
    for chain in frozen:
        found = [
            PollTask(token, each.endpoints, each.account_id, each.last_poll_ok)
            for each in chain
            if (token := by_key.get(each.token_key)) is not None
        ]
        if found:
            tasks.append(replace(found[0], fallbacks=tuple(found[1:])))
        else:
            gone.append(chain)
    return tasks, gone


def write_plan(handoff: ExchangeDirectory, plan: SavedPlan) -> None:
    """Freeze it."""
    rows = [
        (shard, number, *astuple(each))
        for shard in plan.shards
        for number, chain in enumerate(plan.tasks[shard])
        for each in chain
    ]
    columns = zip(*rows, strict=True) if rows else [[]] * len(SCHEMA)
    about = {
        "version": VERSION,
        "tokens": plan.tokens,
        "due": plan.due,
        "fallback_tokens": plan.fallback_tokens,
        "deadline": plan.deadline,
        "recent_requests": plan.recent_requests,
        "is_bounded": plan.is_bounded,
        "unusable_rows": plan.unusable_rows,
        "not_connected": plan.not_connected,
    }
    table = pa.Table.from_arrays(
        [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)],
        schema=SCHEMA.with_metadata({METADATA: orjson.dumps(about)}),
    )

    def content(file: IO[bytes]) -> None:
        parquet.write_table(table, file)

    handoff.write(plan.run_id, lambda: NAME, content)


def read_plan(handoff: ExchangeDirectory, run_id: str, shard: int | None = None) -> SavedPlan:
    """The plan of a run; where a shard is given, with the tasks of that one and the numbers of the others.

    Raises:
        ConfigurationError: there is none, or one of another version.
    """
    try:
        with handoff.open(run_id, NAME) as file:
            table = parquet.read_table(file)
    except FileNotFoundError:
        raise ConfigurationError(f"run {run_id} has no plan in {handoff.root}; plan it again") from None
    about = orjson.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    check_version(about, f"the plan of run {run_id}")
    tasks: dict[int, list[SavedTask]] = {}
    last = None
    for number, task, token_key, *known in zip(
        *(table.column(name).to_pylist() for name in SCHEMA.names), strict=True
    ):
        shard_tasks = tasks.setdefault(number, [])
        if shard is not None and number != shard:
            continue
        if (number, task) != last:
            shard_tasks.append([])
            last = number, task
        chain: Any = shard_tasks[-1]
        data_center, endpoints, account_id, last_poll_ok = known
        chain.append(SavedToken(token_key, data_center, tuple(endpoints), account_id, last_poll_ok))
    return SavedPlan(
        run_id,
        about["tokens"],
        about["due"],
        about["fallback_tokens"],
        tasks,
        about["deadline"] and datetime.fromisoformat(about["deadline"]),
        [datetime.fromisoformat(each) for each in about["recent_requests"]],
        about["is_bounded"],
        about.get("unusable_rows", 0),
        about.get("not_connected", 0),
    )


def check_version(about: Mapping[str, Any], what: str) -> None:
    """Refuse what another version of this package has written.

    Raises:
        ConfigurationError: the versions differ.
    """
    if about.get("version") != VERSION:
        raise ConfigurationError(
            f"{what} was written by another version of dlt-cronofy; have one version on all machines,"
            " and remove what an older one left"
        )
