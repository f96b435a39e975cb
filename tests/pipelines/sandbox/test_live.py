"""`--live`: what breaks and heals is said when it happens, by a clock that runs fast."""

import threading
from collections import Counter
from datetime import timedelta

import pytest

from dlt_cronofy.sandbox import MovableClock, World
from dlt_cronofy.sandbox.live import follow, list_happenings
from tests.pipelines.sandbox.conftest import START


def test_all_that_befalls_a_world_is_listed_in_its_order(world: World) -> None:
    happenings = list_happenings(world)
    assert happenings == sorted(happenings)
    broken = sum(
        state.link == "disconnected"
        for account in world.accounts
        for profile in account.profiles
        for state in profile.history.values[1:]
    )
    kinds = Counter(line.partition(") ")[2] or "withdrew" for _, line in happenings)
    assert set(kinds) == {"broke", "is connected again", "is new", "was removed", "withdrew"}
    # a profile that is renamed while it is down breaks no second time
    assert 0.9 * broken < kinds["broke"] <= broken


def test_it_says_what_happens_after_the_start_and_ends_with_the_world(world: World) -> None:
    said: list[str] = []
    clock = MovableClock(START + timedelta(days=30))
    listed = [line for at, line in list_happenings(world) if at >= clock.now()]

    class Stopped(threading.Event):
        """Nobody stops it; while it waits, a day passes."""

        def wait(self, timeout: float | None = None) -> bool:
            clock.advance(timedelta(days=1))
            return False

    follow(world, clock, said.append, Stopped())
    assert [line.partition("  ")[2] for line in said] == listed


def test_it_ends_when_it_is_stopped(world: World) -> None:
    stopped = threading.Event()
    stopped.set()
    said: list[str] = []
    follow(world, MovableClock(START), said.append, stopped)
    assert said == []


def test_a_clock_may_run_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 160.0])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    assert MovableClock(START, running=True, speed=1440).now() == START + timedelta(days=1)
