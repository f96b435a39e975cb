"""What the report says: the health of everything, what changed since the last one, and frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import blake2b

import dlt
import pandas as pd

from dlt_cronofy.source.tables import Row
from dlt_cronofy.warehouse.dataset import held_open, loaded_dataset
from dlt_cronofy.warehouse.pipeline import duckdb_file, location

from . import figures
from .figures import Scope
from .frames import frame_reader
from .health import Health, read_health, without_personal_data
from .survival import halves

# trends of the report look back that far
TREND_DAYS = 90
DEFAULT_SINCE = timedelta(days=7)
# with less history there is nothing to compare, and no uptime worth a figure
LEAST_HISTORY = timedelta(days=1)

Since = datetime | timedelta
"""An instant, or an age relative to the newest poll: a history that ended long ago has its last week, too."""


@dataclass(frozen=True)
class EarlierReport:
    """What a report that is replaced knew.

    Attributes:
        as_of: its newest poll.
        source: which warehouse and dataset it was made of; see `source_digest`.
    """

    as_of: datetime | None
    source: str | None


@dataclass(frozen=True)
class Report:
    """What the page shows. Frames are those of `figures`.

    Attributes:
        location: where the data is.
        dataset: the schema it is in.
        source: a digest of both, by which the next report knows whether it is of the same.
        health: the figures of `status`, personal columns left out of an anonymous report.
        since: changes after that are shown.
        since_last_report: whether that is when the last report was made.
        replaces_other: whether the earlier report was of another warehouse, or did not say of which.
        is_anonymous: whether it leaves out e-mails, names and links.
        went_down: outages first seen after `since`, those in the first sample of a profile included.
        ended: outages ended after `since`.
        changes: kinds of change after `since` → profiles.
        days: connectivity of the last `TREND_DAYS`, by provider and day.
        stock: connections at the end of each of these days.
        outages: all of them, of accounts that are still there.
        curves: time to relink, all providers and each.
        halves: when half have relinked, with its confidence interval.
        flapping: profiles that go up and down.
        tokens: whether each can still be read.
        polls: polls of the last `TREND_DAYS` by day.
        rates: by provider and period.
        mass_events: hours in which many connections broke at once.
        cohorts: which share was relinked how soon, by month.
        freshness: how old the newest evidence is.
        customers: the last 30 days by customer.
        accounts: account_id → whose it is; those that left are left out.
    """

    location: str
    dataset: str
    source: str
    health: Health
    since: datetime | None
    since_last_report: bool
    replaces_other: bool
    is_anonymous: bool
    went_down: pd.DataFrame
    ended: pd.DataFrame
    changes: dict[str, int]
    days: pd.DataFrame
    stock: pd.DataFrame
    outages: pd.DataFrame
    curves: pd.DataFrame
    halves: pd.DataFrame
    flapping: pd.DataFrame
    tokens: pd.DataFrame
    polls: pd.DataFrame
    rates: pd.DataFrame
    mass_events: pd.DataFrame
    cohorts: pd.DataFrame
    freshness: pd.DataFrame
    customers: pd.DataFrame
    accounts: dict[str, Row]

    @property
    def is_first_look(self) -> bool:
        """Whether there is too little history for changes and uptime."""
        as_of, since = self.health.as_of, self.health.since
        return as_of is None or since is None or as_of - since < LEAST_HISTORY

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
        """Outages after `since` whose end was that somebody relinked, or replaced the profile."""
        return int(self.ended["end_reason"].isin(("relinked", "replaced")).sum())


def read_report(
    pipeline: dlt.Pipeline, since: Since | None, earlier: EarlierReport | None, *, anonymous: bool
) -> Report:
    """Read all that the report says from the views of a dataset.

    Args:
        pipeline: whose dataset it is.
        since: show what changed after that instant, or in that time before the newest poll.
        earlier: the report that this one replaces; changes after it are shown where `since` is None and it is
            of the same dataset. Without either, seven days count.
        anonymous: leave out e-mails, names and links.

    Raises:
        ConfigurationError: nothing was loaded there yet.
    """
    source = source_digest(pipeline)
    is_other = earlier is not None and earlier.as_of is not None and earlier.source != source
    last_report = earlier.as_of if earlier and not is_other else None
    with held_open(pipeline), loaded_dataset(pipeline) as client:
        health = read_health(client)
        read = frame_reader(pipeline)
        begin = _instant(since or last_report or DEFAULT_SINCE, health.as_of)
        accounts = figures.read_accounts(read)
        outages = _present(figures.read_outages(read), accounts)
        curves = figures.read_curves(read)
        recent = Scope(first_day=_trend_start(health.as_of))
        tokens, customers = figures.read_tokens(read), figures.read_customers(read)
        # a customer with a domain of its own has one event, not two
        same = ["hour_at", "outages", "accounts", "connected"]
        mass_events = figures.read_mass_events(read).drop_duplicates(same)
        if anonymous:
            health = without_personal_data(health)
            tokens, accounts, customers = (_anonymous(frame) for frame in (tokens, accounts, customers))
            customers = customers[customers["customer"].notna()]
            mass_events = mass_events[mass_events["grouped_by"] != "email_domain"]
        return Report(
            location=location(pipeline),
            dataset=pipeline.dataset_name or "",
            source=source,
            health=health,
            since=begin,
            since_last_report=since is None and last_report is not None,
            replaces_other=since is None and is_other,
            is_anonymous=anonymous,
            went_down=outages[outages["first_seen_at"] > begin] if begin else outages[:0],
            ended=outages[outages["ended_at"] > begin] if begin else outages[:0],
            changes=_counted(figures.read_changes(read, begin)) if begin else {},
            days=figures.read_days(read, recent),
            stock=figures.read_stock(read, recent),
            outages=outages,
            curves=curves,
            halves=halves(curves),
            flapping=figures.read_flapping(read),
            tokens=tokens,
            polls=figures.read_polls(read, recent),
            rates=figures.read_rates(read),
            mass_events=mass_events,
            cohorts=figures.read_cohorts(read),
            freshness=figures.read_freshness(read),
            customers=customers,
            accounts={row["account_id"]: row for row in rows_of(accounts) if row["verdict"] != "left"},
        )


def source_digest(pipeline: dlt.Pipeline) -> str:
    """What tells one warehouse and dataset from another, and nothing else about them."""
    client = pipeline.destination_client()
    names = (duckdb_file(pipeline) or client.config.destination_name, client.config.fingerprint())
    text = "\0".join(map(str, (*names, pipeline.dataset_name)))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def rows_of(frame: pd.DataFrame) -> Iterator[Row]:
    """Rows as dictionaries, without pandas' own ways to say nothing."""
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _present(outages: pd.DataFrame, accounts: pd.DataFrame) -> pd.DataFrame:
    left = accounts.loc[accounts["verdict"] == "left", "account_id"]
    return outages[~outages["account_id"].isin(left)]


def _anonymous(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: None for name in ("email", "email_domain", "name") if name in frame})


def _instant(since: Since, as_of: datetime | None) -> datetime | None:
    if isinstance(since, datetime):
        return since
    return as_of - since if as_of else None


def _trend_start(as_of: datetime | None) -> date | None:
    return as_of.date() - timedelta(days=TREND_DAYS - 1) if as_of else None


def _counted(changes: pd.DataFrame) -> dict[str, int]:
    return {str(kind): int(number) for kind, number in zip(changes["kind"], changes["profiles"], strict=True)}
