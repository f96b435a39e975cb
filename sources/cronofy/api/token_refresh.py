"""Refreshing: expired access tokens are replaced, and the store holds the new pair before it is used."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from ..clock import Clock
from ..records import TROUBLES, Outcome, Response, skipped
from ..secret import Hidden, Secret
from ..settings import ClientCredentials, PollingSettings
from ..tokens.base import Renewal, StoreError, TokenStore, store_name
from ..tokens.token import Token
from ..tokens.write_back import WriteBack
from .limits.concurrency import ConcurrencySlot
from .limits.tuning import MAX_FAILURES_IN_A_ROW, MAX_REFRESHES_IN_FLIGHT, MAX_UNREADABLE
from .refresh_journal import RefreshJournal
from .retries import Retrier
from .token_endpoint import CLIENT_REFUSED, error_code, read_document, read_renewal, refresh_request

NOT_WRITTEN_BACK = "refreshed, but not written back"
WRITTEN_LATE = "%s was written back in the end"
CHANGED_MEANWHILE = "%s was changed in the store while it was refreshed: the store's value is kept"
INTERRUPTED = "a refresh of it was interrupted, and the answer with a new one never reached the store"
STILL_WORKS = "the new access token of %s could not be written back; its refresh token still works"
NOT_REFRESHED = "expired tokens are not refreshed: %s"
CANNOT_WRITE = "nothing more is refreshed in this run: the token store cannot be written"
STORE_FAILS = "not refreshed: the token store cannot be written"

logger = logging.getLogger("dlt_cronofy")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How a refresh ended.

    Attributes:
        token: to call with; None where there is no new one.
        response: what becomes of the poll then; None where it stays a rejected token.
        why: what a rejected token's message says of the refresh.
        requests: sent to the token endpoint.
    """

    token: Token | None = None
    response: Response | None = None
    why: str = ""
    requests: int = 0


class Refresher:
    """Refreshes the tokens of one store during one run, each refresh token once while it is good.

    One goes at a time until the store has taken its first new token, then several: a trial cannot show
    everything, a function that is given every new token for instance, and where the store fails from the
    start one refresh token is lost.

    Args:
        tokens: all those of the store.
    """

    def __init__(
        self,
        client: ClientCredentials,
        settings: PollingSettings,
        store: TokenStore,
        tokens: Sequence[Token],
        journal: RefreshJournal,
        clock: Clock,
    ) -> None:
        self._client = client
        self._settings = settings
        self._store = store
        self._tokens = tokens
        self._journal = journal
        self._clock = clock
        self._write_back = WriteBack(store)
        self._all = asyncio.Semaphore(MAX_REFRESHES_IN_FLIGHT)
        self._quick = asyncio.Semaphore(1)
        self._store_has_taken_one = False
        self._renewals: dict[Secret, Renewal] = {}
        self._issued: set[Secret] = set()
        self._unsaved: set[Secret] = set()
        self._running: dict[Secret, asyncio.Task[Refreshed]] = {}
        self._failures_in_a_row = 0
        self._trial = threading.Lock()
        self._store_is_fine = False
        self._given_up: str | None = None
        self._lost: dict[str, None] = {}
        journal.keep_only(token.refresh_token for token in tokens if token.refresh_token)
        if journal.earlier:
            keys = ", ".join(sorted(journal.earlier.values()))
            logger.warning("an earlier run ended while it refreshed %s: refreshed before anything else", keys)

    @property
    def lost(self) -> list[str]:
        """Keys of tokens whose refresh token is used up, while the store holds no other; each once."""
        return list(self._lost)

    def newest(self, token: Token) -> Token:
        """The token as it is after what was refreshed in this run."""
        while token.refresh_token is not None and token.refresh_token in self._renewals:
            renewal = self._renewals[token.refresh_token]
            token = replace(
                token,
                access_token=renewal.access_token,
                refresh_token=renewal.refresh_token,
                expires_at=renewal.expires_at,
            )
            if renewal.refresh_token == renewal.token.refresh_token:
                break
        return token

    def is_due(self, token: Token) -> bool:
        """Whether the access token is missing, is known to have expired, or a refresh of it is unsettled."""
        if token.refresh_token is None or self._given_up:
            return False
        expired = token.expires_at is not None and self._clock.now() >= token.expires_at
        return expired or not token.has_access_token or self._journal.is_unsettled(token.refresh_token)

    def may_help(self, token: Token) -> bool:
        """Whether a refresh may help after a 401: with a refresh token, and not for what was just issued."""
        return token.refresh_token is not None and token.access_token not in self._issued

    async def refresh(self, token: Token, retrier: Retrier) -> Refreshed:
        """A token that can be called with instead of this one. Tokens that share a grant wait for each other.

        Cancelling the caller does not cancel the refresh: its outcome must reach the store.
        """
        used = token.refresh_token
        assert used is not None
        newest = self.newest(token)
        if newest.access_token != token.access_token:
            return Refreshed(newest)
        if used in self._unsaved:
            return Refreshed(why=NOT_WRITTEN_BACK)
        running = self._running.get(used)
        if running is not None:
            refreshed = replace(await asyncio.shield(running), requests=0)
        elif self._given_up:
            return Refreshed(why=self._given_up)
        else:
            running = self._running[used] = asyncio.create_task(self._refresh(token, used, retrier))
            refreshed = await asyncio.shield(running)
        return replace(refreshed, token=self.newest(token)) if refreshed.token else refreshed

    async def settle(self) -> None:
        """Wait for the refreshes under way: the event loop is about to end."""
        # a fault in one of them is no reason to abandon the others
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()

    def finish(self) -> None:
        """End the run: a last try to write back, and an error for each token that is lost."""
        try:
            for renewal, is_saved in self._write_back.try_again():
                assert renewal.token.refresh_token is not None
                self._journal.mark_done(renewal.token.refresh_token)
                logger.warning(WRITTEN_LATE if is_saved else CHANGED_MEANWHILE, renewal.token.key)
        finally:
            for renewal in self._write_back.unsaved:
                if renewal.refresh_token == renewal.token.refresh_token:
                    logger.warning(STILL_WORKS, renewal.token.key)
                else:
                    self._lose(renewal.token, "it could not be written back")
            self._journal.close()

    def _lose(self, token: Token, why: str) -> None:
        """Report the refresh token as lost, once for each token of the store that has it, this one first."""
        sharing = (
            each.key for each in self._tokens if self.newest(each).refresh_token == token.refresh_token
        )
        for key in dict.fromkeys((token.key, *sharing)):
            if key not in self._lost:
                self._lost[key] = None
                logger.error("the refresh token of %s is lost: %s. Authorize it again", key, why)

    async def _refresh(self, token: Token, used: Secret, retrier: Retrier) -> Refreshed:
        try:
            async with self._all, ConcurrencySlot(self._quick) as slot:
                if retrier.is_over() or self._is_over():
                    return self._unsent()
                if await self._adopt(token, used):
                    return Refreshed(token)
                return await self._refresh_once(token, used, retrier, slot)
        finally:
            self._running.pop(used, None)

    async def _refresh_once(
        self, token: Token, used: Secret, retrier: Retrier, slot: ConcurrencySlot
    ) -> Refreshed:
        was_interrupted = self._journal.is_unsettled(used)
        await asyncio.to_thread(self._prepare, token, used)

        def build() -> httpx.Request:
            slot.sent()
            url = f"{self._settings.host(token.data_center)}/oauth/token"
            return refresh_request(url, self._client, used)

        response = None
        if not self._is_over():
            response = await retrier.send(token.data_center, build, lambda: not self._is_over())
        slot.answered()
        if response is None:
            # an entry of an earlier run is as true as before
            if not was_interrupted:
                self._journal.mark_done(used)
            return self._unsent()
        # the body holds new tokens in plain
        answer, response = read_document(response.body), replace(response, body=b"")
        was_interrupted = was_interrupted or response.attempts > 1
        refreshed = await self._judge(token, used, response, answer, interrupted=was_interrupted)
        return replace(refreshed, requests=response.attempts)

    def _is_over(self) -> bool:
        """Whether nothing more may be used up; a failed write counts as soon as it has failed."""
        return self._given_up is not None or self._write_back.has_failed

    def _unsent(self) -> Refreshed:
        """How a refresh ends whose request was not sent."""
        if self._is_over():
            return Refreshed(why=self._given_up or STORE_FAILS)
        why = "expired, and no request left to refresh it with"
        return Refreshed(response=skipped(self._clock.now(), why))

    def _give_up(self, why: str, message: str, *arguments: object) -> Refreshed:
        """Refresh nothing more in this run, and log once why."""
        if self._given_up is None:
            self._given_up = why
            logger.error(message, *arguments)
        return Refreshed(why=self._given_up)

    def _prepare(self, token: Token, used: Secret) -> None:
        """Try the store once, and record durably that the refresh token is about to be used; or give up."""
        with self._trial:
            if not self._store_is_fine and self._given_up is None:
                obstacle = self._why_not_saved()
                self._store_is_fine = obstacle is None
                if obstacle is not None:
                    self._give_up(STORE_FAILS, NOT_REFRESHED, obstacle)
        if self._given_up is None:
            try:
                self._journal.begin(token.key, used, self._clock.now())
            except OSError as error:
                why = f"{error.filename or self._journal.folder}: {error.strerror}"
                self._give_up(STORE_FAILS, NOT_REFRESHED, why)

    def _why_not_saved(self) -> str | None:
        """What the store's own trial finds."""
        try:
            # a store of somebody else's making may have none
            trial = getattr(self._store, "why_not_saved", None)
            return trial() if trial is not None else None
        except Exception as error:  # noqa: BLE001 - and its words may quote a token
            return f"{store_name(self._store)} cannot be tried: {type(error).__name__}"

    async def _adopt(self, token: Token, used: Secret) -> bool:
        """Take over what somebody else, the application itself or another run, has put into the store."""
        try:
            found = await asyncio.to_thread(self._store.current, token)
        except Exception:  # noqa: BLE001 - a store may be somebody else's
            return False
        if found is None or found.refresh_token is None or found.access_token == token.access_token:
            return False
        self._renewals[used] = Renewal(token, found.access_token, found.refresh_token, found.expires_at)
        self._journal.mark_done(used)
        return True

    async def _judge(
        self, token: Token, used: Secret, response: Response, answer: Hidden, *, interrupted: bool
    ) -> Refreshed:
        """What the response of the token endpoint means.

        Where the server may have used the refresh token up, the journal keeps its entry.
        """
        if response.outcome in TROUBLES:
            return self._failed(response)
        if response.outcome is not Outcome.OK:
            self._failures_in_a_row = 0
            return await self._refused(token, used, response, error_code(answer), interrupted=interrupted)
        renewal = read_renewal(token, response, answer)
        if renewal is None:
            logger.error("the token endpoint's answer for %s is not of the documented shape", token.key)
            return self._failed(replace(response, outcome=Outcome.BAD_PAYLOAD, message="no access token"))
        self._failures_in_a_row = 0
        return await self._keep(renewal, used)

    def _failed(self, response: Response) -> Refreshed:
        """No answer, or none that can be kept.

        Where the first answers cannot be kept, the next one is no better, and no refresh token is risked.
        """
        self._failures_in_a_row += 1
        is_unreadable = response.outcome is Outcome.BAD_PAYLOAD and not self._store_has_taken_one
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self._give_up(
                "not refreshed: the token endpoint fails",
                "the token endpoint failed %d times in a row: nothing more is refreshed in this run",
                self._failures_in_a_row,
            )
        elif is_unreadable and self._failures_in_a_row >= MAX_UNREADABLE:
            self._give_up(
                "not refreshed: the token endpoint's answers cannot be read",
                "nothing more is refreshed in this run: the token endpoint's answers cannot be read",
            )
        return _ended(response, response.outcome, response.message or "")

    async def _keep(self, renewal: Renewal, used: Secret) -> Refreshed:
        """Write a new pair back; it may be used when the store holds it."""
        key = renewal.token.key
        try:
            saved = await self._write_back.save(renewal)
        except StoreError as error:
            # the entry stays: the store holds a refresh token that may be used up
            self._give_up(STORE_FAILS, CANNOT_WRITE)
            logger.error("%s was refreshed and cannot be written back: %s", key, error)
            self._unsaved.add(used)
            return Refreshed(why=NOT_WRITTEN_BACK)
        if self._write_back.has_failed:
            self._give_up(STORE_FAILS, CANNOT_WRITE)  # others, or at the first try
        self._journal.mark_done(used)
        if saved:
            self._let_in_others()
            self._renewals[used] = renewal
            self._issued.add(renewal.access_token)
            return Refreshed(renewal.token)
        logger.error(CHANGED_MEANWHILE, key)
        if await self._adopt(renewal.token, used):
            return Refreshed(renewal.token)
        return Refreshed(why="its row is gone from the store")

    def _let_in_others(self) -> None:
        """The store has taken a new token: several may be under way from now on."""
        if not self._store_has_taken_one:
            self._store_has_taken_one = True
            for _ in range(MAX_REFRESHES_IN_FLIGHT - 1):
                self._quick.release()

    async def _refused(
        self, token: Token, used: Secret, response: Response, code: str | None, *, interrupted: bool
    ) -> Refreshed:
        """The token endpoint understood and refused."""
        if code == "invalid_grant" and await self._adopt(token, used):
            return Refreshed(token)
        self._journal.mark_done(used)
        if code == "invalid_grant":
            if interrupted:
                self._lose(token, INTERRUPTED)
                code = "invalid_grant; lost in an interrupted refresh"
            return _ended(response, Outcome.GRANT_REVOKED, code)
        if code in CLIENT_REFUSED:
            return self._give_up(
                "not refreshed: client_id and client_secret are not accepted",
                "%s: client_id and client_secret in [sources.cronofy] are not accepted (%s);"
                " nothing is refreshed",
                token.data_center,
                code,
            )
        if response.outcome is Outcome.RATE_LIMITED:
            return _ended(response, Outcome.RATE_LIMITED, "HTTP 429")
        return Refreshed(why=f"refresh: HTTP {response.http_status}")


def open_refresher(
    settings: PollingSettings, store: TokenStore, tokens: Sequence[Token], folder: Path, clock: Clock
) -> Refresher | None:
    """A refresher for one run over all the tokens of a store; None where there is nothing to refresh with.

    `folder` takes the journal of refreshes under way, where the store has no folder.
    """
    if settings.client is None or not any(token.refresh_token for token in tokens):
        return None
    journal = RefreshJournal(getattr(store, "folder", None) or folder)
    return Refresher(settings.client, settings, store, tokens, journal, clock)


def _ended(response: Response, outcome: Outcome, message: str) -> Refreshed:
    """A refresh's response as the poll's: without a request of its own."""
    return Refreshed(response=replace(response, outcome=outcome, message=f"refresh: {message}", attempts=0))
