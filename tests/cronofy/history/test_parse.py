"""Payloads: every kind of principal, lenient about leaves, strict about structure."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from dlt.common.schema import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from dlt_cronofy.source.errors import BadPayload
from dlt_cronofy.source.history.arrow import to_arrow
from dlt_cronofy.source.history.capture import Capture
from dlt_cronofy.source.history.parse import parse
from dlt_cronofy.source.history.texts import clean_text
from dlt_cronofy.source.privacy import PersonalData
from dlt_cronofy.source.records import Outcome, Payload, Profile, Response
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tables import TABLES
from tests.cronofy.bodies import (
    Json,
    account,
    answered,
    application_calendar,
    calendar,
    conferencing,
    older_service_account,
    profile,
    profiles,
    service_account,
    userinfo,
)
from tests.cronofy.capturing import captured
from tests.cronofy.clocks import START

ENDPOINTS = ("userinfo", "account", "profiles")
DEEP = b"[" * 600 + b"]" * 600


def read(body: Json | bytes, endpoint: str = "userinfo") -> Payload:
    return parse(endpoint, body if isinstance(body, bytes) else orjson.dumps(body))


def record_of(body: Json, endpoint: str = "userinfo") -> Any:
    record = read(body, endpoint).record
    assert record is not None
    return record


def only_profile(body: Json, profile_type: str = "calendar", endpoint: str = "userinfo") -> Profile:
    [found] = read(body, endpoint).samples[profile_type]
    return found


def test_an_account_with_all_there_is() -> None:
    body = userinfo(
        profile("pro_1", profile_calendars=[calendar("cal_1"), calendar("cal_2", calendar_primary=False)]),
        profile("pro_2", connected=False),
        conferencing_profiles=[conferencing("pro_z", connected=False, profile_relink_url="https://x")],
    )
    payload = read(body)
    assert payload.account_id == "acc_1"
    assert payload.record is not None
    assert payload.record.columns == {
        "type": "account",
        "email": "example@cronofy.com",
        "name": "Jane Doe",
        "zoneinfo": "Europe/London",
        "scope": "read_write",
        "status": "active",
    }
    assert payload.record.extras == {}
    first, second = payload.samples["calendar"]
    assert (first.profile_id, first.connected, second.profile_id, second.connected) == (
        "pro_1",
        True,
        "pro_2",
        False,
    )
    assert first.record.columns == {
        "provider_name": "google",
        "provider_service": "gsuite",
        "profile_name": "example@cronofy.com",
        "profile_connected": True,
        "profile_initial_sync_required": False,
    }
    assert second.record.columns["profile_relink_url"].startswith("https://app.cronofy.com/")
    assert first.calendars is not None
    assert [each.calendar_id for each in first.calendars] == ["cal_1", "cal_2"]
    assert first.calendars[1].record.columns == {
        "calendar_name": "Home",
        "calendar_readonly": False,
        "calendar_deleted": False,
        "calendar_primary": False,
        "calendar_integrated_conferencing_available": False,
        "calendar_attachments_available": True,
        "permission_level": "sandbox",
    }
    assert second.calendars is None
    [meeting] = payload.samples["conferencing"]
    assert (meeting.profile_type, meeting.profile_id, meeting.connected) == ("conferencing", "pro_z", False)
    assert meeting.record.columns["provider_name"] == "zoom"


def test_a_service_account_has_no_profile_list() -> None:
    payload = read(service_account())
    assert payload.samples == {}
    assert payload.account_id == "ser_1"
    assert payload.record is not None
    assert payload.record.columns == {
        "type": "service_account",
        "email": "admin@example.com",
        "scope": "service_account/accounts/manage",
        "status": "active",
        "delegated_scope": "read_write",
        "service_account_provider_name": "exchange",
        "service_account_domain": "example.com",
    }
    assert payload.record.extras == {}


def test_a_service_account_in_the_older_flat_form() -> None:
    payload = read(older_service_account())
    assert payload.samples == {}
    assert payload.record is not None
    assert payload.record.columns == {
        "type": "service_account",
        "email": "admin@example.com",
        "service_account_domain": "example.com",
    }
    assert payload.record.extras == {}


def test_an_application_calendar_has_profiles_and_no_person() -> None:
    payload = read(application_calendar())
    assert payload.record is not None
    assert payload.record.columns == {
        "type": "application_calendar",
        "scope": "read_write",
        "status": "active",
        "application_calendar_id": "my-unique-id",
    }
    assert [each.profile_id for each in payload.samples["calendar"]] == ["pro_a"]


def test_the_nested_form_wins_over_the_flat_one() -> None:
    body = service_account() | {
        "cronofy.service_account.domain": "old.example.com",
        "cronofy.service_account.email": "old@example.com",
    }
    columns = record_of(body).columns
    assert columns["service_account_domain"] == "example.com"
    assert columns["email"] == "admin@example.com"


def test_account_says_the_same_flatter() -> None:
    payload = read(account(type="account"), "account")
    assert (payload.account_id, payload.samples) == ("acc_1", {})
    assert payload.record is not None
    assert payload.record.columns == {
        "email": "example@cronofy.com",
        "name": "Jane Doe",
        "scope": "read_events create_event",
        "default_tzid": "Europe/London",
        "type": "account",
    }
    assert payload.record.extras == {}


@pytest.mark.parametrize(
    "body",
    [
        {"account": {"account_id": "acc_1"}},
        {"account": {"account_id": "acc_1"}, "sub": "acc_1"},
        {"account": {"email": "x@y"}, "sub": "acc_1"},
        {"account": {"account_id": None}, "sub": "acc_1"},
    ],
    ids=["no sub", "both", "sub alone", "null and sub"],
)
def test_account_is_named_by_either_id(body: Json) -> None:
    assert read(body, "account").account_id == "acc_1"


def test_profiles_name_no_account_and_say_nothing_of_conferencing() -> None:
    payload = read(profiles(profile(), profile("pro_2")), "profiles")
    assert (payload.account_id, payload.record) == (None, None)
    assert set(payload.samples) == {"calendar"}
    assert [each.calendars for each in payload.samples["calendar"]] == [None, None]


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        ({"profiles": []}, {"calendar": []}),
        ({"profiles": [], "conferencing_profiles": []}, {"calendar": [], "conferencing": []}),
        ({"conferencing_profiles": []}, {"conferencing": []}),
        ({"profiles": None, "conferencing_profiles": None}, {}),
        ({}, {}),
        (None, {}),
    ],
)
def test_an_empty_list_is_a_sample_and_no_list_is_none(data: Json | None, samples: Json) -> None:
    assert read({"sub": "acc_1", "cronofy.data": data}).samples == samples


@pytest.mark.parametrize("name", ["  ", "Ωμέγα 🌍", "a" * 10_000])
def test_names_are_kept_as_they_are(name: str) -> None:
    assert record_of(userinfo(name=name)).columns["name"] == name


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("field", ["email", "name", "zoneinfo", "cronofy.type"])
def test_a_null_or_empty_field_is_a_missing_field(field: str, nothing: str | None) -> None:
    without = userinfo()
    del without[field]
    null = record_of(userinfo() | {field: nothing})
    assert null == record_of(without)
    assert field.removeprefix("cronofy.") not in null.columns


@pytest.mark.parametrize("kind", ["resource", "organizational_unit", "Account"])
def test_kinds_and_states_may_grow(kind: str) -> None:
    body = userinfo(data={"authorization": {"status": kind}}) | {"cronofy.type": kind}
    assert record_of(body).columns["type"] == kind
    assert record_of(body).columns["status"] == kind


@pytest.mark.parametrize(
    ("body", "extras"),
    [
        (userinfo(plan="gold"), {"plan": "gold"}),
        (userinfo() | {"cronofy.region": {"id": 1}}, {"cronofy.region": {"id": 1}}),
        (userinfo(data={"quota": [1]}), {"cronofy.data__quota": [1]}),
        (
            userinfo(data={"authorization": {"scope": "x", "expires": 5}}),
            {"cronofy.data__authorization__expires": 5},
        ),
        (
            userinfo(data={"service_account": {"tenant": "t"}}),
            {"cronofy.data__service_account__tenant": "t"},
        ),
        (userinfo(plan=None), {}),
        (userinfo(email=5), {"email": 5}),
        (userinfo(data={"authorization": {"scope": ["a", "b"]}}), {"scope": ["a", "b"]}),
    ],
)
def test_unknown_and_oddly_typed_fields_of_userinfo_are_carried_along(body: Json, extras: Json) -> None:
    assert record_of(body).extras == extras


@pytest.mark.parametrize(
    ("body", "extras"),
    [
        (account(plan="gold"), {"plan": "gold"}),
        (account() | {"pages": {"total": 1}}, {"pages": {"total": 1}}),
        (account(name=True), {"name": True}),
    ],
)
def test_unknown_and_oddly_typed_fields_of_account_are_carried_along(body: Json, extras: Json) -> None:
    assert record_of(body, "account").extras == extras


@pytest.mark.parametrize(
    ("fields", "extras"),
    [
        ({"reason": "password"}, {"reason": "password"}),
        ({"icloud_app_specific_password_required": True}, {"icloud_app_specific_password_required": True}),
        ({"profile_name": 7}, {"profile_name": 7}),
        ({"profile_initial_sync_required": "no"}, {"profile_initial_sync_required": "no"}),
        ({"profile_relink_url": None}, {}),
        ({"nested": {"a": [1, {"b": None}]}}, {"nested": {"a": [1, {"b": None}]}}),
    ],
)
@pytest.mark.parametrize("where", ["userinfo", "profiles", "conferencing"])
def test_unknown_and_oddly_typed_fields_of_a_profile_are_carried_along(
    fields: Json, extras: Json, where: str
) -> None:
    if where == "conferencing":
        found = only_profile(userinfo(conferencing_profiles=[conferencing(**fields)]), "conferencing")
    elif where == "profiles":
        found = only_profile(profiles(profile(**fields)), endpoint="profiles")
    else:
        found = only_profile(userinfo(profile(**fields)))
    assert found.record.extras == extras


@pytest.mark.parametrize(
    ("fields", "extras"),
    [
        ({"color": "#fff"}, {"color": "#fff"}),
        ({"calendar_primary": 1}, {"calendar_primary": 1}),
        ({"calendar_name": None}, {}),
        ({"permission_level": ["sandbox"]}, {"permission_level": ["sandbox"]}),
    ],
)
def test_unknown_and_oddly_typed_fields_of_a_calendar_are_carried_along(fields: Json, extras: Json) -> None:
    calendars = only_profile(userinfo(profile(profile_calendars=[calendar(**fields)]))).calendars
    assert calendars is not None
    assert calendars[0].record.extras == extras


@pytest.mark.parametrize(
    "identifier", ["x", "a" * 5000, "acc_567236000909002", "é🌍", "acc 1", "'; DROP TABLE", "\n"]
)
def test_ids_of_any_length_and_script(identifier: str) -> None:
    body = userinfo(profile(identifier, profile_calendars=[calendar(identifier)]), sub=identifier)
    payload = read(body)
    found = payload.samples["calendar"][0]
    assert found.calendars is not None
    assert payload.account_id == found.profile_id == found.calendars[0].calendar_id == identifier


def test_nul_is_replaced_wherever_text_goes() -> None:
    body = userinfo(
        profile("p\0", profile_name="n\0", profile_calendars=[calendar("c\0", calendar_name="m\0")]),
        sub="a\0",
        name="o\0",
    )
    payload = read(body)
    found = payload.samples["calendar"][0]
    assert payload.record is not None
    assert found.calendars is not None
    assert [
        payload.account_id,
        payload.record.columns["name"],
        found.profile_id,
        found.record.columns["profile_name"],
        found.calendars[0].calendar_id,
        found.calendars[0].record.columns["calendar_name"],
    ] == [f"{letter}\ufffd" for letter in "aopncm"]


SECRET = "quoted-from-the-body"


@pytest.mark.parametrize(
    ("endpoint", "body", "message"),
    [
        ("userinfo", b"", "body is not JSON"),
        ("userinfo", b"<html>" + SECRET.encode(), "body is not JSON"),
        ("userinfo", b'{"sub":"' + SECRET.encode(), "body is not JSON"),
        ("userinfo", b'{"sub":"acc_1"} ' + SECRET.encode(), "body is not JSON"),
        ("userinfo", b'\xff\xfe{"sub":"acc_1"}', "body is not JSON"),
        ("userinfo", b'{"sub":"\\ud800"}', "body is not JSON"),
        ("userinfo", b'{"sub":"acc_1","x":NaN}', "body is not JSON"),
        ("userinfo", b'{"sub":"acc_1","x":Infinity}', "body is not JSON"),
        ("userinfo", b"[" * 100_000, "body is not JSON"),
        ("userinfo", b'{"sub":"acc_1","x":' + DEEP + b"}", "body is nested too deeply"),
        ("userinfo", b"[]", "body is not an object"),
        ("userinfo", b"null", "body is not an object"),
        ("userinfo", f'"{SECRET}"'.encode(), "body is not an object"),
        ("userinfo", {}, "body.sub is not an identifier"),
        ("userinfo", {"sub": None}, "body.sub is not an identifier"),
        ("userinfo", {"sub": 5}, "body.sub is not an identifier"),
        ("userinfo", {"sub": ""}, "body.sub is not an identifier"),
        ("userinfo", userinfo() | {"cronofy.data": SECRET}, "body.cronofy.data is not an object"),
        ("userinfo", userinfo() | {"cronofy.data": []}, "body.cronofy.data is not an object"),
        (
            "userinfo",
            userinfo(data={"authorization": SECRET}),
            "cronofy.data.authorization is not an object",
        ),
        ("userinfo", userinfo(data={"profiles": {}}), "cronofy.data.profiles is not a list"),
        ("userinfo", userinfo(data={"profiles": SECRET}), "cronofy.data.profiles is not a list"),
        ("userinfo", userinfo(data={"profiles": False}), "cronofy.data.profiles is not a list"),
        ("userinfo", userinfo(data={"profiles": [SECRET]}), "cronofy.data.profiles[0] is not an object"),
        (
            "userinfo",
            userinfo(profile(), profile(None)),  # type: ignore[arg-type]
            "cronofy.data.profiles[1].profile_id is not an identifier",
        ),
        (
            "userinfo",
            userinfo(conferencing_profiles=[conferencing(connected=SECRET)]),
            "cronofy.data.conferencing_profiles[0].profile_connected is not a boolean",
        ),
        (
            "userinfo",
            userinfo(profile(profile_calendars={"x": SECRET})),
            "cronofy.data.profiles[0].profile_calendars is not a list",
        ),
        (
            "userinfo",
            userinfo(profile(profile_calendars=[calendar(), 7])),
            "cronofy.data.profiles[0].profile_calendars[1] is not an object",
        ),
        (
            "userinfo",
            userinfo(profile(profile_calendars=[calendar(7)])),  # type: ignore[arg-type]
            "cronofy.data.profiles[0].profile_calendars[0].calendar_id is not an identifier",
        ),
        ("account", {"sub": "acc_1"}, "account is not an object"),
        ("account", {"account": SECRET}, "account is not an object"),
        ("account", {"account": {}}, "account.account_id is not an identifier"),
        ("account", account(7), "account.account_id is not an identifier"),
        ("profiles", {}, "profiles is missing"),
        ("profiles", {"profiles": None}, "profiles is not a list"),
        ("profiles", profiles(profile(connected=None)), "profiles[0].profile_connected is not a boolean"),
    ],
)
def test_what_is_not_of_the_documented_shape_is_named_by_place(
    endpoint: str, body: Json | bytes, message: str
) -> None:
    with pytest.raises(BadPayload) as error:
        read(body, endpoint)
    assert str(error.value) == message
    assert SECRET not in str(error.value)
    # a traceback shows no content either
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize("endpoint", ["userinfo", "profiles"])
@pytest.mark.parametrize("connected", ["yes", "true", "", 1, 0, None, [], {}], ids=repr)
def test_profile_connected_is_a_boolean_or_the_poll_says_nothing(endpoint: str, connected: Any) -> None:
    listed = [profile("pro_1"), profile("pro_2", connected=connected)]
    body = userinfo(*listed) if endpoint == "userinfo" else profiles(*listed)
    with pytest.raises(BadPayload, match=r"profiles\[1\]\.profile_connected is not a boolean"):
        read(body, endpoint)


@pytest.mark.parametrize("endpoint", ["userinfo", "profiles"])
def test_profile_connected_that_is_missing_is_not_false(endpoint: str) -> None:
    listed = profile()
    del listed["profile_connected"]
    with pytest.raises(BadPayload, match="profile_connected is not a boolean"):
        read(userinfo(listed) if endpoint == "userinfo" else profiles(listed), endpoint)


@pytest.mark.parametrize("order", [(True, False), (False, True), (True, False, True)])
def test_of_a_profile_listed_twice_disconnected_wins(order: tuple[bool, ...]) -> None:
    body = userinfo(*(profile("pro_1", connected=connected) for connected in order), profile("pro_2"))
    found = read(body).samples["calendar"]
    assert {each.profile_id: each.connected for each in found} == {"pro_1": False, "pro_2": True}
    assert len(found) == 2


def test_one_id_may_be_a_calendar_and_a_conferencing_profile() -> None:
    payload = read(userinfo(profile("pro_1"), conferencing_profiles=[conferencing("pro_1", connected=False)]))
    assert [payload.samples[kind][0].connected for kind in ("calendar", "conferencing")] == [True, False]


@pytest.mark.parametrize("number", ["18446744073709551615", "9" * 400, "-" + "9" * 25, "1e308", "-0.0"])
def test_numbers_of_any_size_are_carried_along(number: str) -> None:
    body = b'{"sub":"acc_1","x":' + number.encode() + b"}"
    try:
        assert "x" in record_of(orjson.loads(body)).extras
    except orjson.JSONDecodeError:
        with pytest.raises(BadPayload, match="body is not JSON"):
            read(body)


FULL = userinfo(profile(profile_calendars=[calendar()]), data={"quota": {"b": 1, "a": [1, 2]}}, plan="gold")


def hashes(body: Json) -> tuple[str, str, str]:
    """Of the account, its first profile and that one's first calendar."""
    payload = read(body)
    first = payload.samples["calendar"][0]
    assert payload.record is not None
    assert first.calendars is not None
    return payload.record.content_hash, first.record.content_hash, first.calendars[0].record.content_hash


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


def test_the_hash_is_that_of_the_content_not_of_its_order() -> None:
    assert hashes(reversed_keys(FULL)) == hashes(FULL)


def test_null_and_missing_have_one_hash() -> None:
    more = userinfo(
        profile(profile_calendars=[calendar(color=None)], reason=None, profile_relink_url=None),
        data={"quota": {"b": 1, "a": [1, 2]}, "x": None, "service_account": None},
        plan="gold",
        picture=None,
        application_calendar_id=None,
    )
    assert hashes(more) == hashes(FULL)


@pytest.mark.parametrize(
    "changed",
    [{"name": "Jane D"}, {"name": 5}, {"plan": "silver"}, {"other": 1}, {"cronofy.type": "x"}],
    ids=repr,
)
def test_any_content_of_the_account_changes_its_hash_alone(changed: Json) -> None:
    before, after = hashes(FULL), hashes(FULL | changed)
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    "changed",
    [
        {"profile_connected": False},
        {"profile_name": "x"},
        {"provider_name": "apple"},
        {"provider_service": None},
        {"profile_initial_sync_required": True},
        {"profile_relink_url": "https://x"},
        {"new_field": {"a": 1}},
        {"profile_name": True},
    ],
    ids=repr,
)
def test_any_content_of_a_profile_changes_its_hash_alone(changed: Json) -> None:
    listed = profile(profile_calendars=[calendar()]) | changed
    body = FULL | {"cronofy.data": FULL["cronofy.data"] | {"profiles": [listed]}}
    before, after = hashes(FULL), hashes(body)
    assert [one != other for one, other in zip(before, after, strict=True)] == [False, True, False]


@pytest.mark.parametrize(
    "changed",
    [
        *({name: not value if isinstance(value, bool) else "new"} for name, value in calendar().items()),
        {"color": 1},
    ][1:],
    ids=repr,
)
def test_any_content_of_a_calendar_changes_its_hash(changed: Json) -> None:
    one = only_profile(userinfo(profile(profile_calendars=[calendar()])))
    other = only_profile(userinfo(profile(profile_calendars=[calendar(**changed)])))
    assert one.calendars is not None
    assert other.calendars is not None
    assert one.calendars[0].record.content_hash != other.calendars[0].record.content_hash
    assert one.record.content_hash == other.record.content_hash


def test_a_calendar_that_moves_to_another_profile_has_another_hash() -> None:
    one = only_profile(userinfo(profile("pro_1", profile_calendars=[calendar()])))
    other = only_profile(userinfo(profile("pro_2", profile_calendars=[calendar()])))
    assert one.calendars is not None
    assert other.calendars is not None
    assert one.calendars[0].record.content_hash != other.calendars[0].record.content_hash


KEYS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        [
            "sub", "cronofy.data", "cronofy.type", "profiles", "conferencing_profiles", "profile_id",
            "profile_connected", "profile_calendars", "calendar_id", "account", "account_id",
            "authorization", "service_account", "name", "email", "scope", "cronofy.service_account.domain",
        ]
    ),
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
ANY_JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)
PROFILE_LIKE = st.dictionaries(KEYS, ANY_JSON, max_size=3).map(
    lambda fields: {"profile_id": "pro_1", "profile_connected": True} | fields
)


@settings(deadline=None)
@given(st.sampled_from(ENDPOINTS), ANY_JSON)
def test_any_json_is_read_or_a_bad_payload(endpoint: str, document: Any) -> None:
    assert_read_or_bad(endpoint, _json(document))


@settings(deadline=None)
@given(
    st.dictionaries(KEYS, ANY_JSON, max_size=4),
    st.dictionaries(KEYS, ANY_JSON, max_size=4),
    st.lists(PROFILE_LIKE, max_size=3),
)
def test_any_userinfo_is_read_or_a_bad_payload(top: Json, data: Json, listed: list[Json]) -> None:
    document = {"sub": "acc_1", **top, "cronofy.data": {"profiles": listed, **data}}
    assert_read_or_bad("userinfo", _json(document))


@given(st.sampled_from(ENDPOINTS), st.binary())
def test_any_bytes_are_read_or_a_bad_payload(endpoint: str, body: bytes) -> None:
    assert_read_or_bad(endpoint, body)


def assert_read_or_bad(endpoint: str, body: bytes) -> None:
    try:
        payload = parse(endpoint, body)
    except BadPayload:
        return
    for listed in payload.samples.values():
        assert len({each.profile_id for each in listed}) == len(listed)
        assert all(isinstance(each.connected, bool) for each in listed)
    assert endpoint == "profiles" or payload.account_id


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


# real answers, each to be spoiled at any depth
ANSWERS: list[tuple[str, Json]] = [
    (
        "userinfo",
        userinfo(
            profile("pro_1", profile_calendars=[calendar("cal_1"), calendar("cal_2")]),
            profile("pro_2", connected=False, profile_calendars=[]),
            conferencing_profiles=[conferencing("pro_z"), conferencing("pro_y", connected=False)],
        ),
    ),
    ("userinfo", service_account()),
    ("userinfo", older_service_account()),
    ("userinfo", application_calendar()),
    ("account", account(type="account")),
    ("profiles", profiles(profile("pro_1"), profile("pro_2", connected=False))),
]
NESTED = st.sampled_from([100, 253, 254, 300, 1100]).map(lambda depth: "[" * depth + "]" * depth)
# what JSON may say and Python's documents cannot: numbers beyond all bounds, half a surrogate pair, NUL
RAW = st.one_of(
    NESTED, st.sampled_from(["1e999", "9" * 400, "-0", '"\\ud800"', '"a\\u0000b"', "NaN", "\x00"])
)
PLACEHOLDER = "replaced-by-what-no-document-holds"
PERSONAL_DATA = [
    PersonalData.of("keep", None),
    PersonalData.of("drop", None),
    PersonalData.of("hash", Secret("0123456789abcdef" * 2)),
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, bytes]:
    """A real answer with something removed, replaced, added or repeated, here and there."""
    endpoint, response = draw(st.sampled_from(ANSWERS))
    holder = {"document": copy.deepcopy(response)}
    for _ in range(draw(st.integers(1, 3))):
        where, key = draw(st.sampled_from(list(places(holder))))
        action = draw(st.sampled_from(["replace", "remove", "add", "repeat", "raw"]))
        if action == "remove" and where is not holder:
            del where[key]
        elif action == "add" and isinstance(where[key], dict):
            where[key][draw(KEYS)] = draw(ANY_JSON)
        elif action == "repeat" and isinstance(where, list):
            where.append(copy.deepcopy(where[key]))
        else:
            where[key] = PLACEHOLDER if action == "raw" else draw(ANY_JSON)
    body = json.dumps(holder.get("document")).replace(f'"{PLACEHOLDER}"', draw(RAW))
    return endpoint, body.encode()


@settings(deadline=None, max_examples=150)
@given(spoiled(), st.sampled_from(PERSONAL_DATA))
def test_a_real_answer_spoiled_anywhere_is_refused_or_stored_as_it_is(
    given_answer: tuple[str, bytes], personal_data: PersonalData
) -> None:
    endpoint, body = given_answer
    assert_read_or_bad(endpoint, body)
    response = Response(Outcome.OK, START, START, 0, 200, body)
    poll = answered(response, endpoint, personal_data=personal_data)
    assert poll.response.outcome is (Outcome.BAD_PAYLOAD if poll.payload is None else Outcome.OK)
    capture = captured([poll])
    for name, rows in capture.rows.items():
        found = to_arrow(TABLES[name], rows, {}, Schema("cronofy").naming.normalize_path)
        found.validate(full=True)
        assert found.num_rows == len(rows)
    assert_flags_are_those_of_the_body(endpoint, body, poll.payload, capture)


def assert_flags_are_those_of_the_body(
    endpoint: str, body: bytes, payload: Payload | None, capture: Capture
) -> None:
    """No flag is guessed: each that is stored stands in the body, and one that is none refuses it all."""
    stored = {
        (row["profile_type"], row["profile_id"]): row["profile_connected"] for row in capture.rows["profiles"]
    }
    if payload is None:
        assert stored == {}
        return
    document = orjson.loads(body)
    data = (document if endpoint == "profiles" else document.get("cronofy.data")) or {}
    said: dict[tuple[str, str], bool] = {}
    if endpoint != "account":
        for profile_type, name in (("calendar", "profiles"), ("conferencing", "conferencing_profiles")):
            for entry in (data.get(name) or []) if endpoint == "userinfo" or name == "profiles" else []:
                key = (profile_type, clean_text(entry["profile_id"]))
                assert isinstance(entry["profile_connected"], bool)
                said[key] = said.get(key, True) and entry["profile_connected"]
    assert stored == said
