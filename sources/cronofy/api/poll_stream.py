"""The poll stream: all polls of a run, made in a thread of their own while earlier ones are loaded."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Self

from ..clock import Clock
from ..history.digests import body_digests
from ..records import Poll, PollTask
from ..settings import PollingSettings
from .client import CronofyClient
from .limits.policy import RequestPolicy
from .poller import Backlog, Poller
from .token_refresh import Refresher
from .transport import open_transport


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
        self._on_poll = on_poll
        self._refresher = refresher
        self._backlog = Backlog(batch_polls)
        self._thread = threading.Thread(target=self._run, name="polling", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the polling; requests under way are abandoned, refreshes under way are not."""
        self._backlog.is_closed = True
        self._thread.join()

    def take(self) -> list[Poll] | None:
        """Wait for the next batch, an empty one where only slow polls are left; None when no other will come.

        Raises:
            Exception: a fault of ours, which ended the polling.
        """
        return self._backlog.take()

    def _run(self) -> None:
        try:
            asyncio.run(self._poll())
        except BaseException as error:  # noqa: BLE001 - raised again where the polls are taken
            self._backlog.end(error)
        else:
            self._backlog.end()

    async def _poll(self) -> None:
        async with open_transport(self._settings.proxy) as transport:
            client = CronofyClient(transport, self._settings, self._policy, self._clock, self._refresher)
            poller = Poller(
                client,
                self._policy,
                self._clock,
                body_digests(self._settings),
                self._backlog,
                self._on_poll,
                self._settings.max_open,
            )
            try:
                await poller.poll(self._tasks)
            finally:
                if self._refresher is not None:
                    await self._refresher.settle()
