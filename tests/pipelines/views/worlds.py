"""Worlds drawn at random: what some tokens' polls listed, and the raw rows a load would have made of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.pipelines.views import oracle
from tests.pipelines.views.warehouse import Row

START = datetime(2026, 3, 27, 21, 17, 5, 123457, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FAILURES = (
    "token_rejected",
    "grant_revoked",
    "forbidden",
    "rate_limited",
    "server_error",
    "timeout",
    "skipped",
)
ENDPOINTS = ("userinfo", "account", "profiles")
SERVICES = ("gmail", "office365", "icloud")

# zero draws ties; the steps around `hold` draw its edges
STEPS = st.one_of(
    st.sampled_from(
        [
            timedelta(0),
            MICROSECOND,
            timedelta(hours=1),
            timedelta(hours=6),
            oracle.HOLD - MICROSECOND,
            oracle.HOLD,
            oracle.HOLD + MICROSECOND,
            timedelta(hours=31),
            timedelta(days=4),
        ]
    ),
    st.integers(1, 12 * 3600 * 1_000_000).map(lambda us: timedelta(microseconds=us)),
)
LISTINGS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.booleans(), max_size=3)


@dataclass(frozen=True)
class Poll:
    """One poll; a listing is null where the body carries none."""

    number: int
    polled_at: datetime
    token_key: str
    account_id: str
    endpoint: str
    outcome: str
    listings: dict[str, dict[str, bool] | None]


@dataclass(frozen=True)
class World:
    """Polls in order of time, and how their rows are mixed up before they are inserted (None: not at all)."""

    polls: list[Poll]
    mixing_seed: int | None

    @property
    def as_of(self) -> datetime:
        return max(poll.polled_at for poll in self.polls)

    def until(self, instant: datetime) -> "World":
        """The world as it was then."""
        return World([poll for poll in self.polls if poll.polled_at <= instant], self.mixing_seed)

    def samples(self) -> list[oracle.Sample]:
        """What the polls saw."""
        return [
            oracle.Sample(
                account_id=poll.account_id,
                profile_type=profile_type,
                taken_at=poll.polled_at,
                listed=listed,
                relink_urls={
                    key: relink_url(poll, key) for key, connected in listed.items() if not connected
                },
            )
            for poll in self.polls
            if poll.outcome == "ok"
            for profile_type, listed in poll.listings.items()
            if listed is not None
        ]

    def tables(self) -> dict[str, list[Row]]:
        """The raw rows, some of them delivered again, in any order."""
        tables = {
            "polls": [poll_row(poll) for poll in self.polls],
            "profile_changes": change_rows(self.polls),
        }
        if self.mixing_seed is None:
            return tables
        mixer = random.Random(self.mixing_seed)
        for table, rows in tables.items():
            repeated = [
                {**row, "_dlt_load_id": str(copy)} | _forgotten(row, copy)
                for row in rows
                for copy in range(mixer.choice([0, 0, 1, 2]))
            ]
            mixed = rows + repeated
            mixer.shuffle(mixed)
            tables[table] = mixed
        return tables


def _forgotten(row: Row, copy: int) -> Row:
    """What the second copy of a row leaves out: who delivers a change may not know the sample before it."""
    return {"previous_poll_at": None} if copy and "previous_poll_at" in row else {}


@st.composite
def worlds(draw: st.DrawFn, max_polls: int = 45) -> World:
    """Up to five tokens of up to three accounts, some of them failing, service accounts or long unseen."""
    accounts = draw(st.lists(st.sampled_from(["acc_1", "acc_2", "acc_3"]), min_size=1, max_size=5))
    listing = st.none() | LISTINGS if draw(st.booleans()) else LISTINGS
    events = st.tuples(
        STEPS,
        st.integers(0, len(accounts) - 1),
        st.sampled_from(ENDPOINTS),
        st.sampled_from(("ok",) * 12 + FAILURES),
        listing,
        st.none() | LISTINGS,
    )
    size = draw(st.integers(1, max_polls))
    polls: list[Poll] = []
    now = START
    for number, event in enumerate(draw(st.lists(events, min_size=size, max_size=size))):
        step, token, endpoint, outcome, calendars, conferencing = event
        now += step
        listings = {"calendar": calendars, "conferencing": conferencing}
        polls.append(Poll(number, now, f"tok_{token}", accounts[token], endpoint, outcome, listings))
    return World(polls, draw(st.integers(0, 2**16)))


def examples(count: int) -> settings:
    """The same examples at every run, however long they take."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


CROWDS, CROWD_SIZE = 10, 20


def each_crowd(daily: int, crowds: int = CROWDS) -> pytest.MarkDecorator:
    """The numbers of crowds: so many every day on each engine, the others where more time is."""
    later = (pytest.param(number, marks=pytest.mark.long) for number in range(daily, crowds))
    return pytest.mark.parametrize("number", [*range(daily), *later])


@cache
def crowd(number: int) -> World:
    """20 drawn worlds side by side, because a query costs about the same for one world as for many."""
    drawn: list[World] = []

    @seed(number)
    @settings(examples(CROWD_SIZE), derandomize=False)
    @given(worlds())
    def draw(world: World) -> None:
        drawn.append(world)

    draw()
    return side_by_side(drawn)


def side_by_side(members: Sequence[World]) -> World:
    """Worlds side by side that share nothing but the newest instant: none changes the history of another."""
    as_of = max(world.as_of for world in members)
    polls = [
        replace(
            poll,
            polled_at=poll.polled_at + (as_of - world.as_of),
            token_key=f"{poll.token_key}_of_{number}",
            account_id=f"{poll.account_id}_of_{number}",
        )
        for number, world in enumerate(members)
        for poll in world.polls
    ]
    polls.sort(key=lambda poll: poll.polled_at)
    # a run is one poll, of one day
    numbered = [replace(poll, number=number) for number, poll in enumerate(polls)]
    return World(numbered, members[0].mixing_seed)


def relink_url(poll: Poll, profile_id: str) -> str:
    """The URL a poll lists for a disconnected profile; it changes now and then."""
    return f"https://app.example.test/relink/{profile_id}/{poll.polled_at.microsecond % 3}"


def poll_row(poll: Poll) -> Row:
    """The row of one poll."""
    ok = poll.outcome == "ok"
    calendars = poll.listings["calendar"] if ok else None
    conferencing = poll.listings["conferencing"] if ok else None
    return {
        "poll_id": f"run_{poll.number:03}/{poll.token_key}/{poll.endpoint}",
        "run_id": f"run_{poll.number:03}",
        "token_key": poll.token_key,
        "account_id": poll.account_id if ok else None,
        "endpoint": poll.endpoint,
        "requested_at": poll.polled_at - timedelta(milliseconds=120),
        "polled_at": poll.polled_at,
        "outcome": poll.outcome,
        "profiles": None if calendars is None else len(calendars),
        "disconnected": None if calendars is None else len(calendars) - sum(calendars.values()),
        "conferencing_profiles": None if conferencing is None else len(conferencing),
        "conferencing_disconnected": None
        if conferencing is None
        else len(conferencing) - sum(conferencing.values()),
    }


def change_rows(polls: list[Poll]) -> list[Row]:
    """The change log: a row where a profile's state or relink URL is not what the log said last."""
    rows: list[Row] = []
    logged: dict[oracle.Profile, _Logged] = {}
    sampled_at: dict[oracle.Stream, datetime] = {}
    for instant in sorted({poll.polled_at for poll in polls}):
        ok = [poll for poll in polls if poll.polled_at == instant and poll.outcome == "ok"]
        for account_id in sorted({poll.account_id for poll in ok}):
            for profile_type in ("calendar", "conferencing"):
                seeing = [
                    p for p in ok if p.account_id == account_id and p.listings[profile_type] is not None
                ]
                if seeing:
                    changes = _changes_at_once(seeing, account_id, profile_type, logged)
                    previous = sampled_at.get((account_id, profile_type))
                    rows += [{**row, "previous_poll_at": previous} for row in changes]
                    sampled_at[account_id, profile_type] = instant
    return rows


@dataclass
class _Logged:
    """What the change log last said of a profile."""

    state: str | None = None
    relink_url: str | None = None


def _changes_at_once(
    seeing: list[Poll], account_id: str, profile_type: str, logged: dict[oracle.Profile, _Logged]
) -> list[Row]:
    """The rows of one instant; where simultaneous polls disagree, the log holds what each of them saw."""
    rows: list[Row] = []
    for profile_id in ("a", "b", "c"):
        last = logged.setdefault((account_id, profile_type, profile_id), _Logged())
        states = [_listed_state(poll, profile_type, profile_id) for poll in seeing]
        if last.state is None and set(states) == {"removed"}:
            continue
        state = min(states, key=oracle.BADNESS.index)
        url = relink_url(seeing[0], profile_id) if state == "disconnected" else None
        if state == last.state and url == last.relink_url:
            continue
        for poll, seen in zip(seeing, states, strict=True):
            row = _change_row(poll, profile_type, profile_id, seen, last.state)
            rows.append({**row, "profile_relink_url": url if seen == "disconnected" else None})
        logged[account_id, profile_type, profile_id] = _Logged(state, url)
    return rows


def _change_row(
    poll: Poll, profile_type: str, profile_id: str, state: str, previous_state: str | None
) -> Row:
    named = state != "removed"
    service = SERVICES["abc".index(profile_id)]
    return {
        "change_id": f"{poll.account_id}/{profile_type}/{profile_id}/{poll.polled_at.isoformat()}",
        "token_key": poll.token_key,
        "account_id": poll.account_id,
        "profile_type": profile_type,
        "profile_id": profile_id,
        "observed_at": poll.polled_at,
        "state": state,
        "previous_state": previous_state,
        "kind": "attributes"
        if state == previous_state
        else "first_seen"
        if previous_state is None
        else state,
        "provider_name": service.upper() if named else None,
        "provider_service": service if named else None,
        "profile_name": f"{profile_id}@example.test" if named else None,
        "run_id": f"run_{poll.number:03}",
    }


def _listed_state(poll: Poll, profile_type: str, profile_id: str) -> str:
    listed = poll.listings[profile_type]
    assert listed is not None
    if profile_id not in listed:
        return "removed"
    return "connected" if listed[profile_id] else "disconnected"
