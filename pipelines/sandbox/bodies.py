"""Builds response bodies. A body depends on the account, the token's scope and the instant alone."""

from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import quote

from .records import Account, Endpoint, Profile, ProfileState

Body = dict[str, Any]


def build_body(endpoint: Endpoint, account: Account, scope: str, at: datetime) -> Body:
    """Returns the body of a 200 answer.

    Args:
        endpoint: `userinfo`, `account` or `profiles`.
        account: the account that the token belongs to.
        scope: the scope of the token, space-separated.
        at: the instant to answer for.
    """
    if endpoint == "userinfo":
        return build_userinfo(account, scope, at)
    if endpoint == "account":
        return build_account(account, scope)
    return {"profiles": _list_profiles(account, at, with_calendars=False)}


def build_userinfo(account: Account, scope: str, at: datetime) -> Body:
    """Returns the body of `/v1/userinfo`; its Cronofy keys have dots in their names."""
    body: Body = {"sub": account.account_id}
    data: Body = {"authorization": {"scope": scope, "status": "active"}}
    if account.email is not None:
        body["email"] = account.email
    if account.type == "account":
        if not account.omits_name:
            body["name"] = account.name
        body["zoneinfo"] = account.zoneinfo
    body["cronofy.type"] = account.type
    body["cronofy.data"] = data
    if account.type == "service_account":
        _describe_service_account(account, body, data)
        return body
    if account.type == "application_calendar":
        body["application_calendar_id"] = account.application_calendar_id
        data["application_calendar"] = {"application_calendar_id": account.application_calendar_id}
    data["profiles"] = _list_profiles(account, at, with_calendars=True)
    if account.type == "account":
        data["conferencing_profiles"] = _list_conferencing_profiles(account, at)
    return body


def build_account(account: Account, scope: str) -> Body:
    """Returns the body of `/v1/account`; what a kind of account does not have is left out."""
    details: Body = {"account_id": account.account_id}
    if account.email is not None:
        details["email"] = account.email
    if not account.omits_name:
        details["name"] = account.name
    details |= {"scope": scope, "default_tzid": account.zoneinfo, "type": account.type}
    return {"account": details, "sub": account.account_id}


def _describe_service_account(account: Account, body: Body, data: Body) -> None:
    service_account = account.service_account
    assert service_account is not None
    data["authorization"]["delegated_scope"] = service_account.delegated_scope
    if service_account.flat:
        body["cronofy.service_account.domain"] = service_account.domain
        return
    data["service_account"] = {"provider_name": service_account.provider_name}
    if service_account.domain is not None:
        data["service_account"]["domain"] = service_account.domain


def _list_profiles(account: Account, at: datetime, *, with_calendars: bool) -> list[Body]:
    entries = []
    for profile, state in _listed(account, at, "calendar"):
        entry: Body = {
            "provider_name": profile.provider.name,
            "provider_service": profile.provider.service,
            "profile_id": profile.profile_id,
            "profile_name": state.profile_name,
            "profile_connected": state.link != "disconnected",
            "profile_initial_sync_required": state.link == "syncing",
        }
        if state.link == "disconnected":
            entry["profile_relink_url"] = _relink_url(account, profile, state)
        if with_calendars:
            entry["profile_calendars"] = [asdict(calendar) for calendar in state.calendars]
        entries.append(entry)
    return entries


def _list_conferencing_profiles(account: Account, at: datetime) -> list[Body]:
    entries = []
    for profile, state in _listed(account, at, "conferencing"):
        entry: Body = {
            "provider_name": profile.provider.name,
            "profile_id": profile.profile_id,
            "profile_name": state.profile_name,
            "profile_connected": state.link != "disconnected",
        }
        if state.link == "disconnected":
            entry["profile_relink_url"] = _relink_url(account, profile, state)
        entries.append(entry)
    return entries


def _listed(account: Account, at: datetime, profile_type: str) -> list[tuple[Profile, ProfileState]]:
    return [
        (profile, state)
        for profile in account.profiles
        if profile.provider.profile_type == profile_type and (state := profile.at(at)) is not None
    ]


def _relink_url(account: Account, profile: Profile, state: ProfileState) -> str:
    host = "app" if account.data_center == "us" else f"app-{account.data_center}"
    return f"https://{host}.cronofy.com/v2/relink/{profile.provider.name}?email={quote(state.profile_name)}"
