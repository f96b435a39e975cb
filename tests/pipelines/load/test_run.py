"""The scheduled load: what is due, what goes first, and what several tokens of one account add up to."""

import json
from datetime import timedelta
from typing import Any

import pytest

from dlt_cronofy.load import steps
from tests.acceptance.documents import calendar, connected, disconnected, profile, userinfo
from tests.acceptance.place import KilledError, Place
from tests.acceptance.server import Reply, ScriptedServer, says
from tests.pipelines.conftest import Answers

HOUR = timedelta(hours=1)
USERINFO: dict[str, Any] = {"endpoints": ("userinfo",)}


def asked(server: ScriptedServer) -> list[str]:
    """The tokens asked for since the last look, in order."""
    tokens = [request.token for request, _ in server.log]
    server.log.clear()
    return tokens


def settle(place: Place, answers: Answers, keys: list[str]) -> None:
    """Keys whose tokens can be read, each for an account of its own."""
    answers.by_token |= {key: userinfo(f"acc_{key}", [profile(f"pro_{key}")]) for key in keys}
    place.write_tokens(keys)


@pytest.mark.long
def test_short_loads_take_turns_and_new_tokens_go_first(
    place: Place, answers: Answers, server: ScriptedServer
) -> None:
    """Oldest evidence first: two loads of three cover six tokens, the third begins again."""
    keys = [f"key{number}" for number in range(6)]
    settle(place, answers, keys)
    turns = []
    for number in range(3):
        place.clock.offset = number * HOUR
        result = place.load(max_requests=3, **USERINFO)
        assert (result.due, result.polled_tokens, result.stopped_by) == (6, 3, "max_requests")
        turns.append(set(asked(server)))
    assert [len(turn) for turn in turns] == [3, 3, 3]
    assert turns[0] | turns[1] == set(keys)
    assert turns[2] == turns[0]
    settle(place, answers, [*keys, "new1", "new2"])
    place.load(max_requests=2, **USERINFO)
    assert set(asked(server)) == {"new1", "new2"}


@pytest.mark.long
def test_tokens_that_always_fail_starve_nobody(
    place: Place, answers: Answers, server: ScriptedServer
) -> None:
    settle(place, answers, [f"key{number}" for number in range(6)])
    answers.by_token |= {key: Reply(401) for key in ("key0", "key1", "key2")}
    seen: set[str] = set()
    for number in range(2):
        place.clock.offset = number * HOUR
        place.load(max_requests=3, **USERINFO)
        seen |= set(asked(server))
    assert seen == set(answers.by_token)


@pytest.mark.long
def test_every_spares_what_was_read_and_not_what_failed(
    place: Place, answers: Answers, server: ScriptedServer
) -> None:
    settle(place, answers, ["good", "bad"])
    answers.by_token["bad"] = Reply(500)
    place.load(max_attempts=1, **USERINFO)
    asked(server)
    for minutes, expected in ((59, {"bad"}), (61, {"good", "bad"})):
        place.clock.offset = timedelta(minutes=minutes)
        place.load(every=HOUR, max_attempts=1, **USERINFO)
        assert set(asked(server)) == expected


@pytest.mark.long
def test_two_tokens_of_one_account_are_one_stream_of_samples(place: Place, answers: Answers) -> None:
    """The later answer of a load changes what the earlier one found, and only what it changes."""
    up, down = profile("pro_1"), disconnected(profile("pro_1"))
    answers.by_token = {
        "early": userinfo("acc_1", [up]),
        "late": says(userinfo("acc_1", [down, profile("pro_2")]), delay=0.3),
    }
    place.write_tokens(["early", "late"])
    place.load(**USERINFO)
    changes = (
        "SELECT token_key, profile_id, kind, state, previous_state FROM profile_changes"
        " ORDER BY observed_at, profile_id"
    )
    assert place.query(changes) == [
        ("early", "pro_1", "first_seen", "connected", None),
        ("late", "pro_1", "disconnected", "disconnected", "connected"),
        ("late", "pro_2", "first_seen", "connected", None),
    ]
    answers.by_token = {
        "early": says(userinfo("acc_1", [down, profile("pro_2")]), delay=0.3),
        "late": Reply(401),
        "new": userinfo("acc_1", [down, profile("pro_2")]),
    }
    place.write_tokens(["early", "late", "new"])
    result = place.load(**USERINFO)
    assert result.changes == {}
    assert place.query("SELECT token_key, profile_id, state FROM profiles ORDER BY ALL") == [
        ("early", "pro_1", "disconnected"),
        ("early", "pro_2", "connected"),
        ("late", "pro_1", "disconnected"),
        ("late", "pro_2", "connected"),
        ("new", "pro_1", "disconnected"),
        ("new", "pro_2", "connected"),
    ]


@pytest.mark.long
def test_profiles_alone_finds_out_whose_they_are_once(
    place: Place, answers: Answers, server: ScriptedServer
) -> None:
    settle(place, answers, ["one"])
    place.load(endpoints=("profiles",))
    assert server.calls == {"account": 1, "profiles": 1}
    server.log.clear()
    answers.by_token["one"] = userinfo("acc_one", [])
    place.load(endpoints=("profiles",))
    assert server.calls == {"profiles": 1}
    assert place.query("SELECT account_id, kind FROM profile_changes ORDER BY observed_at") == [
        ("acc_one", "first_seen"),
        ("acc_one", "removed"),
    ]


@pytest.mark.long
def test_profiles_says_nothing_of_conferencing(place: Place, answers: Answers) -> None:
    answers.by_token["one"] = userinfo("acc_1", [profile("pro_1")], [profile("conf_1", service="zoom")])
    place.write_tokens(["one"])
    place.load()
    place.load(endpoints=("profiles",))
    assert place.query("SELECT profile_id, state FROM profiles ORDER BY ALL") == [
        ("conf_1", "connected"),
        ("pro_1", "connected"),
    ]
    newest = "SELECT profiles, conferencing_profiles FROM polls ORDER BY polled_at DESC LIMIT 1"
    assert place.query(newest) == [(1, None)]


@pytest.mark.long
def test_what_the_api_adds_tomorrow_arrives(place: Place, answers: Answers) -> None:
    """New fields of any type and in any place, whose types change."""
    first = profile("pro_1", calendars=[calendar("cal_1") | {"colour": "red"}]) | {"added_at": "2026-01-01"}
    answers.by_token["one"] = userinfo("acc_1", [first]) | {"novelty": 1}
    place.write_tokens(["one"])
    place.load(**USERINFO)
    second = profile("pro_1", calendars=[calendar("cal_1") | {"colour": {"r": 255}}]) | {"added_at": 5}
    answers.by_token["one"] = userinfo("acc_1", [second]) | {"novelty": {"a": [1, 2]}, "run_id": "theirs"}
    place.load(**USERINFO)
    assert place.query("SELECT outcome, COUNT(*) FROM polls GROUP BY 1") == [("ok", 2)]

    def values(table: str) -> set[str]:
        (row,) = place.rows(table)
        return {str(value) for value in row.values()}

    assert {'{"a":[1,2]}', "theirs"} <= values("userinfo")
    assert "5" in values("profiles")
    assert '{"r":255}' in values("calendars")
    assert place.query("SELECT COUNT(*) FROM profile_changes") == [(1,)]


FIELD_NAMES = {
    "empty once normalized": ("", " ", "__"),
    "symbols": (
        "_",
        "x" * 300,
        "x" * 299 + "y",
        "select",
        "Colour",
        "colour",
        "COLOUR",
        "😀",
        "日本",
        "a.b",
        "a b",
        "$ref",
        "{}",
        "%s",
        "'; DROP TABLE polls; --",
    ),
    "names of ours": (
        "run_id",
        "Run_Id",
        "token_key",
        "observed_at",
        "content_hash",
        "unmapped_fields",
        "_dlt_id",
        "_DLT_LOAD_ID",
    ),
}
# more than get a column each, apart from the others for that reason
MANY_NAMES = {"a hundred and more": tuple(f"field_{number}" for number in range(150))}


@pytest.mark.long
@pytest.mark.parametrize("cases", [FIELD_NAMES, MANY_NAMES], ids=["of any kind", "many"])
def test_fields_of_any_name_arrive(cases: dict[str, tuple[str, ...]], place: Place, answers: Answers) -> None:
    """In every object of an answer, on the first load and on a later one; nothing else is harmed."""
    values: dict[str, list[str]] = {}
    for turn in ("first", "later"):
        for case, names in cases.items():
            key = f"{case.replace(' ', '-')}-{turn}"
            fields = {name: f"value {number}." for number, name in enumerate(names)}
            listed = profile("pro_1", calendars=[calendar("cal_1") | fields]) | fields
            answers.by_token[key] = userinfo(f"acc_{key}", [listed]) | fields
            values[key] = list(fields.values())
        place.write_tokens(answers.by_token)
        place.load()
    # the first ones' accounts are known by then, and are not asked for again
    assert place.query("SELECT outcome, COUNT(*) FROM polls GROUP BY 1") == [("ok", 5 * len(cases))]
    for table in ("userinfo", "profiles", "calendars"):
        rows = place.rows(table)
        assert sorted(row["token_key"] for row in rows) == sorted(values)
        for row in rows:
            text = " ".join(str(value) for value in row.values())
            missing = [value for value in values[row["token_key"]] if value not in text]
            assert missing == [], row["token_key"]


FAILED = {
    "forbidden": Reply(403),
    "locked": Reply(423),
    "down": Reply(503),
    "list": Reply(200, b"[]"),
    "null": Reply(200, b'{"profiles": null}'),
}


def test_a_failed_poll_changes_polls_alone(place: Place, answers: Answers) -> None:
    """Each token's poll fails in its own way."""
    settle(place, answers, list(FAILED))
    place.load(**USERINFO)
    before = place.counts()
    answers.by_token |= FAILED
    result = place.load(max_attempts=1, **USERINFO)
    assert (result.rows, result.failed_tokens) == ({"polls": len(FAILED)}, len(FAILED))
    assert place.counts() == before | {"polls": before["polls"] + len(FAILED)}


@pytest.mark.long
def test_reconnection_and_a_lost_list(place: Place, answers: Answers) -> None:
    """A service account's missing list removes nothing; an empty list removes what there was."""
    down = disconnected(profile("pro_1"))
    lists: dict[str, tuple[list[dict[str, Any]] | None, ...]] = {
        "lost": ([down], None, [connected(down)]),
        "empty": ([connected(down)], [], [down]),
    }
    place.write_tokens(lists)
    for turn in range(3):
        answers.by_token = {key: userinfo(f"acc_{key}", profiles[turn]) for key, profiles in lists.items()}
        place.load(**USERINFO)
    changes = (
        "SELECT kind, state, previous_state FROM profile_changes WHERE token_key = '{}' ORDER BY observed_at"
    )
    assert place.query(changes.format("lost")) == [
        ("first_seen", "disconnected", None),
        ("connected", "connected", "disconnected"),
    ]
    assert place.query(changes.format("empty")) == [
        ("first_seen", "connected", None),
        ("removed", "removed", "connected"),
        ("reappeared", "disconnected", "removed"),
    ]
    polls = "SELECT profiles, disconnected FROM polls WHERE token_key = '{}' ORDER BY polled_at"
    assert place.query(polls.format("lost")) == [(1, 1), (None, None), (1, 0)]
    assert place.query(polls.format("empty")) == [(1, 0), (0, 0), (1, 1)]


@pytest.mark.long
def test_a_killed_load_loses_one_batch_at_most(
    place: Place, answers: Answers, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "MIN_PACKAGE_POLLS", 50)
    keys = [f"key{number}" for number in range(120)]
    settle(place, answers, keys)

    def die_after(tokens: int) -> None:
        if tokens > 110:
            raise KilledError

    with pytest.raises((KilledError, Exception)):
        place.load(on_progress=die_after, requests_per_minute=50, **USERINFO)
    loaded = place.counts()["polls"]
    assert 50 <= loaded < 120
    asked(server)
    result = place.load(every=HOUR, **USERINFO)
    assert result.polled_tokens == 120 - loaded == len(asked(server))
    assert place.query("SELECT COUNT(DISTINCT token_key), COUNT(*) FROM profile_changes") == [(120, 120)]
    assert place.differences() == []


def test_the_result_is_made_for_machines_and_a_rejected_token_is_not_asked_for_more(
    place: Place, answers: Answers, server: ScriptedServer
) -> None:
    settle(place, answers, ["one", "two"])
    answers.by_token["two"] = Reply(402)
    place.write_tokens(["one", "two", "gone", "lost"])
    result = place.load()
    summary = json.loads(json.dumps(result.as_dict()))
    assert summary["run_id"] == place.query("SELECT DISTINCT run_id FROM polls")[0][0]
    assert summary["outcomes"] == {"ok": 2, "plan_required": 2, "token_rejected": 2}
    assert (summary["polled_tokens"], summary["failed_tokens"], summary["failure_ratio"]) == (4, 3, 0.75)
    assert summary["rows"]["polls"] == summary["polls"] == place.counts()["polls"]
    assert server.calls == {"userinfo": 4, "account": 2}
