"""The figures of the notebook and the report: which frames there are, and the part of the history they cover.

Every number comes from a view. Here frames are filtered, added up and counted, nothing is defined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
from sqlglot import exp

from dlt_cronofy import views

from .frames import Read
from .survival import with_confidence

ALL = "all"
# upper ends of the classes of age in which evidence is counted
FRESHNESS_HOURS = (1, 6, 24, 72, 168)
FRESHNESS_CLASSES = ("up to 1 h", "up to 6 h", "up to 1 d", "up to 3 d", "up to 7 d", "older", "never read")


@dataclass(frozen=True)
class Scope:
    """Which part of the history is looked at; None does not restrict.

    Attributes:
        provider: the column `provider` of the views.
        account_id: one account.
        first_day: the first UTC day.
        last_day: the last UTC day, included.
        search: accounts whose customer, e-mail address, name, account_id or token keys contain this, in any
            letter case.
    """

    provider: str | None = None
    account_id: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    search: str | None = None

    def of_profiles(self) -> str:
        """The condition on views with one row a profile."""
        return _all_of(
            _equals("provider", self.provider),
            self.of_accounts(),
        )

    def of_accounts(self) -> str:
        """The condition on views with one row a token."""
        found = f"account_id IN (SELECT account_id FROM _accounts WHERE {self.of_people()})"  # noqa: S608
        return _all_of(_equals("account_id", self.account_id), found if self.search else None)

    def of_people(self) -> str:
        """The condition on views that say whose a row is."""
        if not self.search:
            return "1 = 1"
        columns = ("customer", "email", "name", "account_id", "token_keys")
        texts = " || ' ' || ".join(f"coalesce({column}, '')" for column in columns)
        return f"strpos(lower({texts}), {exp.Literal.string(self.search.lower()).sql('duckdb')}) > 0"

    def of_days(self) -> str:
        """The condition on the column day."""
        return _all_of(
            f"day >= DATE '{self.first_day}'" if self.first_day else None,
            f"day <= DATE '{self.last_day}'" if self.last_day else None,
        )

    def of_starts(self, column: str) -> str:
        """The condition on a column with times: that they are in these days."""
        return _all_of(
            f"{column} >= {_instant(self.first_day)}" if self.first_day else None,
            f"{column} < {_instant(self.last_day + timedelta(days=1))}" if self.last_day else None,
        )


def read_actions(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """The view needs_action, the most urgent first: every open outage is in it.

    Returns:
        customer, email, name, reason, provider, profile_type, profile_id, profile_name, days, since_at,
        since_known, url, account_id, token_keys.
    """
    of_account = _equals("account_id", scope.account_id)
    return read(f"""
        SELECT customer, email, name, reason, provider, profile_type, profile_id, profile_name, days,
               since AS since_at, since_known, url, account_id, token_keys
        FROM needs_action
        WHERE {_all_of(_equals("provider", scope.provider), of_account, scope.of_people())}
        ORDER BY rank, since, account_id, token_keys, profile_type, profile_id
    """)  # noqa: S608 - values are literals made by sqlglot


def read_days(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """Connectivity of all profiles of a provider together, a row per provider and UTC day.

    Returns:
        provider, day, profiles, connected_seconds, disconnected_seconds, unknown_seconds, ordered by both.
    """
    return read(f"""
        SELECT provider, day,
               COUNT(CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN 1 END)
                   AS profiles,
               SUM(connected_seconds) AS connected_seconds,
               SUM(disconnected_seconds) AS disconnected_seconds,
               SUM(unknown_seconds) AS unknown_seconds
        FROM connectivity_daily
        WHERE {scope.of_profiles()} AND {scope.of_days()}
        GROUP BY provider, day
        ORDER BY provider, day
    """)  # noqa: S608 - values are literals made by sqlglot


def add_up(days: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Rows of `read_days` added up, with shares.

    Args:
        days: what `read_days` returns.
        by: the columns that stay: `["day"]` for all providers together, `["provider", "day"]` for each.

    Returns:
        The columns of `by`, profiles and seconds; uptime = connected / (connected + disconnected) and
        coverage = (connected + disconnected) / all three, NaN where that is nothing.
    """
    sums = days.drop(columns=[name for name in ("provider", "day") if name not in by])
    sums = sums.groupby(list(by), as_index=False, sort=True).sum()
    known = sums["connected_seconds"] + sums["disconnected_seconds"]
    whole = known + sums["unknown_seconds"]
    return sums.assign(
        uptime=sums["connected_seconds"] / known.where(known > 0),
        coverage=known / whole.where(whole > 0),
    )


def read_outages(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """Every outage, a row each, ordered by when it was first seen.

    Returns:
        account_id, provider, profile_type, profile_id, started_after, first_seen_at, last_seen_at, ended_at,
        end_reason, seconds.
    """
    return read(f"""
        SELECT account_id, provider, profile_type, profile_id, started_after, first_seen_at,
               last_seen_at, ended_at, end_reason, seconds
        FROM outages
        WHERE {scope.of_profiles()} AND {scope.of_starts("first_seen_at")}
        ORDER BY first_seen_at, account_id, profile_type, profile_id
    """)  # noqa: S608


def starts_by_day(outages: pd.DataFrame, days: pd.DataFrame) -> pd.DataFrame:
    """How many outages were first seen on each UTC day, days without any included.

    Outages that were already down when first seen began at an unknown time and are left out, as in
    `provider_health`.

    Args:
        outages: what `read_outages` returns.
        days: rows with `day` and `coverage`, one a day; they say which days there are.

    Returns:
        day, outages, coverage.
    """
    seen = outages.loc[outages["started_after"].notna(), "first_seen_at"].dt.tz_localize(None).dt.normalize()
    counts = seen.value_counts()
    found = days[["day", "coverage"]].copy()
    found["outages"] = found["day"].map(counts).fillna(0).astype("int64")
    return found


def read_curves(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """Kaplan-Meier curves of the time to relink, with 95 % confidence bands.

    The view `time_to_relink`, its outages restricted to the account and to those first seen in the period.

    Returns:
        provider (all of them together as `all`), seconds, at_risk, relinked, survival, lower, upper.
    """
    restriction = _all_of(scope.of_accounts(), scope.of_starts("first_seen_at"))
    query = views.restricted("time_to_relink", "outages", restriction)
    return with_confidence(
        read(f"""
            SELECT provider, seconds, at_risk, relinked, survival
            FROM ({query}) AS curves
            WHERE {_all_of(_equals("provider", scope.provider))}
        """)  # noqa: S608
    )


def read_flapping(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """Profiles that go up and down, those with the most outages first.

    Returns:
        account_id, provider, profile_type, profile_id, state, outages_30d, last_changed_at.
    """
    return read(f"""
        SELECT account_id, provider, profile_type, profile_id, state, outages_30d, last_changed_at
        FROM flapping_profiles
        WHERE state <> 'left' AND {scope.of_profiles()}
        ORDER BY outages_30d DESC, last_changed_at DESC, account_id, profile_type, profile_id
    """)  # noqa: S608


def read_tokens(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """Whether each token can still be read.

    Those that left, and users who have not connected, are left out.

    Returns:
        token_key, account_id, customer, email, name, verdict, last_outcome, last_polled_at, last_ok_at,
        failing_since, consecutive_failures.
    """
    return read(f"""
        SELECT token_key, account_id, customer, email, name, verdict, last_outcome, last_polled_at,
               last_ok_at, failing_since, consecutive_failures
        FROM token_health
        WHERE verdict NOT IN ('left', 'not_connected') AND {scope.of_accounts()}
        ORDER BY token_key
    """)  # noqa: S608


def freshness(tokens: pd.DataFrame, as_of: datetime | None) -> pd.DataFrame:
    """How many tokens were last read how long ago.

    Args:
        tokens: what `read_tokens` returns.
        as_of: the newest poll of all.

    Returns:
        age (one row per class of `FRESHNESS_CLASSES`), tokens.
    """
    bounds = [-1.0, *FRESHNESS_HOURS, float("inf")]
    if as_of is None:
        hours = pd.Series(float("nan"), index=tokens.index, dtype="float64")
    else:
        hours = (pd.Timestamp(as_of) - tokens["last_ok_at"]).dt.total_seconds() / 3600
    classes = pd.cut(hours.clip(lower=0), bounds, labels=list(FRESHNESS_CLASSES[:-1]))
    counts = classes.value_counts(sort=False)
    return pd.DataFrame(
        {"age": FRESHNESS_CLASSES, "tokens": [*map(int, counts), int(tokens["last_ok_at"].isna().sum())]}
    )


def read_polls(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """How polling went, a row per UTC day.

    Returns:
        day, ok, failed, skipped.
    """
    return read(f"""
        SELECT day, ok, failed, skipped
        FROM poll_coverage
        WHERE grain = 'day' AND {scope.of_days()}
        ORDER BY day
    """)  # noqa: S608


def read_rates(read: Read) -> pd.DataFrame:
    """The view provider_health: rates of the last 7 and 30 days and of all time.

    Returns:
        provider, period, profiles, outages_started, disconnections_per_1000_days, uptime, coverage.
    """
    return read("""
        SELECT provider, period, profiles, outages_started, disconnections_per_1000_days, uptime, coverage
        FROM provider_health
        ORDER BY provider, period
    """)


def read_changes(read: Read, since: datetime) -> pd.DataFrame:
    """What the change log holds after an instant, counted by kind.

    Returns:
        kind, profiles.
    """
    return read(f"""
        SELECT kind, COUNT(DISTINCT account_id || ' ' || profile_type || ' ' || profile_id) AS profiles
        FROM profile_changes
        WHERE observed_at > {_instant(since)}
        GROUP BY kind
        ORDER BY kind
    """)  # noqa: S608


def read_accounts(read: Read) -> pd.DataFrame:
    """Whose each account is, and how many connections it has; those that left included.

    Returns:
        account_id, customer, email, email_domain, name, token_keys, verdict, calendar_verdict, profiles.
    """
    return read("""
        SELECT account_id, customer, email, email_domain, name, token_keys, verdict, calendar_verdict,
               profiles
        FROM account_health
        ORDER BY account_id
    """)


def read_stock(read: Read, scope: Scope = Scope()) -> pd.DataFrame:
    """How many connections there were at the end of each UTC day, all providers together.

    Returns:
        day, connected, disconnected, unknown.
    """
    return read(f"""
        SELECT day, SUM(connected) AS connected, SUM(disconnected) AS disconnected, SUM(unknown) AS unknown
        FROM stock_daily
        WHERE {scope.of_days()}
        GROUP BY day
        ORDER BY day
    """)  # noqa: S608


def read_mass_events(read: Read) -> pd.DataFrame:
    """Hours in which many connections of one customer, e-mail domain or provider broke, the newest first.

    Returns:
        hour_at, grouped_by, name, outages, accounts, connected.
    """
    return read("""
        SELECT hour AS hour_at, grouped_by, name, outages, accounts, connected
        FROM mass_events
        ORDER BY hour DESC, outages DESC, grouped_by, name
    """)


def read_cohorts(read: Read) -> pd.DataFrame:
    """Which share was relinked within how many days, by the month of the outage, all providers together.

    Returns:
        month, outages, followed_days, relinked_1d, relinked_3d, relinked_7d, relinked_14d.
    """
    return read("""
        SELECT CAST(month AS VARCHAR) AS month, outages, followed_days, relinked_1d, relinked_3d, relinked_7d,
               relinked_14d
        FROM relink_cohorts
        WHERE provider = 'all'
        ORDER BY month
    """)


def read_freshness(read: Read) -> pd.DataFrame:
    """The view freshness: all providers together first.

    Returns:
        provider, tokens, unreadable_tokens, read_within_hold, median_age_seconds, p95_age_seconds.
    """
    return read("""
        SELECT provider, tokens, unreadable_tokens, read_within_hold, median_age_seconds, p95_age_seconds
        FROM freshness
        ORDER BY CASE provider WHEN 'all' THEN 0 ELSE 1 END, tokens DESC, provider
    """)


def read_customers(read: Read) -> pd.DataFrame:
    """Customers, or e-mail domains where no customer is known, over the last 30 days; lowest uptime first.

    Returns:
        customer, email_domain, accounts, profiles, outages_started, uptime, coverage.
    """
    return read("""
        SELECT customer, email_domain, accounts, profiles, outages_started,
               up / NULLIF(up + down, 0) AS uptime,
               (up + down) / NULLIF(up + down + unknown, 0) AS coverage
        FROM (
            SELECT customer, CASE WHEN customer IS NULL THEN email_domain END AS email_domain,
                   SUM(accounts) AS accounts, SUM(profiles) AS profiles,
                   SUM(outages_started) AS outages_started, SUM(connected_seconds) AS up,
                   SUM(disconnected_seconds) AS down, SUM(unknown_seconds) AS unknown
            FROM customer_health
            WHERE period = '30d' AND (customer IS NOT NULL OR email_domain IS NOT NULL)
            GROUP BY 1, 2
        ) AS customers
        WHERE up + down > 0
        ORDER BY uptime, profiles DESC, customer, email_domain
    """)


def last_days(rows: pd.DataFrame, days: int, skipped: int = 0) -> pd.DataFrame:
    """The rows of so many UTC days, after which `skipped` more follow."""
    if rows.empty:
        return rows
    last = rows["day"].max() - pd.Timedelta(days=skipped)
    found: pd.DataFrame = rows[(rows["day"] <= last) & (rows["day"] > last - pd.Timedelta(days=days))]
    return found


def _all_of(*conditions: str | None) -> str:
    """SQL that holds where all of these do; without any it always holds."""
    return " AND ".join(condition for condition in conditions if condition) or "1 = 1"


def _equals(column: str, value: str | None) -> str | None:
    return None if value is None else f"{column} = {exp.Literal.string(value).sql('duckdb')}"


def _instant(moment: date | datetime) -> str:
    """SQL of an instant; a day stands for its begin in UTC."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time(), tzinfo=UTC)
    return f"TIMESTAMPTZ '{moment.astimezone(UTC).isoformat(sep=' ')}'"
