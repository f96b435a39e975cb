"""Connection health, read from the views: the figures of the summary and of `status`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.formatting import SECONDS_PER_DAY
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
    """Read the figures from the views of an open dataset, each view once: planning a query takes longest."""
    tokens = _one(
        client,
        "SELECT COUNT(*) AS n, COUNT(last_ok_at) AS read_once, MIN(last_ok_at) AS oldest FROM {token_health}"
        " WHERE verdict NOT IN ('left', 'not_connected', 'not_polled')",
    )
    span = _one(client, "SELECT MIN(first_polled_at) AS since, MAX(last_polled_at) AS as_of FROM {runs}")
    accounts = _one(client, ACCOUNTS)
    providers, outages, actions = read(client, PROVIDERS), read(client, OUTAGES), read(client, ACTIONS)
    medians = {row["provider"]: row["seconds"] for row in read(client, MEDIANS)}
    open_outages = _open_outages(outages, actions)
    up, down, unknown = (sum(row[f"{state}_seconds"] for row in providers) for state in STATES)
    return Health(
        as_of=span["as_of"],
        since=span["since"],
        tokens=tokens["n"],
        accounts=accounts["n"] - accounts["gone"],
        states={state: int(accounts[state] or 0) for state in STATES},
        uptime=_share(up, down),
        coverage=_share(up + down, unknown),
        providers=_providers(providers, outages, open_outages, medians),
        open_outages=open_outages,
        ended=_ended(outages, len(open_outages)),
        median_seconds_to_relink=medians.get("all"),
        failing_tokens=read(client, FAILING_TOKENS),
        never_read_tokens=tokens["n"] - tokens["read_once"],
        oldest_evidence_at=tokens["oldest"],
        polls=_outcomes(client),
        actions=actions,
        freshness=next(iter(read(client, "SELECT * FROM {freshness} WHERE provider = 'all'")), {}),
        left_accounts=accounts["gone"],
    )


STATES = ("connected", "disconnected", "unknown")

ACCOUNTS = """
    SELECT COUNT(*) AS n, COUNT(CASE WHEN verdict = 'left' THEN 1 END) AS gone,
           SUM(connected) AS connected, SUM(disconnected) AS disconnected, SUM(unknown) AS unknown
    FROM {account_health}
"""

PROVIDERS = """
    SELECT provider, profiles, connected_seconds, disconnected_seconds, unknown_seconds
    FROM {provider_health} WHERE period = 'all'
"""

# each open outage, and how many have ended
OUTAGES = """
    SELECT provider, end_reason, account_id, profile_type, profile_id, started_after, last_seen_at,
           COUNT(*) AS n
    FROM (
        SELECT provider, end_reason, profile_type,
               CASE WHEN ended_at IS NULL THEN account_id END AS account_id,
               CASE WHEN ended_at IS NULL THEN profile_id END AS profile_id,
               CASE WHEN ended_at IS NULL THEN started_after END AS started_after,
               CASE WHEN ended_at IS NULL THEN last_seen_at END AS last_seen_at
        FROM {outages}
    ) AS each_outage
    GROUP BY provider, end_reason, account_id, profile_type, profile_id, started_after, last_seen_at
"""

# there is none where fewer than half were relinked
MEDIANS = """
    SELECT provider, MIN(seconds) AS seconds FROM {time_to_relink}
    WHERE survival < 0.5000001 GROUP BY provider
"""

ACTIONS = """
    SELECT account_id, customer, email, email_domain, name, token_keys, profile_type, profile_id,
           profile_name, provider, reason, rank, since, since_known, days, url, evidence_age_seconds
    FROM {needs_action}
    ORDER BY rank, since, account_id, token_keys, profile_type, profile_id
"""

FAILING_TOKENS = """
    SELECT token_key, account_id, customer, email, name, verdict, last_outcome, failing_since, last_ok_at,
           consecutive_failures
    FROM {token_health}
    WHERE verdict IN ('authorize', 'widen_scope', 'failing')
    ORDER BY failing_since, token_key
"""


def _providers(
    totals: Iterable[Row], outages: Iterable[Row], open_outages: Iterable[Row], medians: Mapping[str, float]
) -> list[Row]:
    """How each provider that has profiles is, the lowest uptime first."""
    begun, still_open = Counter[str](), Counter(row["provider"] for row in open_outages)
    for row in outages:
        begun[row["provider"]] += row["n"]
    rows = [
        {
            "provider": (name := row["provider"]),
            "profiles": row["profiles"],
            "uptime": _share(row["connected_seconds"], row["disconnected_seconds"]),
            "outages": begun[name],
            "open_outages": still_open[name],
            "median_seconds_to_relink": medians.get(name),
        }
        for row in totals
        if row["profiles"]
    ]
    return sorted(rows, key=lambda row: (row["uptime"] is None, row["uptime"], row["provider"]))


OF_ACTION = ("account_id", "email", "name", "token_keys", "provider", "profile_type", "profile_name")


def _open_outages(outages: Iterable[Row], actions: Iterable[Row]) -> list[Row]:
    """The open outages of who has not left, the longest first."""
    found = {_profile(row): row for row in outages if row["account_id"] is not None}
    relinks = [row for row in actions if row["reason"] == "relink" and _profile(row) in found]
    relinks.sort(key=lambda row: (row["email"] is None, row["email"], row["profile_id"]))
    rows = [_open_outage(found[_profile(row)], row) for row in relinks]
    return sorted(rows, key=lambda row: -round(row["days_down"], 2))


def _open_outage(outage: Row, action: Row) -> Row:
    return {name: action[name] for name in OF_ACTION} | {
        "started_after": outage["started_after"],
        "first_seen_at": action["since"],
        "last_seen_at": outage["last_seen_at"],
        "days_down": (outage["last_seen_at"] - action["since"]).total_seconds() / SECONDS_PER_DAY,
        "evidence_age_seconds": action["evidence_age_seconds"],
        "relink_url": action["url"],
    }


def _profile(row: Row) -> tuple[str, str, str]:
    return row["account_id"], row["profile_type"], row["profile_id"]


def _ended(outages: Iterable[Row], still_open: int) -> dict[str, int]:
    """How outages ended, the most frequent way first; those that only a departure has closed are `left`."""
    ended = Counter[str]()
    for row in outages:
        ended[row["end_reason"]] += row["n"]
    ordered = dict(sorted(ended.items(), key=lambda item: (-item[1], item[0])))
    left = ended["open"] - still_open
    return ordered | ({"open": still_open, "left": left} if left else {})


def _outcomes(client: Client) -> dict[str, int]:
    """How many polls had which outcome, the most frequent first."""
    sums = ", ".join(f"SUM({outcome}) AS {outcome}" for outcome in OUTCOMES)
    counts = _one(client, f"SELECT {sums} FROM {{runs}}")  # noqa: S608 - names of columns
    ordered = sorted(counts.items(), key=lambda item: (-int(item[1] or 0), item[0]))
    return {outcome: int(count) for outcome, count in ordered if count}


def _one(client: Client, sql: str) -> Row:
    return read(client, sql)[0]


def _share(part: Any, rest: Any) -> float | None:
    whole = float(part or 0) + float(rest or 0)
    return float(part) / whole if whole else None
