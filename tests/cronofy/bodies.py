"""Bodies as the API documents them, and polls made of them."""

from datetime import datetime, timedelta
from typing import Any

import orjson

from dlt_cronofy.source.history.digests import body_digests
from dlt_cronofy.source.history.parse import read_poll
from dlt_cronofy.source.privacy import KEEP, PersonalData
from dlt_cronofy.source.records import Outcome, Poll, Response
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.token import Token
from tests.cronofy.clocks import START

Json = dict[str, Any]


def calendar(calendar_id: str = "cal_1", **fields: Any) -> Json:
    return {
        "calendar_id": calendar_id,
        "calendar_name": "Home",
        "calendar_readonly": False,
        "calendar_deleted": False,
        "calendar_primary": True,
        "calendar_integrated_conferencing_available": False,
        "calendar_attachments_available": True,
        "permission_level": "sandbox",
    } | fields


def profile(profile_id: str = "pro_1", *, connected: Any = True, **fields: Any) -> Json:
    body = {
        "provider_name": "google",
        "provider_service": "gsuite",
        "profile_id": profile_id,
        "profile_name": "example@cronofy.com",
        "profile_connected": connected,
        "profile_initial_sync_required": False,
    }
    if connected is False:
        body["profile_relink_url"] = "https://app.cronofy.com/v2/relink/google?email=example%40cronofy.com"
    return body | fields


def conferencing(profile_id: str = "pro_z", *, connected: Any = True, **fields: Any) -> Json:
    return {
        "provider_name": "zoom",
        "profile_id": profile_id,
        "profile_name": "example@cronofy.com",
        "profile_connected": connected,
    } | fields


def userinfo(
    *profiles: Json,
    sub: Any = "acc_1",
    conferencing_profiles: list[Json] | None = None,
    data: Json | None = None,
    **fields: Any,
) -> Json:
    """`/v1/userinfo` of an account."""
    content: Json = {
        "authorization": {"scope": "read_write", "status": "active"},
        "profiles": list(profiles),
    }
    if conferencing_profiles is not None:
        content["conferencing_profiles"] = conferencing_profiles
    return {
        "sub": sub,
        "email": "example@cronofy.com",
        "name": "Jane Doe",
        "zoneinfo": "Europe/London",
        "cronofy.type": "account",
        "cronofy.data": content | (data or {}),
    } | fields


def service_account() -> Json:
    """`/v1/userinfo` of a service account, which has no profiles."""
    return {
        "sub": "ser_1",
        "email": "admin@example.com",
        "cronofy.type": "service_account",
        "cronofy.data": {
            "authorization": {
                "scope": "service_account/accounts/manage",
                "status": "active",
                "delegated_scope": "read_write",
            },
            "service_account": {"provider_name": "exchange", "domain": "example.com"},
        },
    }


def older_service_account() -> Json:
    """The same in older copies of the API: flat keys with dots in their names."""
    return {
        "sub": "ser_1",
        "cronofy.type": "service_account",
        "cronofy.service_account.domain": "example.com",
        "cronofy.service_account.email": "admin@example.com",
    }


def application_calendar() -> Json:
    """`/v1/userinfo` of an application calendar: no email, name or time zone."""
    return {
        "sub": "apc_1",
        "application_calendar_id": "my-unique-id",
        "cronofy.type": "application_calendar",
        "cronofy.data": {
            "application_calendar": {"application_calendar_id": "my-unique-id"},
            "authorization": {"scope": "read_write", "status": "active"},
            "profiles": [
                profile(
                    "pro_a",
                    provider_name="cronofy",
                    provider_service="cronofy",
                    profile_name="my-unique-id",
                    profile_calendars=[calendar("cal_a")],
                )
            ],
        },
    }


def account(account_id: Any = "acc_1", **fields: Any) -> Json:
    """`/v1/account`."""
    return {
        "account": {
            "account_id": account_id,
            "email": "example@cronofy.com",
            "name": "Jane Doe",
            "scope": "read_events create_event",
            "default_tzid": "Europe/London",
        }
        | fields,
        "sub": account_id,
    }


def profiles(*listed: Json) -> Json:
    """`/v1/profiles`."""
    return {"profiles": list(listed)}


def token(key: str = "k1", data_center: str | None = "us") -> Token:
    """A token; its access token is `at-` and its key."""
    return Token(key, Secret(f"at-{key}"), data_center=data_center)


def minute(minutes: float) -> datetime:
    """That many minutes after the start."""
    return START + timedelta(minutes=minutes)


def answered(
    response: Response,
    endpoint: str = "userinfo",
    key: str = "k1",
    account_id: str | None = None,
    personal_data: PersonalData = KEEP,
    fallback_tokens: tuple[str, ...] = (),
) -> Poll:
    """The poll that had this answer, read."""
    digests = body_digests(PollingSettings(personal_data=personal_data))
    poll = Poll(
        key,
        token(key).data_center,
        endpoint,
        response,
        account_id,
        digest=digests(token(key))(response.body) if response.outcome is Outcome.OK else None,
        body_bytes=len(response.body),
        fallback_tokens=fallback_tokens,
    )
    return read_poll(poll, personal_data)


def poll(
    body: Json | bytes,
    at: float,
    *,
    endpoint: str = "userinfo",
    key: str = "k1",
    account_id: str | None = None,
    fallback_tokens: tuple[str, ...] = (),
) -> Poll:
    """An HTTP 200 with this body, `at` minutes after the start."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    response = Response(Outcome.OK, minute(at) - timedelta(seconds=1), minute(at), 1000, 200, raw)
    return answered(response, endpoint, key, account_id, fallback_tokens=fallback_tokens)


def failed_poll(
    outcome: Outcome, at: float, *, endpoint: str = "userinfo", key: str = "k1", account_id: str | None = None
) -> Poll:
    """A poll that failed, `at` minutes after the start."""
    response = Response(outcome, minute(at), minute(at), 0, message="failed")
    return answered(response, endpoint, key, account_id)
