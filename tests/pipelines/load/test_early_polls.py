"""`load --only` and `due_query`: tokens that are polled before their time, and first."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dlt_cronofy.load.steps import Polling
from tests.acceptance.documents import disconnected, profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.pipelines.conftest import Answers

KEYS = ["one", "two", "three"]
DUE_QUERY = "SOURCES__CRONOFY__DUE_QUERY"
QUERY = "SELECT token AS key, arrived_at AS notified_at FROM notices WHERE kind = 'profile_disconnected'"


@pytest.fixture
def loaded(place: Place, server: ScriptedServer, answers: Answers) -> Place:
    """Three tokens that were polled just now."""
    for key in KEYS:
        answers.by_token[key] = userinfo(f"acc_{key}", [profile("pro_1")])
    place.write_tokens(KEYS)
    place.load(endpoints=("userinfo",))
    server.log.clear()
    return place


@pytest.fixture
def notices(loaded: Place) -> Path:
    """The application's table of notifications."""
    file = loaded.directory / "app.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE notices (token, kind, arrived_at)")
        connection.commit()
    return file


def polled(server: ScriptedServer) -> list[str]:
    found = [request.token for request, _ in server.log]
    server.log.clear()
    return found


@pytest.mark.long
def test_only_polls_these_tokens_and_a_notification_is_followed_by_one_poll(
    loaded: Place, server: ScriptedServer, answers: Answers, notices: Path
) -> None:
    """Whatever the age of the others; the poll after a notification shows the outage."""
    only = ("--endpoints", "userinfo", "--only", "three,acc_one")
    shown = loaded.invoke("plan", *only).stdout
    assert "3 tokens in the store: 2 due, 0 fresh" in shown
    assert "only      three, acc_one" in shown
    assert loaded.invoke("load", *only).exit_code == 0
    assert sorted(polled(server)) == ["one", "three"]
    assert loaded.query("SELECT count(*) FROM token_status WHERE left_at IS NOT NULL") == [(0,)]
    settings = {"SOURCES__CRONOFY__TOKENS_DATABASE": f"sqlite:///{notices}", DUE_QUERY: QUERY}
    assert loaded.invoke("load", **settings).exit_code == 0
    assert polled(server) == []
    answers.by_token["two"] = userinfo("acc_two", [disconnected(profile("pro_1"))])
    with closing(sqlite3.connect(notices)) as connection:
        row = ("two", "profile_disconnected", datetime.now(UTC).isoformat())
        connection.execute("INSERT INTO notices VALUES (?, ?, ?)", row)
        connection.commit()
    shown = loaded.invoke("plan", **settings).stdout
    assert "3 tokens in the store: 1 due, 2 fresh" in shown
    assert "1 notified, first" in shown
    plan = json.loads(loaded.invoke("plan", "--json", **settings).stdout)
    assert [(each["token_key"], each["reason"]) for each in plan["first"]] == [("two", "notified")]
    assert polled(server) == []
    for _ in range(2):
        assert loaded.invoke("load", **settings).exit_code == 0
    assert "two" in polled(server)
    assert loaded.query("SELECT account_id, kind FROM profile_changes WHERE kind = 'disconnected'") == [
        ("acc_two", "disconnected")
    ]
    assert loaded.query("SELECT count(*) FROM polls WHERE endpoint = 'userinfo'") == [(6,)]


@pytest.mark.parametrize(
    ("arguments", "settings", "why"),
    [
        (("--only", "three,typo"), {}, "--only typo: no token of the store has that key"),
        (("--only", " , "), {}, "name at least one token or account"),
        (("--spread", "soon"), {}, "'soon' is not a duration"),
        ((), {DUE_QUERY: QUERY}, "due_query needs tokens_database"),
        (
            (),
            {DUE_QUERY: "SELECT 1", "SOURCES__CRONOFY__TOKENS_DATABASE": "sqlite://"},
            "due_query in [sources.cronofy] must return the columns key or account_id, and notified_at",
        ),
        (
            (),
            {DUE_QUERY: "SELECT x FROM gone", "SOURCES__CRONOFY__TOKENS_DATABASE": "sqlite://"},
            "due_query in [sources.cronofy] failed: OperationalError (no such table: gone)",
        ),
    ],
)
@pytest.mark.parametrize("command", ["load", "plan"])
def test_what_cannot_be_planned_is_2_and_one_line_before_the_first_call(
    place: Place,
    server: ScriptedServer,
    command: str,
    arguments: tuple[str, ...],
    settings: dict[str, str],
    why: str,
) -> None:
    place.write_tokens(KEYS)
    done = place.invoke(command, *arguments, **settings)
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in done.stderr
    assert polled(server) == []


def test_a_load_that_is_spread_uses_only_that_rate(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []

    def note(self: Polling) -> None:
        rates.append((self.settings.requests_per_second, self.settings.requests_per_minute))
        raise OSError("the machine went away")

    monkeypatch.setattr(Polling, "stream", note)
    place.write_tokens(KEYS)
    limits = {"SOURCES__CRONOFY__REQUESTS_PER_SECOND": "40", "SOURCES__CRONOFY__REQUESTS_PER_MINUTE": "400"}
    for spread in ((), ("--spread", "1m"), ("--spread", "1s")):
        place.invoke("load", "--every", "0s", "--endpoints", "userinfo", *spread, **limits)
    assert rates == [(40, 400), (2, 2), (2, 3)]
