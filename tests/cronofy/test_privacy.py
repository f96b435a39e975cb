"""Privacy: what is hidden reaches no row, no column name and no content hash, wherever it stood."""

import copy
import hashlib
import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlt_cronofy.source.errors import BadPayload, ConfigurationError
from dlt_cronofy.source.history.arrow import to_arrow
from dlt_cronofy.source.history.capture import EXTRAS, Known
from dlt_cronofy.source.history.diff import ProfileState, State
from dlt_cronofy.source.history.parse import parse
from dlt_cronofy.source.history.state import TokenContent, protected_content, protected_history
from dlt_cronofy.source.privacy import KEEP, PREFIX, PROTECTED, Mode, PersonalData
from dlt_cronofy.source.records import Outcome, Payload, Poll, Record, Response
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import CronofyConfiguration, PollingSettings, SecretText
from dlt_cronofy.source.tables import TABLES
from tests.cronofy.bodies import (
    Json,
    account,
    answered,
    calendar,
    conferencing,
    minute,
    older_service_account,
    profile,
    userinfo,
)
from tests.cronofy.capturing import captured

KEY = "sixteen letters!"
HASH = PersonalData(Mode.HASH, Secret(KEY))
DROP = PersonalData(Mode.DROP)
HIDING = (HASH, DROP)
JANE, NAME, WORK = "jane@example.com", "Jane Doe", "Jane's work"


def digest(text: str, key: str = KEY) -> str:
    """What the documentation promises, written down once more."""
    return "hmac:" + hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def read(body: Json, personal_data: PersonalData, endpoint: str = "userinfo") -> Payload:
    return parse(endpoint, orjson.dumps(body), personal_data)


def record_of(body: Json, personal_data: PersonalData, endpoint: str = "userinfo") -> Record:
    record = read(body, personal_data, endpoint).record
    assert record is not None
    return record


def polled(body: Json, personal_data: PersonalData, at: float = 1) -> Poll:
    response = Response(
        Outcome.OK, minute(at) - timedelta(seconds=1), minute(at), 1000, 200, orjson.dumps(body)
    )
    return answered(response, personal_data=personal_data)


# settings


def configured(**values: Any) -> PersonalData:
    configuration = CronofyConfiguration()
    configuration.update(values)
    return PollingSettings.of(configuration).personal_data


def secret_text(value: str) -> SecretText:
    secret = SecretText()
    secret.parse_native_representation(value)
    return secret


@pytest.mark.parametrize(
    ("mode", "key", "expected"),
    [
        ("keep", None, KEEP),
        ("keep", "short", KEEP),
        ("drop", None, DROP),
        ("HASH", KEY, HASH),
        ("hash", secret_text(KEY), HASH),
        ("hash", "ключ из 16 букв!", PersonalData(Mode.HASH, Secret("ключ из 16 букв!"))),
    ],
)
def test_modes(mode: str, key: str | SecretText | None, expected: PersonalData) -> None:
    assert configured(personal_data=mode, personal_data_key=key) == expected


def test_the_default_is_to_keep() -> None:
    assert configured() == PollingSettings().personal_data == KEEP


@pytest.mark.parametrize(
    ("mode", "key", "said"),
    [
        ("shred", KEY, "one of keep, hash, drop, not 'shred'"),
        ("", None, "one of keep, hash, drop"),
        ("hash", None, "at least 16 characters"),
        ("hash", "", "at least 16 characters"),
        ("hash", "fifteen letters", "SOURCES__CRONOFY__PERSONAL_DATA_KEY"),
    ],
)
def test_what_is_not_accepted_is_named_in_one_line(mode: str, key: str | None, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        configured(personal_data=mode, personal_data_key=key)
    message = str(error.value)
    assert said in message
    assert "[sources.cronofy]" in message
    assert "\n" not in message
    assert not key or key not in message


def test_the_key_shows_itself_nowhere() -> None:
    assert KEY not in repr(HASH) + str(HASH) + repr(PollingSettings(personal_data=HASH))


def test_a_digest_is_as_documented_and_depends_on_the_key() -> None:
    assert HASH.protect(JANE) == digest(JANE)
    assert PROTECTED.fullmatch(digest(JANE))
    assert PersonalData(Mode.HASH, Secret(KEY + KEY)).protect(JANE) == digest(JANE, KEY + KEY) != digest(JANE)
    assert HASH.protect("Zoë 李明") == digest("Zoë 李明")


@pytest.mark.parametrize(
    ("personal_data", "stored", "expected"),
    [
        (KEEP, JANE, JANE),
        (KEEP, digest(JANE), digest(JANE)),
        (HASH, JANE, digest(JANE)),
        (HASH, digest(JANE), digest(JANE)),
        (HASH, digest(JANE, "the key before this"), digest(JANE, "the key before this")),
        (HASH, "hmac:jane", digest("hmac:jane")),
        (DROP, JANE, None),
        (DROP, digest(JANE), None),
    ],
)
def test_what_is_stored_already(personal_data: PersonalData, stored: str, expected: str | None) -> None:
    assert personal_data.protect_stored(stored) == expected


# answers


def test_documented_fields() -> None:
    down = profile(
        "pro_1", connected=False, profile_name=JANE, profile_calendars=[calendar("cal_1", calendar_name=WORK)]
    )
    body = userinfo(
        down, conferencing_profiles=[conferencing("pro_z", profile_name=JANE)], email=JANE, name=NAME
    )
    payload = read(body, HASH)
    assert payload.account_id == "acc_1"
    assert payload.record is not None
    assert payload.record.columns == {
        "type": "account",
        "email": digest(JANE),
        "name": digest(NAME),
        "zoneinfo": "Europe/London",
        "scope": "read_write",
        "status": "active",
    }
    [calendar_profile], [zoom] = payload.samples["calendar"], payload.samples["conferencing"]
    assert calendar_profile.record.columns == {
        "provider_name": "google",
        "provider_service": "gsuite",
        "profile_name": digest(JANE),
        "profile_connected": False,
        "profile_initial_sync_required": False,
        "profile_relink_url": digest(down["profile_relink_url"]),
    }
    assert zoom.record.columns["profile_name"] == payload.record.columns["email"], "they still join"
    assert calendar_profile.calendars is not None
    assert calendar_profile.calendars[0].record.columns["calendar_name"] == digest(WORK)

    dropped = read(body, DROP)
    assert dropped.record is not None
    assert dropped.record.columns.keys() == {"type", "zoneinfo", "scope", "status"}
    assert dropped.samples["calendar"][0].record.columns.keys() == {
        "provider_name",
        "provider_service",
        "profile_connected",
        "profile_initial_sync_required",
    }


def test_account_and_the_older_service_account() -> None:
    columns = record_of(account(email=JANE, name=NAME), HASH, "account").columns
    assert (columns["email"], columns["name"]) == (digest(JANE), digest(NAME))
    assert columns["default_tzid"] == "Europe/London"
    assert record_of(older_service_account(), HASH).columns["email"] == digest("admin@example.com")
    assert "email" not in record_of(older_service_account(), DROP).columns


UNKNOWN: dict[str, tuple[Any, Any]] = {
    # what a field nobody knows holds, and what becomes of it under hash
    "plain text": ("enterprise", "enterprise"),
    "a number": (12, 12),
    "an address": (JANE, digest(JANE)),
    "a text with an address": (f"ask {JANE}!", digest(f"ask {JANE}!")),
    "a foreign address": ("bob@example.org", digest("bob@example.org")),
    "an address in a URL": ("https://x/?email=bob%40x.org", digest("https://x/?email=bob%40x.org")),
    "an address in a URL in a URL": ("bob%2540x.org", digest("bob%2540x.org")),
    "an at sign alone": ("@ noon", "@ noon"),
    "a personal value": (NAME, digest(NAME)),
    "a text with a personal value": (f"by {NAME}", digest(f"by {NAME}")),
    "a profile's name": ("Jane at work", digest("Jane at work")),
    "a calendar's name": (f"{WORK} 2", digest(f"{WORK} 2")),
    "the name of a calendar, written otherwise": ("jane's WORK", "jane's WORK"),
    "a short personal value": ("IT", digest("IT")),
    "a text with a short personal value": ("WAIT", "WAIT"),
    "a short name of two characters": ("李明的电脑", digest("李明的电脑")),
    "a list": (["a", JANE, [NAME, 1, None]], ["a", digest(JANE), [digest(NAME), 1, None]]),
    "an object": ({"a": {"b": JANE, "c": 1}}, {"a": {"b": digest(JANE), "c": 1}}),
    "a key with an address": ({JANE: 1, "a": 2}, {digest(JANE): 1, "a": 2}),
    "a key that is a name": ({"Jane Doe": 1}, {digest("Jane Doe"): 1}),
    "a key with a name": ({"Jane Doe, owner": 1}, {digest("Jane Doe, owner"): 1}),
    "a key like a field": ({"Jane": 1, "IT": 2, "WAIT": 3}, {"Jane": 1, digest("IT"): 2, "WAIT": 3}),
    "a personal field": ({"email": "nobody", "x": 1}, {"email": digest("nobody"), "x": 1}),
    "personal fields otherwise spelled": (
        {"profileName": "Ann", "E-Mail": "nobody", "a.b.email": "nobody", "display_name": "Ann", "names": 1},
        {
            "profileName": digest("Ann"), "E-Mail": digest("nobody"), "a.b.email": digest("nobody"),
            "display_name": digest("Ann"), "names": 1,
        },
    ),
    "a personal field of another type": (
        {"name": {"last": "Roe", "first": "Ann"}, "email": [], "calendar_name": 5, "x": {"email": None}},
        {
            "name": digest('{"first":"Ann","last":"Roe"}'), "email": digest("[]"),
            "calendar_name": digest("5"), "x": {"email": None},
        },
    ),
    "an empty personal field": ({"email": ""}, {"email": ""}),
    "no text of a name": (["Jan", "Doe"], ["Jan", "Doe"]),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
@pytest.mark.parametrize("where", ["body", "data", "authorization", "profile", "calendar"])
def test_unknown_fields(case: str, where: str) -> None:
    value, expected = UNKNOWN[case]
    places: dict[str, Json] = {
        name: {"novelty": value} if name == where else {}
        for name in ("body", "data", "authorization", "profile", "calendar")
    }
    calendars = [
        calendar("cal_1", calendar_name=WORK, **places["calendar"]),
        calendar("2", calendar_name="IT"),
    ]
    listed = [
        profile(profile_name="Jane at work", profile_calendars=calendars, **places["profile"]),
        profile("pro_2", profile_name="李明"),
        # what is in a personal field of another type is personal, too
        profile("pro_3", profile_name={"display": ["Ann"]}),
    ]
    data = {"authorization": {"scope": "read_write", **places["authorization"]}, **places["data"]}
    payload = read(userinfo(*listed, email=JANE, name=NAME, data=data, **places["body"]), HASH)
    assert payload.record is not None
    first = payload.samples["calendar"][0]
    assert first.calendars is not None
    found = [payload.record.extras, first.record.extras, first.calendars[0].record.extras]
    [novelty] = [value for extras in found for value in extras.values()]
    assert novelty == expected


def test_what_is_dropped_is_null_or_gone() -> None:
    novelty = {"a": [JANE, 1], "b": JANE, JANE: 2, "name": "Ann", "c": "kept"}
    body = userinfo(novelty=novelty, other=JANE) | {JANE: "x"}
    assert record_of(body, DROP).extras == {"novelty": {"a": [None, 1], "b": None, "name": None, "c": "kept"}}


@pytest.mark.parametrize("value", [["a@b"], {"b": 1, "a": ["x"]}, 12, True, 1.5])
def test_mistyped_values_are_protected_as_json(value: Any) -> None:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    assert record_of(userinfo(email=value), HASH).extras == {"email": digest(text)}
    assert record_of(userinfo(email=value), DROP).extras == {}
    assert record_of({"sub": "x", "cronofy.service_account.email": value}, HASH).extras == {
        "email": digest(text)
    }
    [listed] = read(userinfo(profile(profile_name=value)), HASH).samples["calendar"]
    assert listed.record.extras == {"profile_name": digest(text)}


@pytest.mark.parametrize("body", [userinfo(email=None, name=""), {"sub": "acc_1"}])
def test_what_is_absent_stays_absent(body: Json) -> None:
    record = record_of(body, HASH)
    assert {"email", "name"} & (record.columns.keys() | record.extras.keys()) == set()


def test_addresses_in_other_documented_columns() -> None:
    body = userinfo(profile(provider_name=JANE), application_calendar_id=f"app {JANE}", zoneinfo=NAME)
    payload = read(body, HASH)
    assert payload.record is not None
    assert payload.record.columns["application_calendar_id"] == digest(f"app {JANE}")
    assert payload.samples["calendar"][0].record.columns["provider_name"] == digest(JANE)
    # such columns hold what their name says: a profile may be called google
    [named] = read(userinfo(profile(profile_name="google")), HASH).samples["calendar"]
    assert named.record.columns["provider_name"] == "google"


def test_nul_is_replaced_before_it_is_hashed() -> None:
    record = record_of(userinfo(name="Ja\x00ne", novelty="x Ja\x00ne", other={"name": "Ja\x00ne"}), HASH)
    assert record.columns["name"] == digest("Ja\ufffdne") == record.extras["other"]["name"]
    assert record.extras["novelty"] == digest("x Ja\ufffdne")


def test_content_hashes_tell_the_stored_content_apart_and_nothing_more() -> None:
    jane, bob = (record_of(userinfo(email=f"{who}@example.com"), DROP) for who in ("jane", "bob"))
    assert jane.content_hash == bob.content_hash
    one, other, again = (
        record_of(userinfo(email=f"{who}@example.com"), HASH).content_hash for who in ("jane", "bob", "jane")
    )
    assert one == again != other
    kept = record_of(userinfo(), KEEP)
    assert kept.content_hash == record_of(userinfo(), PersonalData.of("keep", None)).content_hash
    assert kept.content_hash not in {record_of(userinfo(), mode).content_hash for mode in HIDING}


@pytest.mark.parametrize("depth", [50, 230, 245, 249, 250, 251, 252, 253, 254, 255, 300, 400, 1000])
def test_how_deep_a_body_may_be_does_not_depend_on_the_mode(depth: int) -> None:
    verdicts = set()
    for personal_data in (KEEP, *HIDING):
        for field in ("novelty", "zoneinfo"):
            body = b'{"sub":"x","%s":%s7%s}' % (field.encode(), b"[" * depth, b"]" * depth)
            try:
                parse("userinfo", body, personal_data)
                verdicts.add("read")
            except BadPayload as error:
                verdicts.add(str(error))
    assert len(verdicts) == 1


@pytest.mark.parametrize("personal_data", HIDING)
def test_what_is_wrong_with_a_body_is_said_without_quoting_it(personal_data: PersonalData) -> None:
    body = userinfo(profile(profile_name=JANE, connected=JANE), email=JANE)
    poll = polled(body, personal_data)
    assert poll.response.outcome is Outcome.BAD_PAYLOAD
    assert "jane" not in repr(poll)


# the warehouse


def stored_rows(*bodies: Json, personal_data: PersonalData = KEEP) -> TokenContent:
    """What the warehouse holds after these answers, as it is read from it."""
    known = Known()
    captured([polled(body, personal_data, at) for at, body in enumerate(bodies, 1)], known)
    [content] = known.tokens.values()
    return content


def read_back(content: TokenContent, **columns: Any) -> TokenContent:
    """As it comes from the warehouse: extras are columns."""
    back = copy.deepcopy(content)
    for row in [back.userinfo, *back.profiles.values(), *back.calendars.values()]:
        if row is not None:
            assert isinstance(row, dict)
            del row[EXTRAS]
            row.update({"_dlt_load_id": "1712345.678", "_dlt_id": "abc"} | columns)
    return back


LISTED = profile("pro_1", profile_name=JANE, profile_calendars=[calendar("cal_1", calendar_name=WORK)])


def test_rows_of_the_warehouse_are_as_if_they_had_been_protected() -> None:
    body = userinfo(LISTED, email=JANE, name=NAME)
    kept, protected = stored_rows(body), stored_rows(body, personal_data=HASH)
    recalled = protected_content(read_back(kept), HASH)
    expected = read_back(protected)
    assert recalled.userinfo is not None
    assert expected.userinfo is not None
    assert recalled.userinfo == {**expected.userinfo} | {"content_hash": None}
    for key, row in expected.profiles.items():
        assert recalled.profiles[key] == {**row} | {"content_hash": None}
    for calendar_id, row in expected.calendars.items():
        assert recalled.calendars[calendar_id] == {**row} | {"content_hash": None}


def test_rows_without_personal_data_keep_their_content_hash() -> None:
    content = read_back(stored_rows(userinfo(LISTED, email=None, name=None), personal_data=HASH))
    again = protected_content(content, HASH)
    assert again == content
    assert protected_content(content, KEEP) is content
    dropped = protected_content(content, DROP)
    assert dropped.profiles["calendar", "pro_1"]["profile_name"] is None
    assert dropped.userinfo == content.userinfo


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("novelty", JANE, digest(JANE)),
        ("novelty", f"of {NAME}", digest(f"of {NAME}")),
        ("novelty", "plain", "plain"),
        ("novelty", 5, 5),
        ("novelty", "{no json", "{no json"),
        ("novelty", f"[{JANE}", digest(f"[{JANE}")),
        ("novelty", f'{{"b": "{JANE}"}}', f'{{"b":"{digest(JANE)}"}}'),
        ("novelty", '{"b":  1}', '{"b":  1}'),
        ("novelty", f'["{digest(JANE)}"]', f'["{digest(JANE)}"]'),
        ("unmapped_fields", f'{{"{JANE}":1}}', f'{{"{digest(JANE)}":1}}'),
        ("email__v_json", '["a@b"]', digest('["a@b"]')),
        ("calendar_name__v_bigint", 5, digest("5")),
        ("api_name", digest("x"), digest("x")),
        ("cronofy_data__email", "nobody", digest("nobody")),
    ],
)
def test_columns_of_fields_nobody_knew(column: str, value: Any, expected: Any) -> None:
    content = read_back(stored_rows(userinfo(LISTED, email=JANE, name=NAME)), **{column: value})
    assert protected_content(content, HASH).calendars["cal_1"][column] == expected
    dropped = protected_content(content, DROP).calendars["cal_1"][column]
    assert (dropped == value) is (expected == value and "hmac:" not in str(value))
    assert PREFIX not in str(dropped)


def test_keys_are_left_alone() -> None:
    named = profile(profile_name="678", profile_calendars=[calendar()])
    content = read_back(stored_rows(userinfo(named, email=JANE)), token_key=JANE, account_id=JANE)
    row = protected_content(content, HASH).calendars["cal_1"]
    assert (row["token_key"], row["account_id"], row["_dlt_load_id"]) == (JANE, JANE, "1712345.678")


def test_states_of_the_change_log() -> None:
    state = ProfileState(State.DISCONNECTED, "google", "gsuite", JANE, False, f"https://x/?email={JANE}")
    history = {"calendar": {"pro_1": state}}
    assert protected_history(history, KEEP) is history
    hashed = ProfileState(
        State.DISCONNECTED, "google", "gsuite", digest(JANE), False, digest(f"https://x/?email={JANE}")
    )
    assert protected_history(history, HASH) == {"calendar": {"pro_1": hashed}}
    assert protected_history({"calendar": {"pro_1": hashed}}, HASH) == {"calendar": {"pro_1": hashed}}
    for known in (state, hashed):
        dropped = ProfileState(State.DISCONNECTED, "google", "gsuite", None, False, None)
        assert protected_history({"calendar": {"pro_1": known}}, DROP) == {"calendar": {"pro_1": dropped}}


# no canary survives

OWN = ("canary@example.com", "Canary Bird", "Canary's calendar", "カナリア canary")
FOREIGN = ("other.canary@example.org", quote("canary+1@example.org"), "<canary@example.org> and more")
texts = st.one_of(
    st.sampled_from((*OWN, *FOREIGN)),
    st.sampled_from(OWN).map(lambda text: f"xx{text}\x00yy"),
    st.sampled_from(("plain", "", "google", "{", "@")),
)
keys = st.one_of(
    st.sampled_from((*OWN, *FOREIGN, "canary_bird")),
    st.sampled_from(("email", "name", "profile_name", "a", "a__b", "Email", "x.y", "")),
)
values = st.recursive(
    st.one_of(
        texts,
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(keys, values, max_size=3)
# documented fields that are not personal: texts may hold addresses, other types anything
mistyped = st.one_of(st.sampled_from(FOREIGN), st.lists(values, max_size=2), fields)
personal = st.one_of(st.sampled_from(OWN), mistyped, st.none())


@st.composite
def bodies(draw: st.DrawFn) -> Json:
    """A userinfo answer with canaries in any place; always valid."""

    def listed(profile_id: str) -> Json:
        calendars = [
            draw(fields)
            | calendar(
                f"cal_{profile_id}_{number}", calendar_name=draw(personal), permission_level=draw(mistyped)
            )
            for number in range(draw(st.integers(0, 2)))
        ]
        return draw(fields) | profile(
            profile_id,
            connected=draw(st.booleans()),
            profile_name=draw(personal),
            provider_service=draw(mistyped),
            profile_initial_sync_required=draw(st.booleans() | mistyped),
            profile_calendars=calendars,
        )

    profiles = [listed(f"pro_{number}") for number in range(draw(st.integers(0, 2)))]
    data = draw(fields) | {"authorization": draw(fields), "service_account": draw(fields)}
    # all canaries that are names and no addresses are names of the holder or of a calendar, at least
    named = profile("pro_n", profile_name="canary_bird", profile_calendars=[
        calendar(f"cal_{number}", calendar_name=text) for number, text in enumerate(OWN)
    ])  # fmt: skip
    data |= {"profiles": [*profiles, named], "conferencing_profiles": [listed("pro_z")]}
    return draw(fields) | {
        "sub": "acc_1",
        "email": draw(personal),
        "name": draw(personal),
        "zoneinfo": draw(mistyped),
        "cronofy.type": "account",
        "cronofy.service_account.email": draw(personal),
        "cronofy.data": data,
    }


EMPTIED = userinfo(conferencing_profiles=[])


def said(*values: Any) -> bool:
    # dates and states do not repeat what they are not told
    return any("canary" in repr(value).lower() for value in values)


def framed(known: Known, polls: list[Poll]) -> list[Any]:
    """What becomes of polls: rows, and the Arrow tables made of them, names of columns included."""
    capture = captured(polls, known)
    frames = [to_arrow(TABLES[name], rows, {}, str) for name, rows in capture.rows.items()]
    return [capture.rows, *((frame.schema.names, frame.to_pylist()) for frame in frames)]


@settings(max_examples=40, deadline=None)
@given(bodies(), st.sampled_from(HIDING))
def test_no_canary_survives(body: Json, personal_data: PersonalData) -> None:
    assert said(body)
    payload = read(body, personal_data)
    assert not said(payload), "nothing that is hashed or written has one"
    known = Known()
    polls = [polled(body, personal_data, 1), polled(EMPTIED, personal_data, 2)]
    assert all(each.response.outcome is Outcome.OK for each in polls)
    assert not said(*framed(known, polls), known)


@settings(max_examples=40, deadline=None)
@given(bodies(), st.sampled_from(HIDING))
def test_no_canary_of_the_warehouse_is_written_again(body: Json, personal_data: PersonalData) -> None:
    """An answer was stored as it was; then the setting changes, and everything in the answer vanishes."""
    first = Known()
    captured([polled(body, KEEP, 1)], first)
    tables = {"userinfo": "userinfo", "profiles": "profiles", "calendars": "calendars"}
    content = first.tokens["k1"]

    def stored(table: str, row: Json) -> Json:
        # keys that hold canaries have become columns: their names are the schema's, not the row's
        frame = to_arrow(TABLES[tables[table]], [{**row}], {}, lambda path: path.lower())
        return {name: value for name, value in frame.to_pylist()[0].items() if "canary" not in name}

    recalled = TokenContent(
        content.userinfo and stored("userinfo", content.userinfo),
        None,
        {key: stored("profiles", row) for key, row in content.profiles.items()},
        {key: stored("calendars", row) for key, row in content.calendars.items()},
    )
    known = Known(
        {"k1": protected_content(recalled, personal_data)},
        {"acc_1": protected_history(first.histories["acc_1"], personal_data)},
    )
    assert not said(known)
    assert not said(*framed(known, [polled(EMPTIED, personal_data, 2)]))


@settings(max_examples=20, deadline=None)
@given(bodies(), st.sampled_from(HIDING))
def test_a_new_setting_is_no_change(body: Json, personal_data: PersonalData) -> None:
    first = Known()
    captured([polled(body, KEEP, 1)], first)
    known = Known(histories={"acc_1": protected_history(first.histories["acc_1"], personal_data)})
    assert captured([polled(body, personal_data, 2)], known).rows["profile_changes"] == []


@settings(max_examples=20, deadline=None)
@given(bodies())
def test_keeping_changes_nothing(body: Json) -> None:
    assert read(body, KEEP) == parse("userinfo", orjson.dumps(body))
