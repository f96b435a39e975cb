"""A sweep: poll tasks in, rows out, batch by batch."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import dlt

from .api.limits.policy import RequestPolicy
from .clock import MOST_AHEAD, Clock, SystemClock
from .history.capture import Capture, KnownRows, is_unchanged, read_changed
from .history.evidence import Evidence
from .history.parse import read_poll
from .history.runs import RunCounts
from .history.state import WarehouseState, protected_content, protected_history
from .planning.plan import LastPoll, plan_polls
from .records import Outcome, Poll
from .settings import PollingSettings
from .tables import COVERAGE, POLLS, PROFILE_CHANGES, RUNS, TOKEN_STATUS, Row
from .tokens.base import TokenStore
from .tokens.labels import DEFAULT_LABELS
from .tokens.store_changes import StoreChanges, compare_store, store_columns
from .tokens.token import StoredTokens, Token
from .version import VERSION

# one batch is captured at a time
BATCH_POLLS = 1250

Rows = dict[str, list[Row]]


def new_run_id(clock: Clock) -> str:
    """The name of one run: its start in UTC and something nobody else has."""
    return f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclass
class Recording:
    """What the polls of one package add to the warehouse, captured batch by batch.

    What is known of the tokens and accounts of a batch is read when the batch is captured. Where several
    loads write to one warehouse that is within this load's turn: what was read before may be old by then.

    Attributes:
        run: the columns of the row of `runs` that polls do not tell.
        tables: the wanted ones.
        known: what is known beside what the warehouse holds: what an earlier package of the run that could
            not be loaded yet would have written.
        evidence: likewise.
        counts: of the run so far.
    """

    settings: PollingSettings
    state: WarehouseState
    run: Row
    tables: Collection[str]
    clock: Clock = field(default_factory=SystemClock)
    known: KnownRows = field(default_factory=KnownRows)
    counts: RunCounts = field(default_factory=RunCounts)
    evidence: Evidence = field(init=False)
    _spans_of: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.run["run_id"], self.settings.hold)

    def capture(self, polls: Sequence[Poll]) -> Rows:
        """The new rows of a batch, without those of the evidence."""
        with self.state.connected():
            self._load_statuses({key for poll in polls for key in (poll.token_key, *poll.fallback_tokens)})
            polls = read_changed(polls, self.known, self.evidence, self.settings.personal_data)
            self._load_state(polls)
            capture = Capture(self.known, self.evidence, self.counts, set(self.tables), self._read)
            for poll in polls:
                capture.add(poll)
            # the account's other tokens may have answered last what is not true any more
            statuses = self.state.statuses_of_accounts(sorted(capture.changed_accounts))
            others = {key: row for key, row in statuses.items() if key not in self.evidence.statuses}
            self.evidence.know(others)
            self.evidence.forget_answers(others)
        self.counts.changes.update(row["kind"] for row in capture.rows.get(PROFILE_CHANGES.name, ()))
        return capture.rows

    def evidence_rows(self) -> Rows:
        """The rows of the evidence after all polls so far; they go with the rows of these polls."""
        return {
            TOKEN_STATUS.name: self.evidence.changed_statuses(),
            COVERAGE.name: self.evidence.changed_spans(),
            RUNS.name: [self.run | self.counts.row()],
        }

    def compare_store(self, tokens: StoredTokens, *, confirm_left: bool = False) -> StoreChanges:
        """What has changed in the token store since `token_status` was written."""
        labels = DEFAULT_LABELS if self.settings.token_labels is None else self.settings.token_labels
        rows = self.state.store_rows(store_columns(labels))
        application, now = self.settings.application, self.clock.now()
        return compare_store(tokens, rows, application, labels, now, confirm=confirm_left)

    def set_store(self, rows: Sequence[Row]) -> None:
        """Record what has changed in the token store, as `compare_store` returns it."""
        self._load_statuses([row["token_key"] for row in rows])
        self.evidence.set_store_columns(rows)

    def _read(self, poll: Poll) -> Poll:
        """The poll with its payload, and what is known of its token and account at hand."""
        poll = read_poll(poll, self.settings.personal_data)
        self._load_state([poll])
        return poll

    def _load_state(self, polls: Sequence[Poll]) -> None:
        """Read what the warehouse knows of the tokens and accounts of a batch, unless it is at hand.

        The contents of a token are read only where its answer has changed, and kept for one batch: a token is
        polled once. What an earlier load stored may be unprotected; it is compared and written again as if it
        had been protected.
        """
        personal_data = self.settings.personal_data
        changed = [
            poll
            for poll in polls
            if poll.payload is not None and not is_unchanged(poll, self.known, self.evidence)
        ]
        keys = {key for poll in changed for key in (poll.token_key, *poll.fallback_tokens)}
        if len(polls) > 1:
            self.known.tokens = {key: each for key, each in self.known.tokens.items() if key in keys}
        contents = self.state.token_contents(sorted(keys - self.known.tokens.keys()), set(self.tables))
        self.known.tokens |= {key: protected_content(each, personal_data) for key, each in contents.items()}
        accounts = {account for poll in changed if (account := self._account_of(poll)) is not None}
        if PROFILE_CHANGES.name in self.tables:
            until = self.clock.now() + MOST_AHEAD
            unknown = sorted(accounts - self.known.histories.keys())
            histories = self.state.account_histories(unknown, until)
            self.known.histories |= {
                account: protected_history(histories.get(account, {}), personal_data) for account in unknown
            }
        self._load_spans(polls)

    def _load_statuses(self, token_keys: Collection[str]) -> None:
        unknown = sorted(set(token_keys) - self.evidence.statuses.keys())
        self.evidence.know(self.state.statuses(unknown))

    def _load_spans(self, polls: Sequence[Poll]) -> None:
        sampled = (poll for poll in polls if poll.response.outcome is Outcome.OK)
        accounts = {account for poll in sampled if (account := self._account_of(poll)) is not None}
        unknown = accounts - self._spans_of
        self.evidence.spans |= self.state.newest_spans(sorted(unknown))
        self._spans_of |= unknown

    def _account_of(self, poll: Poll) -> str | None:
        named = poll.payload.account_id if poll.payload is not None else None
        status: str | None = self.evidence.status(poll.token_key)["account_id"]
        return named or status or poll.account_id


def run_row(run_id: str, started_at: datetime) -> Row:
    """The columns of a row of `runs` that are known from the start."""
    return {"run_id": run_id, "started_at": started_at, "version": VERSION}


@dataclass
class Sweep:
    """What one pass over tokens needs: all that is injected.

    Attributes:
        tokens: polled where they are due.
        every: tokens with a successful poll younger than this are not due.
        store: where refreshed tokens are written back.
    """

    settings: PollingSettings
    tokens: Sequence[Token] = ()
    every: timedelta = timedelta(0)
    clock: Clock = field(default_factory=SystemClock)
    store: TokenStore | None = None

    async def run(
        self, state: WarehouseState, endpoints: Sequence[str], tables: set[str]
    ) -> AsyncIterator[Rows]:
        """Poll and capture; yields the new rows by table, for the wanted tables."""
        from .api.poll_stream import PollStream
        from .api.token_refresh import open_refresher

        # a source may be run again, and is another run then
        now = self.clock.now()
        recording = Recording(self.settings, state, run_row(new_run_id(self.clock), now), tables, self.clock)
        last_polls = await asyncio.to_thread(self._look_up, state, recording, tables)
        tasks = plan_polls(self.tokens, last_polls, now, endpoints, self.every)
        recording.run |= {"tokens": len(self.tokens), "due": len(tasks)}
        policy = RequestPolicy(self.settings, self.clock, (task.token for task in tasks))
        refresher = None
        if self.store is not None:
            folder = Path(dlt.current.pipeline().pipelines_dir)
            refresher = open_refresher(self.settings, self.store, self.tokens, folder, self.clock)
        try:
            with PollStream(
                self.settings, policy, self.clock, tasks, BATCH_POLLS, refresher=refresher
            ) as stream:
                while (polls := await asyncio.to_thread(stream.take)) is not None:
                    if polls:
                        yield await asyncio.to_thread(recording.capture, polls)
        finally:
            policy.close()
            if refresher is not None:
                refresher.finish()
        if POLLS.name in tables:
            recording.run["finished_at"] = self.clock.now()
            yield recording.evidence_rows()

    def _look_up(self, state: WarehouseState, recording: Recording, tables: set[str]) -> dict[str, LastPoll]:
        """When tokens were last polled; what has changed in the token store is recorded."""
        with state.connected():
            if POLLS.name in tables:
                recording.set_store(recording.compare_store(StoredTokens.of(self.tokens)).rows)
            recording.known.unsupported = state.unsupported_digests(tables)
            return state.last_polls()
