"""Builds response bodies. A body depends on the account, the token's scope and the instant alone."""

import hashlib
from datetime import datetime
from urllib.parse import quote

from .people import ProfileType
from .records import Account, Body, Endpoint, Profile, ProfileState


def build_body(endpoint: Endpoint, account: Account, scope: str, at: datetime) -> Body:
    """Returns the body of a 200 answer for a token of that (space-separated) scope."""
    if endpoint == "userinfo":
        return build_userinfo(account, scope, at)
    if endpoint == "account":
        return build_account(account, scope)
    return {"profiles": _list_profiles(account, at, "calendar")}


def build_userinfo(account: Account, scope: str, at: datetime) -> Body:
    """Returns the body of `/v1/userinfo`; its Cronofy keys have dots in their names."""
    body: Body = {"sub": account.account_id}
    data: Body = {
        "authorization": {"scope": scope, "status": "active"} | account.authorization,
        **account.data,
    }
    if account.email is not None:
        body["email"] = account.email
    if account.type == "account":
        if not account.omits_name:
            body["name"] = account.name
        body["zoneinfo"] = account.zoneinfo
    if account.type != "service_account":
        data["profiles"] = _list_profiles(account, at, "calendar", with_calendars=True)
    if account.type == "account":
        data["conferencing_profiles"] = _list_profiles(account, at, "conferencing")
    return body | {"cronofy.type": account.type, "cronofy.data": data} | account.extras


def build_account(account: Account, scope: str) -> Body:
    """Returns the body of `/v1/account`; what a kind of account does not have is left out."""
    details: Body = {"account_id": account.account_id}
    if account.email is not None:
        details["email"] = account.email
    if not account.omits_name:
        details["name"] = account.name
    details |= {"scope": scope, "default_tzid": account.zoneinfo, "type": account.type}
    return {"account": details, "sub": account.account_id}


def _list_profiles(
    account: Account, at: datetime, profile_type: ProfileType, *, with_calendars: bool = False
) -> list[Body]:
    listed = [(each, each.history.at(at)) for each in account.profiles]
    return [
        _describe_profile(account, profile, state, at, with_calendars=with_calendars)
        for profile, state in listed
        if profile.provider.profile_type == profile_type and state.link != "absent"
    ]


def _describe_profile(
    account: Account, profile: Profile, state: ProfileState, at: datetime, *, with_calendars: bool
) -> Body:
    entry: Body = {"provider_name": profile.provider.name}
    if profile.provider.service is not None:
        entry["provider_service"] = profile.provider.service
    if state.protocol is not None:
        entry["provider_protocol"] = state.protocol
    entry["profile_id"] = profile.profile_id
    entry["profile_name"] = state.profile_name
    entry["profile_connected"] = state.link != "disconnected"
    if profile.provider.profile_type == "calendar":
        entry["profile_initial_sync_required"] = state.link == "syncing"
    is_stuck = state.link == "syncing" and profile.provider.profile_type == "calendar" and not state.calendars
    if state.link == "disconnected" or is_stuck:
        path = f"v2/relink/{profile.provider.name}?email={quote(state.profile_name)}"
        entry["profile_relink_url"] = _build_link(account, path, at)
    if state.protocol == "exchange_web_services":
        path = f"graph_api_migration?profile={profile.profile_id}"
        entry["graph_api_migration_url"] = _build_link(account, path, at)
    if with_calendars:
        entry["profile_calendars"] = list(state.calendars)
    return entry


def _build_link(account: Account, path: str, at: datetime) -> str:
    host = "app" if account.data_center == "us" else f"app-{account.data_center}"
    link = f"https://{host}.cronofy.com/{path}"
    if account.volatile_links:
        link += f"&state={hashlib.sha256(f'{path} {at}'.encode()).hexdigest()[:16]}"
    return link
