"""The tally of one load: what its polls said and what was written, and the summary made of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dlt_cronofy.source.history.runs import RunCounts
from dlt_cronofy.source.records import Outcome, Poll
from dlt_cronofy.source.settings import ACCOUNT
from dlt_cronofy.source.sweep import Rows
from dlt_cronofy.source.tables import POLLS
from dlt_cronofy.source.tokens.token import LISTED_ROWS, UnusableRow


@dataclass
class LoadResult:
    """What one load did; the keys of `load --json`.

    Attributes:
        due: tokens to be polled.
        fallback_tokens: tokens that were polled only where another one of their account was refused.
        fresh: tokens whose account was read less than `every` ago.
        not_connected: users of the token store without any token, who have not connected yet.
        left_tokens: tokens that the store has no more, since this load.
        held_back_tokens: tokens that it has no more either, which are so many that they have not left.
        unusable_rows: rows of the token store that cannot be used.
        unusable: the first `LISTED_ROWS` of them; none after a load in shards, whose plan has named them.
        alerted: newly opened outages somebody was told of; None where alerts are off.
    """

    run_id: str
    tokens: int
    due: int
    fresh: int
    fallback_tokens: int = 0
    destination: str = ""
    dataset: str = ""
    polled_tokens: int = 0
    failed_tokens: int = 0
    skipped_tokens: int = 0
    requests: int = 0
    polls: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    finished_packages: list[str] = field(default_factory=list)
    quarantined_packages: list[str] = field(default_factory=list)
    lost_refresh_tokens: list[str] = field(default_factory=list)
    not_connected: int = 0
    left_tokens: int = 0
    held_back_tokens: int = 0
    unusable_rows: int = 0
    unusable: list[UnusableRow] = field(default_factory=list)
    alerted: int | None = None
    stopped_by: str | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, run_id: str, tokens: int, due: int, fallback_tokens: int) -> "LoadResult":
        """That of a load which has been planned."""
        return cls(run_id, tokens, due, fresh=tokens - due - fallback_tokens, fallback_tokens=fallback_tokens)

    def note_rows(self, unusable: Sequence[UnusableRow], not_connected: int) -> None:
        """Take over what the rows of the store are that no token can be polled of."""
        self.not_connected, self.unusable_rows = not_connected, len(unusable)
        self.unusable = list(unusable[:LISTED_ROWS])

    def conclude(self, tally: "Tally", destination: str, dataset: str) -> None:
        """Take over what was counted, and say where the rows went."""
        self.destination, self.dataset = destination, dataset
        self.polled_tokens = tally.polled_tokens
        self.failed_tokens = tally.failed_tokens
        self.skipped_tokens = tally.skipped_tokens
        self.polls = tally.outcomes.total()
        self.outcomes = dict(tally.outcomes.most_common())
        self.changes = dict(tally.changes.most_common())
        self.rows = {table: count for table, count in tally.rows.items() if count}
        if self.due <= self.polled_tokens + self.skipped_tokens:
            self.stopped_by = None

    @property
    def failure_ratio(self) -> float:
        """Tokens that failed or were skipped, as a share of those polled, skipped or fresh.

        Fresh tokens, whose account was read less than `every` ago, count: otherwise a run shortly after
        another, in which only the tokens that always fail are due, would look like an outage.
        """
        unread = self.failed_tokens + self.skipped_tokens
        return unread / self.wanted_tokens if self.wanted_tokens else 0.0

    @property
    def wanted_tokens(self) -> int:
        """Tokens polled, skipped because of an outage, fresh, or not needed beside one of their account."""
        return self.polled_tokens + self.skipped_tokens + self.fresh + self.fallback_tokens

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"failure_ratio": round(self.failure_ratio, 4)}


class Tally:
    """Counts what one load polls, captures and writes.

    Attributes:
        counts: what goes into the row of `runs`.
        rows: written, by table.
    """

    def __init__(self, run_id: str, on_progress: Callable[[int], None] = lambda _: None) -> None:
        self.run_id = run_id
        self._on_progress = on_progress
        self._answered: set[str] = set()
        self._seen: dict[str, bool] = {}
        self._skipped: set[str] = set()
        self.counts = RunCounts()
        self.outcomes: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def add_poll(self, poll: Poll) -> None:
        """Show that a token was polled, before anybody has read the answer."""
        self._answered.add(poll.token_key)
        self._on_progress(len(self._answered))

    def add_rows(self, rows: Rows) -> None:
        """Count the rows of one batch."""
        for table, table_rows in rows.items():
            self.rows[table] += len(table_rows)
        for row in rows.get(POLLS.name, ()):
            self.add_outcome(row["token_key"], row["endpoint"], Outcome(row["outcome"]))

    def add_outcome(self, token_key: str, endpoint: str, outcome: Outcome) -> None:
        """Count what one poll came to; beside another endpoint `/v1/account` tells nothing of a token."""
        self.outcomes[outcome.value] += 1
        if outcome is not Outcome.SKIPPED:
            self._skipped.discard(token_key)
            if endpoint != ACCOUNT or token_key not in self._seen:
                self._seen[token_key] = outcome is Outcome.OK
        elif token_key not in self._seen:
            self._skipped.add(token_key)

    @property
    def changes(self) -> Counter[str]:
        """Rows of `profile_changes` by kind."""
        return self.counts.changes

    @property
    def polled_tokens(self) -> int:
        """Tokens with at least one poll."""
        return len(self._seen)

    @property
    def skipped_tokens(self) -> int:
        """Tokens that were to be polled and were not asked for anything."""
        return len(self._skipped)

    @property
    def failed_tokens(self) -> int:
        """Tokens whose poll failed."""
        return sum(not ok for ok in self._seen.values())
