"""A loopback HTTP server that answers, misanswers or does not answer, by endpoint and access token.

It knows nothing of the project and little of HTTP: what it writes is what the script says, byte by byte. The
sandbox does not serve these tests: it speaks HTTP well, and takes more time beside the loads it serves.
"""

import asyncio
import gzip
import socket
import struct
import threading
from asyncio import StreamWriter
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import orjson

Behavior = Callable[[StreamWriter], Awaitable[None]]
FOREVER = 3600.0
RST_ON_CLOSE = struct.pack("ii", 1, 0)
T = TypeVar("T")


class HangUpError(Exception):
    """The server wants no more of this connection."""


class RawServer:
    """Reads requests on 127.0.0.1 in a thread of its own; a subclass writes what is answered."""

    def __init__(self) -> None:
        self.port = 0
        self.opened = 0
        self.connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listener = self._wait_for(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait_for(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def respond(self, method: str, path: str, headers: dict[str, str], writer: StreamWriter) -> None:
        """Write what there is to write for one request."""
        raise NotImplementedError

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: StreamWriter) -> None:
        """Handle one connection until either side has enough."""
        self.opened += 1
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            with suppress(HangUpError, ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    first, *lines = head.strip().split("\r\n")
                    named = (line.partition(":") for line in lines)
                    headers = {name.lower(): value.strip() for name, _, value in named}
                    method, path, _ = first.split(" ")
                    await self.respond(method, path, headers, writer)
        finally:
            self.connections.discard(task)
            writer.close()

    async def _stop(self) -> None:
        self._listener.close()
        handlers = list(self.connections)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@dataclass(frozen=True)
class Arrival:
    """One request as it came in."""

    endpoint: str
    token: str
    at: float
    headers: Mapping[str, str]
    method: str


def answer(status: int = 200, body: Any = b"", *headers: tuple[str, str]) -> Behavior:
    """A well-formed answer; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    names = {name.lower() for name, _ in headers}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    if "content-type" not in names:
        lines.append("Content-Type: application/json; charset=utf-8")
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(raw)}")
    head = "\r\n".join(lines) + "\r\n\r\n"

    async def write(writer: StreamWriter) -> None:
        writer.write(head.encode("latin-1") + raw)
        await writer.drain()

    return write


def gzipped(body: Any) -> Behavior:
    """A body compressed without having been asked for it."""
    return answer(200, gzip.compress(orjson.dumps(body)), ("Content-Encoding", "gzip"))


def raw(content: bytes) -> Behavior:
    """Just these bytes, then the end."""

    async def write(writer: StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        raise HangUpError

    return write


def reset_after(content: bytes = b"") -> Behavior:
    """These bytes, then a TCP reset."""

    async def write(writer: StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        await asyncio.sleep(0.02)
        reset(writer)

    return write


def reset(writer: StreamWriter) -> NoReturn:
    """End a connection with a TCP reset."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    writer.transport.abort()
    raise HangUpError


def drip(pause_seconds: float) -> Behavior:
    """An answer that comes, byte by byte, and never ends."""

    async def write(writer: StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return write


def endless(size: int) -> Behavior:
    """A chunked body of that many bytes."""

    async def write(writer: StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b" " * 65536
        for _ in range(size // len(chunk) + 1):
            writer.write(b"10000\r\n" + chunk + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return write


def later(seconds: float, behavior: Behavior) -> Behavior:
    """The same after a while."""

    async def write(writer: StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await behavior(writer)

    return write


def hang() -> Behavior:
    """Nothing at all."""
    return later(FOREVER, raw(b""))


class Server(RawServer):
    """What is answered, and what was asked.

    Attributes:
        script: behaviors by (endpoint, access token); the last one is repeated.
        time: what stamps arrivals.
    """

    def __init__(self) -> None:
        super().__init__()
        self.script: dict[tuple[str, str], list[Behavior]] = {}
        self.arrivals: list[Arrival] = []
        self.time: Callable[[], float] = lambda: 0.0

    @property
    def url(self) -> str:
        return self.base_url

    def on(self, endpoint: str, token: str, *behaviors: Behavior) -> None:
        """Script one endpoint for one access token."""
        self.script[endpoint, token] = list(behaviors)

    def asked(self, endpoint: str | None = None) -> Counter[str]:
        """Requests by access token."""
        return Counter(each.token for each in self.arrivals if endpoint in (None, each.endpoint))

    def called(self) -> dict[str, int]:
        """Requests by endpoint."""
        return dict(Counter(each.endpoint for each in self.arrivals))

    def waits(self) -> list[float]:
        """Times between successive requests."""
        times = [each.at for each in self.arrivals]
        return [after - before for before, after in pairwise(times)]

    async def respond(self, method: str, path: str, headers: dict[str, str], writer: StreamWriter) -> None:
        endpoint = path.removeprefix("/v1/")
        token = headers.get("authorization", "").removeprefix("Bearer ")
        self.arrivals.append(Arrival(endpoint, token, self.time(), headers, method))
        behaviors = self.script.get((endpoint, token)) or [answer(401)]
        await (behaviors.pop(0) if len(behaviors) > 1 else behaviors[0])(writer)
