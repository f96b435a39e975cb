"""Polling: the fan-out that turns poll tasks into polls, in the order of their answers."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from ..clock import Clock
from ..records import MAX_BODY_BYTES, REFUSALS, TROUBLES, Outcome, Poll, PollTask, Response, skipped
from ..settings import ACCOUNT, MAX_OPEN
from ..tokens.token import Token
from .limits.policy import RequestPolicy
from .limits.tuning import SLOW_SECONDS

# what sends requests takes a while to import, and a run where nothing is due does not need it
if TYPE_CHECKING:
    from .client import CronofyClient

# a parsed body takes some ten times its bytes; a batch of large ones is cut short
MAX_BATCH_BYTES = 8 * 1024 * 1024
LARGE_BODY_BYTES = 256 * 1024
# batches that may wait to be taken; beyond them polling waits
WAITING_BATCHES = 4
LOOK_AGAIN_SECONDS = 0.01
# the credential or the application was refused, not the endpoint: another call for the token is wasted
ENDS_TOKEN = frozenset({Outcome.TOKEN_REJECTED, Outcome.GRANT_REVOKED, Outcome.RATE_LIMITED})
# slow polling is loaded package by package
LONGEST_WAIT_SECONDS = 60.0


class Backlog:
    """Polls that wait to be taken, in the order they were added; filled in one thread, taken in another."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._polls: deque[Poll] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_ended = False
        self._fault: BaseException | None = None
        # when those that wait are handed over, in monotonic seconds
        self._due_at = math.inf
        self.is_closed = False

    def add(self, poll: Poll) -> None:
        """Append a poll."""
        with self._changed:
            self._polls.append(poll)
            self._bytes += poll.body_bytes
            if self.is_full():
                self._changed.notify()

    def is_full(self, batches: int = 1) -> bool:
        """Whether so many batches wait."""
        return (
            len(self._polls) >= batches * self._batch_size
            # a body that waits for room always finds the batch before it full
            or self._bytes >= batches * MAX_BATCH_BYTES - MAX_BODY_BYTES
        )

    def has_room(self, body_bytes: int) -> bool:
        """Whether a large body may be added."""
        return not self._polls or self._bytes + body_bytes <= MAX_BATCH_BYTES

    def all_begun(self) -> None:
        """All polls are under way: those that are slow, or tried again, hold up none of the others."""
        with self._changed:
            self._due_at = time.monotonic() + SLOW_SECONDS
            self._changed.notify()

    def end(self, fault: BaseException | None = None) -> None:
        """No other poll will come, perhaps because of a fault."""
        with self._changed:
            self._is_ended, self._fault = True, fault
            self._changed.notify()

    def take(self) -> list[Poll] | None:
        """Wait for a full batch, or a part of one where that takes long; None when no other will come.

        Once only slow polls are left, the others are handed over; an empty batch then says that the next
        takes long.

        Raises:
            BaseException: the fault that ended it, once.
        """
        with self._changed:
            is_late = False
            while not (self._is_ended or self.is_full() or (is_late and self._polls)):
                wait_seconds = min(LONGEST_WAIT_SECONDS, self._due_at - time.monotonic())
                if wait_seconds <= 0:
                    return self._hand_over()
                is_late = not self._changed.wait(wait_seconds)
            if self._polls:
                return self._pop()
            fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        return None

    def _hand_over(self) -> list[Poll]:
        """What waits; once nothing does, an empty batch says so."""
        batch = self._pop()
        if not batch:
            self._due_at = math.inf
        return batch

    def _pop(self) -> list[Poll]:
        batch: list[Poll] = []
        size = 0
        while self._polls and len(batch) < self._batch_size and size < MAX_BATCH_BYTES:
            batch.append(self._polls.popleft())
            size += batch[-1].body_bytes
        self._bytes -= size
        return batch


class Poller:
    """Polls tasks concurrently, with a bounded number of requests and answers in memory."""

    def __init__(
        self,
        client: "CronofyClient",
        policy: RequestPolicy,
        clock: Clock,
        digests: Callable[[Token], Callable[[bytes], str]],
        backlog: Backlog,
        on_poll: Callable[[Poll], None],
        max_open: int = MAX_OPEN,
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        self._digests = digests
        self._backlog = backlog
        self._on_poll = on_poll
        self._max_open = max_open

    async def poll(self, tasks: Iterable[PollTask]) -> None:
        """Poll them all into the backlog.

        It ends early at a fault of ours, when the backlog is closed, and when a run that is to end cannot
        wait longer: requests under way are abandoned then.
        """
        remaining = self._begun(tasks)
        workers = {asyncio.create_task(self._work(remaining)) for _ in range(self._max_open)}
        pending = workers
        try:
            while pending and not self._is_abandoned():
                ended, pending = await asyncio.wait(pending, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
                for worker in ended:
                    worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _begun(self, tasks: Iterable[PollTask]) -> Iterator[PollTask]:
        yield from tasks
        self._backlog.all_begun()

    def _is_abandoned(self) -> bool:
        return self._backlog.is_closed or self._clock.monotonic() >= self._policy.quota.abandon_at

    async def _work(self, remaining: Iterator[PollTask]) -> None:
        for first in remaining:
            for task in (first, *first.fallbacks):
                affordable = self._affordable(task.endpoints)
                if not affordable:
                    return
                while self._backlog.is_full(WAITING_BATCHES):  # noqa: ASYNC110 - the other side is a thread
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
                if not await self._poll_token(task, affordable):
                    break

    def _affordable(self, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        """The first of the endpoints, as many as the quota still pays for; they are reserved."""
        for count in range(len(endpoints), 0, -1):
            if self._policy.quota.reserve(count):
                return endpoints[:count]
        return ()

    async def _poll_token(self, task: PollTask, endpoints: tuple[str, ...]) -> bool:
        """Poll what is affordable; returns whether the token was refused, which another one may not be."""
        is_refused, unused = False, len(endpoints)
        for position, endpoint in enumerate(endpoints):
            response = await self._client.read(endpoint, task.token, last_poll_ok=task.last_poll_ok)
            if response is None:  # out of time: nothing was sent, so there is no poll to record
                is_refused = False
                break
            unused -= bool(response.attempts)
            await self._record(task, endpoint, response)
            is_refused = is_refused or response.outcome in REFUSALS
            if response.outcome in ENDS_TOKEN:
                break
            rest = endpoints[position + 1 :]
            if rest == (ACCOUNT,) and _is_of_application_calendar(response):
                break
            if response.outcome in TROUBLES and rest and not self._may_go_on(task):
                for each in rest:
                    await self._record(task, each, skipped(self._clock.now(), "the call before it failed"))
                break
        self._policy.quota.release(unused)
        return is_refused

    def _may_go_on(self, task: PollTask) -> bool:
        """Whether another call may be sent to a server that seems to be down; it is paid for then."""
        return self._policy.retry_budget(task.token.data_center).spend()

    async def _record(self, task: PollTask, endpoint: str, response: Response) -> None:
        """Add a poll to the backlog, in the same step of the event loop that stamped its answer.

        So the backlog is in the order of `polled_at`, which change capture relies on.
        """
        token, body_bytes = task.token, len(response.body)
        if body_bytes > LARGE_BODY_BYTES:
            # left unread until earlier ones were taken: reading it takes ten times its bytes
            while not self._backlog.has_room(body_bytes):  # noqa: ASYNC110 - the other side is a thread
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            response = replace(response, polled_at=self._clock.now())
        poll = Poll(
            token.key,
            token.data_center,
            endpoint,
            response,
            task.account_id,
            digest=self._digests(token)(response.body) if response.outcome is Outcome.OK else None,
            body_bytes=body_bytes,
            fallback_tokens=task.fallback_tokens,
        )
        self._on_poll(poll)
        self._backlog.add(poll)


def _is_of_application_calendar(response: Response) -> bool:
    """Whether an answer of userinfo is of an application calendar; looked at before anybody reads it."""
    if response.outcome is not Outcome.OK or b"application_calendar" not in response.body:
        return False
    try:
        document = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and document.get("cronofy.type") == "application_calendar"
