"""Documents as Cronofy's identity endpoints send them."""

from collections.abc import Sequence
from typing import Any

Document = dict[str, Any]

PROVIDERS = {
    "gsuite": "google",
    "google": "google",
    "icloud": "apple",
    "office365": "exchange",
    "outlook_com": "live_connect",
}


def calendar(calendar_id: str, name: str = "Calendar") -> Document:
    return {
        "calendar_id": calendar_id,
        "calendar_name": name,
        "calendar_readonly": False,
        "calendar_deleted": False,
        "calendar_primary": True,
        "calendar_integrated_conferencing_available": True,
        "calendar_attachments_available": False,
        "permission_level": "sandbox",
    }


def profile(
    profile_id: str,
    *,
    connected: bool = True,
    service: str = "gsuite",
    name: str = "someone@example.com",
    syncing: bool = False,
    calendars: Sequence[Document] | None = None,
) -> Document:
    document: Document = {
        "provider_name": PROVIDERS.get(service, service),
        "provider_service": service,
        "profile_id": profile_id,
        "profile_name": name,
        "profile_connected": connected,
    }
    if calendars is not None:
        document |= {"profile_initial_sync_required": syncing, "profile_calendars": list(calendars)}
    return document if connected else disconnected(document)


def disconnected(document: Document) -> Document:
    """The same profile, down: only then does it carry a relink URL."""
    url = f"https://app.cronofy.com/relink/{document['provider_name']}?email={document['profile_name']}"
    return document | {"profile_connected": False, "profile_relink_url": url}


def connected(document: Document) -> Document:
    """The same profile, up."""
    up = document | {"profile_connected": True}
    up.pop("profile_relink_url", None)
    return up


def userinfo(
    sub: str,
    profiles: Sequence[Document] | None = (),
    conferencing: Sequence[Document] | None = None,
    *,
    kind: str = "account",
    email: str | None = None,
) -> Document:
    data: Document = {"authorization": {"scope": "read_write", "status": "active"}}
    if profiles is not None:
        data["profiles"] = list(profiles)
    if conferencing is not None:
        data["conferencing_profiles"] = list(conferencing)
    document: Document = {"sub": sub, "cronofy.type": kind, "cronofy.data": data}
    if kind == "account":
        document |= {"email": email or f"{sub}@example.com", "name": f"Name of {sub}", "zoneinfo": "Etc/UTC"}
    if kind == "service_account":
        data["service_account"] = {"provider_name": "exchange", "domain": "example.com"}
        data["authorization"]["delegated_scope"] = "read_write"
    if kind == "application_calendar":
        data["application_calendar"] = {"application_calendar_id": f"calendar-of-{sub}"}
    return document


def account(sub: str) -> Document:
    return {
        "sub": sub,
        "account": {
            "account_id": sub,
            "email": f"{sub}@example.com",
            "name": f"Name of {sub}",
            "scope": "read_write",
            "default_tzid": "Etc/UTC",
        },
    }
