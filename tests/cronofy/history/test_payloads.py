"""Bodies as the API, its SDKs and public code have them: each has the right outcome and the right rows."""

import re
from typing import Any

import orjson
import pytest

from dlt_cronofy.source.api.token_endpoint import error_code, read_document, read_renewal
from dlt_cronofy.source.history.capture import EXTRAS
from dlt_cronofy.source.privacy import Mode, PersonalData
from dlt_cronofy.source.records import Outcome, Poll, Response
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.token import Token
from tests.cronofy.bodies import answered, minute, poll
from tests.cronofy.capturing import captured
from tests.cronofy.payloads import IDENTITY, PAYLOADS

OWNER = "acc_known"
Rows = dict[str, list[dict[str, Any]]]

# name → why it is no ok poll
BAD = {
    "account_node_not_wrapped": "account is not an object",
    "userinfo_account_csharp_trailing_comma": "body is not JSON",
    "userinfo_node_profile_without_connected": "cronofy.data.profiles[0].profile_connected is not a boolean",
}
# name → account; profiles, of these disconnected; the same of conferencing; calendars. None: no such list
GOOD: dict[str, tuple[str, int | None, int | None, int | None, int | None, int]] = {
    "account_calmonkey_empty_name": ("acc_38da51e7b1345bb5fae3656a", None, None, None, None, 0),
    "account_docs_2025": ("acc_5700a00eb0ccd07000000000", None, None, None, None, 0),
    "account_pycronofy_no_sub": ("acc_567236000909002", None, None, None, None, 0),
    "account_ruby_minimal": ("acc_id_123", None, None, None, None, 0),
    "profiles_calmonkey_null_relink": (OWNER, 1, 1, None, None, 0),
    "profiles_docs_2025": (OWNER, 2, 1, None, None, 0),
    "profiles_empty": (OWNER, 0, 0, None, None, 0),
    "profiles_ruby_malformed_relink": (OWNER, 2, 1, None, None, 0),
    "userinfo_account_docs_2025": ("acc_5700a00eb0ccd07000000000", 2, 1, 2, 1, 3),
    "userinfo_application_calendar_csharp": ("apc_618a6dc923347b00a4ac6438", 1, 0, None, None, 1),
    "userinfo_calendar_id_with_at_sign": ("acc_5700a00eb0ccd07000000004", 1, 0, None, None, 2),
    "userinfo_conferencing_docs_2021": ("acc_5700a00eb0ccd07000000000", 0, 0, 1, 0, 0),
    "userinfo_flat_profiles_third_party_types": ("acc_5700a00eb0ccd07000000005", None, None, None, None, 0),
    "userinfo_google_stuck_initial_sync": ("acc_5700a00eb0ccd07000000002", 1, 0, None, None, 0),
    "userinfo_minimal_pycronofy": ("acc_5700a00eb0ccd07000000000", None, None, None, None, 0),
    "userinfo_office365_ews_migration": ("acc_5700a00eb0ccd07000000001", 3, 0, None, None, 2),
    "userinfo_service_account_csharp": ("ser_61a8b807a341fc00bee53042", None, None, None, None, 0),
    "userinfo_service_account_omniauth_flat_email": ("ser_9324872847", None, None, None, None, 0),
    "userinfo_service_account_ruby_flat": ("ser_5700a00eb0ccd07000000000", None, None, None, None, 0),
    "userinfo_type_holds_email_csharp_old": ("acc_567236000909002", None, None, None, None, 0),
}
# (name, profile) → connected, sync required, protocol, relink URL, migration URL
PROFILES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("profiles_calmonkey_null_relink", "pro_7782a96ff1609061631ebc5b"): (False, False, None, None, None),
    ("profiles_docs_2025", "pro_fe145c37de"): (
        False,
        False,
        None,
        "https://app.cronofy.com/relink/apple?email=ada@calendar.example",
        None,
    ),
    ("profiles_ruby_malformed_relink", "pro_n23kjnwrw2"): (True, None, None, None, None),
    ("profiles_ruby_malformed_relink", "pro_n23kjnwrw3"): (
        False,
        None,
        None,
        "http =>//to.cronofy.com/RaNggYu",
        None,
    ),
    ("userinfo_account_docs_2025", "pro_n23kjnwrw2"): (True, True, None, None, None),
    ("userinfo_account_docs_2025", "pro_gfmdsg51qa"): (
        False,
        None,
        None,
        "https://app.cronofy.com/v2/relink/go_to?email=ada%40calendar.example",
        None,
    ),
    ("userinfo_calendar_id_with_at_sign", "pro_U9uuErStTG@EAAAB"): (True, False, None, None, None),
    ("userinfo_google_stuck_initial_sync", "pro_stuck00001"): (
        True,
        True,
        None,
        "https://app-au.cronofy.com/v2/relink/google?email=joan%40mail.example",
        None,
    ),
    ("userinfo_office365_ews_migration", "pro_ews0000001"): (
        True,
        False,
        "exchange_web_services",
        None,
        "https://app.cronofy.com/graph_api_migration/mg_4f2d9c0a17",
    ),
    ("userinfo_office365_ews_migration", "pro_gra0000001"): (True, False, "graph_api", None, None),
    ("userinfo_office365_ews_migration", "pro_goo0000001"): (True, False, None, None, None),
}
PROFILE_COLUMNS = (
    "profile_connected",
    "profile_initial_sync_required",
    "provider_protocol",
    "profile_relink_url",
    "graph_api_migration_url",
)


def capture(name: str) -> tuple[Poll, Rows]:
    """The poll that had this body, and the rows that come of it where nothing is known yet."""
    sent = IDENTITY[name]
    owner = OWNER if sent.endpoint == "profiles" else None
    read = poll(sent.body, 0, endpoint=sent.endpoint, account_id=owner)
    return read, captured([read]).rows


def test_every_body_has_its_line() -> None:
    assert sorted([*BAD, *GOOD]) == sorted(IDENTITY)


@pytest.mark.parametrize("name", BAD)
def test_another_shape_is_a_bad_payload_and_a_row_of_polls_only(name: str) -> None:
    read, rows = capture(name)
    assert (read.response.outcome, read.response.message) == (Outcome.BAD_PAYLOAD, BAD[name])
    assert {table: len(found) for table, found in rows.items() if found} == {"polls": 1}


@pytest.mark.parametrize("name", GOOD)
def test_a_known_shape_is_ok_and_lists_what_it_lists(name: str) -> None:
    read, rows = capture(name)
    assert read.response.outcome is Outcome.OK
    [row] = rows["polls"]
    listed = ("profiles", "disconnected", "conferencing_profiles", "conferencing_disconnected")
    account_id, *counts, calendars = GOOD[name]
    assert [row["account_id"], *(row[column] for column in listed)] == [account_id, *counts]
    assert len(rows["calendars"]) == calendars
    profiles = (counts[0] or 0) + (counts[2] or 0)
    assert len(rows["profiles"]) == len(rows["profile_changes"]) == profiles
    identity = {"userinfo": len(rows["userinfo"]), "account": len(rows["account"])}
    assert identity == {"userinfo": 0, "account": 0} | (
        {} if read.endpoint == "profiles" else {read.endpoint: 1}
    )


@pytest.mark.parametrize(("name", "profile_id"), PROFILES)
def test_a_profile_is_what_its_body_says(name: str, profile_id: str) -> None:
    [row] = [each for each in capture(name)[1]["profiles"] if each["profile_id"] == profile_id]
    assert tuple(row.get(column) for column in PROFILE_COLUMNS) == PROFILES[name, profile_id]


def test_fields_nobody_knows_get_one_column_each() -> None:
    extras = {name: rows[table][0][EXTRAS] for name, table, rows in _identity_rows()}
    assert {name: sorted(found) for name, found in extras.items() if found} == {
        "userinfo_flat_profiles_third_party_types": ["cronofy_type", "profiles"]
    }


def _identity_rows() -> list[tuple[str, str, Rows]]:
    named = [(name, IDENTITY[name].endpoint) for name in GOOD if IDENTITY[name].endpoint != "profiles"]
    return [(name, endpoint, capture(name)[1]) for name, endpoint in named]


@pytest.mark.parametrize("mode", [Mode.HASH, Mode.DROP])
@pytest.mark.parametrize("name", GOOD)
def test_nothing_personal_is_in_any_row(name: str, mode: Mode) -> None:
    """No address, name or link; ids stay, those with an @ too."""
    sent = IDENTITY[name]
    personal = PersonalData(mode, Secret("sixteen letters!") if mode is Mode.HASH else None)
    response = Response(Outcome.OK, minute(0), minute(0), 1000, 200, sent.body)
    rows = captured([answered(response, sent.endpoint, account_id=OWNER, personal_data=personal)]).rows
    written = orjson.dumps(
        [row for found in rows.values() for row in found], option=orjson.OPT_NON_STR_KEYS
    ).decode()
    ids = re.findall(r"(?:pro|cal)_[\w@-]+", sent.body.decode())
    for each in sorted(set(ids), key=len, reverse=True):
        assert (each in written) == (sent.endpoint == "userinfo" or each.startswith("pro_")), each
        written = written.replace(each, "")
    assert not re.search(r"@|%40|https?:|http =>|mg_4f2d|Example|Bank Holidays|CORP", written)


# name → access token, refresh token and minutes it is good for, or the error
TOKEN_ANSWERS: dict[str, tuple[str, str, float] | str] = {
    "token_application_calendar_php": ("ACCESS", "REFRESH", 60),
    "token_code_exchange_ex_cronofy": ("ACCESS", "REFRESH", 60),
    "token_refresh_invalid_grant": "invalid_grant",
    "token_refresh_rotated": ("NEW_ACCESS", "NEW_REFRESH", 60),
    "token_refresh_same_access_token": ("OLD_ACCESS", "OLD_REFRESH", 1437 / 60),
}


@pytest.mark.parametrize("name", [name for name, sent in PAYLOADS.items() if sent.endpoint == "token"])
def test_answers_of_the_token_endpoint(name: str) -> None:
    sent, expected = PAYLOADS[name], TOKEN_ANSWERS[name]
    document = read_document(sent.body)
    outcome = Outcome.OK if sent.status == 200 else Outcome.GRANT_REVOKED
    response = Response(outcome, minute(0), minute(1), 1000, sent.status, sent.body)
    used = Token("k1", Secret("OLD_ACCESS"), Secret("OLD_REFRESH"), data_center="us")
    if isinstance(expected, str):
        assert (sent.status, error_code(document)) == (400, expected)
        return
    renewal = read_renewal(used, response, document)
    assert renewal is not None
    assert renewal.refresh_token is not None
    tokens = (renewal.access_token.reveal(), renewal.refresh_token.reveal())
    assert (*tokens, renewal.expires_at) == (*expected[:2], minute(expected[2]))
