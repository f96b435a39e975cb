"""Alerts: one message for what is news in a load, nothing otherwise, and never a load that fails for it."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import httpx
import pytest
from click.testing import CliRunner, Result
from dlt.load.load import Load as LoadStep

from dlt_cronofy.alerts import news
from dlt_cronofy.alerts.sending import TEST, Alerts, Receiver, configured_alerts
from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.maintenance import Upkeep
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
from tests.acceptance.place import KilledError, Place, TestClock, killed
from tests.acceptance.server import Reply, ScriptedServer
from tests.acceptance.threaded import Asked, ThreadedServer
from tests.pipelines.conftest import Answers
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


Sending = Callable[..., Alerts]


@pytest.fixture
def sending(hook: Hook, waits: list[float]) -> Sending:
    """Alerts to the hook, or to another receiver."""

    def alerts_to(receiver: Receiver | None = None, **changed: Any) -> Alerts:
        return Alerts(receiver or Receiver(Secret(hook.url)), sleep=waits.append, **changed)

    return alerts_to


def pipeline_of(place: Place, destination: str = "duckdb") -> dlt.Pipeline:
    """The pipeline of a place."""
    credentials = str(place.database) if destination == "duckdb" else None
    folder = place.data_dir / "pipelines"
    return open_pipeline(destination, credentials=credentials, pipelines_dir=folder)


def load(place: Place, alerts: Alerts | None, destination: str = "duckdb", **chosen: Any) -> LoadResult:
    """One load with views and alerts."""
    settings = PollingSettings(
        base_url=place.base_url, requests_per_second=1e6, requests_per_minute=1e6, max_attempts=1
    )
    defaults: dict[str, Any] = {"every": timedelta(0), "endpoints": ("userinfo",)}
    options = LoadOptions(**defaults | chosen)
    tokens = open_store(tokens_file=str(place.tokens_file)).read()
    return Load(pipeline_of(place, destination), settings, tokens, options, TestClock(), alerts=alerts).run()


def seen_as(state: str, account: str = "acc_one") -> Document | Reply:
    """What Cronofy answers of an account with one profile in that state.

    Each account has a provider and a domain of its own, so that outages of several are no mass event.
    """
    up, email = profile("pro_1", service=f"provider_of_{account}"), f"somebody@{account}.example"
    answers: dict[str, Document | Reply] = {
        UP: userinfo(account, [up], email=email),
        DOWN: userinfo(account, [disconnected(up)], email=email),
        OTHER_NAME: userinfo(account, [disconnected(up | {"profile_name": "somebody.else"})], email=email),
        GONE: userinfo(account, [], email=email),
        FAILING: Reply(503),
    }
    return answers[state]


# the states in which successive loads see one profile, and what is news of it in each
STORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "it stays well": ((UP, UP), ("", "")),
    "it goes down, and stays down": ((UP, DOWN, DOWN), ("", "opened", "")),
    "it was down when first seen": ((DOWN, DOWN), ("opened", "")),
    "it flaps": ((UP, DOWN, UP, DOWN), ("", "opened", "relinked", "opened")),
    "it is removed while down, and comes back down": ((DOWN, GONE, DOWN), ("opened", "removed", "opened")),
    "a failed poll changes nothing": ((UP, FAILING, DOWN), ("", "", "opened")),
    "a failed poll ends no outage": ((DOWN, FAILING, DOWN), ("opened", "", "")),
    "another name while down is no outage": ((DOWN, OTHER_NAME), ("opened", "")),
    "nothing could ever be read": ((FAILING,), ("",)),
}


@pytest.mark.long
def test_what_is_sent_when(place: Place, answers: Answers, hook: Hook, sending: Sending) -> None:
    """Each story is of a token and an account of its own; all are played in the same loads."""
    answers.by_token["other"] = seen_as(UP, "acc_other")
    place.write_tokens(["other"])
    load(place, sending())
    tokens = {f"token{number}": story for number, story in enumerate(STORIES.values())}
    for turn in range(max(len(states) for states, _ in tokens.values())):
        playing = {key: story for key, story in tokens.items() if turn < len(story[0])}
        answers.by_token |= {key: seen_as(states[turn], f"acc_{key}") for key, (states, _) in playing.items()}
        place.write_tokens(["other", *playing])
        hook.messages.clear()
        alerted = load(place, sending()).alerted
        (message,) = hook.messages
        sent = {
            each["account_id"]: each.get("end_reason", "opened")
            for each in message["outages"] + message["ended"]
        }
        assert sent == {f"acc_{key}": story[1][turn] for key, story in playing.items() if story[1][turn]}
        assert alerted == sum(message["counts"].values()) == len(sent)


# which step of an earlier load was the last, and how many packages of it are left
KILLS = {"before anything was loaded": 2, "between what changed and its polls": 1}


@pytest.mark.long
@pytest.mark.parametrize("kill", KILLS)
def test_what_waited_in_packages_is_sent(
    kill: str,
    place: Place,
    answers: Answers,
    hook: Hook,
    sending: Sending,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers.by_token["one"] = seen_as(UP)
    place.write_tokens(["one"])
    load(place, None)
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
            load(place, sending())
    assert hook.messages == []
    result = load(place, sending(), every=timedelta(hours=1))
    assert (len(result.finished_packages), result.polls, result.alerted) == (KILLS[kill], 0, 1)
    assert [message["opened"] for message in hook.messages] == [1]


@pytest.mark.long
def test_what_a_killed_load_found_is_never_lost(
    place: Place, answers: Answers, hook: Hook, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent again only where the kill came after the message, and the message says so."""
    answers.by_token["one"] = seen_as(UP)
    place.write_tokens(["one"])
    load(place, None)
    answers.by_token["one"] = seen_as(DOWN)
    ages = timedelta(0), timedelta(hours=1)  # the second polls nothing
    for step, every in zip(((Alerts, "send_news"), (Upkeep, "finish_run")), ages, strict=True):
        with monkeypatch.context() as patched:
            patched.setattr(*step, killed)
            with pytest.raises(KilledError):
                load(place, sending(), every=every)
    assert load(place, sending(), every=ages[1]).alerted == 1
    assert load(place, sending(), every=ages[1]).alerted == 0
    first, second = hook.messages
    assert (first["opened"], first["outages"]) == (1, second["outages"])
    assert first["unfinished_runs"] == second["unfinished_runs"]
    ((found_by,),) = place.query("SELECT run_id FROM profile_changes WHERE state = 'disconnected'")
    assert first["unfinished_runs"] == [found_by]
    assert f"with what {found_by} found" in first["text"]


# what successive loads see, and what is read of the warehouse for it: views are slow on PostgreSQL
READS: dict[str, tuple[str | None, set[str]]] = {
    "alerts are off": (UP, set()),
    "nothing was polled": (None, {"runs"}),
    "nothing changed": (UP, {"runs", "profile_changes", "needs_action", "token_health", "token_status"}),
    "one was down when first seen": (
        OTHER_NAME,
        {"runs", "profile_changes", "needs_action", "token_health", "token_status", "outages", "_accounts"},
    ),
}


@pytest.mark.long
def test_no_more_is_read_than_it_takes(
    place: Place, answers: Answers, hook: Hook, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(client: Any, sql: str, *rest: Any) -> Any:
        read.extend(re.findall(r"{(\w+)}", sql))
        return dataset_read(client, sql, *rest)

    monkeypatch.setattr(news, "read", noted)
    found = {}
    for case, (state, _) in READS.items():
        read.clear()
        if state == UP:
            answers.by_token["one"] = seen_as(state)
        elif state:
            answers.by_token["two"] = seen_as(state, "acc_two")
        place.write_tokens(answers.by_token)
        on = case != "alerts are off"
        load(place, sending() if on else None, every=timedelta(0) if state else timedelta(hours=1))
        found[case] = set(read)
    assert found == {case: expected for case, (_, expected) in READS.items()}
    assert len(hook.messages) == 1


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
    sending: Sending,
    waits: list[float],
    loaded: tuple[dlt.Pipeline, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    replies, tries, problem = ANSWERS[case]
    hook.replies = list(replies)
    alerts = sending(timeout_seconds=0.3 if "long" in case else 10)
    with caplog.at_level(logging.DEBUG):
        alerted = alerts.send_news(*loaded)
    assert (len(hook.messages), len(waits)) == (tries, tries - 1)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert TOKEN not in caplog.text
    if problem is None:
        assert (alerted, warnings) == (1, [])
        return
    assert alerted == 0
    (line,) = [record.getMessage() for record in warnings]
    assert "got no alert (news: 1), after 3 tries: " in line
    assert problem in line
    assert line.endswith("dlt-cronofy alerts shows it")
    assert waits == [1, 2]


def test_nobody_listens(
    loaded: tuple[dlt.Pipeline, str], sending: Sending, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Receiver(Secret(f"http://127.0.0.1:1/hook?token={TOKEN}"))
    assert sending(nowhere).send_news(*loaded) == 0
    assert "after 3 tries: ConnectError" in caplog.text
    assert TOKEN not in caplog.text


def test_the_client_is_the_callers(loaded: tuple[dlt.Pipeline, str], sending: Sending) -> None:
    """A proxy or a certificate of one's own: whatever httpx can do."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    url = Secret("https://example.com/hook")
    webhook = Receiver(url, new_client=lambda: httpx.Client(transport=httpx.MockTransport(answer)))
    assert sending(webhook).send_news(*loaded) == 1
    assert [(request.method, str(request.url)) for request in sent] == [("POST", "https://example.com/hook")]
    assert sent[0].headers["content-type"] == "application/json"


def test_slack_gets_words(loaded: tuple[dlt.Pipeline, str], hook: Hook, sending: Sending) -> None:
    sending(Receiver.slack(Secret(hook.url))).send_news(*loaded)
    assert hook.messages == [{"text": "First look: 1 of 1 connection is down; not listed", "mrkdwn": True}]


def test_a_warehouse_that_cannot_answer_fails_no_load(
    loaded: tuple[dlt.Pipeline, str],
    hook: Hook,
    sending: Sending,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(news, "PRESENT_PROFILES", "SELECT nothing FROM {profile_health}")
    assert sending().send_news(*loaded) == 0
    assert "no alert is sent; what is news cannot be read" in caplog.text
    assert hook.messages == []


@pytest.mark.long
def test_postgres_says_the_same(
    place: Place, answers: Answers, hook: Hook, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_tokens(["one"])
    with postgres_database() as uri:
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", credentials(uri))
        alerted = []
        for state in (UP, DOWN, DOWN):
            answers.by_token["one"] = seen_as(state)
            alerted.append(load(place, sending(), "postgres").alerted)
        with sql_client(pipeline_of(place, "postgres")) as client:
            view = client.make_qualified_table_name("outages")
            (row,) = query_rows(client, f"SELECT first_seen_at, started_after FROM {view}")
    assert alerted == [1, 1, 0]
    assert hook.messages[0]["event"] == "first_look"
    (outage,) = hook.messages[1]["outages"]
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


def test_the_command_counts_what_was_sent(opened: Place, hook: Hook) -> None:
    on = invoke(opened, "load", "--json", SOURCES__CRONOFY__ALERTS_TO=hook.url)
    assert (on.exit_code, json.loads(on.stdout)["alerted"]) == (0, 1)
    assert len(hook.messages) == 1
    assert "got an alert (news: 1)" in on.stderr


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
    "another way to show people": (
        {"SOURCES__CRONOFY__ALERTS_SHOW": TOKEN},
        ("alerts_show", "ids, names, emails"),
    ),
    "Slack with another thing": (
        {"SOURCES__CRONOFY__ALERTS_TO": "slack", "RUNTIME__SLACK_INCOMING_HOOK": f"#{TOKEN}"},
        ("slack_incoming_hook", "https://hooks.slack.com"),
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATION)
@pytest.mark.parametrize("command", ["load", "check", "alerts --test"])
def test_bad_configuration_is_one_line_and_2(
    command: str, case: str, opened: Place, hook: Hook, answers: Answers
) -> None:
    settings, expected = BAD_CONFIGURATION[case]
    answers.by_token = {}
    opened.database.unlink()
    result = invoke(opened, *command.split(), **settings)
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


# the environment, and the receiver
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
def test_the_receiver_that_is_configured(case: str, monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
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


# what the hook answers, the exit status, and a part of the only line
TESTS: dict[str, tuple[list[Reply], int, str]] = {
    "it takes it": ([Reply(200)], 0, "the webhook in alerts_to got a test message"),
    "it does not": ([Reply(404)] * 3, 1, "got no test message, after 3 tries: HTTP status 404"),
}


@pytest.mark.parametrize("case", TESTS)
def test_a_hook_is_tried_without_a_warehouse(
    case: str, new_place: Place, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies, status, line = TESTS[case]
    hook.replies = list(replies)
    monkeypatch.setattr("dlt_cronofy.alerts.sending.PAUSE_SECONDS", 0.0)
    result = invoke(new_place, "alerts", "--test", SOURCES__CRONOFY__ALERTS_TO=hook.url)
    assert (result.exit_code, len(hook.messages)) == (status, len(replies))
    assert hook.messages[0] == {"version": 1, "event": "test", "text": TEST}
    assert line in result.output
    assert TOKEN not in result.output
    assert not new_place.database.exists()


def test_there_is_no_hook_to_try(place: Place) -> None:
    result = invoke(place, "alerts", "--test")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "alerts are off: set alerts_to in [sources.cronofy]" in result.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "First look: 1 of 1 connection is down; not listed\n"),
        (("--json",), "first_look"),
    ],
)
def test_what_the_newest_load_had_to_say(
    options: tuple[str, ...], expected: str, loaded: tuple[dlt.Pipeline, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, run_id = loaded
    monkeypatch.setattr("dlt_cronofy.warehouse.pipeline.open_pipeline", lambda *_: pipeline)
    shown = CliRunner().invoke(cli, ["alerts", *options], catch_exceptions=False)
    if options:
        message = json.loads(shown.stdout)
        assert (message["event"], message["run_id"]) == (expected, run_id)
    else:
        assert shown.stdout == expected
