"""A scriptable HTTP server that reads bodies and may speak TLS, a thread for each connection.

It sees connections before TLS does: only there it shows that a server with a wrong certificate got nothing.
"""

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.cronofy.server import RST_ON_CLOSE

from .server import Reply


@dataclass(frozen=True)
class Asked:
    """One request: the last part of the path, whose bearer token it carried, and what it said."""

    method: str
    endpoint: str
    token: str
    form: dict[str, Any]


Answering = Callable[[Asked], Reply]


class ThreadedServer:
    """Answers on 127.0.0.1 from `__enter__` to `__exit__`; remembers connections and requests."""

    def __init__(self, answering: Answering, tls: ssl.SSLContext | None = None) -> None:
        self.answering = answering
        self.tls = tls
        self.log: list[Asked] = []
        self.connections = 0
        self.received = b""
        self.leaving = threading.Event()
        self._server = _Server(self)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def base_url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> Counter[str]:
        """Requests by endpoint."""
        return Counter(asked.endpoint for asked in self.log)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leaving.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: ThreadedServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.BaseRequestHandler):
    request: socket.socket
    server: _Server

    def handle(self) -> None:
        owner = self.server.owner
        owner.connections += 1
        # whatever the client does, the next connection is served
        with contextlib.suppress(OSError, ValueError):
            stream = owner.tls.wrap_socket(self.request, server_side=True) if owner.tls else self.request
            with contextlib.closing(stream), stream.makefile("rb") as file:
                while (head := _head(file)) and not owner.leaving.is_set():
                    if not self._answer(stream, file, head):
                        return

    def _answer(self, stream: socket.socket, file: Any, head: str) -> bool:
        """Whether the connection goes on."""
        owner = self.server.owner
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = file.read(int(headers.get("content-length", 0)))
        owner.received += head.encode("latin-1") + body
        method, path, _ = first.split(" ")
        asked = Asked(
            method,
            path.rsplit("/", 1)[-1],
            headers.get("authorization", "").removeprefix("Bearer "),
            json.loads(body) if body else {},
        )
        reply = owner.answering(asked)
        owner.log.append(asked)
        owner.leaving.wait(reply.delay)
        return _send(stream, reply)


def _head(file: Any) -> str:
    """The head of the next request; empty when there is none."""
    lines: list[bytes] = []
    while (line := file.readline()) not in (b"\r\n", b""):
        lines.append(line)
    return b"".join(lines).decode("latin-1").removesuffix("\r\n")


def _send(stream: socket.socket, reply: Reply) -> bool:
    if reply.cut == "reset":
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        return False
    stream.sendall(reply.written())
    return reply.raw is None and reply.cut == "no"
