"""The token endpoint: the request for a new access token, and what its response says."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson

from ..records import Response
from ..secret import Hidden, Secret
from ..settings import ClientCredentials
from ..tokens.base import Renewal
from ..tokens.rows import HEADER_SAFE
from ..tokens.token import Token
from .transport import HEADERS

# RFC 6749, section 5.2: the application is refused, not the token
CLIENT_REFUSED = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})


def refresh_request(url: str, client: ClientCredentials, used: Secret) -> httpx.Request:
    """A request for a new access token; it uses the refresh token up."""
    # docs api/authorization/refresh-token: JSON is the preferred form
    body = {
        "client_id": client.client_id,
        "client_secret": client.client_secret.reveal(),
        "grant_type": "refresh_token",
        "refresh_token": used.reveal(),
    }
    headers = [*HEADERS, (b"Content-Type", b"application/json")]
    return httpx.Request("POST", url, headers=headers, content=orjson.dumps(body))


def read_renewal(token: Token, response: Response, answer: Hidden) -> Renewal | None:
    """The new pair of a good response; None where it is not of the documented shape."""
    access_token, refresh_token = answer.value.get("access_token"), answer.value.get("refresh_token")
    assert token.refresh_token is not None
    if not isinstance(access_token, str) or not HEADER_SAFE.fullmatch(access_token):
        return None
    rotated = isinstance(refresh_token, str) and refresh_token != ""
    if rotated and not HEADER_SAFE.fullmatch(str(refresh_token)):
        return None  # a store that held it could not be read any more
    return Renewal(
        token,
        Secret(access_token),
        Secret(str(refresh_token)) if rotated else token.refresh_token,
        _expiry(response, answer.value.get("expires_in")),
    )


def _expiry(response: Response, expires_in: Any) -> datetime | None:
    """When the new access token expires, counted from the request: the response was under way for a while."""
    known = isinstance(expires_in, (int, float)) and not isinstance(expires_in, bool)
    return response.requested_at + timedelta(seconds=expires_in) if known and 0 < expires_in < 1e9 else None


def error_code(answer: Hidden) -> str | None:
    """The error of a refusal, if it is one that RFC 6749 knows."""
    code = answer.value.get("error")
    return code if isinstance(code, str) and code in {"invalid_grant", *CLIENT_REFUSED} else None


def read_document(body: bytes) -> Hidden:
    """The body of the token endpoint as an object; empty where it is none."""
    try:
        document = orjson.loads(body)
    except ValueError:
        document = None
    return Hidden(document if isinstance(document, dict) else {})
