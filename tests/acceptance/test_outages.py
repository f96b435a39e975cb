"""Outages, missing plans, signals: little is asked in vain, nothing is lost, the next load does the rest."""

import asyncio
import csv
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.source.api.limits import circuit_breaker as breaker
from dlt_cronofy.source.api.limits.tuning import MAX_IN_FLIGHT, PLAN_REFUSALS, RETRY_SHARE, TRIPS_AFTER
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.settings import DATA_CENTERS

from . import documents
from .conftest import Serve
from .loading import HURRIED, load
from .place import Place, TestClock
from .server import Reply, Request, Script, ScriptedServer, says
from .test_killed_loads import assert_keys_are_unique, is_extracted, is_loading, is_normalized

PlaceFor = Callable[[ScriptedServer], Place]
BOTH = ("userinfo", "account")
HOUR = timedelta(hours=1)
# longer than any test
FOR_EVER = 3600.0


def keys(count: int, prefix: str = "key") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def good(request: Request) -> Reply:
    """An account of its own with one profile for every token."""
    if request.endpoint == "account":
        return says(documents.account(f"acc_{request.token}"))
    return says(documents.userinfo(f"acc_{request.token}", [documents.profile(f"pro_{request.token}")]))


class Weather:
    """A script that can be changed between loads."""

    def __init__(self, script: Script = good) -> None:
        self.script = script

    def __call__(self, request: Request) -> Reply:
        return self.script(request)


class UnhurriedClock(TestClock):
    """Hundreds that wait look again and again; each takes a little time for it, or the server gets none."""

    async def sleep(self, seconds: float) -> None:
        self._waited += max(0.0, seconds - 0.02)
        await asyncio.sleep(min(seconds, 0.02))


def outcomes(place: Place) -> Counter[str]:
    return Counter(row["outcome"] for row in place.rows("polls"))


def loaded(place: Place) -> set[str]:
    """Tokens of which everything is in the warehouse."""
    tables = ("userinfo", "profiles", "profile_changes")
    return set.intersection(*({row["token_key"] for row in place.rows(table)} for table in tables))


def asked(log: Iterable[tuple[Request, Reply]]) -> set[str]:
    return {request.token for request, _ in log}


# so many that most are spared
MANY = 500
TROUBLES: dict[str, tuple[Reply, str]] = {
    "503": (Reply(503), "server_error"),
    "resets": (Reply(cut="reset"), "network_error"),
    "hangs": (Reply(delay=FOR_EVER), "timeout"),
    "429": (Reply(429), "rate_limited"),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("trouble", "tokens"),
    [
        ("503", 10),  # too few to be sure
        ("resets", 50),  # sure when all are under way
        ("503", MANY),
        ("hangs", MANY),
        ("429", 100),
    ],
)
def test_a_server_that_fails_everything_is_asked_little_and_each_poll_has_its_row(
    trouble: str, tokens: int, serve: Serve, place_for: PlaceFor
) -> None:
    reply, outcome = TROUBLES[trouble]
    server = serve(lambda _: reply)
    place = place_for(server)
    place.write_tokens(keys(tokens))

    settings = replace(HURRIED, timeout_seconds=0.3) if trouble == "hangs" else HURRIED
    result = load(place, settings, UnhurriedClock(), endpoints=BOTH)

    assert len(server.log) <= result.requests <= 1.1 * tokens
    rows = Counter((row["token_key"], row["endpoint"]) for row in place.rows("polls"))
    # 429 refuses the application, so the token's next call is not even planned any more
    planned = BOTH[:1] if trouble == "429" else BOTH
    assert rows == Counter((key, endpoint) for key in keys(tokens) for endpoint in planned)
    assert set(outcomes(place)) <= {outcome, "skipped"}
    assert sum(row["attempts"] for row in place.rows("polls")) == result.requests
    if tokens == MANY:
        # what it takes to be sure, what was under way by then, second tries and probes; then no more
        assert result.requests < 300


@pytest.mark.long
def test_the_run_after_an_outage_begins_with_what_was_skipped_and_loads_all(
    serve: Serve, place_for: PlaceFor
) -> None:
    weather = Weather(lambda _: Reply(503))
    server = serve(weather)
    place = place_for(server)
    place.write_tokens(keys(200))
    load(place, clock=UnhurriedClock(), endpoints=BOTH)
    polls = place.rows("polls")
    skipped = set(keys(200)) - {row["token_key"] for row in polls if row["attempts"]}
    assert len(skipped) > 30

    weather.script = good
    server.log.clear()
    place.clock.offset = HOUR
    load(place, endpoints=("userinfo",), max_requests=len(skipped))
    assert asked(server.log) == skipped
    load(place, endpoints=BOTH)
    assert loaded(place) == set(keys(200))
    assert len(place.rows("account")) == 200


@pytest.mark.long
def test_the_command_says_once_what_is_wrong_and_exits_with_1(
    serve: Serve, place_for: PlaceFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "PROBES", 1)  # in real time: one second
    place = place_for(serve(lambda _: Reply(503)))
    place.write_tokens(keys(100))
    found = CliRunner().invoke(cli, ["load", "--json"], env=place.environment(), catch_exceptions=False)
    assert found.exit_code == 1
    lines = [line.split(" ", 2)[2] for line in found.stderr.splitlines() if "polling:" not in line]
    tripped, opened, judged = lines
    assert tripped == "WARNING us: 30 answers in a row failed (server_error); waiting for it to recover"
    assert opened.startswith("ERROR us does not recover (server_error): the rest of its tokens is skipped")
    assert judged.startswith("ERROR 100 of 100 tokens")
    summary = json.loads(found.stdout)
    assert set(summary["outcomes"]) == {"server_error", "skipped"}
    assert summary["polls"] == 200


@pytest.mark.long
def test_a_data_center_that_is_down_leaves_the_others_alone(
    serve: Serve, place_for: PlaceFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes every request and answers none: nothing holds what is fine up for longer."""
    reply, outcome = TROUBLES["hangs"]
    down, fine = serve(lambda _: reply), serve(good)
    monkeypatch.setitem(DATA_CENTERS, "us", down.base_url)
    monkeypatch.setitem(DATA_CENTERS, "de", fine.base_url)
    place = replace(place_for(fine), base_url="")
    pairs = list(zip(keys(200, "us"), keys(200, "de"), strict=True))
    with place.tokens_file.open("w", newline="", encoding="utf-8") as file:
        rows = [(key, key, key[:2]) for pair in pairs for key in pair]
        csv.writer(file).writerows([("key", "access_token", "data_center"), *rows])

    # not shorter: what is fine must not time out on a busy machine
    load(place, replace(HURRIED, timeout_seconds=1.0), UnhurriedClock(), endpoints=BOTH)

    assert loaded(place) == set(keys(200, "de"))
    found = Counter((row["data_center"], row["outcome"]) for row in place.rows("polls"))
    assert found["de", "ok"] == found["us", outcome] + found["us", "skipped"] == 400, found
    assert len(place.rows("account")) == 200
    assert len(down.log) <= 220
    assert asked(down.log) <= set(keys(200, "us"))
    assert asked(fine.log) == set(keys(200, "de"))


@pytest.mark.long
def test_a_server_that_recovers_in_time_costs_no_token_its_poll(serve: Serve, place_for: PlaceFor) -> None:
    """In real time: down for a second and a half."""
    began: list[float] = []

    def recovering(request: Request) -> Reply:
        began.append(time.monotonic())
        return Reply(503) if began[-1] < began[0] + 1.5 else good(request)

    place = place_for(serve(recovering))
    place.write_tokens(keys(500))
    result = load(place, clock=SystemClock(), endpoints=("userinfo",))
    assert set(result.outcomes) == {"ok", "server_error"}
    assert result.outcomes["ok"] == len(loaded(place))
    # it takes some to be sure, and some were under way or about to try again
    assert result.outcomes["server_error"] <= TRIPS_AFTER + MAX_IN_FLIGHT + RETRY_SHARE * 500


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("missing", "present"), [("account", "userinfo"), ("userinfo", "account")], ids=["account", "userinfo"]
)
def test_an_endpoint_the_plan_lacks_is_given_up_soon_and_the_other_one_is_loaded(
    missing: str, present: str, serve: Serve, place_for: PlaceFor, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda request: Reply(402) if request.endpoint == missing else good(request))
    place = place_for(server)
    place.write_tokens(keys(200))
    load(place, endpoints=BOTH)
    assert server.calls[present] == len(place.rows(present)) == 200
    assert server.calls[missing] <= MAX_IN_FLIGHT + PLAN_REFUSALS
    found = Counter((row["endpoint"], row["outcome"], row["http_status"]) for row in place.rows("polls"))
    assert found == {
        (present, "ok", 200): 200,
        (missing, "plan_required", 402): server.calls[missing],
        (missing, "skipped", None): 200 - server.calls[missing],
    }
    [error] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith(f"us answers 402 to /v1/{missing}: the application's Cronofy plan lacks it")


@pytest.mark.long
def test_one_tokens_402_stops_nothing(serve: Serve, place_for: PlaceFor) -> None:
    server = serve(lambda request: Reply(402) if request.token == "key0" else good(request))
    place = place_for(server)
    place.write_tokens(keys(100))
    load(place, endpoints=BOTH)
    assert outcomes(place) == {"plan_required": 2, "ok": 198}
    assert loaded(place) == set(keys(100)) - {"key0"}


TOKENS = 80
# slow enough to be caught in the middle
AT_LEISURE = {"REQUESTS_PER_SECOND": "100"}


def signalled(
    place: Place,
    server: ScriptedServer,
    is_time: Callable[[], bool],
    *numbers: signal.Signals,
    **environment: str,
) -> tuple["subprocess.Popen[str]", str, str, float]:
    """A load that gets these signals at its time: the ended process, what it said, how long it still took."""
    chosen = {f"SOURCES__CRONOFY__{name}": value for name, value in environment.items()}
    process = place.start("load", "--json", **chosen)
    deadline = time.monotonic() + 60
    while not is_time():
        assert process.poll() is None, f"the load ended before the signal: {process.communicate()}"
        assert time.monotonic() < deadline
        # nothing to look for until the first request, which most of the time is waited for
        time.sleep(0.001 if server.log else 0.02)
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.3 if len(numbers) > 1 else 0)
    stdout, stderr = process.communicate(timeout=60)
    return process, stdout, stderr, time.monotonic() - began


def hanging(request: Request) -> Reply:
    """Good answers after a moment; every fortieth token gets none."""
    return (
        Reply(delay=FOR_EVER) if request.token.endswith("9") and request.token[-2] in "37" else slow(request)
    )


def slow(request: Request) -> Reply:
    return replace(good(request), delay=0.02)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("number", "script"), [(signal.SIGTERM, slow), (signal.SIGINT, hanging)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_ends_polling_and_what_was_answered_is_loaded(
    number: signal.Signals, script: Script, serve: Serve, place_for: PlaceFor
) -> None:
    weather = Weather(script)
    server = serve(weather)
    place = place_for(server)
    place.write_tokens(keys(TOKENS))

    process, stdout, stderr, seconds = signalled(
        place, server, lambda: len(server.log) > 60, number, **AT_LEISURE
    )

    assert process.returncode == 0, stderr
    assert seconds < 20
    assert json.loads(stdout)["stopped_by"] == number.name
    assert f"{number.name}: no more calls; what was polled is loaded" in stderr
    answered = {(request.token, request.endpoint) for request, reply in server.log if reply.says is not None}
    assert 30 < len(answered) < 2 * TOKENS
    rows = [row for row in place.rows("polls") if row["outcome"] == "ok"]
    assert {(row["token_key"], row["endpoint"]) for row in rows} == answered
    assert loaded(place) == {token for token, endpoint in answered if endpoint == "userinfo"}

    weather.script = good
    before = loaded(place)
    server.log.clear()
    load(place, every=HOUR, endpoints=("userinfo",))
    assert asked(server.log) == set(keys(TOKENS)) - before
    assert loaded(place) == set(keys(TOKENS))


@pytest.mark.long
@pytest.mark.parametrize("instant", [is_extracted, is_loading])
def test_a_signal_while_loading_lets_the_load_finish(
    instant: Callable[[Place, ScriptedServer], bool], serve: Serve, place_for: PlaceFor
) -> None:
    server = serve(good)
    place = place_for(server)
    place.write_tokens(keys(TOKENS))

    def is_reached() -> bool:
        # before that the tables are made
        return len(server.log) == 2 * TOKENS and instant(place, server)

    process, stdout, stderr, _ = signalled(place, server, is_reached, signal.SIGTERM)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["polls"] == len(place.rows("polls")) == 2 * TOKENS
    assert loaded(place) == set(keys(TOKENS))
    assert not is_extracted(place, server)
    assert not is_normalized(place, server)


@pytest.mark.long
def test_a_second_signal_ends_at_once_and_the_next_load_heals(serve: Serve, place_for: PlaceFor) -> None:
    weather = Weather(hanging)
    server = serve(weather)
    place = place_for(server)
    place.write_tokens(keys(TOKENS))
    process, stdout, stderr, seconds = signalled(
        place, server, lambda: len(server.log) > 60, signal.SIGINT, signal.SIGTERM, **AT_LEISURE
    )
    assert process.returncode == 128 + signal.SIGTERM
    assert seconds < 4  # the requests that hang are not waited for
    assert stdout == ""
    assert "SIGTERM again: ended at once" in stderr
    weather.script = good
    load(place, every=HOUR, endpoints=BOTH)
    assert loaded(place) == set(keys(TOKENS))
    assert_keys_are_unique(place)
