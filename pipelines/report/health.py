"""Connection health, read from the views: the figures of the summary and of `status`."""

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.records import FAILURES
from dlt_cronofy.source.tables import Row
from dlt_cronofy.warehouse.dataset import read

Client = SqlClientBase[Any]

# columns of `runs`
OUTCOMES = ("ok", *FAILURES, "skipped")


@dataclass
class Health:
    """What the views say as of the newest poll. Times are UTC, durations seconds.

    Who left is in none of it but `left_accounts`, the outages that count as `left` in `ended`, and the past
    that uptime and coverage are about.

    Attributes:
        actions: the view needs_action, the most urgent first.
        freshness: the view freshness, of all providers together; empty where there is no token.
    """

    as_of: datetime | None
    since: datetime | None
    tokens: int
    accounts: int
    states: dict[str, int]
    uptime: float | None
    coverage: float | None
    providers: list[Row]
    open_outages: list[Row]
    ended: dict[str, int]
    median_seconds_to_relink: float | None
    failing_tokens: list[Row]
    never_read_tokens: int
    oldest_evidence_at: datetime | None
    polls: dict[str, int]
    actions: list[Row] = field(default_factory=list)
    freshness: Row = field(default_factory=dict)
    left_accounts: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: times as ISO 8601, everything else as it is."""
        return asdict(self)


PERSONAL = ("email", "email_domain", "name", "profile_name", "relink_url", "url")


def without_personal_data(health: Health) -> Health:
    """The same figures; of people only their ids."""
    return replace(
        health,
        actions=_anonymous(health.actions),
        open_outages=_anonymous(health.open_outages),
        failing_tokens=_anonymous(health.failing_tokens),
    )


def _anonymous(rows: list[Row]) -> list[Row]:
    return [{name: None if name in PERSONAL else value for name, value in row.items()} for row in rows]


def read_health(client: Client) -> Health:
    """Read the figures from the views of an open dataset."""
    tokens = _one(
        client,
        "SELECT COUNT(*) AS n, COUNT(last_ok_at) AS read_once, MIN(last_ok_at) AS oldest FROM {token_health}"
        " WHERE verdict NOT IN ('left', 'not_connected', 'not_polled')",
    )
    span = _one(client, "SELECT MIN(first_polled_at) AS since, MAX(last_polled_at) AS as_of FROM {runs}")
    totals = _one(
        client,
        "SELECT SUM(connected_seconds) AS up, SUM(disconnected_seconds) AS down,"
        " SUM(unknown_seconds) AS unknown FROM {provider_health} WHERE period = 'all'",
    )
    accounts = _one(
        client,
        "SELECT COUNT(*) AS n, COUNT(CASE WHEN verdict = 'left' THEN 1 END) AS gone FROM {account_health}",
    )
    open_outages = read(client, OPEN_OUTAGES)
    ended = _counts(client, "SELECT end_reason AS name, COUNT(*) AS n FROM {outages} GROUP BY end_reason")
    return Health(
        as_of=span["as_of"],
        since=span["since"],
        tokens=tokens["n"],
        accounts=accounts["n"] - accounts["gone"],
        states=_profile_states(client),
        uptime=_share(totals["up"], totals["down"]),
        coverage=_share((totals["up"] or 0) + (totals["down"] or 0), totals["unknown"]),
        providers=read(client, PROVIDERS),
        open_outages=open_outages,
        ended=_without_left(ended, len(open_outages)),
        median_seconds_to_relink=_one(
            client,
            "SELECT MIN(seconds) AS seconds FROM {time_to_relink}"
            " WHERE provider = 'all' AND survival < 0.5000001",
        )["seconds"],
        failing_tokens=read(client, FAILING_TOKENS),
        never_read_tokens=tokens["n"] - tokens["read_once"],
        oldest_evidence_at=tokens["oldest"],
        polls=_outcomes(client),
        actions=read(client, ACTIONS),
        freshness=next(iter(read(client, "SELECT * FROM {freshness} WHERE provider = 'all'")), {}),
        left_accounts=accounts["gone"],
    )


# The median is null where fewer than half were relinked.
PROVIDERS = """
    SELECT health.provider, health.profiles,
           health.connected_seconds / NULLIF(health.connected_seconds + health.disconnected_seconds, 0)
               AS uptime,
           COALESCE(ends.outages, 0) AS outages, COALESCE(relinks.open_outages, 0) AS open_outages,
           halves.seconds AS median_seconds_to_relink
    FROM {provider_health} health
    LEFT JOIN (
        SELECT provider, COUNT(*) AS outages FROM {outages} GROUP BY provider
    ) ends ON health.provider = ends.provider
    LEFT JOIN (
        SELECT provider, COUNT(*) AS open_outages FROM {needs_relink} GROUP BY provider
    ) relinks ON health.provider = relinks.provider
    LEFT JOIN (
        SELECT provider, MIN(seconds) AS seconds
        FROM {time_to_relink}
        WHERE survival < 0.5000001
        GROUP BY provider
    ) halves ON health.provider = halves.provider
    WHERE health.period = 'all' AND health.profiles > 0
    ORDER BY uptime, health.provider
"""

ACTIONS = """
    SELECT account_id, customer, email, email_domain, name, token_keys, profile_type, profile_id,
           profile_name, provider, reason, rank, since, since_known, days, url, evidence_age_seconds
    FROM {needs_action}
    ORDER BY rank, since, account_id, token_keys, profile_type, profile_id
"""

OPEN_OUTAGES = """
    SELECT n.account_id, n.email, n.name, n.token_keys, n.provider, n.profile_type, n.profile_name,
           o.started_after, n.first_seen_at, n.last_seen_at, n.days_down, n.evidence_age_seconds,
           n.relink_url
    FROM {needs_relink} n
    INNER JOIN {outages} o
        ON n.account_id = o.account_id AND n.profile_type = o.profile_type AND n.profile_id = o.profile_id
    WHERE o.ended_at IS NULL
    ORDER BY ROUND(CAST(n.days_down AS DECIMAL(18, 6)), 2) DESC, n.email, n.profile_id
"""

FAILING_TOKENS = """
    SELECT token_key, account_id, customer, email, name, verdict, last_outcome, failing_since, last_ok_at,
           consecutive_failures
    FROM {token_health}
    WHERE verdict IN ('authorize', 'widen_scope', 'failing')
    ORDER BY failing_since, token_key
"""


def _without_left(ended: dict[str, int], open_outages: int) -> dict[str, int]:
    """How outages ended, where those that only a departure has closed are called `left`."""
    left = ended.get("open", 0) - open_outages
    return ended | ({"open": open_outages, "left": left} if left else {})


def _profile_states(client: Client) -> dict[str, int]:
    row = _one(
        client,
        "SELECT SUM(connected) AS connected, SUM(disconnected) AS disconnected, SUM(unknown) AS unknown"
        " FROM {account_health}",
    )
    return {state: int(count or 0) for state, count in row.items()}


def _outcomes(client: Client) -> dict[str, int]:
    """How many polls had which outcome, the most frequent first."""
    sums = ", ".join(f"SUM({outcome}) AS {outcome}" for outcome in OUTCOMES)
    counts = _one(client, f"SELECT {sums} FROM {{runs}}")  # noqa: S608 - names of columns
    ordered = sorted(counts.items(), key=lambda item: (-int(item[1] or 0), item[0]))
    return {outcome: int(count) for outcome, count in ordered if count}


def _one(client: Client, sql: str) -> Row:
    return read(client, sql)[0]


def _counts(client: Client, sql: str) -> dict[str, int]:
    return {row["name"]: row["n"] for row in read(client, sql + " ORDER BY n DESC, name")}


def _share(part: Any, rest: Any) -> float | None:
    whole = float(part or 0) + float(rest or 0)
    return float(part) / whole if whole else None
