"""Bodies as the API, its SDKs and public code have them, each of an account of its own, loaded twice."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from dlt_cronofy.source.tables import TABLES
from tests.acceptance.documents import account
from tests.acceptance.place import Place
from tests.acceptance.server import Reply, Request, ScriptedServer, says
from tests.cronofy.payloads import PAYLOADS

SENT = {name: sent for name, sent in PAYLOADS.items() if sent.endpoint in ("userinfo", "account", "profiles")}
ACCOUNT = re.compile(rb'"(acc|ser|apc)_\w+"')


def answer(request: Request) -> Reply:
    """The body that the token is named after; what else of that account is asked for fits it."""
    name = request.token
    sent = SENT[name]
    if sent.status != 200:
        return Reply(sent.status, sent.body)
    body = ACCOUNT.sub(rf'"\1_{name}"'.encode(), sent.body)
    if request.endpoint == sent.endpoint:
        return Reply(body=body)
    if sent.endpoint == "userinfo" and request.endpoint == "profiles":
        listed = _listed(body)
        return Reply(403) if listed is None else says({"profiles": listed})
    if request.endpoint == "account":
        return says(account(f"acc_{name}")) if b'"acc_' in body else Reply(403)
    return says({"sub": f"acc_{name}", "cronofy.type": "account"})


def _listed(body: bytes) -> list[object] | None:
    try:
        found: list[object] | None = json.loads(body).get("cronofy.data", {}).get("profiles")
    except json.JSONDecodeError:
        return None
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("payloads")
    with pytest.MonkeyPatch.context() as patched, ScriptedServer(answer) as server:
        patched.chdir(directory)
        patched.setenv("DLT_DATA_DIR", str(directory / "data"))
        patched.setenv("HOME", str(directory))
        place = Place(directory, server.base_url)
        place.write_tokens(SENT)
        for days_ago in (1.1, 0):
            place.clock.offset = -timedelta(days=days_ago)
            place.load(endpoints=("userinfo", "account", "profiles"), refresh_views=days_ago == 0)
        yield place


# token → what somebody must do, of which profile, with which link
ACTIONS: dict[str, list[tuple[str, str | None, str | None]]] = {
    "error_401_node_body": [("authorize", None, None)],
    "profiles_calmonkey_null_relink": [("relink", "pro_7782a96ff1609061631ebc5b", None)],
    "profiles_docs_2025": [
        ("relink", "pro_fe145c37de", "https://app.cronofy.com/relink/apple?email=ada@calendar.example")
    ],
    "profiles_ruby_malformed_relink": [
        ("relink", "pro_n23kjnwrw3", "http =>//to.cronofy.com/RaNggYu"),
    ],
    "userinfo_account_docs_2025": [
        ("initial_sync", "pro_n23kjnwrw2", None),
        ("relink", "pro_fe145c37de", "https://app.cronofy.com/relink/apple?email=ada@calendar.example"),
        ("relink", "pro_gfmdsg51qa", "https://app.cronofy.com/v2/relink/go_to?email=ada%40calendar.example"),
    ],
    "userinfo_google_stuck_initial_sync": [
        (
            "initial_sync",
            "pro_stuck00001",
            "https://app-au.cronofy.com/v2/relink/google?email=joan%40mail.example",
        ),
    ],
    "userinfo_office365_ews_migration": [
        ("migrate", "pro_ews0000001", "https://app.cronofy.com/graph_api_migration/mg_4f2d9c0a17"),
    ],
}
# token → verdict, calendar_verdict, conferencing_verdict; of all others no_profiles
VERDICTS = {
    "profiles_calmonkey_null_relink": ("down", "down", "no_profiles"),
    "profiles_docs_2025": ("degraded", "degraded", "no_profiles"),
    "profiles_ruby_malformed_relink": ("degraded", "degraded", "no_profiles"),
    "userinfo_account_docs_2025": ("degraded", "degraded", "degraded"),
    "userinfo_application_calendar_csharp": ("healthy", "healthy", "no_profiles"),
    "userinfo_calendar_id_with_at_sign": ("healthy", "healthy", "no_profiles"),
    "userinfo_conferencing_docs_2021": ("healthy", "no_profiles", "healthy"),
    "userinfo_google_stuck_initial_sync": ("healthy", "healthy", "no_profiles"),
    "userinfo_office365_ews_migration": ("healthy", "healthy", "no_profiles"),
} | {name: ("service_account",) * 3 for name in SENT if name.startswith("userinfo_service_account_")}
# what cannot be used though it is connected
UNUSABLE = {"pro_n23kjnwrw2", "pro_stuck00001", "pro_goo0000001"}


def test_exactly_what_must_be_done_is_listed(place: Place) -> None:
    found: dict[str, list[tuple[str, str | None, str | None]]] = {}
    sql = (
        "SELECT token_keys, reason, profile_id, url FROM needs_action ORDER BY token_keys, reason, profile_id"
    )
    for name, *action in place.query(sql):
        found.setdefault(name, []).append((action[0], action[1], action[2]))
    assert found == ACTIONS


def test_every_account_has_its_verdict(place: Place) -> None:
    sql = "SELECT token_keys, verdict, calendar_verdict, conferencing_verdict FROM account_health"
    found = {name: tuple(verdicts) for name, *verdicts in place.query(sql)}
    # nobody knows whose the rejected token is
    assert found == {name: VERDICTS.get(name, ("no_profiles",) * 3) for name in SENT if name in found}
    assert set(SENT) - set(found) == {"error_401_node_body"}


def test_every_profile_has_its_reason(place: Place) -> None:
    sql = "SELECT token_keys, profile_id, reason FROM profile_health WHERE reason IS NOT NULL"
    listed = [(name, each[1], each[0]) for name, actions in ACTIONS.items() for each in actions if each[1]]
    assert sorted(place.query(sql)) == sorted(listed)
    unusable = "SELECT profile_id FROM profile_health WHERE state = 'connected' AND NOT usable"
    assert {profile_id for (profile_id,) in place.query(unusable)} == UNUSABLE


def test_the_second_load_finds_no_change(place: Place) -> None:
    kinds = "SELECT kind, COUNT(*), COUNT(DISTINCT run_id) FROM profile_changes GROUP BY kind"
    assert place.query(kinds) == [("first_seen", 16, 1)]
    assert place.query("SELECT COUNT(*) FROM runs") == [(2,)]
    assert place.differences() == []


def test_a_call_that_fails_fails_alone(place: Place) -> None:
    failed = """
        SELECT DISTINCT token_key, endpoint FROM polls
        WHERE outcome = 'bad_payload' AND endpoint <> 'profiles' ORDER BY ALL
    """
    assert place.query(failed) == [
        ("account_node_not_wrapped", "account"),
        ("userinfo_account_csharp_trailing_comma", "userinfo"),
        ("userinfo_node_profile_without_connected", "userinfo"),
    ]
    assert place.query(
        "SELECT last_outcome FROM token_status WHERE token_key = 'account_node_not_wrapped'"
    ) == [("ok",)]
    # an application calendar is asked for its account once, before anybody knows what it is
    assert place.query(
        "SELECT COUNT(*) FROM polls WHERE token_key LIKE 'userinfo_app%' AND endpoint = 'account'"
    ) == [(1,)]


def test_fields_nobody_knows_are_one_column_each(place: Place) -> None:
    columns = {column for column, *_ in place.query("DESCRIBE userinfo")}
    extra = {column for column in columns if not column.startswith("_dlt")} - set(
        TABLES["userinfo"].schema.names
    )
    assert extra == {"cronofy_type", "profiles"}
