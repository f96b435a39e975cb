"""Refreshing: expired access tokens are replaced, and the store holds the new pair before it is used."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from ..clock import Clock
from ..records import TROUBLES, Answer, Outcome, skipped
from ..secret import Hidden, Secret
from ..settings import ClientCredentials, PollingSettings
from ..tokens.base import Renewal, StoreError, TokenStore, store_name
from ..tokens.rows import HEADER_SAFE
from ..tokens.token import Token
from ..tokens.write_back import WriteBack
from .limits.refresh_concurrency import RefreshLimit, RefreshPlace
from .refresh_journal import RefreshNotes
from .transport import HEADERS

if TYPE_CHECKING:
    from .retries import Exchange

# RFC 6749, section 5.2: the application is refused, not the token
CLIENT_REFUSED = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
# a token endpoint that failed so often is left alone for the rest of the run
MAX_FAILURES_IN_A_ROW = 20
# and so often where it has answered nothing yet that could be kept
MAX_UNREADABLE = 3
NOT_WRITTEN_BACK = "refreshed, but not written back"
WRITTEN_LATE = "%s was written back in the end"
CHANGED_MEANWHILE = "%s was changed in the store while it was refreshed: the store's value is kept"
STORE_FAILS = "not refreshed: the token store cannot be written"

logger = logging.getLogger("dlt_cronofy")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How a refresh ended.

    Attributes:
        token: to call with; None where there is no new one.
        answer: what becomes of the poll then; None where it stays a rejected token.
        why: what a rejected token's message says of the refresh.
        requests: sent to the token endpoint.
    """

    token: Token | None = None
    answer: Answer | None = None
    why: str = ""
    requests: int = 0


class Refresher:
    """Refreshes the tokens of one store during one run, each refresh token once while it is good.

    What it remembers outlasts the event loops of the batches of a run.
    """

    def __init__(
        self,
        client: ClientCredentials,
        settings: PollingSettings,
        store: TokenStore,
        notes: RefreshNotes,
        clock: Clock,
    ) -> None:
        self._client = client
        self._settings = settings
        self._store = store
        self._notes = notes
        self._clock = clock
        self._write_back = WriteBack(store)
        self._limit = RefreshLimit()
        self._tokens: Sequence[Token] = ()
        self._renewals: dict[Secret, Renewal] = {}
        self._issued: set[Secret] = set()
        self._unsaved: set[Secret] = set()
        self._running: dict[Secret, asyncio.Task[Refreshed]] = {}
        self._failures_in_a_row = 0
        self._looking = threading.Lock()
        self._store_is_fine = False
        self._given_up: str | None = None
        self._lost: dict[str, None] = {}

    @property
    def lost(self) -> list[str]:
        """Keys of tokens whose refresh token is used up, while the store holds no other; each once."""
        return list(self._lost)

    def begin(self, tokens: Sequence[Token]) -> None:
        """Look at what earlier runs left unsettled; called once, with all tokens of the store."""
        self._tokens = tokens
        self._notes.keep_only(token.refresh_token for token in tokens if token.refresh_token)
        if self._notes.earlier:
            keys = ", ".join(sorted(note.token_key for note in self._notes.earlier.values()))
            logger.warning("an earlier run ended while it refreshed %s: refreshed before anything else", keys)

    def newest(self, token: Token) -> Token:
        """The token as it is after what was refreshed in this run."""
        while token.refresh_token is not None and token.refresh_token in self._renewals:
            renewal = self._renewals[token.refresh_token]
            token = _renewed(token, renewal)
            if renewal.refresh_token == renewal.token.refresh_token:
                break
        return token

    def is_due(self, token: Token) -> bool:
        """Whether the access token is missing, is known to have expired, or a refresh of it is unsettled."""
        if token.refresh_token is None or self._given_up:
            return False
        expired = token.expires_at is not None and self._clock.now() >= token.expires_at
        return expired or not token.has_access_token or self._notes.is_unsettled(token.refresh_token)

    def may_help(self, token: Token) -> bool:
        """Whether a refresh could mend a 401: not without a refresh token, and not what was just issued."""
        return token.refresh_token is not None and token.access_token not in self._issued

    async def refresh(self, token: Token, exchange: "Exchange") -> Refreshed:
        """A token that can be called with instead of this one. Tokens that share a grant wait for each other.

        Cancelling the caller does not cancel the refresh: its outcome must reach the store.
        """
        newest = self.newest(token)
        if newest.access_token != token.access_token:
            return Refreshed(newest)
        assert token.refresh_token is not None
        if token.refresh_token in self._unsaved:
            return Refreshed(why=NOT_WRITTEN_BACK)
        running = self._running.get(token.refresh_token)
        if running is None and self._given_up:
            return Refreshed(why=self._given_up)
        if running is not None:
            refreshed = replace(await asyncio.shield(running), requests=0)
        else:
            task = asyncio.create_task(self._refresh(token, token.refresh_token, exchange))
            self._running[token.refresh_token] = task
            refreshed = await asyncio.shield(task)
        return replace(refreshed, token=self.newest(token)) if refreshed.token else refreshed

    async def settle(self) -> None:
        """Wait for the refreshes under way: the event loop is about to end."""
        # a fault in one of them is no reason to abandon the others
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()

    def finish(self) -> None:
        """End the run: a last try to write back, and the loud word on what was lost."""
        try:
            for renewal, is_saved in self._write_back.try_again():
                assert renewal.token.refresh_token is not None
                self._notes.end(renewal.token.refresh_token)
                logger.warning(WRITTEN_LATE if is_saved else CHANGED_MEANWHILE, renewal.token.key)
        finally:
            self._name_unsaved()
            self._notes.close()

    def _name_unsaved(self) -> None:
        for renewal in self._write_back.unsaved:
            used = renewal.token.refresh_token
            if renewal.refresh_token == used:
                logger.warning(
                    "the new access token of %s could not be written back; its refresh token still works",
                    renewal.token.key,
                )
                continue
            for key in self._sharing(renewal.token):
                self._lose(key, "it could not be written back")

    def _lose(self, key: str, why: str) -> None:
        """Say that a refresh token is lost, loudly and once."""
        if key not in self._lost:
            self._lost[key] = None
            logger.error("the refresh token of %s is lost: %s. Authorize it again", key, why)

    def _sharing(self, token: Token) -> list[str]:
        """The keys of all tokens of the store that have the refresh token of this one; of this one first."""
        sharing = (
            each.key for each in self._tokens if self.newest(each).refresh_token == token.refresh_token
        )
        return list(dict.fromkeys((token.key, *sharing)))

    async def _refresh(self, token: Token, used: Secret, exchange: "Exchange") -> Refreshed:
        try:
            async with self._limit.place() as place:
                return await self._refresh_once(token, used, exchange, place)
        finally:
            self._running.pop(used, None)

    async def _refresh_once(
        self, token: Token, used: Secret, exchange: "Exchange", place: RefreshPlace
    ) -> Refreshed:
        is_late = self._clock.monotonic() >= exchange.allowance.deadline
        if is_late or exchange.allowance.stopped or self._is_over():
            return self._unsent()
        if await self._adopt(token, used):
            return Refreshed(token)
        was_interrupted = self._notes.is_unsettled(used)
        obstacle = await asyncio.to_thread(self._obstacle, token, used)
        if obstacle is not None:
            self._forget(used, was_interrupted)
            self._give_up(obstacle)
            return Refreshed(why=obstacle)
        if not exchange.allowance.take(1):
            self._forget(used, was_interrupted)
            return Refreshed(answer=self._unpaid())

        def build() -> httpx.Request:
            place.sent()
            return self._request(token, used)

        answer = await exchange.ask(token.data_center, build, is_off=self._is_over)
        place.answered()
        if answer is None:
            self._forget(used, was_interrupted)
            return self._unsent()
        requests, said = answer.attempts, _taken(answer)
        if answer.outcome in TROUBLES:
            return self._failed(answer, requests)
        if answer.outcome is not Outcome.OK:
            self._failures_in_a_row = 0
            interrupted = was_interrupted or requests > 1
            refused = await self._refused(token, used, answer, _error_code(said), interrupted=interrupted)
            return replace(refused, requests=requests)
        renewal = _read_renewal(token, answer, said)
        if renewal is None:
            return self._unreadable(token, answer, requests)
        self._failures_in_a_row = 0
        return replace(await self._keep(renewal, used), requests=requests)

    def _is_over(self) -> bool:
        """Whether nothing more may be used up; a write that failed counts before it was heard of."""
        return self._given_up is not None or self._write_back.has_failed

    def _unsent(self) -> Refreshed:
        """How a refresh ends whose request was not sent."""
        if self._is_over():
            return Refreshed(why=self._given_up or STORE_FAILS)
        return Refreshed(answer=self._unpaid())

    def _forget(self, used: Secret, was_interrupted: bool) -> None:  # noqa: FBT001
        """Strike out the note of a request that was not sent; an earlier run's is as true as before."""
        if not was_interrupted:
            self._notes.end(used)

    def _give_up(self, why: str) -> None:
        """Refresh nothing more in this run."""
        if self._given_up is None:
            self._given_up = why
        self._limit.end()

    def _give_up_writing(self) -> None:
        if self._given_up is None:
            logger.error("nothing more is refreshed in this run: the token store cannot be written")
        self._give_up(STORE_FAILS)

    def _obstacle(self, token: Token, used: Secret) -> str | None:
        """Why this token cannot be refreshed, before anything is used up; None when it was noted down."""
        with self._looking:
            if not self._store_is_fine and self._given_up is None:
                self._note_obstacle(self._why_not_saved())
                self._store_is_fine = self._given_up is None
        if self._given_up is None:
            try:
                self._notes.begin(token.key, used, self._clock.now())
            except OSError as error:
                self._note_obstacle(f"{error.filename or self._notes.folder}: {error.strerror}")
        return self._given_up

    def _why_not_saved(self) -> str | None:
        """What the store's own trial says."""
        try:
            # a store of somebody else's making may have none
            trial = getattr(self._store, "why_not_saved", None)
            return trial() if trial is not None else None
        except Exception as error:  # noqa: BLE001 - and its words may quote a token
            return f"{store_name(self._store)} cannot be tried: {type(error).__name__}"

    def _note_obstacle(self, obstacle: str | None) -> None:
        if obstacle is not None and self._given_up is None:
            self._given_up = STORE_FAILS
            logger.error("expired tokens are not refreshed: %s", obstacle)

    def _request(self, token: Token, used: Secret) -> httpx.Request:
        # docs api/authorization/refresh-token: JSON is the preferred form
        body = {
            "client_id": self._client.client_id,
            "client_secret": self._client.client_secret.reveal(),
            "grant_type": "refresh_token",
            "refresh_token": used.reveal(),
        }
        return httpx.Request(
            "POST",
            f"{self._settings.host(token.data_center)}/oauth/token",
            headers=[*HEADERS, (b"Content-Type", b"application/json")],
            content=orjson.dumps(body),
        )

    async def _adopt(self, token: Token, used: Secret) -> bool:
        """Take over what somebody else, the application itself or another run, has put into the store."""
        found = await asyncio.to_thread(self._current, token)
        if found is None or found.refresh_token is None or found.access_token == token.access_token:
            return False
        self._renewals[used] = Renewal(token, found.access_token, found.refresh_token, found.expires_at)
        self._notes.end(used)
        return True

    def _current(self, token: Token) -> Token | None:
        try:
            return self._store.current(token)
        except Exception:  # noqa: BLE001 - a store may be somebody else's
            return None

    async def _keep(self, renewal: Renewal, used: Secret) -> Refreshed:
        """Write a new pair back; it may be used when the store holds it."""
        key = renewal.token.key
        try:
            saved = await self._write_back.save(renewal)
        except StoreError as error:
            # the note stays: the store holds a refresh token that may be used up
            self._give_up_writing()
            logger.error("%s was refreshed and cannot be written back: %s", key, error)
            self._unsaved.add(used)
            return Refreshed(why=NOT_WRITTEN_BACK)
        if self._write_back.has_failed:
            self._give_up_writing()  # others, or at the first try
        self._notes.end(used)
        if saved:
            self._limit.prove()
            self._renewals[used] = renewal
            self._issued.add(renewal.access_token)
            return Refreshed(renewal.token)
        logger.error(CHANGED_MEANWHILE, key)
        if await self._adopt(renewal.token, used):
            return Refreshed(renewal.token)
        return Refreshed(why="its row is gone from the store")

    async def _refused(
        self, token: Token, used: Secret, answer: Answer, code: str | None, *, interrupted: bool
    ) -> Refreshed:
        """The token endpoint understood and said no."""
        if code == "invalid_grant" and await self._adopt(token, used):
            return Refreshed(token)
        self._notes.end(used)
        if code == "invalid_grant":
            return Refreshed(answer=self._revoked(token, answer, lost=interrupted))
        if code in CLIENT_REFUSED:
            if self._given_up is None:
                logger.error(
                    "%s: client_id and client_secret in [sources.cronofy] are not accepted (%s);"
                    " nothing is refreshed",
                    token.data_center,
                    code,
                )
            self._give_up("not refreshed: client_id and client_secret are not accepted")
            return Refreshed(why=self._given_up or "")
        if answer.outcome is Outcome.RATE_LIMITED:
            return Refreshed(answer=_as(answer, Outcome.RATE_LIMITED, "HTTP 429"))
        return Refreshed(why=f"refresh: HTTP {answer.http_status}")

    def _revoked(self, token: Token, answer: Answer, *, lost: bool) -> Answer:
        if not lost:
            return _as(answer, Outcome.GRANT_REVOKED, "invalid_grant")
        for key in self._sharing(token):
            self._lose(
                key, "a refresh of it was interrupted, and the answer with a new one never reached the store"
            )
        return _as(answer, Outcome.GRANT_REVOKED, "invalid_grant; lost in an interrupted refresh")

    def _failed(self, answer: Answer, requests: int) -> Refreshed:
        """No word from the token endpoint: the refresh token may be used up or not, so its note stays."""
        self._count_failure()
        return Refreshed(answer=_as(answer, answer.outcome, answer.message or ""), requests=requests)

    def _unreadable(self, token: Token, answer: Answer, requests: int) -> Refreshed:
        """A new token that cannot be kept: the used one may be void, so its note stays.

        Where the first answers cannot be kept, the next one is no better, and no refresh token is risked.
        """
        logger.error("the token endpoint's answer for %s is not of the documented shape", token.key)
        self._count_failure()
        nothing_kept = not self._limit.is_proven and self._failures_in_a_row >= MAX_UNREADABLE
        if nothing_kept and self._given_up is None:
            logger.error("nothing more is refreshed in this run: the token endpoint's answers cannot be read")
            self._give_up("not refreshed: the token endpoint's answers cannot be read")
        return Refreshed(answer=_as(answer, Outcome.BAD_PAYLOAD, "no access token"), requests=requests)

    def _count_failure(self) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW and self._given_up is None:
            self._give_up("not refreshed: the token endpoint fails")
            logger.error(
                "the token endpoint failed %d times in a row: nothing more is refreshed in this run",
                self._failures_in_a_row,
            )

    def _unpaid(self) -> Answer:
        return skipped(self._clock.now(), "expired, and no request left to refresh it with")


def open_refresher(
    settings: PollingSettings, store: TokenStore, tokens: Sequence[Token], folder: Path, clock: Clock
) -> Refresher | None:
    """A refresher for one run over all the tokens of a store; None where there is nothing to refresh with.

    `folder` takes the notes on refreshes under way, where the store has no place for them.
    """
    if settings.client is None or not any(token.refresh_token for token in tokens):
        return None
    place = getattr(store, "folder", None) or folder
    refresher = Refresher(settings.client, settings, store, RefreshNotes(place), clock)
    refresher.begin(tokens)
    return refresher


def _as(answer: Answer, outcome: Outcome, message: str) -> Answer:
    """A refresh's answer as the poll's: no request of its own, no body."""
    return replace(answer, outcome=outcome, message=f"refresh: {message}", body=b"", attempts=0)


def _renewed(token: Token, renewal: Renewal) -> Token:
    return replace(
        token,
        access_token=renewal.access_token,
        refresh_token=renewal.refresh_token,
        expires_at=renewal.expires_at,
    )


def _read_renewal(token: Token, answer: Answer, said: Hidden) -> Renewal | None:
    """The new pair of a good answer; None where it is not of the documented shape."""
    access_token, refresh_token = said.value.get("access_token"), said.value.get("refresh_token")
    used = token.refresh_token
    assert used is not None
    if not isinstance(access_token, str) or not HEADER_SAFE.fullmatch(access_token):
        return None
    rotated = isinstance(refresh_token, str) and refresh_token != ""
    if rotated and not HEADER_SAFE.fullmatch(str(refresh_token)):
        return None  # a store that held it could not be read any more
    return Renewal(
        token,
        Secret(access_token),
        Secret(str(refresh_token)) if rotated else used,
        _expiry(answer, said.value.get("expires_in")),
    )


def _expiry(answer: Answer, expires_in: Any) -> datetime | None:
    """When the new access token expires, counted from the request: the answer was under way for a while."""
    known = isinstance(expires_in, (int, float)) and not isinstance(expires_in, bool)
    return answer.requested_at + timedelta(seconds=expires_in) if known and 0 < expires_in < 1e9 else None


def _error_code(said: Hidden) -> str | None:
    """The error of a refusal, as far as it is one that RFC 6749 knows."""
    code = said.value.get("error")
    known = code == "invalid_grant" or code in CLIENT_REFUSED if isinstance(code, str) else False
    return code if known else None


def _taken(answer: Answer) -> Hidden:
    """The body as an object; the answer does not keep it, since it holds new tokens in plain."""
    body, answer.body = answer.body, b""
    try:
        document = orjson.loads(body)
    except ValueError:
        return Hidden({})
    return Hidden(document if isinstance(document, dict) else {})
