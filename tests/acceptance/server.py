"""A server that answers whatever a function of the request says, well formed or not."""

import asyncio
import json
from asyncio import StreamWriter
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.cronofy.server import HangUpError, RawServer, reset


@dataclass(frozen=True)
class Request:
    """What a request asked for: the last part of the path, and whose bearer token it carried."""

    endpoint: str
    token: str


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    `says` is the document a reader should take from the reply, None where there is nothing to take;
    `outcome` is what the poll is to be called when this is the reply to its last attempt.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = "Whatever"
    delay: float = 0.0
    cut: Literal["no", "reset", "short"] = "no"
    raw: bytes | None = None
    says: dict[str, Any] | None = field(default=None, compare=False)
    outcome: str = "ok"

    def written(self) -> bytes:
        """The bytes that go over the connection."""
        if self.raw is not None:
            return self.raw
        headers = (("content-type", "application/json"), *self.headers)
        head = f"HTTP/1.1 {self.status} {self.reason}\r\ncontent-length: {len(self.body)}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers
        )
        body = self.body if self.cut == "no" else self.body[: len(self.body) // 2]
        return head.encode("latin-1") + b"\r\n" + body


def says(document: dict[str, Any], **settings: Any) -> Reply:
    """A proper answer that carries the document."""
    return Reply(body=json.dumps(document).encode(), says=document, **settings)


Script = Callable[[Request], Reply]


class ScriptedServer(RawServer):
    """Serves a script on 127.0.0.1 from `__enter__` to `__exit__`, and remembers every request."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.log: list[tuple[Request, Reply]] = []

    @property
    def calls(self) -> Counter[str]:
        """Requests by endpoint."""
        return Counter(request.endpoint for request, _ in self.log)

    async def respond(self, method: str, path: str, headers: dict[str, str], writer: StreamWriter) -> None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        request = Request(path.rsplit("/", 1)[-1], token)
        reply = self.script(request)
        self.log.append((request, reply))
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.cut == "reset":
            reset(writer)
        writer.write(reply.written())
        if reply.cut == "short" or reply.raw is not None:
            raise HangUpError
