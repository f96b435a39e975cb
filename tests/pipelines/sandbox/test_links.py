from itertools import pairwise
from random import Random

import pytest

from dlt_cronofy.sandbox.history import (
    DAY,
    HOUR,
    LONGEST_OUTAGE_SECONDS,
    MINUTE,
    Fate,
    draw_outage,
    draw_wait,
    simulate_link,
)
from dlt_cronofy.sandbox.people import CALENDAR_PROVIDERS, CONFERENCING_PROVIDERS
from dlt_cronofy.sandbox.records import Link

PROVIDERS = [*CALENDAR_PROVIDERS.values(), *CONFERENCING_PROVIDERS.values()]
FOLLOWERS: dict[Link, set[Link]] = {
    "syncing": {"connected"},
    "connected": {"disconnected", "absent"},
    "disconnected": {"syncing", "absent"},
    "absent": {"syncing"},
}


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.slug)
def test_links_go_through_the_states_in_their_order(provider: object) -> None:
    for seed in range(60):
        fate = Fate(begin=-30 * DAY, end=400 * DAY, waves=[(50 * DAY, 0.5)], bouts=(80 * DAY,))
        changes = simulate_link(Random(seed), provider, fate)  # type: ignore[arg-type]
        assert changes[0] == (-30 * DAY, "syncing")
        assert changes == sorted(changes, key=lambda change: change[0])
        assert all(at < fate.end for at, _ in changes)
        for (_, before), (_, after) in pairwise(changes):
            assert after in FOLLOWERS[before]


def test_outages_are_heavy_tailed_around_a_day_or_two() -> None:
    rng = Random(1)
    outages = sorted(draw_outage(rng) for _ in range(4000))
    assert 1 * DAY < outages[2000] < 2.2 * DAY
    assert outages[3600] > 5 * outages[2000]
    assert outages[0] >= 15 * MINUTE
    assert outages[-1] <= LONGEST_OUTAGE_SECONDS


def test_office365_and_icloud_break_more_often_than_the_others() -> None:
    def count(service: str) -> int:
        fate = Fate(begin=0, end=300 * DAY)
        runs = (simulate_link(Random(seed), CALENDAR_PROVIDERS[service], fate) for seed in range(150))
        return sum(link == "disconnected" for changes in runs for _, link in changes)

    counts = {service: count(service) for service in CALENDAR_PROVIDERS}
    assert min(counts["office365"], counts["icloud"]) > 1.2 * max(
        number for service, number in counts.items() if service not in {"office365", "icloud"}
    )
    assert counts["cronofy"] == 0


def test_a_wave_hits_its_share_within_the_hour() -> None:
    calm = CALENDAR_PROVIDERS["cronofy"]
    fate = Fate(begin=0, end=20 * DAY, waves=[(10 * DAY, 0.4)])
    firsts = [
        next((at for at, link in simulate_link(Random(seed), calm, fate) if link == "disconnected"), None)
        for seed in range(400)
    ]
    hits = [at for at in firsts if at is not None]
    assert 120 < len(hits) < 200
    assert all(10 * DAY <= at <= 10 * DAY + HOUR for at in hits)


def test_a_bout_flaps() -> None:
    changes = simulate_link(
        Random(2), CALENDAR_PROVIDERS["cronofy"], Fate(begin=0, end=60 * DAY, bouts=(5 * DAY,))
    )
    downs = [at for at, link in changes if link == "disconnected"]
    assert 5 <= len(downs) <= 9
    assert downs[0] == 5 * DAY
    assert downs[-1] < 15 * DAY


def test_nothing_happens_without_a_hazard() -> None:
    assert draw_wait(Random(1), 0) == float("inf")
