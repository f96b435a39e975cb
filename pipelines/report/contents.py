"""What the report says: the health of everything, what changed since the last one, and frames."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dlt
import pandas as pd

from dlt_cronofy.warehouse.dataset import held_open, loaded_dataset
from dlt_cronofy.warehouse.pipeline import location

from . import figures
from .figures import Scope
from .frames import Read, frame_reader
from .health import Health, read_health, without_personal_data
from .survival import halves

# trends of the report look back that far
TREND_DAYS = 90
# lists in the report are no longer than that; the warehouse has the rest
MOST_NAMED = 20
DEFAULT_SINCE = timedelta(days=7)

Since = datetime | timedelta
"""An instant, or an age relative to the newest poll: a history that ended long ago has its last week, too."""


@dataclass(frozen=True)
class Report:
    """What the page shows. Frames are those of `figures`.

    Attributes:
        location: where the data is.
        dataset: the schema it is in.
        health: the figures of `status`, personal columns left out of an anonymous report.
        since: changes after that are shown.
        since_last_report: whether that is when the last report was made.
        is_anonymous: whether it leaves out e-mails, names and relink links.
        went_down: outages first seen after `since`, those in the first sample of a profile included.
        ended: outages ended after `since`.
        changes: kinds of change after `since` → profiles.
        days: connectivity of the last `TREND_DAYS`, by provider and day.
        outages: all of them.
        curves: time to relink, all providers and each.
        halves: when half have relinked, with its confidence interval.
        flapping: profiles that go up and down.
        tokens: whether each can still be read.
        polls: polls of the last `TREND_DAYS` by day.
        rates: by provider and period.
        emails: account_id → e-mail, of the accounts that the report names.
    """

    location: str
    dataset: str
    health: Health
    since: datetime | None
    since_last_report: bool
    is_anonymous: bool
    went_down: pd.DataFrame
    ended: pd.DataFrame
    changes: dict[str, int]
    days: pd.DataFrame
    outages: pd.DataFrame
    curves: pd.DataFrame
    halves: pd.DataFrame
    flapping: pd.DataFrame
    tokens: pd.DataFrame
    polls: pd.DataFrame
    rates: pd.DataFrame
    emails: dict[str, str]

    @property
    def broke(self) -> int:
        """Outages that began after `since`; the others that were first seen then began at an unknown time."""
        return int(self.went_down["started_after"].notna().sum())

    @property
    def found_down(self) -> int:
        """Outages first seen after `since`, in the first sample of a profile."""
        return len(self.went_down) - self.broke

    @property
    def relinked(self) -> int:
        """Outages after `since` whose end was that somebody relinked."""
        return int((self.ended["end_reason"] == "relinked").sum())


def read_report(
    pipeline: dlt.Pipeline, since: Since | None, last_report: datetime | None, *, anonymous: bool
) -> Report:
    """Read all that the report says from the views of a dataset.

    Args:
        pipeline: whose dataset it is.
        since: tell what changed after that instant, or in that time before the newest poll.
        last_report: the newest poll the last report knew; used where `since` is None. Without either, seven
            days count.
        anonymous: leave out e-mails, names and relink links.

    Raises:
        ConfigurationError: nothing was loaded there yet.
    """
    with held_open(pipeline), loaded_dataset(pipeline) as client:
        health = read_health(client)
        read = frame_reader(pipeline)
        begin = _instant(since or last_report or DEFAULT_SINCE, health.as_of)
        outages = figures.read_outages(read)
        curves = figures.read_curves(read)
        recent = Scope(first_day=_trend_start(health.as_of))
        went_down = outages[outages["first_seen_at"] > begin] if begin else outages[:0]
        ended = outages[outages["ended_at"] > begin] if begin else outages[:0]
        flapping = figures.read_flapping(read)
        named = {*went_down["account_id"][-MOST_NAMED:], *flapping["account_id"][:MOST_NAMED]}
        return Report(
            location=location(pipeline),
            dataset=pipeline.dataset_name or "",
            health=without_personal_data(health) if anonymous else health,
            since=begin,
            since_last_report=since is None and last_report is not None,
            is_anonymous=anonymous,
            went_down=went_down,
            ended=ended,
            changes=_counted(figures.read_changes(read, begin)) if begin else {},
            days=figures.read_days(read, recent),
            outages=outages,
            curves=curves,
            halves=halves(curves),
            flapping=flapping,
            tokens=figures.read_tokens(read),
            polls=figures.read_polls(read, recent),
            rates=figures.read_rates(read),
            emails={} if anonymous else _read_emails(read, named),
        )


def _instant(since: Since, as_of: datetime | None) -> datetime | None:
    if isinstance(since, datetime):
        return since
    return as_of - since if as_of else None


def _trend_start(as_of: datetime | None) -> date | None:
    return as_of.date() - timedelta(days=TREND_DAYS - 1) if as_of else None


def _counted(changes: pd.DataFrame) -> dict[str, int]:
    return {str(kind): int(number) for kind, number in zip(changes["kind"], changes["profiles"], strict=True)}


def _read_emails(read: Read, accounts: Iterable[str]) -> dict[str, str]:
    found = figures.read_emails(read, sorted(accounts))
    return dict(zip(found["account_id"], found["email"], strict=True))
