"""The delivery: what the shards of one run have handed in, as polls in the order of their answers."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from dlt_cronofy.source.api.poller import MAX_BATCH_BYTES
from dlt_cronofy.source.records import Outcome, Poll, skipped
from dlt_cronofy.source.sweep import BATCH_POLLS

from .saved_plan import FrozenPlan, FrozenTask
from .shard_output import SealedSet

NOT_DELIVERED = "not called: its shard was not delivered"

# (token_key, endpoint) → outcome
Outcomes = Mapping[tuple[str, str], str]


class Delivery:
    """Polls, batch by batch; what change capture takes instead of a stream under way.

    Attributes:
        taken: token_key and endpoint of the polls that were taken so far.
    """

    def __init__(self, polls: Iterator[Poll]) -> None:
        self._polls = polls
        self.taken: set[tuple[str, str]] = set()

    def take(self) -> list[Poll] | None:
        """The next batch; None when there is none."""
        batch: list[Poll] = []
        size = 0
        for poll in self._polls:
            batch.append(poll)
            size += poll.body_bytes
            if len(batch) >= BATCH_POLLS or size >= MAX_BATCH_BYTES:
                break
        self.taken.update((poll.token_key, poll.endpoint) for poll in batch)
        return batch or None


def delivered_polls(sets: Iterable[SealedSet], loaded: Outcomes) -> Iterator[Poll]:
    """The polls of these sets in the order of their answers, but for those that are loaded already."""
    merged = heapq.merge(*(each.polls() for each in sets), key=lambda poll: poll.response.polled_at)
    for poll in merged:
        if loaded.get((poll.token_key, poll.endpoint), Outcome.SKIPPED) == Outcome.SKIPPED:
            yield poll


def undelivered_tasks(
    plan: FrozenPlan, delivered: Collection[int], loaded: Outcomes
) -> dict[int, list[FrozenTask]]:
    """The tasks of shards of which nothing came, as far as nothing of them is loaded, by shard."""
    known = {token_key for token_key, _ in loaded}
    missing = {
        shard: [task for task in plan.tasks[shard] if not any(each.token_key in known for each in task)]
        for shard in plan.shards
        if shard not in delivered
    }
    return {shard: tasks for shard, tasks in missing.items() if tasks}


def skipped_poll(task: FrozenTask, why: str, now: datetime) -> Poll:
    """What stands in `polls` for a task that nobody called for.

    Of the first endpoint only: that is called whatever comes of it, so should the task's polls come late, one
    of them takes this one's place.
    """
    token = task[0]
    return Poll(
        token.token_key, token.data_center, token.endpoints[0], skipped(now, why), token.account_id, None
    )
