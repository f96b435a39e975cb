"""Payloads: bodies of the identity API read into records. Pure.

Strict about structure, lenient about leaves. A list that is not a list, an id that is not text or a
`profile_connected` that is not a boolean is a `BadPayload`: half a truth would become history. A leaf
of an unexpected type, or a field nobody knows yet, is carried along in `extras` and reaches the
warehouse in a column of its own.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import orjson

from ..errors import BadPayload
from ..privacy import KEEP, PersonalData, Protection
from ..records import Calendar, Fields, Json, Outcome, Payload, Poll, Profile, Record
from ..settings import ACCOUNT, PROFILES, USERINFO
from ..texts import clean_text

CALENDAR, CONFERENCING = "calendar", "conferencing"
PROFILE_TYPES = (CALENDAR, CONFERENCING)

# Column → where the field stands. All of it: docs api/identity/userinfo, /account, /profile and the
# fixtures of the official SDKs.
USERINFO_TEXTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "type": (("cronofy.type",),),
    # the flat keys are the older shape of a service account's answer
    "email": (("email",), ("cronofy.service_account.email",)),
    "name": (("name",),),
    "zoneinfo": (("zoneinfo",),),
    "scope": (("cronofy.data", "authorization", "scope"),),
    "status": (("cronofy.data", "authorization", "status"),),
    "delegated_scope": (("cronofy.data", "authorization", "delegated_scope"),),
    "service_account_provider_name": (("cronofy.data", "service_account", "provider_name"),),
    "service_account_domain": (
        ("cronofy.data", "service_account", "domain"),
        ("cronofy.service_account.domain",),
    ),
    "application_calendar_id": (
        ("application_calendar_id",),
        ("cronofy.data", "application_calendar", "application_calendar_id"),
    ),
}
USERINFO_OBJECTS = ("authorization", "service_account", "application_calendar")
ACCOUNT_TEXTS = ("email", "name", "scope", "default_tzid", "type")
PROFILE_TEXTS = (
    "provider_name",
    "provider_service",
    "provider_protocol",
    "profile_name",
    "profile_relink_url",
    "graph_api_migration_url",
)
PROFILE_BOOLEANS = ("profile_initial_sync_required",)
CALENDAR_TEXTS = ("calendar_name", "permission_level")
CALENDAR_BOOLEANS = (
    "calendar_readonly",
    "calendar_deleted",
    "calendar_primary",
    "calendar_integrated_conferencing_available",
    "calendar_attachments_available",
)


def parse(endpoint: str, body: bytes, personal_data: PersonalData = KEEP) -> Payload:
    """Read the body of an HTTP 200 of that endpoint. What is not to be kept is in no record and no hash.

    Raises:
        BadPayload: it is not of the documented shape.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadPayload("body is not JSON") from None
    try:
        return _payload(endpoint, _object(document, "body"), personal_data)
    except (orjson.JSONEncodeError, RecursionError):
        raise BadPayload("body is nested too deeply") from None


def read_poll(poll: Poll, personal_data: PersonalData = KEEP) -> Poll:
    """The poll with what an ok response says; one of another shape than documented is bad_payload."""
    if not poll.is_unread:
        return poll
    response = replace(poll.response, body=b"")
    try:
        return replace(
            poll, response=response, payload=parse(poll.endpoint, poll.response.body, personal_data)
        )
    except BadPayload as error:
        response = replace(response, outcome=Outcome.BAD_PAYLOAD, message=str(error))
        return replace(poll, response=response, digest=None)


def _payload(endpoint: str, document: Fields, personal_data: PersonalData) -> Payload:
    payload = PARSERS[endpoint](document)
    if not personal_data.kept:
        _protect(payload, personal_data)
    for record, parents in _records(payload):
        record.content_hash = _content_hash(record, parents)
    return payload


def parse_userinfo(document: Fields) -> Payload:
    """`GET /v1/userinfo`: identity, authorization, and all profiles with their calendars."""
    account_id = _identifier(document, "sub", "body")
    data = _optional_object(document, "cronofy.data", "body")
    for name in USERINFO_OBJECTS:
        _optional_object(data, name, "cronofy.data")
    samples = {}
    for profile_type, name in ((CALENDAR, "profiles"), (CONFERENCING, "conferencing_profiles")):
        if data.get(name) is not None:
            samples[profile_type] = _profiles(data[name], f"cronofy.data.{name}", profile_type)
    return Payload(account_id, _userinfo_record(document, data), samples)


def parse_account(document: Fields) -> Payload:
    """`GET /v1/account`: the same identity, flatter."""
    account = _object(document.get("account"), "account")
    named = account if account.get("account_id") is not None else {"account_id": document.get("sub")}
    account_id = _identifier(named, "account_id", "account")
    record = _record(account, ACCOUNT_TEXTS, (), ignored=("account_id",))
    _add_extras(
        record.extras, {key: value for key, value in document.items() if key not in ("account", "sub")}
    )
    return Payload(account_id, record)


def parse_profiles(document: Fields) -> Payload:
    """`GET /v1/profiles`: the calendar profiles, without calendars and without an account."""
    if "profiles" not in document:
        raise BadPayload("profiles is missing")
    return Payload(None, None, {CALENDAR: _profiles(document["profiles"], "profiles", CALENDAR)})


PARSERS = {USERINFO: parse_userinfo, ACCOUNT: parse_account, PROFILES: parse_profiles}


def _userinfo_record(document: Fields, data: Fields) -> Record:
    columns: Fields = {}
    used = {("sub",), ("cronofy.data", "profiles"), ("cronofy.data", "conferencing_profiles")}
    extras: Fields = {}
    for column, paths in USERINFO_TEXTS.items():
        for path in paths:
            value = _at(document, path)
            if isinstance(value, str):
                if value:  # "" says what null says, and not every warehouse distinguishes them
                    columns.setdefault(column, clean_text(value))
            elif value is not None:
                extras.setdefault(column, value)
            used.add(path)
    _add_extras(
        extras,
        {key: value for key, value in document.items() if (key,) not in used and key != "cronofy.data"},
    )
    for key, value in data.items():
        if key in USERINFO_OBJECTS and value:
            unknown = {k: v for k, v in value.items() if ("cronofy.data", key, k) not in used}
            _add_extras(extras, unknown, f"cronofy.data__{key}__")
        elif ("cronofy.data", key) not in used and key not in USERINFO_OBJECTS:
            _add_extras(extras, {key: value}, "cronofy.data__")
    return Record(columns, extras)


def _profiles(listed: Json, place: str, profile_type: str) -> list[Profile]:
    profiles: dict[str, Profile] = {}
    for index, entry in enumerate(_list(listed, place)):
        profile = _profile(entry, f"{place}[{index}]", profile_type)
        twin = profiles.get(profile.profile_id)
        # of two samples at one instant disconnected wins; one answer may list a profile twice
        if twin is None or (twin.connected and not profile.connected):
            profiles[profile.profile_id] = profile
    return list(profiles.values())


def _profile(entry: Json, place: str, profile_type: str) -> Profile:
    entry = _object(entry, place)
    profile_id = _identifier(entry, "profile_id", place)
    connected = entry.get("profile_connected")
    if not isinstance(connected, bool):
        raise BadPayload(f"{place}.profile_connected is not a boolean")
    calendars = entry.get("profile_calendars")
    return Profile(
        profile_type,
        profile_id,
        connected,
        _record(
            entry,
            PROFILE_TEXTS,
            ("profile_connected", *PROFILE_BOOLEANS),
            ("profile_id", "profile_calendars"),
        ),
        None if calendars is None else _calendars(calendars, f"{place}.profile_calendars", profile_id),
    )


def _calendars(listed: Json, place: str, profile_id: str) -> list[Calendar]:
    calendars: dict[str, Calendar] = {}
    for index, item in enumerate(_list(listed, place)):
        entry = _object(item, f"{place}[{index}]")
        calendar_id = _identifier(entry, "calendar_id", f"{place}[{index}]")
        record = _record(entry, CALENDAR_TEXTS, CALENDAR_BOOLEANS, ("calendar_id",))
        calendars.setdefault(calendar_id, Calendar(calendar_id, profile_id, record))
    return list(calendars.values())


def _record(entry: Fields, texts: Iterable[str], booleans: Iterable[str], ignored: tuple[str, ...]) -> Record:
    """Sort one object's fields into known columns and extras."""
    columns: Fields = {}
    rest = dict(entry)
    for name in ignored:
        rest.pop(name, None)
    for name in texts:
        if isinstance(value := rest.get(name), str):
            if value:  # "" says what null says, and not every warehouse distinguishes them
                columns[name] = clean_text(value)
            del rest[name]
    for name in booleans:
        if isinstance(value := rest.get(name), bool):
            columns[name] = value
            del rest[name]
    extras: Fields = {}
    if rest:
        _add_extras(extras, rest)
    return Record(columns, extras)


def _add_extras(extras: Fields, fields: Mapping[str, Json], prefix: str = "") -> None:
    for key, value in fields.items():
        if value is not None:  # null and absent say the same
            extras[prefix + key] = value


def _records(payload: Payload) -> Iterator[tuple[Record, tuple[str, ...]]]:
    """All records of an answer, each with the ids of what it belongs to."""
    if payload.record is not None:
        yield payload.record, ()
    for profiles in payload.samples.values():
        for profile in profiles:
            yield profile.record, ()
            for calendar in profile.calendars or ():
                yield calendar.record, (profile.profile_id,)


def _protect(payload: Payload, personal_data: PersonalData) -> None:
    records = [record for record, _ in _records(payload)]
    fields = (each for record in records for each in (record.columns, record.extras))
    protection = Protection(personal_data.protect, fields)
    for record in records:
        record.columns = protection.columns(record.columns)
        record.extras = protection.extras(record.extras)


def _content_hash(record: Record, parents: tuple[str, ...]) -> str:
    content = orjson.dumps((record.columns, record.extras, parents), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _at(document: Fields, path: tuple[str, ...]) -> Json:
    value: Json = document
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _object(value: Json, place: str) -> Fields:
    if not isinstance(value, dict):
        raise BadPayload(f"{place} is not an object")
    return value


def _optional_object(fields: Fields, name: str, place: str) -> Fields:
    return {} if fields.get(name) is None else _object(fields[name], f"{place}.{name}")


def _list(value: Json, place: str) -> list[Json]:
    if not isinstance(value, list):
        raise BadPayload(f"{place} is not a list")
    return value


def _identifier(entry: Fields, name: str, place: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise BadPayload(f"{place}.{name} is not an identifier")
    return clean_text(value)
