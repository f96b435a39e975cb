"""The poll stream: all polls of a run, made in a thread of their own while earlier ones are loaded."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from queue import Queue
from types import TracebackType
from typing import Self

from ..clock import Clock
from ..history.digests import body_digests
from ..records import Poll, PollTask
from ..settings import PollingSettings
from .client import CronofyClient
from .limits.policy import RequestPolicy
from .poller import Poller
from .token_refresh import Refresher
from .transport import open_transport

# batches that may wait to be taken; beyond them polling waits
WAITING_BATCHES = 2
LOOK_AGAIN_SECONDS = 0.01

Batch = list[Poll]


class PollStream:
    """Polls tasks from `__enter__` on; `take` gives the polls batch by batch, in the order of `polled_at`.

    One event loop for a whole run: the slowest answer of a batch holds up nobody, and requests under way
    do not wait for the warehouse.
    """

    def __init__(
        self,
        settings: PollingSettings,
        policy: RequestPolicy,
        clock: Clock,
        tasks: Sequence[PollTask],
        batch_polls: int,
        on_poll: Callable[[Poll], None] = lambda _: None,
        refresher: Refresher | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._clock = clock
        self._tasks = tasks
        self._batch_polls = batch_polls
        self._on_poll = on_poll
        self._refresher = refresher
        # None ends the stream, an error breaks it off
        self._batches: Queue[Batch | BaseException | None] = Queue()
        self._ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="polling", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self) -> Batch | None:
        """Wait for the next batch; None when no other will come.

        Raises:
            Exception: a fault of ours, which ended the polling.
        """
        if self._ended:
            return None
        found = self._batches.get()
        self._ended = not isinstance(found, list)
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """End the polling; requests under way are abandoned, refreshes under way are not."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._poll())
        except BaseException as error:  # noqa: BLE001 - raised again where the polls are taken
            self._batches.put(error)
        else:
            self._batches.put(None)

    async def _poll(self) -> None:
        async with open_transport() as transport:
            client = CronofyClient(transport, self._settings, self._policy, self._clock, self._refresher)
            poller = Poller(
                client,
                self._policy,
                self._clock,
                body_digests(self._settings),
                self._batch_polls,
                self._on_poll,
                self._settings.max_open,
            )
            try:
                await self._pass_on(poller.poll(self._tasks))
            finally:
                if self._refresher is not None:
                    await self._refresher.settle()

    async def _pass_on(self, batches: AsyncIterator[Batch]) -> None:
        passing = asyncio.ensure_future(self._put_all(batches))
        while not passing.done():
            await asyncio.wait([passing], timeout=0.1)
            if self._closing.is_set():
                passing.cancel()
        if not passing.cancelled():
            passing.result()

    async def _put_all(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            while self._batches.qsize() >= WAITING_BATCHES:  # noqa: ASYNC110 - the other side is a thread
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            self._batches.put(batch)
