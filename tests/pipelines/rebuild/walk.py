"""What the evidence is, worked out by walking the rows one by one: the judge of the SQL.

Knows nothing of deleted polls: it sees all rows that ever were.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]

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
PREFERENCE = ("userinfo", "account", "profiles", "calendars")


def once(rows: Iterable[Row], key: str) -> list[Row]:
    """Rows without repetitions."""
    return list({row[key]: row for row in rows}.values())


def coverage(polls: list[Row], changes: list[Row], hold: timedelta) -> list[Row]:
    """Rows of `coverage`."""
    instants: dict[tuple[str, str], set[datetime]] = defaultdict(set)
    for account_id, profile_type, at in _samples(polls, changes):
        instants[account_id, profile_type].add(at)
    rows: list[Row] = []
    for (account_id, profile_type), found in instants.items():
        span: Row | None = None
        for at in sorted(found):
            if span is None or at - span["last_sample_at"] > hold:
                span = {
                    "account_id": account_id,
                    "profile_type": profile_type,
                    "first_sample_at": at,
                    "samples": 0,
                }
                rows.append(span)
            span["last_sample_at"] = at
            span["samples"] += 1
    return rows


def _samples(polls: list[Row], changes: list[Row]) -> Iterator[tuple[str, str, datetime]]:
    for poll in polls:
        if poll["outcome"] == "ok" and poll.get("account_id") and not poll.get("is_late"):
            for profile_type, column in (("calendar", "profiles"), ("conferencing", "conferencing_profiles")):
                if poll.get(column) is not None:
                    yield poll["account_id"], profile_type, poll["polled_at"]
    for change in changes:
        yield change["account_id"], change["profile_type"], change["observed_at"]


def token_status(polls: list[Row]) -> list[Row]:
    """What polls tell of the rows of `token_status`."""
    tokens: dict[str, list[Row]] = defaultdict(list)
    for poll in once(polls, "poll_id"):
        if not poll.get("is_late"):
            tokens[poll["token_key"]].append(poll)
    return [_token_row(token_key, heard) for token_key, heard in tokens.items()]


def _token_row(token_key: str, polls: list[Row]) -> Row:
    attempts = [poll for poll in polls if poll["outcome"] != "skipped"]
    endpoint = min({poll["endpoint"] for poll in attempts or polls}, key=_rank)
    row: Row = {"token_key": token_key, "endpoint": endpoint}
    named = [poll for poll in attempts if poll.get("account_id")]
    row["account_id"] = max(((p["polled_at"], p["account_id"]) for p in named), default=(None, None))[1]
    row["last_polled_at"], row["last_ok_at"] = _times(attempts, endpoint)
    row["account_polled_at"], row["account_ok_at"] = _times(attempts, "account")
    row["profiles_polled_at"], row["profiles_ok_at"] = _times(attempts, "profiles")
    judged = sorted(
        (poll for poll in attempts if poll["endpoint"] == endpoint),
        # of simultaneous ones the ok poll comes last: it is the one that counts
        key=lambda poll: (poll["polled_at"], poll["outcome"] == "ok"),
    )
    failing: list[Row] = []
    for poll in judged:
        failing = [] if poll["outcome"] == "ok" else [*failing, poll]
    row["failing_since"] = failing[0]["polled_at"] if failing else None
    row["consecutive_failures"] = len(failing)
    row["last_outcome"] = None
    if judged:
        newest = [poll["outcome"] for poll in judged if poll["polled_at"] == row["last_polled_at"]]
        row["last_outcome"] = "ok" if "ok" in newest else min(newest)
    newest_at = max(poll["polled_at"] for poll in polls)
    row["run_id"] = max(poll["run_id"] for poll in polls if poll["polled_at"] == newest_at)
    return row


def _rank(endpoint: str) -> tuple[int, str]:
    return (PREFERENCE.index(endpoint) if endpoint in PREFERENCE else len(PREFERENCE), endpoint)


def _times(attempts: list[Row], endpoint: str) -> tuple[datetime | None, datetime | None]:
    """Newest attempt and newest ok poll of an endpoint."""
    tried = [poll for poll in attempts if poll["endpoint"] == endpoint]
    read = [poll for poll in tried if poll["outcome"] == "ok"]
    return (
        max((poll["polled_at"] for poll in tried), default=None),
        max((poll["polled_at"] for poll in read), default=None),
    )


def runs(polls: list[Row], changes: list[Row]) -> list[Row]:
    """What polls and changes tell of the rows of `runs`."""
    polls = once(polls, "poll_id")
    run_ids = {row["run_id"] for row in (*polls, *changes)}
    return [_run_row(run_id, polls, changes) for run_id in run_ids]


def _run_row(run_id: str, polls: list[Row], changes: list[Row]) -> Row:
    own = [poll for poll in polls if poll["run_id"] == run_id]
    outcomes = [poll["outcome"] for poll in own]
    heard = [poll for poll in own if not poll.get("is_late")]
    evidence = [(poll["polled_at"], found) for poll in heard if (found := _evidence(poll, polls)) is not None]
    row: Row = {"run_id": run_id, "skipped": outcomes.count("skipped"), "ok": outcomes.count("ok")}
    row |= {failure: outcomes.count(failure) for failure in FAILURES}
    row["failed"] = sum(row[failure] for failure in FAILURES)
    row["polled"] = row["ok"] + row["failed"]
    row["requests"] = sum((poll.get("attempts") or 0) + (poll.get("refreshes") or 0) for poll in own)
    row["changes"] = len({change["change_id"] for change in changes if change["run_id"] == run_id})
    row["first_polled_at"] = min((poll["polled_at"] for poll in heard), default=None)
    row["last_polled_at"] = max((poll["polled_at"] for poll in heard), default=None)
    row["oldest_evidence_at"] = min((found for _, found in evidence), default=None)
    row["oldest_evidence_age_seconds"] = max(
        ((at - found).total_seconds() for at, found in evidence), default=None
    )
    return row


def _evidence(poll: Row, polls: list[Row]) -> datetime | None:
    """The newest ok poll of the same token and endpoint up to then."""
    read = [
        other["polled_at"]
        for other in polls
        if (other["token_key"], other["endpoint"]) == (poll["token_key"], poll["endpoint"])
        and other["outcome"] == "ok"
        and not other.get("is_late")
        and other["polled_at"] <= poll["polled_at"]
    ]
    return max(read, default=None)
