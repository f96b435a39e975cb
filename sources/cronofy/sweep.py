"""A sweep: poll tasks in, Arrow tables out, batch by batch."""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import dlt

from .calls.conduct import Conduct
from .calls.polling import Poll
from .clock import Clock, SystemClock
from .history.capture import Capture, Known, changed_accounts
from .history.knowledge import Knowledge, Row, protected_content, protected_history, protected_log
from .history.late import Later
from .history.privacy import PersonalData
from .plan import plan_polls
from .settings import PollingSettings
from .stores import TokenStore
from .tables import POLLS, PROFILE_CHANGES
from .tokens import Token

# one batch is captured and handed to dlt at a time
BATCH_POLLS = 2000
# clocks of machines differ, but not by that much
MOST_AHEAD = timedelta(hours=1)

Rows = dict[str, list[Row]]


def new_run_id(clock: Clock) -> str:
    """The name of one run: its start in UTC and something nobody else has."""
    return f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


class PolledBatches(Protocol):
    """Polls batch by batch, in the order of `polled_at`: a feed under way, or what was kept of one."""

    def has_more(self) -> bool:
        """Wait until there is another batch or none will come."""
        ...

    def take(self) -> list[Poll] | None:
        """The next batch; None when there is none."""
        ...


@dataclass
class Sweep:
    """What one pass over tokens needs: all that is injected.

    Attributes:
        tokens: polled as far as due; ignored when there is a feed.
        every: tokens with a successful poll younger than this are not due.
        store: where refreshed tokens are written back.
        feed: the polls of a run, of which this sweep takes a part; polls of its own otherwise.
        polls: how many of them it takes, give or take a batch.
        known: what is known of the accounts beside what the warehouse holds: what an earlier sweep of the run
            captured that could not be loaded yet.
        late_until: polls up to that instant may be older than what the warehouse knows; a sweep takes one
            batch of them then. None where all are newer.
        on_captured: told of the polls of every batch.
        on_batch: told of the new rows of every batch.
    """

    settings: PollingSettings
    tokens: Sequence[Token] = ()
    every: timedelta = timedelta(0)
    clock: Clock = field(default_factory=SystemClock)
    store: TokenStore | None = None
    feed: PolledBatches | None = None
    polls: float = math.inf
    run_id: str = ""
    known: Known = field(default_factory=Known)
    late_until: datetime | None = None
    on_captured: Callable[[list[Poll]], None] = lambda _: None
    on_batch: Callable[[Rows], None] = lambda _: None

    async def run(
        self, knowledge: Knowledge, endpoints: Sequence[str], tables: set[str]
    ) -> AsyncIterator[Rows]:
        """Poll and capture; yields the new rows by table, for the wanted tables."""
        if self.feed is not None:
            async for rows in self._capture_all(self.feed, knowledge, tables):
                yield rows
            return
        from .calls.feed import Feed
        from .calls.refresh import open_refresher

        evidence = await asyncio.to_thread(knowledge.evidence)
        tasks = plan_polls(self.tokens, evidence, self.clock.now(), endpoints, self.every)
        conduct = Conduct.of(self.settings, self.clock, (task.token for task in tasks))
        if self.store is not None:
            folder = Path(dlt.current.pipeline().pipelines_dir)
            conduct.refresher = open_refresher(self.settings, self.store, self.tokens, folder, self.clock)
        try:
            with Feed(self.settings, conduct, self.clock, tasks, BATCH_POLLS) as feed:
                async for rows in self._capture_all(feed, knowledge, tables):
                    yield rows
        finally:
            conduct.close()

    async def _capture_all(
        self, feed: PolledBatches, knowledge: Knowledge, tables: set[str]
    ) -> AsyncIterator[Rows]:
        # a source may be run again, and is another run then
        run_id = self.run_id or new_run_id(self.clock)
        taken = 0
        while taken < self.polls and (polls := await asyncio.to_thread(feed.take)) is not None:
            taken += len(polls)
            rows = await asyncio.to_thread(self._capture, run_id, knowledge, self.known, polls, tables)
            self.on_captured(polls)
            self.on_batch(rows)
            yield rows

    def _capture(
        self, run_id: str, knowledge: Knowledge, known: Known, polls: list[Poll], tables: set[str]
    ) -> Rows:
        with knowledge.connected():
            _recall(knowledge, known, polls, tables, self.settings.personal_data)
            if self.late_until is not None:
                # a clock that was far ahead once tells nothing
                horizon = self.clock.now() + MOST_AHEAD
                known.later = _recall_later(
                    knowledge, polls, self.late_until, horizon, self.settings.personal_data
                )
            capture = Capture(run_id, known, tables)
            for poll in polls:
                capture.add(poll)
            _date_changes(knowledge, capture.rows.get(PROFILE_CHANGES.name, []))
            capture.finish()
        return capture.rows


def _recall(
    knowledge: Knowledge, known: Known, polls: list[Poll], tables: set[str], personal_data: PersonalData
) -> None:
    """Read what the warehouse knows of the tokens and accounts of a batch, as far as not known yet.

    Accounts stay known for the whole sweep, because several tokens may share one; a token is polled
    once, so what was known of the last batch's tokens can go. What an earlier load stored may be
    unprotected; it is compared and written again as if it had been protected.
    """
    keys = {key for poll in polls if poll.payload is not None for key in (poll.token_key, *poll.stand_ins)}
    kept = {key: content for key, content in known.tokens.items() if key in keys}
    contents = knowledge.token_contents(sorted(keys - kept.keys()), tables)
    known.tokens = kept | {
        key: protected_content(content, personal_data) for key, content in contents.items()
    }
    if PROFILE_CHANGES.name in tables:
        accounts = sorted(changed_accounts(polls) - known.histories.keys())
        histories = knowledge.account_histories(accounts)
        known.histories |= {
            account: protected_history(history, personal_data) for account, history in histories.items()
        }


def _recall_later(
    knowledge: Knowledge,
    polls: list[Poll],
    late_until: datetime,
    horizon: datetime,
    personal_data: PersonalData,
) -> Later:
    """Read what the warehouse knows of the tokens and accounts of late polls that is newer than these."""
    late = [poll for poll in polls if poll.payload is not None and poll.answer.polled_at <= late_until]
    if not late:
        return Later()
    since = min(poll.answer.polled_at for poll in late)
    histories = knowledge.sampled_histories(sorted(changed_accounts(late)), since)
    for history in histories.values():
        history.instants = {each for each in history.instants if each <= horizon}
    newest = knowledge.ok_after(sorted({poll.token_key for poll in late}), since)
    return Later(
        {key: ok_at for key, ok_at in newest.items() if ok_at <= horizon},
        {key: protected_log(history, personal_data) for key, history in histories.items()},
    )


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
