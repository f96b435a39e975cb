"""Writing back: refreshed tokens reach the store before anybody uses them, many in one write."""

import asyncio
import logging

from ..stores import Renewal, StoreError, TokenStore

logger = logging.getLogger("dlt_cronofy")


class WriteBack:
    """Saves renewals; those that wait while a write is under way are written together by the next one.

    A file is written as a whole, so a write for each of ten thousand refreshed tokens would take for ever.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._waiting: list[tuple[Renewal, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None
        self.unsaved: list[Renewal] = []

    async def save(self, renewal: Renewal) -> bool:
        """Write one renewal back; returns when the store holds it.

        Returns:
            False when the store no longer holds the used refresh token: somebody else changed it.

        Raises:
            StoreError: it could not be written; it is tried once more by `try_again`.
        """
        saved: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((renewal, saved))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        return await saved

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                conflicts = await asyncio.to_thread(self._save, [renewal for renewal, _ in batch])
            except StoreError as error:
                self.unsaved += [renewal for renewal, _ in batch]
                for _, saved in batch:
                    saved.set_exception(error)
            else:
                for renewal, saved in batch:
                    saved.set_result(renewal not in conflicts)

    def try_again(self) -> list[Renewal]:
        """Write what could not be written before; returns what still cannot."""
        unsaved, self.unsaved = self.unsaved, []
        if unsaved:
            try:
                self._save(unsaved)
            except StoreError as error:
                logger.error("%s", error)
                return unsaved
        return []

    def _save(self, renewals: list[Renewal]) -> list[Renewal]:
        try:
            return self._store.save(renewals)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a store may be somebody else's, and its words may quote
            raise StoreError(f"{self._store.name} cannot be written: {type(error).__name__}") from None
