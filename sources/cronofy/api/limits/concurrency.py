"""Concurrency: how many requests are under way at once, slow ones not counted."""

import asyncio
from typing import Any

from .tuning import SLOW_SECONDS


class ConcurrencySlot:
    """One of a limited number of requests under way; a slow one lets another one in.

    A class and not a generator, because there are thousands a second.

    Args:
        limiter: what has so many slots, first come, first served.
    """

    __slots__ = ("_is_held", "_limiter", "_timer")

    def __init__(self, limiter: asyncio.Semaphore) -> None:
        self._limiter = limiter
        self._timer: asyncio.TimerHandle | None = None
        self._is_held = False

    async def __aenter__(self) -> Any:
        await self._limiter.acquire()
        self._is_held = True
        return self

    def sent(self) -> None:
        """The request is sent, perhaps again: from now on it may turn out to be slow."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._release)

    def answered(self) -> None:
        """The request is answered, or will not be; what takes long now is something else."""
        if self._timer is not None:
            self._timer.cancel()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._limiter.release()

    async def __aexit__(self, *_: object) -> None:
        self.answered()
        self._release()
