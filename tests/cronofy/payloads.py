"""Bodies of the API from its documentation, its SDKs and public code, with names and ids replaced."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DATA: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("payloads.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Sent:
    """What the server sends: the endpoint, the status and the body."""

    endpoint: str
    status: int
    body: bytes


def _sent(entry: dict[str, Any]) -> Sent:
    text = entry["text"] if "text" in entry else json.dumps(entry["body"])
    return Sent(entry["endpoint"], entry.get("status", 200), text.encode())


PAYLOADS = {name: _sent(entry) for name, entry in _DATA.items()}
IDENTITY = {
    name: sent
    for name, sent in PAYLOADS.items()
    if sent.endpoint in ("userinfo", "account", "profiles") and sent.status == 200
}
