"""Expired access tokens: refreshed once, written back first, and no refresh token is lost in silence."""

import csv
import json
import logging
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from dlt.pipeline.exceptions import PipelineStepFailed

from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import Loading, LoadOptions
from dlt_cronofy.sandbox import MovableClock, OAuth, SandboxServer, World, build_world, serve
from dlt_cronofy.sandbox.world import write_token_file
from dlt_cronofy.source import cronofy_source
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.tuning import MAX_REFRESHES_IN_FLIGHT
from dlt_cronofy.source.api.poll_stream import PollStream
from dlt_cronofy.source.api.token_refresh import open_refresher
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.errors import UnreachableError
from dlt_cronofy.source.records import Outcome, Poll, PollTask
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import ClientCredentials, PollingSettings
from dlt_cronofy.source.tokens.base import Renewal
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import in_data_centers
from dlt_cronofy.warehouse.pipeline import open_pipeline

from .place import Place

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
CLIENT = {
    "SOURCES__CRONOFY__CLIENT_ID": "sandbox-client",
    "SOURCES__CRONOFY__CLIENT_SECRET": "sandbox-secret",
}
Row = dict[str, str]


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(accounts=40, seed=5, start=START, days=20)


@pytest.fixture
def sandbox(world: World) -> Iterator[SandboxServer]:
    """Every access token of the file has expired, and every refresh rotates the refresh token."""
    clock = MovableClock(START + timedelta(hours=2))
    with serve(world, clock=clock, oauth=OAuth(first_expires_in_seconds=3600, rotates=True)) as server:
        yield server


@pytest.fixture
def place(sandbox: SandboxServer, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Tokens that can be refreshed and read; the few that cannot are other tests' business."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    place = Place(tmp_path, sandbox.base_url)
    good = [
        token
        for token in world.tokens
        if token.refresh_token and world.body("userinfo", token, START + timedelta(hours=2))[0] == 200
    ]
    write_token_file(place.tokens_file, good)
    return place


class Heard(logging.Handler):
    """What the program logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass
class Run:
    """What one run over all tokens did, without a warehouse."""

    polls: list[Poll]
    lost: Sequence[str]
    logged: str
    requests: int = 0

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(poll.response.outcome.value for poll in self.polls)


def chosen_settings(place: Place, client_secret: str = "sandbox-secret") -> PollingSettings:
    return PollingSettings(
        base_url=place.base_url,
        requests_per_second=1e6,
        requests_per_minute=1e6,
        max_attempts=1,
        client=ClientCredentials("sandbox-client", Secret(client_secret)),
    )


@contextmanager
def hearing() -> Iterator[list[str]]:
    """What the program logs meanwhile."""
    heard, logger = Heard(), logging.getLogger("dlt_cronofy")
    logger.addHandler(heard)
    try:
        yield heard.lines
    finally:
        logger.removeHandler(heard)


def poll(place: Place, client_secret: str = "sandbox-secret", **store: Any) -> Run:
    """All tokens of the store are polled, and nothing is loaded."""
    settings, clock = chosen_settings(place, client_secret), SystemClock()
    opened = open_store(**(store or {"tokens_file": str(place.tokens_file)}))
    with hearing() as heard:
        tokens = in_data_centers(opened.read(), "us")
        policy = RequestPolicy(settings, clock, tokens)
        refresher = open_refresher(settings, opened, tokens, place.directory, clock)
        assert refresher is not None
        tasks = [PollTask(token, ("userinfo", "account")) for token in tokens]
        polls: list[Poll] = []
        with PollStream(settings, policy, clock, tasks, 50, refresher=refresher) as stream:
            while (batch := stream.take()) is not None:
                polls += batch
        refresher.finish()
    return Run(polls, refresher.lost, "\n".join(heard), policy.rate_limiter.requests)


def load(place: Place, **store: Any) -> tuple[LoadResult, str]:
    """One load in this process: its summary, and what it logged."""
    tokens = open_store(**(store or {"tokens_file": str(place.tokens_file)}))
    pipeline = open_pipeline(
        "duckdb", credentials=str(place.database), pipelines_dir=place.data_dir / "pipelines"
    )
    with hearing() as heard:
        options = LoadOptions(every=timedelta(0), refresh_views=False)
        found = in_data_centers(tokens.read(), "us")
        result = Load(pipeline, chosen_settings(place), found, options, SystemClock(), store=tokens).run()
    return result, "\n".join(heard)


def invoke(place: Place, *arguments: str, **environment: str) -> Result:
    """The command in this process, with the place's configuration in the environment."""
    return CliRunner().invoke(cli, arguments, env=place.environment(**environment), catch_exceptions=False)


def ask(sandbox: SandboxServer, method: str, path: str, form: dict[str, Any] | None = None) -> httpx.Response:
    """A request of nobody's; it is plain HTTP, and to read certificates for it would take long."""
    return httpx.request(method, f"{sandbox.base_url}{path}", json=form, verify=False)


def stored(place: Place) -> dict[str, Row]:
    with place.tokens_file.open(newline="", encoding="utf-8") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def refreshable(row: Row) -> bool:
    return bool(row["refresh_token"])


def still_works(sandbox: SandboxServer, refresh_token: str) -> bool:
    """Whether the server would take it; asking uses it up."""
    form = {
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
    }
    return ask(sandbox, "POST", "/oauth/token", form).status_code == 200


def answers(sandbox: SandboxServer, endpoint: str) -> dict[str, int]:
    """What the server answered, by HTTP status, since it was last asked to forget."""
    counts = ask(sandbox, "GET", "/sandbox/requests").json()["endpoints"]
    return dict(counts.get(endpoint, {}))


def forget(sandbox: SandboxServer) -> None:
    ask(sandbox, "DELETE", "/sandbox/requests")


def assert_nothing_is_lost(
    place: Place, sandbox: SandboxServer, lost: AbstractSet[str] = frozenset()
) -> None:
    """Every refresh token of the store still works, but for those that were said to be lost."""
    for key, row in stored(place).items():
        if row["refresh_token"]:
            assert still_works(sandbox, row["refresh_token"]) is (key not in lost), key


def test_expired_tokens_are_refreshed_once_and_written_back(
    place: Place, sandbox: SandboxServer, world: World
) -> None:
    before = stored(place)
    result, _ = load(place)
    after = stored(place)
    renewed = {key for key, row in before.items() if row["refresh_token"]}
    assert {key for key in after if after[key]["access_token"] != before[key]["access_token"]} == renewed
    assert {key for key in after if after[key]["refresh_token"] != before[key]["refresh_token"]} == renewed
    assert after.keys() == before.keys()
    assert answers(sandbox, "token") == {"200": len(renewed)}
    assert renewed == set(before)
    endpoints = ("token", "userinfo", "account")
    assert result.requests == sum(sum(answers(sandbox, name).values()) for name in endpoints)
    told = place.query(
        "SELECT outcome, attempts, refreshes, COUNT(*) FROM polls"
        " WHERE endpoint = 'userinfo' AND refreshes > 0 GROUP BY ALL"
    )
    assert told == [("ok", 2, 1, len(renewed))]

    forget(sandbox)
    poll(place)
    assert answers(sandbox, "token") == {}
    assert set(answers(sandbox, "userinfo")) == {"200"}
    assert_nothing_is_lost(place, sandbox)


def test_a_known_expiry_saves_the_call_that_would_be_refused(place: Place, sandbox: SandboxServer) -> None:
    """With a column `expires_at` the store says itself that a token has expired; a refresh writes it.

    So does a row with a refresh token only.
    """
    rows = stored(place)
    for row in list(rows.values())[::3]:
        row["access_token"] = ""
    with place.tokens_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*next(iter(rows.values())), "expires_at"])
        writer.writeheader()
        writer.writerows(row | {"expires_at": "2026-01-05T07:00:00Z"} for row in rows.values())
    run = poll(place)
    assert run.outcomes.keys() == {"ok"}
    assert "401" not in answers(sandbox, "userinfo")
    assert answers(sandbox, "token") == {"200": len(rows)}
    left = [datetime.fromisoformat(row["expires_at"]) - datetime.now(UTC) for row in stored(place).values()]
    assert timedelta(minutes=25) < min(left) <= max(left) <= timedelta(hours=1)
    forget(sandbox)
    poll(place)
    assert answers(sandbox, "token") == {}


def test_a_revoked_grant_is_told_from_an_expired_token(place: Place, sandbox: SandboxServer) -> None:
    gone = sorted(stored(place))[:3]
    for key in gone:
        ask(sandbox, "POST", f"/sandbox/tokens/{key}/revoke")
    run = poll(place)
    revoked = [each for each in run.polls if each.response.outcome is Outcome.GRANT_REVOKED]
    assert sorted((each.token_key, each.response.http_status, each.response.message) for each in revoked) == [
        (key, 400, "refresh: invalid_grant") for key in gone
    ]
    # the grant, not the endpoint: no other call for it, and nothing for a person to do about the program
    assert [each.endpoint for each in run.polls if each.token_key == gone[0]] == ["userinfo"]
    assert "lost" not in run.logged


def test_tokens_that_share_a_refresh_token_refresh_once(place: Place, sandbox: SandboxServer) -> None:
    first, *others = stored(place).values()
    shared = [first | {"key": f"shared_{n}"} for n in range(6)]
    with place.tokens_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows(shared + others)
    run = poll(place)
    assert run.outcomes.keys() == {"ok"}
    assert answers(sandbox, "token") == {"200": 1 + len(others)}
    assert len({row["refresh_token"] for key, row in stored(place).items() if "shared" in key}) == 1
    assert_nothing_is_lost_of_shared(place, sandbox)


def assert_nothing_is_lost_of_shared(place: Place, sandbox: SandboxServer) -> None:
    refresh_tokens = {row["refresh_token"] for row in stored(place).values()}
    assert all(still_works(sandbox, refresh_token) for refresh_token in refresh_tokens)


def test_wrong_client_credentials_are_said_once(place: Place, sandbox: SandboxServer) -> None:
    before = place.tokens_file.read_bytes()
    run = poll(place, client_secret="no")
    assert run.logged.count("client_id and client_secret in [sources.cronofy] are not accepted") == 1
    assert run.outcomes == {"token_rejected": len(stored(place))}
    assert place.tokens_file.read_bytes() == before
    assert sum(answers(sandbox, "token").values()) <= 64


def test_what_cannot_be_written_back_is_not_refreshed(place: Place, sandbox: SandboxServer) -> None:
    run = poll(place, tokens=list(stored(place).values()))
    assert "cannot be written back" in run.logged
    assert answers(sandbox, "token") == {}
    [message] = {str(each.response.message) for each in run.polls}
    assert message.startswith("HTTP 401; not refreshed")


@pytest.mark.long
def test_a_token_endpoint_in_trouble_is_no_rejection(place: Place, sandbox: SandboxServer) -> None:
    sandbox.faults.add("status", status=503, endpoint="token")
    load(place)
    outcomes = Counter(
        outcome for (outcome,) in place.query("SELECT outcome FROM polls WHERE endpoint = 'userinfo'")
    )
    assert outcomes.keys() <= {"server_error", "skipped", "token_rejected"}
    assert outcomes["server_error"] >= 20
    # and once it is well again, everything is as if nothing had been
    sandbox.faults.clear()
    _, logged = load(place)
    assert "lost" not in logged
    assert set(answers(sandbox, "token")) == {"200", "503"}
    assert_nothing_is_lost(place, sandbox)


@pytest.mark.long
def test_an_answer_that_never_arrived_is_a_loss_that_is_named(place: Place, sandbox: SandboxServer) -> None:
    """The server rotated and the connection broke: nobody has the new refresh token."""
    unlucky = sorted(stored(place))[5]
    sandbox.faults.add("reset", endpoint="token", token_key=unlucky, partial=True)
    _, logged = load(place)
    sandbox.faults.clear()
    _, logged_later = load(place)
    assert len(re.findall(f"the refresh token of {unlucky} is lost", logged + logged_later)) == 1
    told = place.query(
        "SELECT token_key, message FROM polls WHERE outcome = 'grant_revoked' ORDER BY polled_at LIMIT 1"
    )
    assert told == [(unlucky, "refresh: invalid_grant; lost in an interrupted refresh")]
    assert_nothing_is_lost(place, sandbox, {unlucky})
    # it is said once: what is known to be lost is no news
    assert "lost" not in load(place)[1]


@pytest.mark.long
def test_somebody_elses_refresh_is_taken_over(place: Place, sandbox: SandboxServer) -> None:
    """The application refreshes its tokens itself while a load is under way."""
    sandbox.faults.add("drip", endpoint="userinfo", seconds=1.5, count=1000)
    process = place.start("load", "--every", "0s", **CLIENT)
    time.sleep(0.1)
    rows = stored(place)
    ours = sorted(rows)[:10]
    for key in ours:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": rows[key]["refresh_token"],
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
        }
        fresh = ask(sandbox, "POST", "/oauth/token", form).json()
        rows[key] |= {name: fresh[name] for name in ("access_token", "refresh_token")}
    with (place.directory / "new.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[ours[0]]))
        writer.writeheader()
        writer.writerows(rows.values())
    (place.directory / "new.csv").replace(place.tokens_file)
    sandbox.faults.clear()
    _, logged = process.communicate(timeout=60)
    assert process.returncode == 0, logged
    assert place.query("SELECT DISTINCT outcome FROM polls WHERE endpoint = 'userinfo'") == [("ok",)]
    assert_nothing_is_lost(place, sandbox)


def test_an_applications_own_table_is_refreshed_in_place(place: Place, sandbox: SandboxServer) -> None:
    database = place.directory / "application.sqlite"
    rows = [(row["key"], row["access_token"], row["refresh_token"]) for row in stored(place).values()]
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, token TEXT, refresh TEXT, note TEXT)")
        connection.executemany("INSERT INTO users VALUES (?, ?, ?, 'theirs')", rows)
    query = "SELECT id AS key, token AS access_token, refresh AS refresh_token FROM users"
    run = poll(place, tokens_query=query, tokens_database=f"sqlite:///{database}")
    assert run.outcomes["ok"] >= len(rows)
    with sqlite3.connect(database) as connection:
        now = connection.execute("SELECT id, token, refresh, note FROM users").fetchall()
    assert {note for *_, note in now} == {"theirs"}
    assert {(key, token) for key, token, *_ in now}.isdisjoint((key, token) for key, token, _ in rows)
    assert all(still_works(sandbox, refresh) for _, _, refresh, _ in now)


@pytest.mark.long
def test_killed_in_mid_refresh_a_run_loses_nothing_in_silence(place: Place, sandbox: SandboxServer) -> None:
    """kill -9 while tokens are refreshed; the next load puts it right.

    A refresh token may get lost between the server's answer and the store, but then the next load says so.
    """
    sandbox.faults.add("drip", endpoint="token", seconds=0.05)
    process = place.start("load", "--every", "0s", **CLIENT)
    kill_while_refreshing(process, sandbox, 10)
    sandbox.faults.clear()
    lost = set(said_to_be_lost(poll(place).logged))
    assert list(place.directory.glob("cronofy-refreshing-*")) == []
    assert_nothing_is_lost(place, sandbox, lost)


def kill_while_refreshing(process: "subprocess.Popen[str]", sandbox: SandboxServer, refreshed: int) -> None:
    """End the process when the server has answered that many refreshes."""
    wait_for_refreshes(process, sandbox, refreshed)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL


def wait_for_refreshes(process: "subprocess.Popen[str]", sandbox: SandboxServer, refreshed: int) -> None:
    deadline = time.monotonic() + 30
    while sum(answers(sandbox, "token").values()) < refreshed and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def used_up(sandbox: SandboxServer, held: dict[str, str]) -> set[str]:
    """The keys whose refresh token in the store works no more, as the server knows it."""
    return {key for key, token in held.items() if sandbox.app.grants.find(token) is None}


def refreshed(sandbox: SandboxServer) -> int:
    """How many refresh tokens were used."""
    return answers(sandbox, "token").get("200", 0)


def said_to_be_lost(logged: str) -> list[str]:
    return re.findall(r"the refresh token of (\S+) is lost", logged)


class FailingVault:
    """Takes new tokens, until it fails for good."""

    def __init__(self, rows: dict[str, Row], fails_at: int) -> None:
        self.held = {key: row["refresh_token"] for key, row in rows.items()}
        self._calls = 0
        self._fails_at = fails_at

    def keep(self, renewal: Renewal) -> None:
        self._calls += 1
        if self._calls >= self._fails_at:
            raise ConnectionError("the vault is sealed")
        self.held[renewal.token.key] = renewal.refresh_token.reveal()


def application_table(place: Place, *statements: str) -> tuple[Path, str]:
    """The tokens in an application's SQLite table `users`, and the query that reads them."""
    database = place.directory / "application.sqlite"
    rows = [(row["key"], row["access_token"], row["refresh_token"]) for row in stored(place).values()]
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, token TEXT, refresh TEXT)")
        connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
        for statement in statements:
            connection.execute(statement)
    return database, "SELECT id AS key, token AS access_token, refresh AS refresh_token FROM users"


def held_in(database: Path) -> dict[str, str]:
    with sqlite3.connect(database) as connection:
        return dict(connection.execute("SELECT id, refresh FROM users"))


def refusing(key: str) -> str:
    """A trigger of the application that lets nobody change one user."""
    return (
        f"CREATE TRIGGER t BEFORE UPDATE ON users WHEN OLD.id = '{key}'"
        " BEGIN SELECT RAISE(ABORT, 'suspended'); END"
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("fails_at", "most"), [(1, 1), (12, MAX_REFRESHES_IN_FLIGHT)])
def test_a_function_that_fails_ends_refreshing(
    place: Place, sandbox: SandboxServer, fails_at: int, most: int
) -> None:
    rows = stored(place)
    vault = FailingVault(rows, fails_at)
    run = poll(place, tokens=list(rows.values()), on_refresh=vault.keep)
    lost = used_up(sandbox, vault.held)
    assert 1 <= len(lost) <= most
    assert refreshed(sandbox) == fails_at - 1 + len(lost)
    assert set(run.lost) == set(said_to_be_lost(run.logged)) == lost
    assert run.outcomes["token_rejected"] >= len(rows) - refreshed(sandbox)


@pytest.mark.long
def test_a_trigger_that_lets_nobody_write_is_found_before_anything_is_used(
    place: Place, sandbox: SandboxServer
) -> None:
    database, query = application_table(
        place, "CREATE TRIGGER t BEFORE UPDATE ON users BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    run = poll(place, tokens_query=query, tokens_database=f"sqlite:///{database}")
    assert refreshed(sandbox) == 0
    assert run.lost == []
    assert "expired tokens are not refreshed: tokens_query cannot be written back" in run.logged


@pytest.mark.long
@pytest.mark.parametrize("fails", [False, True], ids=["loaded", "the warehouse is gone"])
def test_one_row_that_cannot_be_written_is_named_however_the_load_ends(
    place: Place, sandbox: SandboxServer, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = sorted(stored(place))[7]
    database, query = application_table(place, refusing(victim))
    environment = CLIENT | {
        "SOURCES__CRONOFY__TOKENS_FILE": "",
        "SOURCES__CRONOFY__TOKENS_QUERY": query,
        "SOURCES__CRONOFY__TOKENS_DATABASE": f"sqlite:///{database}",
    }

    def gone(*_: object) -> None:
        raise UnreachableError("the warehouse is gone")

    if fails:
        monkeypatch.setattr(Loading, "_load_package", gone)
    # one after the other, so that others wait while that one fails
    sandbox.faults.add("drip", endpoint="token", seconds=0.01)
    done = invoke(place, "load", "--json", "--max-failure-ratio", "1", **environment)
    assert done.exit_code == (2 if fails else 0), done.stderr
    assert used_up(sandbox, held_in(database)) == {victim}
    assert said_to_be_lost(done.stderr) == [victim]
    assert "suspended" not in done.stderr
    if not fails:
        assert json.loads(done.stdout)["lost_refresh_tokens"] == [victim]


@pytest.mark.long
def test_a_folder_that_goes_away_and_a_signal_lose_nothing_in_silence(
    place: Place, sandbox: SandboxServer
) -> None:
    """As a volume that is unmounted, or becomes read-only, while tokens are refreshed."""
    volume, gone = place.directory / "volume", place.directory / "gone"
    volume.mkdir()
    tokens_file = shutil.copy(place.tokens_file, volume / "tokens.csv")
    sandbox.faults.add("drip", endpoint="token", seconds=0.05)
    process = place.start(
        "load", "--json", "--max-failure-ratio", "1", **CLIENT, SOURCES__CRONOFY__TOKENS_FILE=str(tokens_file)
    )
    wait_for_refreshes(process, sandbox, 10)
    volume.rename(gone)
    process.send_signal(signal.SIGTERM)
    printed, logged = process.communicate(timeout=60)
    assert process.returncode == 0, logged
    shutil.copy(gone / "tokens.csv", place.tokens_file)
    lost = used_up(sandbox, {key: row["refresh_token"] for key, row in stored(place).items()})
    assert len(lost) <= MAX_REFRESHES_IN_FLIGHT
    assert set(json.loads(printed)["lost_refresh_tokens"]) == set(said_to_be_lost(logged)) == lost
    assert refreshed(sandbox) < len(stored(place))


@pytest.mark.long
def test_a_parquet_file_with_columns_of_nothing_but_none_is_refreshed(
    place: Place, sandbox: SandboxServer
) -> None:
    path = place.directory / "tokens.parquet"
    table = pa.Table.from_pylist(list(stored(place).values()))
    nothing = pa.nulls(table.num_rows)
    pq.write_table(table.append_column("expires_at", nothing).append_column("note", nothing), path)
    run = poll(place, tokens_file=str(path))
    held = {row["key"]: row["refresh_token"] for row in pq.read_table(path).to_pylist()}
    assert refreshed(sandbox) == len(held)
    assert used_up(sandbox, held) == set()
    assert run.lost == []


@pytest.mark.parametrize("ends", ["well", "in the middle"])
def test_the_source_by_itself_says_what_is_lost(
    place: Place, sandbox: SandboxServer, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = stored(place)
    vault = FailingVault(rows, 5)
    source = cronofy_source(
        tokens=list(rows.values()),
        on_refresh=vault.keep,
        base_url=place.base_url,
        client_id="sandbox-client",
        client_secret="sandbox-secret",
        requests_per_second=1e6,
        requests_per_minute=1e6,
    )

    def fail(table: Any) -> Any:
        if table.num_rows and refreshed(sandbox) >= 5:
            raise LookupError("somebody's own step")
        return table

    pipeline = dlt.pipeline(
        "cronofy",
        destination=dlt.destinations.duckdb(str(place.database)),
        pipelines_dir=str(place.data_dir),
        dataset_name="cronofy",
    )
    if ends == "well":
        pipeline.run(source)
    else:
        source.resources["polls"].add_map(fail)
        with pytest.raises(PipelineStepFailed):
            pipeline.run(source)
    lost = used_up(sandbox, vault.held)
    assert 1 <= len(lost) <= MAX_REFRESHES_IN_FLIGHT
    assert set(said_to_be_lost(caplog.text)) == lost


def test_check_says_that_new_tokens_could_not_be_written_back(place: Place, sandbox: SandboxServer) -> None:
    tokens = json.dumps(list(stored(place).values()))
    environment = {"SOURCES__CRONOFY__TOKENS": tokens, "SOURCES__CRONOFY__TOKENS_FILE": ""}
    why = "expired tokens will not be refreshed: tokens in [sources.cronofy] cannot be written back"
    done = invoke(place, "check", **CLIENT, **environment)
    assert done.exit_code == 1
    assert sum(line.startswith(why) for line in done.stdout.splitlines()) == 1
    found = json.loads(invoke(place, "check", "--json", **CLIENT, **environment).stdout)
    assert found["not_written_back"].startswith(why)
    # without client credentials nothing is refreshed, and a file can be written
    assert why not in invoke(place, "check", **environment).stdout
    assert "not_written_back" not in json.loads(invoke(place, "check", "--json", **CLIENT).stdout)
    assert refreshed(sandbox) == 0
