"""Capture without a warehouse: what is known is kept from batch to batch, as a warehouse would."""

from collections.abc import Iterable
from datetime import timedelta

from dlt_cronofy.source.history.capture import Capture, Known
from dlt_cronofy.source.history.evidence import Evidence
from dlt_cronofy.source.history.runs import RunCounts
from dlt_cronofy.source.records import Poll
from dlt_cronofy.source.tables import TABLES
from tests.cronofy.bodies import Json

HOLD = timedelta(hours=24)


def captured(
    polls: Iterable[Poll],
    known: Known | None = None,
    evidence: Evidence | None = None,
    tables: Iterable[str] = TABLES,
    counts: RunCounts | None = None,
) -> Capture:
    """The capture of one batch; what is known is brought up to date."""

    def recall(poll: Poll) -> Poll:
        raise AssertionError(f"{poll} was not read")

    capture = Capture(
        known if known is not None else Known(),
        evidence if evidence is not None else Evidence("run-1", HOLD),
        counts if counts is not None else RunCounts(),
        set(tables),
        recall,
    )
    for each in polls:
        capture.add(each)
    return capture


class World:
    """Captures batch after batch, keeping what is known in between.

    Attributes:
        evidence: of the newest batch.
        counts: of the newest batch.
        changed_accounts: of the newest batch.
    """

    def __init__(self, tables: Iterable[str] = TABLES) -> None:
        self.known = Known()
        self.tables = set(tables)
        self.runs = 0
        self.evidence = Evidence("run-0", HOLD)
        self.counts = RunCounts()
        self.changed_accounts: set[str] = set()

    def add(self, *polls: Poll) -> dict[str, list[Json]]:
        """The rows of one batch by table, without those of the evidence; no table without rows."""
        self.runs += 1
        before = self.evidence
        self.evidence, self.counts = Evidence(f"run-{self.runs}", HOLD), RunCounts()
        self.evidence.know(before.statuses)
        self.evidence.spans |= before.spans
        capture = captured(polls, self.known, self.evidence, self.tables, self.counts)
        self.changed_accounts = capture.changed_accounts
        return {name: rows for name, rows in capture.rows.items() if rows}

    def evidence_rows(self) -> dict[str, list[Json]]:
        """The rows of the evidence that the newest batch writes."""
        rows = {
            "token_status": self.evidence.changed_statuses(),
            "coverage": self.evidence.changed_spans(),
        }
        return {name: found for name, found in rows.items() if found}

    def status(self, key: str = "k1") -> Json:
        """The row of `token_status` of a token."""
        return self.evidence.status(key)
