"""Writing back: refreshed tokens reach the store before anybody uses them, many in one write."""

import asyncio
import logging
import time
from collections.abc import Sequence

from ..secret import Secret
from .base import Renewal, StoreError, TokenStore, store_name
from .placeholders import is_cut_off

# so long the renewals of a batch that failed are tried one by one; the rest is tried at the end of the run
ONE_BY_ONE_SECONDS = 30.0

logger = logging.getLogger("dlt_cronofy")

# whether the store holds a renewal; False where it has a newer one of the application
Saved = bool | StoreError


class WriteBack:
    """Saves renewals; those that wait while a write is under way are written together by the next one.

    A file is written as a whole, so a write for each of ten thousand refreshed tokens would take for ever.

    Attributes:
        unsaved: what the store is not known to hold, from the moment that `save` is called.
        has_failed: whether a write failed, known as soon as it has.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._waiting: list[tuple[Renewal, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None
        self.unsaved: list[Renewal] = []
        self.has_failed = False

    async def save(self, renewal: Renewal) -> bool:
        """Write one renewal back; returns when the store holds it.

        Returns:
            False when the store no longer holds the used refresh token: the application changed it.

        Raises:
            StoreError: it could not be written; it is tried once more by `try_again`.
        """
        self.unsaved.append(renewal)
        saved: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((renewal, saved))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        return await saved

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                outcomes = await asyncio.to_thread(self._save, [renewal for renewal, _ in batch])
            except Exception as error:  # noqa: BLE001 - a fault of ours; those that wait must hear of it
                self.has_failed = True
                outcomes = [self._cannot(type(error).__name__)] * len(batch)
            for (renewal, saved), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, StoreError):
                    saved.set_exception(outcome)
                else:
                    self.unsaved.remove(renewal)
                    saved.set_result(outcome)

    def try_again(self) -> list[tuple[Renewal, bool]]:
        """Write what could not be written before; what still cannot be written stays in `unsaved`.

        Returns:
            What is settled now, and whether the store holds it, or a newer one of the application.
        """
        renewals = self.unsaved
        outcomes = dict(zip(renewals, self._save(renewals) if renewals else (), strict=True))
        for error in dict.fromkeys(str(each) for each in outcomes.values() if isinstance(each, StoreError)):
            logger.error("%s", error)
        settled = [(each, saved) for each, saved in outcomes.items() if not isinstance(saved, StoreError)]
        self.unsaved = [each for each in renewals if isinstance(outcomes[each], StoreError)]
        return settled

    def _save(self, renewals: Sequence[Renewal]) -> list[Saved]:
        """What becomes of each. Where one of many cannot be written, the others are not lost with it."""
        conflicts = self._write(renewals)
        if not isinstance(conflicts, StoreError):
            held = self._held() if conflicts else set()
            outcomes: list[Saved] = [
                self._judged(each, held) if each in conflicts else True for each in renewals
            ]
            self.has_failed = self.has_failed or any(isinstance(each, StoreError) for each in outcomes)
            return outcomes
        self.has_failed = True
        if len(renewals) == 1:
            return [conflicts]
        ends_at = time.monotonic() + ONE_BY_ONE_SECONDS
        return [conflicts if time.monotonic() > ends_at else self._save([each])[0] for each in renewals]

    def _write(self, renewals: Sequence[Renewal]) -> list[Renewal] | StoreError:
        """Write all in one go: those that the store had no row for, or why nothing was written."""
        try:
            # a store from outside may return nothing where it should return an empty list
            return list(self._store.save(renewals) or ())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a store from outside may raise anything at all
            if isinstance(error, StoreError):
                return error.with_traceback(None)  # the frames below hold tokens in plain
            return self._cannot(type(error).__name__)

    def _judged(self, renewal: Renewal, held: set[Secret] | None) -> Saved:
        """What became of a renewal that the store had no row for, by the refresh tokens that it holds now."""
        if held is None:
            return self._cannot("it was changed, and cannot be read")
        used, new = renewal.token.refresh_token, renewal.refresh_token
        if new != used and new in held:
            return True  # written by an attempt that seemed to fail
        if used in held:
            return self._cannot("it keeps the used refresh token")
        if any(is_cut_off(each.reveal(), new.reveal()) for each in held):
            return self._cannot("it cuts the new refresh token off")
        return False

    def _held(self) -> set[Secret] | None:
        """The refresh tokens that the store holds now; None where it cannot be read."""
        try:
            return {token.refresh_token for token in self._store.read() if token.refresh_token}
        except Exception:  # noqa: BLE001 - as above
            return None

    def _cannot(self, why: str) -> StoreError:
        return StoreError(f"{store_name(self._store)} cannot be written: {why}")
