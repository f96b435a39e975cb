"""Alerts: one message for what opened in a load, nothing otherwise, and never a load that fails for it."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import httpx
import pytest
from click.testing import CliRunner, Result
from dlt.load.load import Load as LoadStep

from dlt_cronofy.alerts import outage_alerts as alerts
from dlt_cronofy.alerts.outage_alerts import (
    LISTED_OUTAGES,
    Alerts,
    OpenedOutage,
    Receiver,
    configured_alerts,
    opened_message,
    slack_text,
)
from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.warehouse.dataset import query_rows, sql_client
from dlt_cronofy.warehouse.dataset import read as dataset_read
from dlt_cronofy.warehouse.pipeline import open_pipeline
from tests.acceptance.documents import Document, disconnected, profile, userinfo
from tests.acceptance.place import Place, TestClock
from tests.acceptance.server import Reply, ScriptedServer
from tests.acceptance.threaded import Asked, ThreadedServer
from tests.pipelines.conftest import Answers
from tests.pipelines.loads import KilledError, killed
from tests.postgres import credentials, postgres_database

# part of the URL, as Slack and others put it there
TOKEN = "T0KEN-nobody-may-see"
UP, DOWN, GONE, FAILING = "up", "down", "gone", "failing"
OTHER_NAME = "down, renamed"


@dataclass
class Hook:
    """A webhook on a real server: what it was sent, and what it answers one after the other."""

    replies: list[Reply] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    base_url: str = ""

    def __call__(self, asked: Asked) -> Reply:
        assert (asked.method, asked.endpoint) == ("POST", f"hook?token={TOKEN}")
        self.messages.append(asked.form)
        return self.replies.pop(0) if self.replies else Reply(200)

    @property
    def url(self) -> str:
        return f"{self.base_url}/hook?token={TOKEN}"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    hook = Hook()
    with ThreadedServer(hook) as server:
        hook.base_url = server.base_url
        yield hook


@pytest.fixture
def waits() -> list[float]:
    """How long was waited between tries, which takes no time here."""
    return []


Told = Callable[..., Alerts]


@pytest.fixture
def told(hook: Hook, waits: list[float]) -> Told:
    """Alerts to the hook, or to another receiver."""

    def alerts_to(receiver: Receiver | None = None, **changed: Any) -> Alerts:
        return Alerts(receiver or Receiver(Secret(hook.url)), sleep=waits.append, **changed)

    return alerts_to


def pipeline_of(place: Place, destination: str = "duckdb") -> dlt.Pipeline:
    """The pipeline of a place."""
    credentials = str(place.database) if destination == "duckdb" else None
    folder = place.data_dir / "pipelines"
    return open_pipeline(destination, credentials=credentials, pipelines_dir=folder)


def load(place: Place, told: Alerts | None, destination: str = "duckdb", **chosen: Any) -> LoadResult:
    """One load with views, which tells somebody."""
    settings = PollingSettings(
        base_url=place.base_url, requests_per_second=1e6, requests_per_minute=1e6, max_attempts=1
    )
    defaults: dict[str, Any] = {"every": timedelta(0), "endpoints": ("userinfo",)}
    options = LoadOptions(**defaults | chosen)
    tokens = open_store(tokens_file=str(place.tokens_file)).read()
    return Load(pipeline_of(place, destination), settings, tokens, options, TestClock(), alerts=told).run()


def seen_as(state: str, account: str = "acc_one") -> Document | Reply:
    """What Cronofy answers of an account with one profile in that state."""
    up = profile("pro_1", service="office365")
    answers: dict[str, Document | Reply] = {
        UP: userinfo(account, [up]),
        DOWN: userinfo(account, [disconnected(up)]),
        OTHER_NAME: userinfo(account, [disconnected(up | {"profile_name": "somebody.else@example.com"})]),
        GONE: userinfo(account, []),
        FAILING: Reply(503),
    }
    return answers[state]


# the states in which successive loads see one profile, and in which of them somebody is told
STORIES: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "it stays well": ((UP, UP), (0, 0)),
    "it goes down, and stays down": ((UP, DOWN, DOWN), (0, 1, 0)),
    "it was down when first seen": ((DOWN, DOWN), (1, 0)),
    "it flaps: each time it goes down is an outage": ((UP, DOWN, UP, DOWN), (0, 1, 0, 1)),
    "it is removed while down, and comes back down": ((DOWN, GONE, DOWN), (1, 0, 1)),
    "a failed poll tells nothing": ((UP, FAILING, DOWN), (0, 0, 1)),
    "a failed poll ends no outage": ((DOWN, FAILING, DOWN), (1, 0, 0)),
    "another name while down is no outage": ((DOWN, OTHER_NAME), (1, 0)),
    "nothing could ever be read": ((FAILING,), (0,)),
}


@pytest.mark.long
def test_who_is_told_when(place: Place, answers: Answers, hook: Hook, told: Told) -> None:
    """Each story is of a token and an account of its own; all are played in the same loads."""
    tokens = {f"token{number}": story for number, story in enumerate(STORIES.values())}
    for turn in range(max(len(states) for states, _ in tokens.values())):
        playing = {key: story for key, story in tokens.items() if turn < len(story[0])}
        answers.by_token = {key: seen_as(states[turn], f"acc_{key}") for key, (states, _) in playing.items()}
        place.write_tokens(playing)
        hook.messages.clear()
        alerted = load(place, told()).alerted
        (message,) = hook.messages
        assert {outage["account_id"] for outage in message["outages"]} == {
            f"acc_{key}" for key, (_, expected) in playing.items() if expected[turn]
        }
        assert alerted == message["opened"] == sum(expected[turn] for _, expected in playing.values())


def test_the_message(place: Place, answers: Answers, hook: Hook, told: Told) -> None:
    """Ids, times and tokens of each; what is personal is in the warehouse and not in here."""
    up, zoom = profile("pro_1", service="office365", name="ann@example.com"), profile("pro_z", service="zoom")
    del zoom["provider_service"]  # as conferencing profiles come
    place.write_tokens(["one", "two", "other"])
    answers.by_token = dict.fromkeys(["one", "two"], userinfo("acc_one", [up], email="ann@example.com"))
    answers.by_token["other"] = userinfo("acc_other", [profile("pro_2")])
    assert load(place, told()).alerted == 0
    answers.by_token |= dict.fromkeys(["one", "two"], userinfo("acc_one", [disconnected(up)]))
    answers.by_token["other"] = userinfo("acc_other", [profile("pro_2")], [disconnected(zoom)])
    result = load(place, told())
    assert result.alerted == 2

    (message,) = hook.messages
    by_account = {outage["account_id"]: outage for outage in message.pop("outages")}
    assert message == {
        "version": 1,
        "event": "outages_opened",
        "run_id": result.run_id,
        "opened": 2,
        "already_down": 1,
        "by_provider": {"office365": 1, "zoom": 1},
        "more": 0,
    }
    rows = place.query("SELECT account_id, first_seen_at, started_after FROM outages WHERE ended_at IS NULL")
    times = {account: (seen.isoformat(), after and after.isoformat()) for account, seen, after in rows}
    assert by_account == {
        "acc_one": {
            "account_id": "acc_one",
            "profile_type": "calendar",
            "profile_id": "pro_1",
            "provider": "office365",
            "first_seen_at": times["acc_one"][0],
            "started_after": times["acc_one"][1],
            "already_down": False,
            "token_keys": ["one", "two"],
        },
        "acc_other": {
            "account_id": "acc_other",
            "profile_type": "conferencing",
            "profile_id": "pro_z",
            "provider": "zoom",
            "first_seen_at": times["acc_other"][0],
            "started_after": None,
            "already_down": True,
            "token_keys": ["other"],
        },
    }
    assert times["acc_one"][1] is not None
    assert dict(place.query("SELECT account_id, token_keys FROM needs_relink")) == {
        account: ",".join(outage["token_keys"]) for account, outage in by_account.items()
    }
    assert "@" not in json.dumps(hook.messages)
    assert "http" not in json.dumps(hook.messages)
    assert "Name of" not in json.dumps(hook.messages)


def test_many_are_counted_and_some_are_listed() -> None:
    seen_at = datetime(2026, 1, 5, 6, 12, tzinfo=UTC)
    keys = [f"key{number}" for number in range(LISTED_OUTAGES + 7)]
    outages = [OpenedOutage(f"acc_{key}", "calendar", "pro_1", "gsuite", seen_at, None) for key in keys]
    listed = {outage.account_id: ["one"] for outage in outages[:LISTED_OUTAGES]}
    message = opened_message("run", outages, listed)
    assert (message["opened"], len(message["outages"]), message["more"]) == (len(keys), LISTED_OUTAGES, 7)
    assert message["by_provider"] == {"gsuite": len(keys)}
    lines = slack_text(message).splitlines()
    assert lines[0] == "*57 outages opened*: gsuite 57; 57 already down when first seen"
    assert lines[-1] == "and 7 more"
    assert len(lines) == LISTED_OUTAGES + 2


# which step of an earlier load was the last, and how many packages of it are left
KILLS = {"before anything was loaded": 2, "between what changed and its polls": 1}


@pytest.mark.long
@pytest.mark.parametrize("kill", KILLS)
def test_what_a_killed_load_left_behind_is_sent_by_the_next(
    kill: str, place: Place, answers: Answers, hook: Hook, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.by_token["one"] = seen_as(UP)
    place.write_tokens(["one"])
    load(place, told())
    answers.by_token["one"] = seen_as(DOWN)
    load_package = LoadStep.load_single_package
    loaded: list[str] = []

    def only_the_first(step: LoadStep, load_id: str, schema: Any) -> None:
        if loaded:
            killed()
        loaded.append(load_id)
        load_package(step, load_id, schema)

    with monkeypatch.context() as patched:
        if KILLS[kill] == 2:
            patched.setattr(dlt.Pipeline, "load", killed)
        else:
            patched.setattr(LoadStep, "load_single_package", only_the_first)
        with pytest.raises(KilledError):
            load(place, told())
    assert hook.messages == []
    result = load(place, told(), every=timedelta(hours=1))
    assert (len(result.finished_packages), result.polls, result.alerted) == (KILLS[kill], 0, 1)
    assert [message["opened"] for message in hook.messages] == [1]


@pytest.mark.long
def test_what_was_relinked_meanwhile_is_not_sent(
    place: Place, answers: Answers, hook: Hook, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.by_token["one"] = seen_as(DOWN)
    place.write_tokens(["one"])
    with monkeypatch.context() as patched:
        patched.setattr(dlt.Pipeline, "load", killed)
        with pytest.raises(KilledError):
            load(place, told())
    answers.by_token["one"] = seen_as(UP)
    assert load(place, told()).alerted == 0
    assert hook.messages == []


# what successive loads see, and what is read of the warehouse for it: views are slow on PostgreSQL
READS: dict[str, tuple[str | None, list[str]]] = {
    "alerts are off": (DOWN, []),
    "nothing went down": (UP, ["profile_changes"]),
    "nothing was polled": (None, []),
    "one went down": (DOWN, ["profile_changes", "outages", "userinfo", "account", "profile_changes"]),
}


@pytest.mark.long
def test_no_more_is_read_than_it_takes(
    place: Place, answers: Answers, hook: Hook, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_tokens(["one"])
    read: list[str] = []

    def noted(client: Any, sql: str, *rest: Any) -> Any:
        read.extend(re.findall(r"{(\w+)}", sql))
        return dataset_read(client, sql, *rest)

    monkeypatch.setattr(alerts, "read", noted)
    found, messages = {}, []
    for case, (state, _) in READS.items():
        read.clear()
        if state:
            answers.by_token["one"] = seen_as(state)
        on = case != "alerts are off"
        load(place, told() if on else None, every=timedelta(0) if state else timedelta(hours=1))
        found[case] = list(read)
        messages.append(len(hook.messages))
    assert found == {case: expected for case, (_, expected) in READS.items()}
    assert messages == [0, 0, 0, 1]


# what the hook does, how often it is asked, and what the one line says; None where it takes the message
ANSWERS: dict[str, tuple[list[Reply], int, str | None]] = {
    "takes it": ([Reply(204)], 1, None),
    "takes it the second time": ([Reply(500)], 2, None),
    "takes it the third time": ([Reply(cut="reset"), Reply(429)], 3, None),
    "does not exist": ([Reply(404)] * 3, 3, "HTTP status 404"),
    "is somewhere else": ([Reply(302, headers=(("location", "/elsewhere"),))] * 3, 3, "HTTP status 302"),
    "hangs up": ([Reply(cut="reset")] * 3, 3, "Error"),
    "speaks something else": ([Reply(raw=b"\x16\x03\x01\r\n\r\n")] * 3, 3, "Error"),
    "takes too long": ([Reply(delay=5)] * 3, 3, "no answer within 0.3 s"),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dlt.Pipeline, str]]:
    """A load that saw an outage, and its run_id: alerts keep no state, so its message can be sent again."""
    folder = tmp_path_factory.mktemp("loaded")
    answers = Answers()
    answers.by_token["one"] = seen_as(DOWN)
    with ScriptedServer(answers) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DLT_DATA_DIR", str(folder / "data"))
        place = Place(folder, server.base_url)
        place.write_tokens(["one"])
        result = load(place, None)
        assert result.alerted is None
        yield pipeline_of(place), result.run_id


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", ANSWERS)
def test_a_receiver_that_fails_is_one_warning(
    case: str,
    hook: Hook,
    told: Told,
    waits: list[float],
    loaded: tuple[dlt.Pipeline, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    replies, tries, problem = ANSWERS[case]
    hook.replies = list(replies)
    alerts = told(timeout_seconds=0.3 if "long" in case else 10)
    with caplog.at_level(logging.DEBUG):
        alerted = alerts.send_opened(*loaded, finished_packages=())
    assert (len(hook.messages), len(waits)) == (tries, tries - 1)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert TOKEN not in caplog.text
    if problem is None:
        assert (alerted, warnings) == (1, [])
        return
    assert alerted == 0
    (line,) = [record.getMessage() for record in warnings]
    assert "got no alert of 1 opened outage(s), after 3 tries: " in line
    assert problem in line
    assert "needs_relink" in line
    assert waits == [1, 2]


def test_what_opened_in_finished_packages_is_sent_too(
    loaded: tuple[dlt.Pipeline, str], hook: Hook, told: Told
) -> None:
    """Those of a load that was killed and is finished by a later one."""
    pipeline, _ = loaded
    with sql_client(pipeline) as client:
        packages = [row["load_id"] for row in dataset_read(client, "SELECT load_id FROM {_dlt_loads}")]
    assert told().send_opened(pipeline, "a later run", packages) == 1
    assert told().send_opened(pipeline, "a later run", ["another package"]) == 0
    (message,) = hook.messages
    assert message["run_id"] == "a later run"


def test_nobody_listens(
    loaded: tuple[dlt.Pipeline, str], told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Receiver(Secret(f"http://127.0.0.1:1/hook?token={TOKEN}"))
    assert told(nowhere).send_opened(*loaded, finished_packages=()) == 0
    assert "after 3 tries: ConnectError" in caplog.text
    assert TOKEN not in caplog.text


def test_the_client_is_the_callers(loaded: tuple[dlt.Pipeline, str], told: Told) -> None:
    """A proxy or a certificate of one's own: whatever httpx can do."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    url = Secret("https://example.com/hook")
    webhook = Receiver(url, new_client=lambda: httpx.Client(transport=httpx.MockTransport(answer)))
    assert told(webhook).send_opened(*loaded, finished_packages=()) == 1
    assert [(request.method, str(request.url)) for request in sent] == [("POST", "https://example.com/hook")]
    assert sent[0].headers["content-type"] == "application/json"


def test_slack_is_told_in_words(loaded: tuple[dlt.Pipeline, str], hook: Hook, told: Told) -> None:
    told(Receiver.slack(Secret(hook.url))).send_opened(*loaded, finished_packages=())
    (message,) = hook.messages
    first, second = message["text"].splitlines()
    assert message["mrkdwn"] is True
    assert first == "*1 outage opened*: office365 1; 1 already down when first seen"
    assert second.startswith("• `acc_one` office365 calendar, down when first seen, 20")
    assert second.endswith(" UTC; token one")


def test_what_slack_would_take_for_markup_is_escaped() -> None:
    outage = {
        "account_id": "acc_1",
        "profile_type": "calendar",
        "provider": "<!channel>",
        "first_seen_at": "2026-01-05T06:12:00+00:00",
        "already_down": False,
        "token_keys": ["a&b", "<c>"],
    }
    message = {
        "opened": 1,
        "already_down": 0,
        "by_provider": {"<!channel>": 1},
        "outages": [outage],
        "more": 0,
    }
    assert slack_text(message) == (
        "*1 outage opened*: &lt;!channel&gt; 1\n"
        "• `acc_1` &lt;!channel&gt; calendar, seen down 2026-01-05 06:12 UTC; token a&amp;b, &lt;c&gt;"
    )


@pytest.mark.long
def test_postgres_tells_the_same(
    place: Place, answers: Answers, hook: Hook, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_tokens(["one"])
    with postgres_database() as uri:
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", credentials(uri))
        alerted = []
        for state in (UP, DOWN, DOWN):
            answers.by_token["one"] = seen_as(state)
            alerted.append(load(place, told(), "postgres").alerted)
        with sql_client(pipeline_of(place, "postgres")) as client:
            view = client.make_qualified_table_name("outages")
            (row,) = query_rows(client, f"SELECT first_seen_at, started_after FROM {view}")
    assert alerted == [0, 1, 0]
    (outage,) = hook.messages[0]["outages"]
    assert (outage["account_id"], outage["already_down"], outage["token_keys"]) == ("acc_one", False, ["one"])
    assert (outage["first_seen_at"], outage["started_after"]) == tuple(
        row[name].isoformat() for name in ("first_seen_at", "started_after")
    )


def invoke(place: Place, *arguments: str, **environment: str) -> Result:
    """The command, with the place's configuration in the environment."""
    return CliRunner().invoke(cli, arguments, env=place.environment(**environment), catch_exceptions=False)


@pytest.fixture
def opened(place: Place, answers: Answers) -> Place:
    """The next load sees an outage."""
    answers.by_token["one"] = seen_as(DOWN)
    place.write_tokens(["one"])
    return place


def test_the_command_tells_how_many(opened: Place, hook: Hook) -> None:
    on = invoke(opened, "load", "--json", SOURCES__CRONOFY__ALERTS_TO=hook.url)
    assert (on.exit_code, json.loads(on.stdout)["alerted"]) == (0, 1)
    assert len(hook.messages) == 1
    assert "got an alert of 1 opened outage(s)" in on.stderr


@pytest.mark.long
def test_a_failing_hook_fails_no_load_and_its_url_stays_secret(opened: Place, hook: Hook) -> None:
    """In no output, no file of dlt's and no table."""
    hook.replies = [Reply(500)] * 3
    done = opened.run(
        "-v", "load", "--json", SOURCES__CRONOFY__ALERTS_TO=hook.url, RUNTIME__LOG_LEVEL="DEBUG"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["alerted"] == 0
    assert "HTTP status 500" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    left = [path for path in Path(opened.directory).rglob("*") if path.is_file()]
    assert opened.database in left
    assert [path for path in left if TOKEN.encode() in path.read_bytes()] == []


HOOK_URL = f"https://hooks.slack.com/services/{TOKEN}"
# what is configured, and what the one line must say
BAD_CONFIGURATION: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "a word": ({"SOURCES__CRONOFY__ALERTS_TO": TOKEN}, ("alerts_to", "slack", "https://")),
    "another scheme": (
        {"SOURCES__CRONOFY__ALERTS_TO": f"ftp://host/{TOKEN}"},
        ("alerts_to", "slack", "https://"),
    ),
    "no host": ({"SOURCES__CRONOFY__ALERTS_TO": f"https:///{TOKEN}"}, ("alerts_to", "https://host/path")),
    "no port": (
        {"SOURCES__CRONOFY__ALERTS_TO": f"https://host:{TOKEN}/"},
        ("alerts_to", "https://host/path"),
    ),
    "Slack without its URL": (
        {"SOURCES__CRONOFY__ALERTS_TO": "slack"},
        ("alerts_to", "slack_incoming_hook", "RUNTIME__SLACK_INCOMING_HOOK"),
    ),
    "Slack with another thing": (
        {"SOURCES__CRONOFY__ALERTS_TO": "slack", "RUNTIME__SLACK_INCOMING_HOOK": f"#{TOKEN}"},
        ("slack_incoming_hook", "https://hooks.slack.com"),
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATION)
@pytest.mark.parametrize("command", ["load", "check"])
def test_bad_configuration_is_one_line_and_2(
    command: str, case: str, opened: Place, hook: Hook, answers: Answers
) -> None:
    settings, expected = BAD_CONFIGURATION[case]
    answers.by_token = {}
    result = invoke(opened, command, **settings)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.strip().splitlines()
    assert [part for part in expected if part not in line] == []
    assert TOKEN not in line
    assert not opened.database.exists()


# where it does not belong, and who says so: dlt itself of its own setting
MISPLACED = [
    ("sources.cronofy", "alerts_to", "secrets.toml"),
    ("runtime", "slack_incoming_hook", "secret values"),
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("section", "name", "said"), MISPLACED)
def test_a_url_in_config_toml_is_refused(section: str, name: str, said: str, opened: Place) -> None:
    folder = opened.directory / ".dlt"
    folder.mkdir()
    (folder / "config.toml").write_text(f'[{section}]\n{name} = "{HOOK_URL}"\n', encoding="utf-8")
    other = {} if name == "alerts_to" else {"SOURCES__CRONOFY__ALERTS_TO": "slack"}
    done = opened.run("load", **other)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert name in last
    assert said in last
    assert TOKEN not in done.stderr


# the environment, and who is told
RECEIVERS: dict[str, tuple[dict[str, str], Receiver | None]] = {
    "nothing": ({}, None),
    "an empty variable": ({"SOURCES__CRONOFY__ALERTS_TO": ""}, None),
    "a URL": ({"SOURCES__CRONOFY__ALERTS_TO": HOOK_URL}, Receiver(Secret(HOOK_URL))),
    "a URL from a file": ({"SOURCES__CRONOFY__ALERTS_TO": HOOK_URL + "\n"}, Receiver(Secret(HOOK_URL))),
    "Slack": (
        {"SOURCES__CRONOFY__ALERTS_TO": "Slack", "RUNTIME__SLACK_INCOMING_HOOK": HOOK_URL},
        Receiver.slack(Secret(HOOK_URL)),
    ),
    "Slack's URL alone, which dlt has other uses for": ({"RUNTIME__SLACK_INCOMING_HOOK": HOOK_URL}, None),
}


@pytest.mark.parametrize("case", RECEIVERS)
def test_who_is_configured(case: str, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    environment, receiver = RECEIVERS[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configured = configured_alerts()
    assert (configured and configured.receiver) == receiver
    assert TOKEN not in repr(configured)


def test_the_error_holds_no_url(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setenv("SOURCES__CRONOFY__ALERTS_TO", TOKEN)
    with pytest.raises(ConfigurationError) as error:
        configured_alerts()
    assert TOKEN not in str(error.value)
