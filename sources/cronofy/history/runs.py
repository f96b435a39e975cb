"""Runs: what the polls of one load came to, counted as they are captured. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..records import FAILURES, Outcome

Row = dict[str, Any]


@dataclass
class RunCounts:
    """The counts of a row of `runs`.

    Attributes:
        outcomes: polls by outcome.
        requests: that these polls took, retries and refreshes included.
        changes: rows of `profile_changes` by kind.
        oldest_evidence_at: the oldest newest ok poll that a polled token had, UTC.
        oldest_age_seconds: the longest time between a poll and the newest ok poll of its token and endpoint.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    first_polled_at: datetime | None = None
    last_polled_at: datetime | None = None
    oldest_evidence_at: datetime | None = None
    oldest_age_seconds: float | None = None

    def add_poll(self, row: Mapping[str, Any]) -> None:
        """Count a row of `polls`."""
        self.outcomes[row["outcome"]] += 1
        self.requests += (row["attempts"] or 0) + (row["refreshes"] or 0)
        if not row["is_late"]:
            at = row["polled_at"]
            self.first_polled_at = min(self.first_polled_at or at, at)
            self.last_polled_at = max(self.last_polled_at or at, at)

    def add_evidence(self, at: datetime, ok_at: datetime | None) -> None:
        """Take in that a token was polled at `at` and that its newest ok poll was at `ok_at`."""
        if ok_at is None:
            return
        self.oldest_evidence_at = min(self.oldest_evidence_at or ok_at, ok_at)
        age = (at - ok_at).total_seconds()
        self.oldest_age_seconds = (
            age if self.oldest_age_seconds is None else max(self.oldest_age_seconds, age)
        )

    def row(self) -> Row:
        """The columns of `runs` that come from polls."""
        failed = {outcome: self.outcomes[outcome] for outcome in FAILURES}
        ok = self.outcomes[Outcome.OK]
        return {
            "polled": ok + sum(failed.values()),
            "ok": ok,
            "failed": sum(failed.values()),
            "skipped": self.outcomes[Outcome.SKIPPED],
            **failed,
            "requests": self.requests,
            "changes": self.changes.total(),
            "oldest_evidence_at": self.oldest_evidence_at,
            "oldest_evidence_age_seconds": self.oldest_age_seconds,
            "first_polled_at": self.first_polled_at,
            "last_polled_at": self.last_polled_at,
        }
