"""Complete HTTP answers, and the JSON they are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Send

Header = tuple[bytes, bytes]

JSON_TYPE = b"application/json; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, ready to be sent any number of times."""

    status: int
    headers: list[Header]
    body: bytes

    async def send(self, send: Send) -> None:
        """Sends the whole answer."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def build_answer(
    status: int, body: bytes = b"", headers: tuple[Header, ...] = (), content_type: bytes = JSON_TYPE
) -> Answer:
    """Returns an answer with its length, and with its type if it has a body."""
    typed = [(b"content-type", content_type)] if body else []
    return Answer(status, [*typed, (b"content-length", b"%d" % len(body)), *headers], body)


def build_json_answer(status: int, content: Mapping[str, Any], headers: tuple[Header, ...] = ()) -> Answer:
    """Returns an answer whose body is `content` as JSON."""
    return build_answer(status, orjson.dumps(content), headers)


UNAUTHENTICATED = build_answer(401, headers=((b"www-authenticate", b'Bearer realm="Cronofy"'),))
TOKEN_REJECTED = build_answer(
    401, headers=((b"www-authenticate", b'Bearer realm="Cronofy", error="invalid_token"'),)
)
FORBIDDEN = build_answer(
    403, headers=((b"www-authenticate", b'Bearer realm="Cronofy", error="insufficient_scope"'),)
)
NOT_FOUND = build_answer(404)
