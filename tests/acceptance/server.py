"""A scriptable HTTP server on raw asyncio: it answers whatever a test says, well formed or not."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

RST_ON_CLOSE = struct.pack("ii", 1, 0)


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


def says(document: dict[str, Any], **settings: Any) -> Reply:
    """A proper answer that carries the document."""
    return Reply(body=json.dumps(document).encode(), says=document, **settings)


Script = Callable[[Request], Reply]


class ScriptedServer:
    """Serves a script on 127.0.0.1 from `__enter__` to `__exit__`, and remembers every request."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.log: list[tuple[Request, Reply]] = []
        self.connections: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._serving = threading.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def calls(self) -> Counter[str]:
        """Requests by endpoint."""
        return Counter(request.endpoint for request, _ in self.log)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._serving.wait(10), "the scripted server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._serving.set()
        self._loop.run_forever()
        server.close()
        for transport in list(self.connections):
            transport.abort()
        # two turns: one for the aborts, one for what they call
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()


class _Connection(asyncio.Protocol):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._server.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._handle(head.decode("latin-1"))

    def _handle(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        request = Request(
            endpoint=first.split(" ")[1].rsplit("/", 1)[-1],
            token=headers.get("authorization", "").removeprefix("Bearer "),
        )
        reply = self._server.script(request)
        self._server.log.append((request, reply))
        asyncio.get_running_loop().call_later(reply.delay, self._send, reply)

    def _send(self, reply: Reply) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if reply.cut == "reset":
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE
                )
            transport.abort()
            return
        headers = (("content-type", "application/json"), *reply.headers)
        head = f"HTTP/1.1 {reply.status} {reply.reason}\r\ncontent-length: {len(reply.body)}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers
        )
        body = reply.body if reply.cut == "no" else reply.body[: len(reply.body) // 2]
        transport.write(reply.raw if reply.raw is not None else head.encode("latin-1") + b"\r\n" + body)
        if reply.cut == "short" or reply.raw is not None:
            transport.close()
