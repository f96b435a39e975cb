"""Worlds drawn at random: on both engines the views say what walking time sample by sample says."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from tests.pipelines.views import oracle
from tests.pipelines.views.warehouse import Warehouse, fill, read
from tests.pipelines.views.worlds import (
    ENDPOINTS,
    SERVICES,
    Poll,
    World,
    crowd,
    each_crowd,
    examples,
    worlds,
)

KEY = ("account_id", "profile_type", "profile_id")
Rows = list[tuple[Any, ...]]


@each_crowd(2)
def test_views_agree_with_the_oracle(warehouse: Warehouse, number: int) -> None:
    """Twenty worlds each; a difference names its account, which names its world."""
    fill(warehouse, crowd(number).tables())
    assert_views_agree(warehouse, crowd(number))


@examples(6)
@given(world=worlds())
def test_views_agree_with_the_oracle_on_a_world_of_its_own(warehouse: Warehouse, world: World) -> None:
    """Where nothing but one small world is loaded, there may be nothing to see at all."""
    fill(warehouse, world.tables())
    assert_views_agree(warehouse, world)


def assert_views_agree(warehouse: Warehouse, world: World) -> None:
    """Compare the views with the oracle's rows, one view after the other."""
    seen = oracle.sightings(world.samples())
    assert read(warehouse, "profile_intervals", INTERVAL_COLUMNS) == ordered(expected_intervals(world, seen))
    assert read(warehouse, "outages", OUTAGE_COLUMNS) == ordered(expected_outages(world, seen))
    assert_days(read(warehouse, "connectivity_daily", DAILY_COLUMNS), ordered(expected_days(world, seen)))
    assert read(warehouse, "account_health", ACCOUNT_COLUMNS) == ordered(expected_accounts(world, seen))
    assert read(warehouse, "flapping_profiles", FLAPPING_COLUMNS) == ordered(expected_flapping(world, seen))
    assert read(warehouse, "token_health", TOKEN_COLUMNS) == ordered(expected_tokens(world))
    assert read(warehouse, "stock_daily", STOCK_COLUMNS) == ordered(expected_stock(world, seen))
    assert_cohorts(read(warehouse, "relink_cohorts", COHORT_COLUMNS), ordered(expected_cohorts(seen)))
    assert read(warehouse, "poll_coverage", COVERAGE_COLUMNS) == ordered(expected_coverage(world))
    assert_survival(read(warehouse, "time_to_relink", SURVIVAL_COLUMNS), ordered(expected_survival(seen)))


def ordered(rows: Iterator[tuple[Any, ...]]) -> Rows:
    """Rows in the order in which `read` returns them."""
    return sorted(rows, key=repr)


INTERVAL_COLUMNS = (*KEY, "provider", "provider_service", "state", "start_at", "end_at", "is_current")


def expected_intervals(
    world: World, seen: dict[oracle.Profile, oracle.Sightings]
) -> Iterator[tuple[Any, ...]]:
    for key, sightings in seen.items():
        for interval in oracle.intervals(sightings, world.as_of):
            is_current = interval.end_at == world.as_of
            yield (
                *key,
                *(service(key), service(key)),
                interval.state,
                interval.start_at,
                interval.end_at,
                is_current,
            )


OUTAGE_COLUMNS = (
    *KEY,
    "provider_name",
    "started_after",
    "first_seen_at",
    "last_seen_at",
    "ended_at",
    "end_reason",
    "min_seconds",
    "max_seconds",
    "seconds",
    "relink_url",
    "outage_number",
    "detection_seconds",
    "broke_again_at",
)


def expected_outages(world: World, seen: dict[oracle.Profile, oracle.Sightings]) -> Iterator[tuple[Any, ...]]:
    for key, sightings in seen.items():
        found = oracle.outages(sightings)
        for number, outage in enumerate(found, start=1):
            yield (
                *key,
                service(key).upper(),
                outage.started_after,
                outage.first_seen_at,
                outage.last_seen_at,
                outage.ended_at,
                outage.end_reason,
                outage.min_seconds,
                outage.max_seconds,
                outage.seconds,
                newest_relink_url(world, key) if outage.end_reason == "open" else None,
                number,
                outage.detection_seconds,
                oracle.broke_again_at(outage, found[number:]),
            )


STOCK_COLUMNS = ("day", "provider", "connected", "disconnected", "unknown", "removed", "accounts")


def expected_stock(world: World, seen: dict[oracle.Profile, oracle.Sightings]) -> Iterator[tuple[Any, ...]]:
    histories = {key: oracle.intervals(sightings, world.as_of) for key, sightings in seen.items()}
    starts = [history[0].start_at for history in histories.values() if history]
    day = min(starts, default=world.as_of).replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= world.as_of:
        midnight = day + timedelta(days=1)
        found = oracle.stock(histories, min(midnight, world.as_of))
        for provider in {service(key) for key in found}:
            own = {key: state for key, state in found.items() if service(key) == provider}
            counts = Counter(own.values())
            there = {key[0] for key, state in own.items() if state != "removed"}
            states = (counts[state] for state in ("connected", "disconnected", "unknown", "removed"))
            yield (day.date(), provider, *states, len(there))
        day = midnight


COHORT_COLUMNS = ("month", "provider", "outages", "relinked_1d", "relinked_3d", "relinked_7d", "relinked_14d")


def expected_cohorts(seen: dict[oracle.Profile, oracle.Sightings]) -> Iterator[tuple[Any, ...]]:
    groups: dict[tuple[Any, str], list[oracle.Outage]] = {}
    for key, sightings in seen.items():
        for outage in oracle.outages(sightings):
            if outage.started_after is not None:
                month = outage.first_seen_at.date().replace(day=1)
                for provider in ("all", service(key)):
                    groups.setdefault((month, provider), []).append(outage)
    for group, found in groups.items():
        shares = [oracle.relinked_within(found, days) for days in (1, 3, 7, 14)]
        yield (*group, len(found), *(shares if len(found) >= 20 else [None] * 4))


def assert_cohorts(actual: Rows, expected: Rows) -> None:
    assert [row[:3] for row in actual] == [row[:3] for row in expected]
    for mine, reference in zip(actual, expected, strict=True):
        assert mine[3:] == tuple(map(nearly, reference[3:]))


DAILY_COLUMNS = (
    *KEY,
    "day",
    "connected_seconds",
    "disconnected_seconds",
    "unknown_seconds",
    "removed_seconds",
    "uptime",
    "coverage",
)


def expected_days(world: World, seen: dict[oracle.Profile, oracle.Sightings]) -> Iterator[tuple[Any, ...]]:
    for key, sightings in seen.items():
        for day, us in oracle.daily_seconds(oracle.intervals(sightings, world.as_of)).items():
            states = ("connected", "disconnected", "unknown", "removed")
            known, visible = us["connected"] + us["disconnected"], us.total() - us["removed"]
            uptime = us["connected"] / known if known else None
            yield (
                *key,
                day,
                *(us[state] / 1e6 for state in states),
                uptime,
                known / visible if visible else None,
            )


ACCOUNT_COLUMNS = (
    "account_id",
    "profiles",
    "connected",
    "disconnected",
    "unknown",
    "verdict",
    "last_sample_at",
)


def expected_accounts(
    world: World, seen: dict[oracle.Profile, oracle.Sightings]
) -> Iterator[tuple[Any, ...]]:
    samples = world.samples()
    for account_id in {poll.account_id for poll in world.polls if poll.outcome == "ok"}:
        current = [
            oracle.state_now(sightings, world.as_of)
            for key, sightings in seen.items()
            if key[0] == account_id
        ]
        states = [state for state in current if state is not None]
        counts = (states.count("connected"), states.count("disconnected"), states.count("unknown"))
        last = max((sample.taken_at for sample in samples if sample.account_id == account_id), default=None)
        yield (account_id, len(states), *counts, oracle.verdict(states), last)


def assert_days(actual: Rows, expected: Rows) -> None:
    """Seconds of a day are added up in any order, so they may differ in the last digits."""
    keys = len(KEY) + 1
    assert [row[:keys] for row in actual] == [row[:keys] for row in expected]
    for mine, reference in zip(actual, expected, strict=True):
        assert mine[keys:] == tuple(map(nearly, reference[keys:]))


def nearly(value: float | None) -> Any:
    return value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


FLAPPING_COLUMNS = (*KEY, "provider", "outages_30d", "state", "last_changed_at")


def expected_flapping(
    world: World, seen: dict[oracle.Profile, oracle.Sightings]
) -> Iterator[tuple[Any, ...]]:
    for key, sightings in seen.items():
        since = world.as_of - timedelta(days=30)
        lately = sum(outage.first_seen_at >= since for outage in oracle.outages(sightings))
        if lately >= 3:
            yield (*key, service(key), lately, sightings[-1][1], oracle.newest_change(sightings))


TOKEN_COLUMNS = ("token_key", "endpoint", "last_polled_at", "last_ok_at")


def expected_tokens(world: World) -> Iterator[tuple[Any, ...]]:
    for token_key in {poll.token_key for poll in world.polls}:
        own = [poll for poll in world.polls if poll.token_key == token_key]
        tried = [poll for poll in own if poll.outcome != "skipped"]
        endpoint = min((poll.endpoint for poll in tried or own), key=ENDPOINTS.index)
        attempts = [poll for poll in tried if poll.endpoint == endpoint]
        yield (
            token_key,
            endpoint,
            max((poll.polled_at for poll in attempts), default=None),
            max((poll.polled_at for poll in attempts if poll.outcome == "ok"), default=None),
        )


COVERAGE_COLUMNS = (
    "grain",
    "run_id",
    "day",
    "started_at",
    "ended_at",
    "polled",
    "ok",
    "failed",
    "server_error",
    "skipped",
    "oldest_evidence_age_seconds",
)


def expected_coverage(world: World) -> Iterator[tuple[Any, ...]]:
    grains: dict[tuple[Any, ...], list[Poll]] = {}
    for poll in world.polls:
        grains.setdefault(("run", f"run_{poll.number:03}"), []).append(poll)
        grains.setdefault(("day", None, poll.polled_at.date()), []).append(poll)
    for grain, polls in grains.items():
        started_at = min(poll.polled_at for poll in polls)
        outcomes = Counter(poll.outcome for poll in polls)
        attempts = outcomes.total() - outcomes["skipped"]
        ages = [age for poll in polls if (age := evidence_age(world, poll)) is not None]
        yield (
            *grain[:2],
            started_at.date(),
            started_at,
            max(poll.polled_at for poll in polls),
            attempts,
            outcomes["ok"],
            attempts - outcomes["ok"],
            outcomes["server_error"],
            outcomes["skipped"],
            max(ages, default=None),
        )


def evidence_age(world: World, poll: Poll) -> float | None:
    """Seconds since the token's endpoint was last read, None if it never was."""
    read_at = [
        other.polled_at
        for other in world.polls
        if (other.token_key, other.endpoint) == (poll.token_key, poll.endpoint)
        and other.outcome == "ok"
        and other.polled_at <= poll.polled_at
    ]
    return (poll.polled_at - max(read_at)).total_seconds() if read_at else None


SURVIVAL_COLUMNS = ("provider", "provider_service", "seconds", "at_risk", "relinked", "survival")


def expected_survival(seen: dict[oracle.Profile, oracle.Sightings]) -> Iterator[tuple[Any, ...]]:
    for group in (*SERVICES, "all"):
        found = [
            outage
            for key, sightings in seen.items()
            if group in ("all", service(key))
            for outage in oracle.outages(sightings)
        ]
        yield from ((group, group, *row) for row in oracle.kaplan_meier(found))


def assert_survival(actual: Rows, expected: Rows) -> None:
    assert [row[:-1] for row in actual] == [row[:-1] for row in expected]
    assert [row[-1] for row in actual] == pytest.approx([row[-1] for row in expected], abs=1e-9)


def service(key: oracle.Profile) -> str:
    return SERVICES["abc".index(key[2])]


def newest_relink_url(world: World, key: oracle.Profile) -> str | None:
    account_id, profile_type, profile_id = key
    urls = [
        (sample.taken_at, sample.relink_urls[profile_id])
        for sample in world.samples()
        if (sample.account_id, sample.profile_type) == (account_id, profile_type)
        and profile_id in sample.relink_urls
    ]
    return max(urls)[1] if urls else None
