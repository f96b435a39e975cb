"""News: what the loads just made have found that somebody may want to hear of.

Decided from the warehouse alone; no other state is kept. What a run found carries its run_id. A run counts as
finished once its news are sent, and a load reports what unfinished runs directly before it found as well. So
what a load found before it was killed is sent by the next one: never lost, and sent twice only where the kill
came between the message and the end of the run.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.source.tables import Row
from dlt_cronofy.warehouse.dataset import read

Client = SqlClientBase[Any]

OPENED, RELINKED, REPLACED, REMOVED = "opened", "relinked", "replaced", "removed"
AUTHORIZE, WIDEN_SCOPE, INITIAL_SYNC, MIGRATE = "authorize", "widen_scope", "initial_sync", "migrate"
# in the order of messages, which list so many items
KINDS = (AUTHORIZE, WIDEN_SCOPE, OPENED, INITIAL_SYNC, MIGRATE, RELINKED, REPLACED, REMOVED)
LISTED_ITEMS = 50
ENDED = frozenset((RELINKED, REPLACED, REMOVED))
TO_DO = frozenset((AUTHORIZE, WIDEN_SCOPE, INITIAL_SYNC, MIGRATE))

# as in needs_action: an initial sync that takes longer is stuck
STUCK_AFTER = timedelta(days=1)
# a token that failed otherwise for so long before it was refused is not looked up
LONGEST_FAILURE = timedelta(days=7)

# a question mark stands for a list of values
# no more than a thousand runs are unfinished, or under way, at once
RUNS = """
    SELECT run_id, started_at, finished_at, first_polled_at, last_polled_at
    FROM {runs}
    WHERE started_at IS NOT NULL
    ORDER BY started_at DESC
    LIMIT 1000
"""
CHANGES = """
    SELECT account_id, profile_type, profile_id, observed_at, kind
    FROM {profile_changes}
    WHERE run_id IN (?) AND kind <> 'attributes'
"""
OUTAGES = """
    SELECT
        account_id, customer, email_domain, email, name, profile_type, profile_id, provider,
        first_seen_at, started_after, ended_at, replaced_at, end_reason
    FROM {outages}
    LEFT JOIN (SELECT account_id, email_domain, email, name FROM {_accounts}) AS people USING (account_id)
    WHERE ended_at IS NULL OR ended_at >= %s OR replaced_at >= %s
"""
ACTIONS = """
    SELECT
        account_id, customer, email, name, token_keys, profile_type, profile_id, provider, reason, since,
        since_known
    FROM {needs_action}
    WHERE reason IN ('authorize', 'widen_scope', 'initial_sync', 'migrate')
"""
REFUSED_TOKENS = """
    SELECT token_key, account_id, endpoint, failing_since
    FROM {token_health}
    WHERE verdict IN ('authorize', 'widen_scope')
        AND token_key IN (SELECT token_key FROM {token_status} WHERE run_id IN (?))
"""
EARLIER_REFUSALS = """
    SELECT token_key, endpoint, max(polled_at) AS refused_at
    FROM {poll_log}
    WHERE polled_at >= %s AND polled_at < %s AND token_key IN (?)
        AND outcome IN ('token_rejected', 'grant_revoked', 'forbidden')
    GROUP BY token_key, endpoint
"""
MASS_EVENTS = """
    SELECT hour, grouped_by, name, outages, connected, share FROM {mass_events} WHERE hour >= %s
"""
PRESENT_PROFILES = """
    SELECT count(*) AS connections, count(open_outage_at) AS down
    FROM {profile_health}
    WHERE state NOT IN ('removed', 'left')
"""
KEYS_OF_ACCOUNTS = """
    SELECT account_id, token_key FROM {token_status} WHERE account_id IN (?) AND left_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of news.

    Attributes:
        kind: one of `KINDS`.
        facts: the row of the view that has it.
        at: when it began, or ended.
    """

    kind: str
    facts: Row
    at: datetime

    @property
    def is_already_down(self) -> bool:
        """Whether the profile was down when it was first seen, so that the start is unknown."""
        return self.kind == OPENED and self.facts["started_after"] is None


@dataclass(frozen=True, slots=True)
class News:
    """What some runs found.

    Attributes:
        run_id: the load that reports it.
        unfinished_runs: runs before it that never finished, whose news are in here too.
        items: in the order of messages.
        mass_events: rows of the view of that name.
        in_mass_events: those of the items that belong to one of them.
        first_look: on the first look at everything only, and then instead of items: `connections`, `down`.
        token_keys: the tokens of the accounts that are listed, by account_id.
    """

    run_id: str
    unfinished_runs: Sequence[str] = ()
    items: Sequence[Item] = ()
    mass_events: Sequence[Row] = ()
    in_mass_events: Collection[int] = ()
    first_look: Row | None = None
    token_keys: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def listed(self) -> list[Item]:
        """The items that a message lists: the first, but none that is part of a mass event."""
        return self._single[:LISTED_ITEMS]

    @property
    def more(self) -> int:
        """How many items a message only counts, those of mass events aside."""
        return len(self._single) - len(self.listed)

    @property
    def _single(self) -> list[Item]:
        return [item for number, item in enumerate(self.items) if number not in self.in_mass_events]


@dataclass(frozen=True, slots=True)
class Reported:
    """Which runs are reported on, and what was known before them.

    Attributes:
        unfinished: of the runs, those that were to report themselves and did not finish.
        first_polled_at: their first poll.
        previous_as_of: newest poll of the runs before; None at the first look.
    """

    run_ids: Sequence[str]
    unfinished: Sequence[str]
    first_polled_at: datetime
    previous_as_of: datetime | None


def reported_runs(runs: Sequence[Row], run_ids: Collection[str]) -> Reported | None:
    """These runs and the unfinished ones directly before them; None where they polled nothing.

    Args:
        runs: rows of `runs`.
        run_ids: the runs that report.
    """
    own = [run for run in runs if run["run_id"] in run_ids]
    if not own:
        return None
    newest = max(run["started_at"] for run in own)
    earlier = sorted(
        (run for run in runs if run["run_id"] not in run_ids and run["started_at"] <= newest),
        key=lambda run: run["started_at"],
        reverse=True,
    )
    unfinished = list(takewhile(lambda run: run["finished_at"] is None, earlier))
    polled = [run["first_polled_at"] for run in (*own, *unfinished) if run["first_polled_at"]]
    if not polled:
        return None
    before = [run["last_polled_at"] for run in earlier[len(unfinished) :] if run["last_polled_at"]]
    names = [run["run_id"] for run in unfinished if run["first_polled_at"]]
    all_ids = sorted({run["run_id"] for run in own} | set(names))
    return Reported(all_ids, names, min(polled), max(before, default=None))


def newest_run(client: Client) -> str | None:
    """The newest load that polled and has finished; None where there is none."""
    finished = (row for row in read(client, RUNS) if row["finished_at"] and row["first_polled_at"])
    return next((str(row["run_id"]) for row in finished), None)


def find_news(client: Client, run_ids: Sequence[str]) -> News | None:
    """What these runs found, under the name of the first; None where that is nothing.

    Views are read once each and matched here and not by joins, which PostgreSQL runs in nested loops.
    """
    reported = reported_runs(read(client, RUNS), run_ids)
    if reported is None:
        return None
    if reported.previous_as_of is None:
        return News(run_ids[0], reported.unfinished, first_look=read(client, PRESENT_PROFILES)[0])
    changes = _rows(client, CHANGES, reported.run_ids)
    outages: list[Item] = []
    if changes:
        since = min(change["observed_at"] for change in changes)
        outages = outage_items(changes, read(client, OUTAGES, since, since))
    to_do = action_items(
        read(client, ACTIONS),
        changes,
        _newly_refused(client, reported),
        stuck_since=reported.previous_as_of - STUCK_AFTER,
    )
    items = sorted((*to_do, *outages), key=lambda item: (KINDS.index(item.kind), item.at))
    if not items:
        return None
    news = News(run_ids[0], reported.unfinished, items, *_mass_events(client, items))
    return replace(news, token_keys=_token_keys(client, news.listed))


def outage_items(changes: Sequence[Row], outages: Sequence[Row]) -> list[Item]:
    """The outages that began, ended or were replaced by these changes."""
    at = {(_profile(change), change["observed_at"]) for change in changes}
    first_seen = {(*_profile(row)[:2], row["observed_at"]) for row in changes if row["kind"] == "first_seen"}
    items = []
    for outage in outages:
        profile = _profile(outage)
        if outage["ended_at"] is None:
            if (profile, outage["first_seen_at"]) in at:
                items.append(Item(OPENED, outage, outage["first_seen_at"]))
        elif outage["replaced_at"] is not None and (*profile[:2], outage["replaced_at"]) in first_seen:
            items.append(Item(REPLACED, outage, outage["replaced_at"]))
        elif (profile, outage["ended_at"]) in at:
            items.append(Item(outage["end_reason"], outage, outage["ended_at"]))
    return items


def action_items(
    actions: Iterable[Row],
    changes: Sequence[Row],
    refused: Collection[str],
    *,
    stuck_since: datetime,
) -> list[Item]:
    """The rows of `needs_action` that are new, outages aside.

    Args:
        actions: its rows.
        changes: the changes that the runs found.
        refused: accounts, or tokens of unknown account, one of whose tokens began to be refused.
        stuck_since: initial syncs that were required before it were stuck already.
    """
    appeared = {_profile(row) for row in changes if row["kind"] in ("first_seen", "reappeared")}

    def is_new(row: Row) -> bool:
        if row["reason"] == INITIAL_SYNC:
            return bool(row["since"] >= stuck_since)
        if row["reason"] == MIGRATE:
            return _profile(row) in appeared
        return (row["account_id"] or row["token_keys"]) in refused

    return [Item(row["reason"], row, row["since"]) for row in actions if is_new(row)]


def newly_refused(
    tokens: Iterable[Row], earlier: Mapping[tuple[str, str], datetime], since: datetime
) -> set[str]:
    """The accounts, or tokens of unknown account, one of whose tokens began to be refused.

    A token that failed otherwise before, as while the API was down, begins when it is first refused.

    Args:
        tokens: those that are refused.
        earlier: when they were last refused before, by token and endpoint.
        since: first poll of the runs.
    """
    new = set()
    for token in tokens:
        failing_since = token["failing_since"]
        refused_at = earlier.get((token["token_key"], token["endpoint"]))
        was_refused = refused_at is not None and refused_at >= failing_since
        if failing_since >= since or (not was_refused and failing_since >= since - LONGEST_FAILURE):
            new.add(token["account_id"] or token["token_key"])
    return new


def group_mass_events(events: Iterable[Row], items: Sequence[Item]) -> tuple[list[Row], set[int]]:
    """The mass events that these items belong to, each to the largest, and the numbers of those items."""
    found, covered = [], set()
    for event in sorted(events, key=lambda row: (-row["outages"], -row["share"], row["grouped_by"])):
        members = {
            number
            for number, item in enumerate(items)
            if item.kind == OPENED and not item.is_already_down and number not in covered
            if item.facts[event["grouped_by"]] == event["name"]
            and event["hour"] <= item.at < event["hour"] + timedelta(hours=1)
        }
        if members:
            found.append(event)
            covered |= members
    return found, covered


def _newly_refused(client: Client, reported: Reported) -> set[str]:
    tokens = _rows(client, REFUSED_TOKENS, reported.run_ids)
    since = reported.first_polled_at
    # of the others it is plain whether they began now
    failed_before = [token for token in tokens if since - LONGEST_FAILURE <= token["failing_since"] < since]
    earlier: dict[tuple[str, str], datetime] = {}
    if failed_before:
        begin = min(token["failing_since"] for token in failed_before)
        keys = sorted(token["token_key"] for token in failed_before)
        for row in _rows(client, EARLIER_REFUSALS, keys, begin, since):
            earlier[row["token_key"], row["endpoint"]] = row["refused_at"]
    return newly_refused(tokens, earlier, since)


def _mass_events(client: Client, items: Sequence[Item]) -> tuple[list[Row], set[int]]:
    broke_at = [item.at for item in items if item.kind == OPENED and not item.is_already_down]
    if not broke_at:
        return [], set()
    return group_mass_events(read(client, MASS_EVENTS, min(broke_at) - timedelta(hours=1)), items)


def _token_keys(client: Client, items: Iterable[Item]) -> dict[str, list[str]]:
    """The tokens of the accounts, sorted."""
    accounts = {item.facts["account_id"] for item in items} - {None}
    keys: dict[str, list[str]] = {account_id: [] for account_id in sorted(accounts)}
    for row in _rows(client, KEYS_OF_ACCOUNTS, list(keys)) if keys else ():
        keys[row["account_id"]].append(row["token_key"])
    return {account_id: sorted(found) for account_id, found in keys.items()}


def _rows(client: Client, sql: str, values: Sequence[str], *others: Any) -> list[Row]:
    """Rows of a query; the question mark is replaced by the list of values, which come last or alone."""
    return read(client, sql.replace("?", ", ".join(["%s"] * len(values))), *others, *values)


def _profile(row: Row) -> tuple[str, str, str]:
    return row["account_id"], row["profile_type"], row["profile_id"]
