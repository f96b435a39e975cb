"""The statistics of one load: what its polls said and what was written, and the summary made of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dlt_cronofy.source.history.runs import RunCounts
from dlt_cronofy.source.records import Outcome, Poll
from dlt_cronofy.source.settings import ACCOUNT
from dlt_cronofy.source.sweep import Rows
from dlt_cronofy.source.tables import POLLS
from dlt_cronofy.source.tokens.store_changes import StoreChanges
from dlt_cronofy.source.tokens.token import LISTED_ROWS, UnusableRow

if TYPE_CHECKING:
    from .steps import Plan


@dataclass
class LoadResult:
    """What one load did; the keys of `load --json`."""

    run_id: str
    tokens: int  # of the store that can be used
    due: int  # to be polled
    fresh: int  # whose account was read less than `every` ago
    fallback_tokens: int = 0  # polled only where another one of their account was refused
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
    not_connected: int = 0  # users of the store without any token
    left_tokens: int = 0  # that the store has no more, since this load
    held_back_tokens: int = 0  # that it has no more either, so many that they have not left
    unusable_rows: int = 0  # of the store
    unusable: list[UnusableRow] = field(default_factory=list)  # the first; none after a load in shards
    alerted: int | None = None  # pieces of news that were sent; None where alerts are off
    stopped_by: str | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, run_id: str, plan: "Plan", store: StoreChanges) -> "LoadResult":
        """That of a load which has been planned."""
        return cls(
            run_id,
            plan.tokens,
            plan.due,
            fresh=plan.tokens - plan.due - plan.fallback_tokens,
            fallback_tokens=plan.fallback_tokens,
            not_connected=plan.not_connected,
            left_tokens=store.left,
            held_back_tokens=store.held_back,
            unusable_rows=len(plan.unusable),
            unusable=list(plan.unusable[:LISTED_ROWS]),
        )

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


class RunStatistics:
    """Counts what one load polls, captures and writes."""

    def __init__(self, on_progress: Callable[[int], None] = lambda _: None) -> None:
        self._on_progress = on_progress
        self._answered: set[str] = set()
        self._is_ok: dict[str, bool] = {}
        self._skipped: set[str] = set()
        self.counts = RunCounts()  # of the row of `runs`
        self.outcomes: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()  # written, by table

    def add_poll(self, poll: Poll) -> None:
        """Show that a token was polled, before anybody has read the answer."""
        self._answered.add(poll.token_key)
        self._on_progress(len(self._answered))

    def add_rows(self, rows: Rows) -> None:
        """Count the rows of one batch."""
        self.rows.update({table: len(table_rows) for table, table_rows in rows.items()})
        for row in rows.get(POLLS.name, ()):
            self.add_outcome(row["token_key"], row["endpoint"], Outcome(row["outcome"]))

    def add_outcome(self, token_key: str, endpoint: str, outcome: Outcome) -> None:
        """Count what one poll came to; `/v1/account` beside another endpoint counts for no token."""
        self.outcomes[outcome.value] += 1
        if outcome is not Outcome.SKIPPED:
            self._skipped.discard(token_key)
            if endpoint != ACCOUNT or token_key not in self._is_ok:
                self._is_ok[token_key] = outcome is Outcome.OK
        elif token_key not in self._is_ok:
            self._skipped.add(token_key)

    def summarize(self, result: LoadResult) -> None:
        """Write what was counted into the summary."""
        result.polled_tokens, result.skipped_tokens = len(self._is_ok), len(self._skipped)
        result.failed_tokens = sum(not is_ok for is_ok in self._is_ok.values())
        result.polls = self.outcomes.total()
        result.outcomes = dict(self.outcomes.most_common())
        result.changes = dict(self.counts.changes.most_common())
        result.rows = {table: count for table, count in self.rows.items() if count}
        if result.due <= result.polled_tokens + result.skipped_tokens:
            result.stopped_by = None
