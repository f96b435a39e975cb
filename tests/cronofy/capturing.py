"""Capture without a warehouse: what is known is kept from batch to batch, as a warehouse would."""

from collections.abc import Iterable
from datetime import timedelta

from sources.cronofy.calls.polling import Poll
from sources.cronofy.history.capture import Capture, Known
from sources.cronofy.history.evidence import Evidence
from sources.cronofy.history.runs import RunCounts
from sources.cronofy.tables import TABLES

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
