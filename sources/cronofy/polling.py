"""Polling: the fan-out that turns poll tasks into a stream of polls in the order of their answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

from .client import MAX_IN_FLIGHT, Answer, CronofyClient, Outcome
from .errors import BadPayload
from .payloads import Payload, parse
from .settings import ACCOUNT, PROFILES
from .tokens import Token

# a parsed body takes some ten times its bytes; a batch of large ones is cut short
MAX_BATCH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PollTask:
    """What to read for one token in this run; `account_id` as far as the warehouse knows it."""

    token: Token
    endpoints: tuple[str, ...]
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """One poll: the answer, what it says (ok polls only) and whose account it was."""

    token: Token
    endpoint: str
    answer: Answer
    account_id: str | None
    payload: Payload | None
    body_bytes: int = 0


class Poller:
    """Polls tasks concurrently, with a bounded number of requests and answers in memory."""

    def __init__(
        self,
        client: CronofyClient,
        batch_size: int,
        on_poll: Callable[[Poll], None],
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._client = client
        self._on_poll = on_poll
        self._answered_bytes = 0
        self._batch_size = batch_size
        self._max_in_flight = max_in_flight

    async def poll(self, tasks: Iterable[PollTask]) -> AsyncIterator[list[Poll]]:
        """Batches of polls, ordered by `polled_at` within and across batches."""
        remaining = iter(tasks)
        # a poll is appended in the same step of the event loop that stamped its answer: the deque
        # is in the order of polled_at, which change capture relies on
        answered: deque[Poll] = deque()
        ready = asyncio.Event()
        workers = [
            asyncio.create_task(self._work(remaining, answered, ready)) for _ in range(self._max_in_flight)
        ]
        all_done = asyncio.gather(*workers)
        all_done.add_done_callback(lambda _: ready.set())
        try:
            while not all_done.done():
                await ready.wait()
                ready.clear()
                while self._is_full(answered):
                    batch = [answered.popleft() for _ in range(min(len(answered), self._batch_size))]
                    self._answered_bytes -= sum(poll.body_bytes for poll in batch)
                    yield batch
            all_done.result()  # a fault of ours ends the run, loudly
            if answered:
                yield list(answered)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, remaining: Iterator[PollTask], answered: deque[Poll], ready: asyncio.Event) -> None:
        for task in remaining:
            affordable = self._affordable(task.endpoints)
            if not affordable:
                return
            while self._is_full(answered, batches=2):  # noqa: ASYNC110 - the consumer is a generator
                await asyncio.sleep(0.01)
            await self._poll_token(task, affordable, answered)
            if self._is_full(answered):
                ready.set()

    def _is_full(self, answered: deque[Poll], batches: int = 1) -> bool:
        return (
            len(answered) >= batches * self._batch_size or self._answered_bytes >= batches * MAX_BATCH_BYTES
        )

    def _affordable(self, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        """The first of the endpoints, as many as the allowance still pays for; they are paid for."""
        for count in range(len(endpoints), 0, -1):
            if self._client.allowance.take(count):
                return endpoints[:count]
        return ()

    async def _poll_token(self, task: PollTask, endpoints: tuple[str, ...], answered: deque[Poll]) -> None:
        account_id = task.account_id
        for position, endpoint in enumerate(endpoints):
            answer = await self._client.read(endpoint, task.token)
            if answer is None:  # out of time: nothing was sent, so there is no poll to record
                self._client.allowance.give_back(len(endpoints) - position - 1)
                return
            poll = interpret(task.token, endpoint, answer, account_id)
            account_id = poll.account_id
            answered.append(poll)
            self._answered_bytes += poll.body_bytes
            self._on_poll(poll)
            if poll.answer.outcome in (Outcome.TOKEN_REJECTED, Outcome.RATE_LIMITED):
                # the credential or the application was refused, not the endpoint: another call is wasted
                self._client.allowance.give_back(len(endpoints) - position - 1)
                return


def interpret(token: Token, endpoint: str, answer: Answer, account_id: str | None) -> Poll:
    """Read the body of a 200; what is not of the documented shape becomes bad_payload."""
    if answer.outcome is not Outcome.OK:
        return Poll(token, endpoint, answer, account_id, None)
    try:
        payload = parse(endpoint, answer.body)
    except BadPayload as error:
        answer.outcome, answer.message = Outcome.BAD_PAYLOAD, str(error)
        payload = None
    size, answer.body = len(answer.body), b""
    named = payload.account_id if payload else None
    return Poll(token, endpoint, answer, named or account_id, payload, size)


def calling_order(endpoints: tuple[str, ...], *, ask_account: bool) -> tuple[str, ...]:
    """The calls for one token, in order.

    `/v1/profiles` does not say whose profiles it lists. Where no answer has named the account yet and it
    may be asked for, `/v1/account` (the smallest body that does) goes before it.
    """
    if endpoints == (PROFILES,) and ask_account:
        return (ACCOUNT, PROFILES)
    return endpoints
