"""What every public view must say, worked out in plain Python from the rows of the tables."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from tests.acceptance.place import Row
from tests.pipelines.views import oracle

STATES = ("connected", "disconnected", "unknown", "removed")
SAMPLED_BY = {"calendar": "profiles", "conferencing": "conferencing_profiles"}
FAILURES = (
    "token_rejected",
    "grant_revoked",
    "forbidden",
    "plan_required",
    "provider_locked",
    "rate_limited",
    "server_error",
    "timeout",
    "network_error",
    "bad_payload",
)
ENDPOINTS = ("userinfo", "account", "profiles", "calendars")
KEY = "account_id, profile_type, profile_id"
NAMES = "provider_name, provider_service"
SECONDS = "connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds"

Values = tuple[Any, ...]


@dataclass
class Histories:
    """The tables, and what the oracle makes of them."""

    tables: dict[str, list[Row]]
    hold: timedelta

    @cached_property
    def as_of(self) -> datetime:
        newest: datetime = max(row["polled_at"] for row in self.tables["polls"])
        return newest

    @cached_property
    def changes(self) -> list[Row]:
        rows = self.tables["profile_changes"]
        return sorted(
            (row for row in rows if row["observed_at"] <= self.as_of), key=lambda row: row["observed_at"]
        )

    @cached_property
    def samples(self) -> list[oracle.Sample]:
        """Every instant somebody looked: an ok poll with a list, or a change, which only a poll can see."""
        instants: dict[oracle.Stream, set[datetime]] = defaultdict(set)
        for row in self.tables["polls"]:
            for profile_type, column in SAMPLED_BY.items():
                if row["outcome"] == "ok" and row[column] is not None and row["account_id"] is not None:
                    instants[row["account_id"], profile_type].add(row["polled_at"])
        changes: dict[oracle.Stream, list[Row]] = defaultdict(list)
        for row in self.changes:
            stream = (row["account_id"], row["profile_type"])
            changes[stream].append(row)
            instants[stream].add(row["observed_at"])
        return [
            oracle.Sample(*stream, instant, listed, {})
            for stream, times in instants.items()
            for instant, listed in listings(changes[stream], sorted(times))
        ]

    @cached_property
    def seen(self) -> dict[oracle.Profile, oracle.Sightings]:
        return oracle.sightings(self.samples)

    @cached_property
    def intervals(self) -> dict[oracle.Profile, list[oracle.Interval]]:
        return {key: oracle.intervals(seen, self.as_of, self.hold) for key, seen in self.seen.items()}

    @cached_property
    def outages(self) -> dict[oracle.Profile, list[oracle.Outage]]:
        return {key: oracle.outages(seen) for key, seen in self.seen.items()}

    @cached_property
    def names(self) -> dict[oracle.Profile, Row]:
        """Of each field the newest value that is not null; another link is no change of the profile."""
        names: dict[oracle.Profile, Row] = defaultdict(dict)
        present = [row for row in self.tables["profiles"] if row["observed_at"] <= self.as_of]
        for row in sorted([*self.changes, *present], key=lambda row: row["observed_at"]):
            known = names[row["account_id"], row["profile_type"], row["profile_id"]]
            for field in ("provider_name", "provider_service", "profile_name", "profile_relink_url"):
                if row[field] is not None:
                    known[field] = row[field]
        return names

    def provider(self, key: oracle.Profile) -> Values:
        return (self.names[key].get("provider_name"), self.service(key))

    def service(self, key: oracle.Profile) -> str | None:
        found: str | None = self.names[key].get("provider_service")
        return found


def listings(
    changes: Sequence[Row], instants: Sequence[datetime]
) -> Iterator[tuple[datetime, dict[str, bool]]]:
    """What the change log says was listed at each of these instants; both in order of time."""
    states: dict[str, str] = {}
    position = 0
    for instant in instants:
        while position < len(changes) and changes[position]["observed_at"] <= instant:
            states[changes[position]["profile_id"]] = changes[position]["state"]
            position += 1
        yield instant, {key: state == "connected" for key, state in states.items() if state != "removed"}


def _profile_intervals(of: Histories) -> Iterator[Values]:
    for key, intervals in of.intervals.items():
        for each in intervals:
            current = each.end_at == of.as_of
            yield (*key, *of.provider(key), each.state, each.start_at, each.end_at, current)


def _outages(of: Histories) -> Iterator[Values]:
    for key, outages in of.outages.items():
        url = of.names[key].get("profile_relink_url")
        for each in outages:
            yield (
                *key,
                *of.provider(key),
                each.started_after,
                each.first_seen_at,
                each.last_seen_at,
                each.ended_at,
                each.end_reason,
                each.min_seconds,
                each.max_seconds,
                each.seconds,
                url if each.end_reason == "open" else None,
            )


def _needs_relink(of: Histories) -> Iterator[Values]:
    owners = [*of.tables["userinfo"], *of.tables["account"]]
    tokens: dict[str, set[str]] = defaultdict(set)
    for row in [*owners, *of.tables["profile_changes"]]:
        tokens[row["account_id"]].add(row["token_key"])
    contacts: dict[str, Row] = defaultdict(dict)
    for field in ("email", "name"):
        # the newest comes last, and of several that are as new the first in the alphabet
        for row in sorted(
            (row for row in owners if row[field] is not None),
            key=lambda row: (row["observed_at"], [-ord(letter) for letter in row[field]]),
        ):
            contacts[row["account_id"]][field] = row[field]
    for key, outages in of.outages.items():
        names = of.names[key]
        for each in outages:
            if each.end_reason == "open":
                yield (
                    key[0],
                    contacts[key[0]].get("email"),
                    contacts[key[0]].get("name"),
                    ",".join(sorted(tokens[key[0]])),
                    *key[1:],
                    names.get("profile_name"),
                    *of.provider(key),
                    names.get("profile_relink_url"),
                    each.first_seen_at,
                    each.last_seen_at,
                    each.seconds / 86_400,
                    (of.as_of - each.last_seen_at).total_seconds(),
                )


def _rates(lengths: "Counter[str]") -> Values:
    known = lengths["connected"] + lengths["disconnected"]
    visible = known + lengths["unknown"]
    return (lengths["connected"] / known if known else None, known / visible if visible else None)


def _connectivity_daily(of: Histories) -> Iterator[Values]:
    for key, intervals in of.intervals.items():
        for day, lengths in oracle.daily_seconds(intervals).items():
            yield (
                *key,
                *of.provider(key),
                day,
                *(lengths[state] / 1e6 for state in STATES),
                *_rates(lengths),
            )


def _provider_daily(of: Histories) -> Iterator[Values]:
    totals: dict[Values, Counter[str]] = defaultdict(Counter)
    profiles: Counter[Values] = Counter()
    for key, intervals in of.intervals.items():
        for day, lengths in oracle.daily_seconds(intervals).items():
            totals[of.service(key), day].update(lengths)
            profiles[of.service(key), day] += lengths.total() > lengths["removed"]
    for group, lengths in totals.items():
        yield (*group, profiles[group], *(lengths[state] / 1e6 for state in STATES), *_rates(lengths))


def _provider_health(of: Histories) -> Iterator[Values]:
    for service in {of.service(key) for key in of.seen}:
        keys = [key for key in of.seen if of.service(key) == service]
        for window, length in (("7d", timedelta(days=7)), ("30d", timedelta(days=30)), ("all", None)):
            start = of.as_of - length if length else datetime(1970, 1, 1, tzinfo=UTC)
            lengths: Counter[str] = Counter()
            profiles = 0
            for key in keys:
                pieces = [
                    each for each in of.intervals[key] if each.end_at > start and each.state != "removed"
                ]
                profiles += bool(pieces)
                for each in pieces:
                    lengths[each.state] += (each.end_at - max(each.start_at, start)) // timedelta(
                        microseconds=1
                    )
            started = sum(
                each.started_after is not None and each.first_seen_at >= start
                for key in keys
                for each in of.outages[key]
            )
            days = lengths["connected"] / 86_400e6
            rates = (1000 * started / days if days else None, *_rates(lengths))
            seconds = (lengths[state] / 1e6 for state in STATES[:3])
            yield (service, window, profiles, started, *seconds, *(rates if profiles >= 20 else [None] * 3))


def _account_health(of: Histories) -> Iterator[Values]:
    states: dict[str, list[str]] = defaultdict(list)
    last: dict[str, datetime] = {}
    for row in of.tables["polls"]:
        if row["account_id"] is not None:
            states[row["account_id"]] = []
    for key, seen in of.seen.items():
        state = oracle.state_now(seen, of.as_of, of.hold)
        states[key[0]] += [state] if state is not None else []
    for sample in of.samples:
        last[sample.account_id] = max(last.get(sample.account_id, sample.taken_at), sample.taken_at)
    # an account keeps its type
    described = [*of.tables["userinfo"], *of.tables["account"]]
    services = {row["account_id"] for row in described if row["type"] == "service_account"}
    for account_id, each in states.items():
        counts = Counter(each)
        is_service = account_id in services and not each
        yield (
            account_id,
            len(each),
            *(counts[state] for state in STATES[:3]),
            "service_account" if is_service else oracle.verdict(each),
            last.get(account_id),
        )


def _token_health(of: Histories) -> Iterator[Values]:
    polls: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(of.tables["polls"], key=lambda row: row["polled_at"]):
        polls[row["token_key"]].append(row)
    for token_key, rows in polls.items():
        attempts = [row for row in rows if row["outcome"] != "skipped"]
        endpoint = min((row["endpoint"] for row in attempts or rows), key=ENDPOINTS.index)
        judged = [row for row in attempts if row["endpoint"] == endpoint]
        last_ok = max((row["polled_at"] for row in judged if row["outcome"] == "ok"), default=None)
        failures = [
            row for row in judged if row["outcome"] != "ok" and not (last_ok and row["polled_at"] <= last_ok)
        ]
        yield (
            token_key,
            max((row["account_id"] for row in rows if row["account_id"] is not None), default=None),
            endpoint,
            judged[-1]["polled_at"] if judged else None,
            last_ok,
            judged[-1]["outcome"] if judged else None,
            failures[0]["polled_at"] if failures else None,
            len({row["poll_id"] for row in failures}),
        )


def _time_to_relink(of: Histories) -> Iterator[Values]:
    groups: dict[str | None, list[oracle.Outage]] = defaultdict(list)
    for key, outages in of.outages.items():
        groups[of.service(key)] += outages
        groups["all"] += outages
    for service, outages in groups.items():
        yield from ((service, *row) for row in oracle.kaplan_meier(outages))


def _flapping_profiles(of: Histories) -> Iterator[Values]:
    start = of.as_of - timedelta(days=30)
    for key, seen in of.seen.items():
        lately = sum(each.first_seen_at >= start for each in of.outages[key])
        if lately >= 3:
            yield (*key, *of.provider(key), lately, seen[-1][1], oracle.newest_change(seen))


def _poll_coverage(of: Histories) -> Iterator[Values]:
    """The age of the evidence is told of runs that were not killed, which have it from what they knew."""
    ages: dict[str, float | None] = {}
    last_ok: dict[Values, datetime] = {}
    for row in sorted(of.tables["polls"], key=lambda row: (row["polled_at"], row["outcome"] != "ok")):
        read = (row["token_key"], row["endpoint"])
        if row["outcome"] == "ok":
            last_ok[read] = row["polled_at"]
        ages[row["poll_id"]] = (row["polled_at"] - last_ok[read]).total_seconds() if read in last_ok else None
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in of.tables["polls"]:
        runs[row["run_id"]].append(row)
    grains: dict[Values, list[Row]] = {}
    for run_id, rows in runs.items():
        day = min(row["polled_at"] for row in rows).date()
        grains["run", run_id, day] = rows
        grains.setdefault(("day", None, day), []).extend(rows)
    ended = {row["run_id"] for row in of.tables["runs"] if row["finished_at"] is not None}
    for grain, rows in grains.items():
        outcomes = Counter(row["outcome"] for row in rows)
        tried = outcomes.total() - outcomes["skipped"]
        known = [age for row in rows if (age := ages[row["poll_id"]]) is not None]
        yield (
            *grain,
            min(row["polled_at"] for row in rows),
            max(row["polled_at"] for row in rows),
            tried,
            outcomes["ok"],
            tried - outcomes["ok"],
            *(outcomes[failure] for failure in FAILURES),
            outcomes["skipped"],
            max(known, default=None) if grain[1] in ended else None,
        )


@dataclass(frozen=True)
class View:
    """A public view: its grain, its columns and its rows."""

    grain: str
    columns: str
    rows: Callable[[Histories], Iterator[Values]]


VIEWS = {
    "profile_intervals": View(
        f"{KEY}, start_at", f"{KEY}, {NAMES}, state, start_at, end_at, is_current", _profile_intervals
    ),
    "outages": View(
        f"{KEY}, first_seen_at",
        f"{KEY}, {NAMES}, started_after, first_seen_at, last_seen_at, ended_at, end_reason, min_seconds,"
        " max_seconds, seconds, relink_url",
        _outages,
    ),
    "needs_relink": View(
        KEY,
        f"account_id, email, name, token_keys, profile_type, profile_id, profile_name, {NAMES}, relink_url,"
        " first_seen_at, last_seen_at, days_down, evidence_age_seconds",
        _needs_relink,
    ),
    "connectivity_daily": View(
        f"{KEY}, day", f"{KEY}, {NAMES}, day, {SECONDS}, uptime, coverage", _connectivity_daily
    ),
    "provider_daily": View(
        "provider_service, day",
        f"provider_service, day, profiles, {SECONDS}, uptime, coverage",
        _provider_daily,
    ),
    "provider_health": View(
        'provider_service, "window"',
        'provider_service, "window", profiles, outages_started, connected_seconds, disconnected_seconds,'
        " unknown_seconds, disconnections_per_1000_days, uptime, coverage",
        _provider_health,
    ),
    "account_health": View(
        "account_id",
        "account_id, profiles, connected, disconnected, unknown, verdict, last_sample_at",
        _account_health,
    ),
    "token_health": View(
        "token_key",
        "token_key, account_id, endpoint, last_polled_at, last_ok_at, last_outcome, failing_since,"
        " consecutive_failures",
        _token_health,
    ),
    "time_to_relink": View(
        "provider_service, seconds", "provider_service, seconds, at_risk, relinked, survival", _time_to_relink
    ),
    "flapping_profiles": View(
        KEY,
        f"{KEY}, {NAMES}, outages_30d, state, last_changed_at",
        _flapping_profiles,
    ),
    "poll_coverage": View(
        "grain, run_id, day",
        f"grain, run_id, day, started_at, ended_at, polled, ok, failed, {', '.join(FAILURES)}, skipped,"
        " CASE WHEN run_id IN (SELECT run_id FROM runs WHERE finished_at IS NOT NULL)"
        " THEN oldest_evidence_age_seconds END",
        _poll_coverage,
    ),
}


def differences(view: str, found: Sequence[Values], of: Histories) -> list[str]:
    """Where a view and plain Python do not say the same."""
    actual, expected = sorted(found, key=_order), sorted(VIEWS[view].rows(of), key=_order)
    if len(actual) != len(expected):
        return [f"view {view}: {len(actual)} rows instead of {len(expected)}"]
    return [
        f"view {view}: {row} instead of {other}"
        for row, other in zip(actual, expected, strict=True)
        if not all(_same(value, wanted) for value, wanted in zip(row, other, strict=True))
    ]


def _order(row: Values) -> tuple[str, Values]:
    """By what is exact first."""
    return (
        repr([value for value in row if not isinstance(value, float)]),
        tuple(value for value in row if isinstance(value, float)),
    )


def _same(value: Any, wanted: Any) -> bool:
    """Sums of doubles depend on the order in their last digits."""
    if isinstance(value, float) and isinstance(wanted, float):
        return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(value == wanted)
