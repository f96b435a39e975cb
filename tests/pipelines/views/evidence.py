"""The evidence that loads keep, worked out from rows of `polls` and `profile_changes` by walking them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from dlt_cronofy.source.records import FAILURES

Row = dict[str, Any]
Tables = dict[str, list[Row]]

HOLD = timedelta(hours=24)
# the endpoint a token is judged by is the first of these that was ever tried
ENDPOINTS = ("userinfo", "account", "profiles", "calendars")
LISTS = {"calendar": "profiles", "conferencing": "conferencing_profiles"}


def evidence(tables: Tables, hold: timedelta = HOLD) -> Tables:
    """The rows of `token_status`, `coverage` and `runs`.

    Args:
        tables: rows of `polls` and `profile_changes`; they may repeat.
        hold: samples no further apart than that are one row of `coverage`.
    """
    polls = _once("poll_id", tables.get("polls", ()))
    punctual = [poll for poll in polls if not poll.get("is_late")]
    as_of = max((poll["polled_at"] for poll in punctual), default=None)
    changes = [
        change
        for change in _once("change_id", tables.get("profile_changes", ()))
        if as_of is not None and change["observed_at"] <= as_of
    ]
    return {
        "token_status": list(_token_status(punctual)),
        "coverage": list(_coverage(punctual, changes, hold)),
        "runs": list(_runs(polls, punctual)),
    }


def _once(key: str, rows: Iterable[Row]) -> list[Row]:
    return list({row[key]: row for row in rows}.values())


def _grouped(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(column) for column in columns)].append(row)
    return groups


def _token_status(polls: list[Row]) -> Iterator[Row]:
    for (token_key,), own in _grouped(polls, "token_key").items():
        by_endpoint = _grouped(own, "endpoint")
        tried = [
            endpoint
            for (endpoint,), rows in by_endpoint.items()
            if any(row["outcome"] != "skipped" for row in rows)
        ]
        candidates = tried or [endpoint for (endpoint,) in by_endpoint]
        endpoint = min(candidates, key=ENDPOINTS.index)
        attempts = [row for row in by_endpoint[endpoint,] if row["outcome"] != "skipped"]
        ok_at = max((row["polled_at"] for row in attempts if row["outcome"] == "ok"), default=None)
        failed = [
            row for row in attempts if row["outcome"] != "ok" and (ok_at is None or row["polled_at"] > ok_at)
        ]
        last = max((row["polled_at"] for row in attempts), default=None)
        outcomes = {row["outcome"] for row in attempts if row["polled_at"] == last}
        yield {
            "token_key": token_key,
            "account_id": max((row["account_id"] for row in own if row.get("account_id")), default=None),
            "endpoint": endpoint,
            "last_polled_at": last,
            "last_ok_at": ok_at,
            "last_outcome": "ok" if "ok" in outcomes else min(outcomes, default=None),
            "failing_since": min((row["polled_at"] for row in failed), default=None),
            "consecutive_failures": len(failed),
        }


def _coverage(polls: list[Row], changes: list[Row], hold: timedelta) -> Iterator[Row]:
    samples: dict[tuple[str, str], set[datetime]] = defaultdict(set)
    for poll in polls:
        for profile_type, listed in LISTS.items():
            if poll["outcome"] == "ok" and poll.get("account_id") and poll.get(listed) is not None:
                samples[poll["account_id"], profile_type].add(poll["polled_at"])
    for change in changes:
        samples[change["account_id"], change["profile_type"]].add(change["observed_at"])
    for (account_id, profile_type), instants in samples.items():
        span: Row = {}
        for instant in sorted(instants):
            if span and instant - span["last_sample_at"] <= hold:
                span["last_sample_at"] = instant
                span["samples"] += 1
                continue
            if span:
                yield span
            span = {
                "account_id": account_id,
                "profile_type": profile_type,
                "first_sample_at": instant,
                "last_sample_at": instant,
                "samples": 1,
            }
        yield span


def _runs(polls: list[Row], punctual: list[Row]) -> Iterator[Row]:
    read_at: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for poll in punctual:
        if poll["outcome"] == "ok":
            read_at[poll["token_key"], poll["endpoint"]].append(poll["polled_at"])

    def age(poll: Row) -> float | None:
        before = [at for at in read_at[poll["token_key"], poll["endpoint"]] if at <= poll["polled_at"]]
        return (poll["polled_at"] - max(before)).total_seconds() if before else None

    punctual_in = _grouped(punctual, "run_id")
    for (run_id,), own in _grouped(polls, "run_id").items():
        outcomes = [poll["outcome"] for poll in own]
        skipped, ok = outcomes.count("skipped"), outcomes.count("ok")
        times = [poll["polled_at"] for poll in punctual_in[run_id,]]
        ages = [found for poll in punctual_in[run_id,] if (found := age(poll)) is not None]
        yield {
            "run_id": run_id,
            "polled": len(own) - skipped,
            "ok": ok,
            "failed": len(own) - skipped - ok,
            "skipped": skipped,
            **{outcome: outcomes.count(outcome) for outcome in FAILURES},
            "first_polled_at": min(times, default=None),
            "last_polled_at": max(times, default=None),
            "oldest_evidence_age_seconds": max(ages, default=None),
        }
