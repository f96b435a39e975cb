"""Customers, mass events and ages: what is counted for whom."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from tests.pipelines.views.histories import at, history
from tests.pipelines.views.warehouse import Warehouse, create_tables, create_views, fill, read

Row = dict[str, Any]
# ten people of Acme and ten without a customer; at hour 30.5 six of Acme break, and one of the others
PEOPLE = [f"acme{n}" for n in range(10)] + [f"other{n}" for n in range(10)]
BROKEN = {*PEOPLE[:6], PEOPLE[10]}


def polls() -> str:
    lines = [(hour, f"{person} ok a+") for person in PEOPLE for hour in (0.0, 20.0, 30.0)]
    lines += [(30.5, f"{person} ok a{'-' if person in BROKEN else '+'}") for person in PEOPLE]
    lines += [(31, f"{person} ok a+") for person in PEOPLE]
    return "\n".join(f"{hour} {line}" for hour, line in sorted(lines))


def labels(warehouse: Warehouse) -> None:
    warehouse.execute("UPDATE cronofy.token_status SET customer = 'Acme' WHERE token_key LIKE 'acme%'")
    owners = [
        {"token_key": each, "account_id": each, "email": f"{each}@{each[:4]}.test", "observed_at": at(0)}
        for each in PEOPLE
    ]
    warehouse.insert("userinfo", owners)


@pytest.fixture(scope="module")
def world(warehouse: Warehouse) -> Warehouse:
    create_tables(warehouse)
    create_views(warehouse)
    fill(warehouse, history(polls()).tables())
    labels(warehouse)
    return warehouse


def test_a_mass_event_is_five_outages_and_a_fifth_of_what_was_connected(world: Warehouse) -> None:
    columns = ("hour", "grouped_by", "name", "outages", "accounts", "connected", "share")
    assert read(world, "mass_events", columns) == sorted(
        [
            (at(30), "customer", "Acme", 6, 6, 10, 0.6),
            (at(30), "email_domain", "acme.test", 6, 6, 10, 0.6),
            (at(30), "provider", "gmail", 7, 7, 20, 0.35),
        ],
        key=repr,
    )


def test_a_customer_has_the_days_of_its_profiles(world: Warehouse) -> None:
    columns = (
        *("customer", "email_domain", "day", "accounts", "profiles"),
        *("connected_seconds", "disconnected_seconds", "uptime"),
    )
    rows = {row[:3]: row[3:] for row in read(world, "customer_daily", columns)}
    second = date(2026, 3, 3)
    assert set(rows) == {
        (customer, domain, day)
        for customer, domain in (("Acme", "acme.test"), (None, "othe.test"))
        for day in (date(2026, 3, 2), second)
    }
    seconds = 10 * 7 * 3600
    down = 6 * 1800
    assert rows["Acme", "acme.test", second] == (10, 10, seconds - down, down, 1 - down / seconds)


def test_rates_of_a_customer_need_twenty_profiles(world: Warehouse) -> None:
    columns = ("customer", "period", "accounts", "profiles", "outages_started", "uptime")
    rows = [row for row in read(world, "customer_health", columns) if row[0] == "Acme"]
    assert sorted(rows) == [("Acme", period, 10, 10, 6, None) for period in ("30d", "7d", "all")]


def test_the_ages_of_evidence_are_those_of_numpy(warehouse: Warehouse) -> None:
    create_tables(warehouse)
    create_views(warehouse)
    ages = [3.0, 100.0, 7.5, 4_000.0, 90_000.0, 50.0, 86_399.0]
    status: list[Row] = [
        {
            "token_key": f"t{n}",
            "endpoint": "userinfo",
            "last_outcome": "ok" if n else "server_error",
            "last_ok_at": at(100) - timedelta(seconds=age),
        }
        for n, age in enumerate(ages)
    ]
    status.append(
        {"token_key": "dead", "endpoint": "userinfo", "last_outcome": "token_rejected", "last_ok_at": at(0)}
    )
    warehouse.insert("token_status", status)
    warehouse.insert("runs", [{"run_id": "r", "last_polled_at": at(100)}])
    columns = ("provider", "tokens", "unreadable_tokens", "read_within_hold")
    [row] = read(warehouse, "freshness", (*columns, "median_age_seconds", "p95_age_seconds"))
    assert row[:4] == ("all", 7, 1, pytest.approx(6 / 7))
    assert row[4:] == pytest.approx((np.median(ages), np.percentile(ages, 95)))


@pytest.mark.parametrize(
    "hours",
    [(0.0, 70.0), (0.25, 0.5), (0.5, 1.0)],
    ids=["after a gap", "within the first hour", "on the hour"],
)
def test_a_mass_event_is_seen_whatever_lies_between_the_samples(
    warehouse: Warehouse, hours: tuple[float, float]
) -> None:
    lines = [(hours[0], f"{person} ok a+") for person in PEOPLE]
    lines += [(hours[1], f"{person} ok a{'-' if person in BROKEN else '+'}") for person in PEOPLE]
    create_tables(warehouse)
    create_views(warehouse)
    fill(warehouse, history("\n".join(f"{hour} {line}" for hour, line in lines)).tables())
    seen = at(int(hours[1]))
    columns = ("hour", "name", "outages", "connected")
    assert read(warehouse, "mass_events", columns) == [(seen, "gmail", 7, 20)]


def test_of_a_mass_event_counts_who_was_connected_before_its_hour(warehouse: Warehouse) -> None:
    """Beside ten who are connected before hour 30, and of whom six break in it."""
    samples = [(0.0, f"acme{n} ok a+") for n in range(10)] + [(30.5, f"acme{n} ok a-") for n in range(6)]
    connected_before = [(0.0, "ann ok a+"), (29.25, "ann ok a-"), (29.5, "ann ok a+")]
    broke_on_the_hour = [(0.0, "bob ok a+"), (30.0, "bob ok a-")]
    removed_in_it = [(0.0, "cat ok a+"), (30.25, "cat ok -")]
    first_seen_in_it = [(30.75, "dan ok a+")]
    first_seen_and_broke_in_it = [(30.25, "eve ok a+"), (30.75, "eve ok a-")]
    samples += connected_before + broke_on_the_hour + removed_in_it
    samples += first_seen_in_it + first_seen_and_broke_in_it
    # nobody of these was
    samples += [(0.0, "fay ok a+"), (29.5, "fay ok a-"), (30.25, "fay ok a+")]
    samples += [(0.0, "gus ok a+"), (29.0, "gus ok a-"), (30.0, "gus ok a+")]
    samples += [(0.0, "hal ok a+"), (29.0, "hal ok -"), (30.25, "ida ok a-"), (31.5, "jim ok a+")]
    create_tables(warehouse)
    create_views(warehouse)
    fill(warehouse, history("\n".join(f"{hour} {line}" for hour, line in sorted(samples))).tables())
    columns = ("hour", "name", "outages", "accounts", "connected")
    assert read(warehouse, "mass_events", columns) == [(at(30), "gmail", 8, 8, 15)]
