"""A sweep: poll tasks in, Arrow tables out, batch by batch."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from .budget import Allowance, RequestBudget
from .capture import Capture, Known, changed_accounts
from .client import CronofyClient, open_http
from .clock import Clock, SystemClock
from .knowledge import Knowledge, Row
from .plan import plan_polls
from .polling import Poll, Poller, PollTask
from .settings import PollingSettings
from .tables import POLLS, PROFILE_CHANGES
from .tokens import Token

# one batch is captured and handed to dlt at a time
BATCH_POLLS = 1000

Rows = dict[str, list[Row]]


def new_run_id(clock: Clock) -> str:
    """The name of one run: its start in UTC and something nobody else has."""
    return f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclass
class Sweep:
    """What one pass over tokens needs: all that is injected.

    Attributes:
        tokens: polled as far as due; ignored when `tasks` is given.
        tasks: what to poll, already planned.
        every: tokens with a successful poll younger than this are not due.
        on_poll: told of every poll as it is answered.
        on_batch: told of the new rows of every batch.
    """

    settings: PollingSettings
    tokens: Sequence[Token] = ()
    tasks: Sequence[PollTask] | None = None
    every: timedelta = timedelta(0)
    clock: Clock = field(default_factory=SystemClock)
    budget: RequestBudget | None = None
    allowance: Allowance = field(default_factory=Allowance)
    run_id: str = ""
    on_poll: Callable[[Poll], None] = lambda _: None
    on_batch: Callable[[Rows], None] = lambda _: None

    def __post_init__(self) -> None:
        self.budget = self.budget or RequestBudget(
            self.clock, self.settings.requests_per_second, self.settings.requests_per_minute
        )

    async def run(
        self, knowledge: Knowledge, endpoints: Sequence[str], tables: set[str]
    ) -> AsyncIterator[Rows]:
        """Poll and capture; yields the new rows by table, for the wanted tables."""
        tasks = self.tasks
        if tasks is None:
            evidence = await asyncio.to_thread(knowledge.evidence)
            tasks = plan_polls(self.tokens, evidence, self.clock.now(), endpoints, self.every)
        assert self.budget is not None
        # a source may be run again, and is another run then
        run_id = self.run_id or new_run_id(self.clock)
        known = Known()
        async with open_http() as http:
            client = CronofyClient(http, self.settings, self.budget, self.clock, self.allowance)
            async for polls in Poller(client, BATCH_POLLS, self.on_poll).poll(tasks):
                # in a thread, so that requests under way do not wait for the warehouse
                rows = await asyncio.to_thread(self._capture, run_id, knowledge, known, polls, tables)
                self.on_batch(rows)
                yield rows

    def _capture(
        self, run_id: str, knowledge: Knowledge, known: Known, polls: list[Poll], tables: set[str]
    ) -> Rows:
        with knowledge.connected():
            _recall(knowledge, known, polls, tables)
            capture = Capture(run_id, known, tables)
            for poll in polls:
                capture.add(poll)
            _date_changes(knowledge, capture.rows.get(PROFILE_CHANGES.name, []))
        return capture.rows


def _recall(knowledge: Knowledge, known: Known, polls: list[Poll], tables: set[str]) -> None:
    """Read what the warehouse knows of the tokens and accounts of a batch, as far as not known yet.

    Accounts stay known for the whole sweep, because several tokens may share one; a token is polled
    once, so what was known of the last batch's tokens can go.
    """
    keys = {poll.token.key for poll in polls if poll.payload is not None}
    kept = {key: content for key, content in known.tokens.items() if key in keys}
    known.tokens = kept | knowledge.token_contents(sorted(keys - kept.keys()), tables)
    if PROFILE_CHANGES.name in tables:
        accounts = sorted(changed_accounts(polls) - known.histories.keys())
        known.histories |= knowledge.account_histories(accounts)


def _date_changes(knowledge: Knowledge, changes: list[Row]) -> None:
    """Fill in `previous_poll_at` where no earlier poll of this sweep did; looks up changed accounts only."""
    undated = [row for row in changes if row["previous_poll_at"] is None]
    samples = knowledge.last_samples(sorted({row["account_id"] for row in undated}))
    for row in undated:
        row["previous_poll_at"] = samples.get(row["account_id"], {}).get(row["profile_type"])


class RecordedPolls:
    """Stands in for a sweep whose polls are loaded after everything they showed."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    async def run(self, *_: object) -> AsyncIterator[Rows]:
        """The rows of `polls`, in one batch; takes what `Sweep.run` takes."""
        yield {POLLS.name: self._rows}
