"""Polling: the fan-out that turns poll tasks into a stream of polls in the order of their answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..clock import Clock
from ..records import MAX_BODY_BYTES, REFUSALS, TROUBLES, Outcome, Poll, PollTask, Response, skipped
from ..settings import MAX_OPEN
from ..tokens.token import Token
from .limits.policy import RequestPolicy

# what sends requests takes a while to import, and a run where nothing is due does not need it
if TYPE_CHECKING:
    from .client import CronofyClient

# a parsed body takes some ten times its bytes; a batch of large ones is cut short
MAX_BATCH_BYTES = 8 * 1024 * 1024
LARGE_BODY_BYTES = 256 * 1024
# the credential or the application was refused, not the endpoint: another call for the token is wasted
ENDS_TOKEN = frozenset({Outcome.TOKEN_REJECTED, Outcome.GRANT_REVOKED, Outcome.RATE_LIMITED})
# slow polling is loaded package by package
LONGEST_WAIT_SECONDS = 60.0


class Poller:
    """Polls tasks concurrently, with a bounded number of requests and answers in memory."""

    def __init__(
        self,
        client: "CronofyClient",
        policy: RequestPolicy,
        clock: Clock,
        digests: Callable[[Token], Callable[[bytes], str]],
        batch_size: int,
        on_poll: Callable[[Poll], None],
        max_open: int = MAX_OPEN,
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        self._on_poll = on_poll
        self._batch_size = batch_size
        self._max_open = max_open
        self._digests = digests
        # A poll is appended in the same step of the event loop that stamped its answer: the deque is in the
        # order of polled_at, which change capture relies on.
        self._answered: deque[Poll] = deque()
        self._answered_bytes = 0
        self._ready = asyncio.Event()

    async def poll(self, tasks: Iterable[PollTask]) -> AsyncIterator[list[Poll]]:
        """Batches of polls, ordered by `polled_at` within and across batches."""
        remaining = iter(tasks)
        workers = [asyncio.create_task(self._work(remaining)) for _ in range(self._max_open)]
        all_done = asyncio.gather(*workers, return_exceptions=True)
        all_done.add_done_callback(lambda _: self._ready.set())
        abandoning = asyncio.create_task(self._abandon_late(workers))
        try:
            while not all_done.done():
                is_late = not await _is_set_within(self._ready, LONGEST_WAIT_SECONDS)
                self._ready.clear()
                while self._is_full() or (is_late and self._answered):
                    is_late = False
                    yield self._take_batch()
            _raise_fault(all_done.result())
            while self._answered:
                yield self._take_batch()
        finally:
            for task in (abandoning, *workers):
                task.cancel()
            await asyncio.gather(abandoning, *workers, return_exceptions=True)

    async def _abandon_late(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """End the requests that are still under way when a run that is to end cannot wait longer."""
        while self._clock.monotonic() < self._policy.quota.abandon_at:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for worker in workers:
            worker.cancel()

    async def _work(self, remaining: Iterator[PollTask]) -> None:
        for first in remaining:
            for task in (first, *first.fallbacks):
                affordable = self._affordable(task.endpoints)
                if not affordable:
                    return
                while self._is_full(batches=2):  # noqa: ASYNC110 - the consumer is a generator
                    await asyncio.sleep(0.01)
                is_refused = await self._poll_token(task, affordable)
                if self._is_full():
                    self._ready.set()
                if not is_refused:
                    break

    def _is_full(self, batches: int = 1) -> bool:
        return (
            len(self._answered) >= batches * self._batch_size
            # a body that waits for room always finds the batch before it full
            or self._answered_bytes >= batches * MAX_BATCH_BYTES - MAX_BODY_BYTES
        )

    def _take_batch(self) -> list[Poll]:
        batch: list[Poll] = []
        size = 0
        while self._answered and len(batch) < self._batch_size and size < MAX_BATCH_BYTES:
            batch.append(self._answered.popleft())
            size += batch[-1].body_bytes
        self._answered_bytes -= size
        return batch

    def _affordable(self, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        """The first of the endpoints, as many as the quota still pays for; they are reserved."""
        for count in range(len(endpoints), 0, -1):
            if self._policy.quota.reserve(count):
                return endpoints[:count]
        return ()

    async def _poll_token(self, task: PollTask, endpoints: tuple[str, ...]) -> bool:
        """Poll what is affordable; returns whether the token was refused, which another one may not be."""
        quota, retry_budget = self._policy.quota, self._policy.retry_budget(task.token.data_center)
        is_refused = False
        for position, endpoint in enumerate(endpoints):
            rest = endpoints[position + 1 :]
            response = await self._client.read(endpoint, task.token, last_poll_ok=task.last_poll_ok)
            if response is None:  # out of time: nothing was sent, so there is no poll to record
                quota.release(1 + len(rest))
                return False
            if not response.attempts:
                quota.release(1)
            if len(response.body) > LARGE_BODY_BYTES:
                response = await self._with_room(response)
            self._record(task, endpoint, response)
            is_refused = is_refused or response.outcome in REFUSALS
            if response.outcome in ENDS_TOKEN:
                quota.release(len(rest))
                break
            if response.outcome in TROUBLES and rest and not retry_budget.spend():
                # so is one to a server that seems to be down
                quota.release(len(rest))
                for each in rest:
                    self._record(task, each, skipped(self._clock.now(), "the call before it failed"))
                break
        return is_refused

    async def _with_room(self, response: Response) -> Response:
        """Leave a large body unread until earlier ones were taken: reading it takes ten times its bytes."""
        while self._answered_bytes + len(response.body) > MAX_BATCH_BYTES and self._answered:
            self._ready.set()
            await asyncio.sleep(0.01)
        # polls are in the order of polled_at
        return replace(response, polled_at=self._clock.now())

    def _record(self, task: PollTask, endpoint: str, response: Response) -> None:
        """Add one poll to the answered ones."""
        token, body = task.token, response.body
        poll = Poll(
            token.key,
            token.data_center,
            endpoint,
            response,
            task.account_id,
            digest=self._digests(token)(body) if response.outcome is Outcome.OK else None,
            body_bytes=len(body),
            fallback_tokens=task.fallback_tokens,
        )
        self._answered.append(poll)
        self._answered_bytes += poll.body_bytes
        self._on_poll(poll)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _raise_fault(ends: Iterable[BaseException | None]) -> None:
    """A fault of ours ends the run, loudly; a request that was abandoned does not."""
    for end in ends:
        if end is not None and not isinstance(end, asyncio.CancelledError):
            raise end
