"""A loopback HTTP server that answers, misanswers or does not answer, by endpoint and access token.

It knows nothing of the project and little of HTTP: what it writes is what the script says, byte by byte.
"""

import asyncio
import gzip
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

Behavior = Callable[[asyncio.StreamWriter], Awaitable[None]]
FOREVER = 3600.0


class HangUpError(Exception):
    """The server wants no more of this connection."""


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

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode("latin-1") + raw)
        await writer.drain()

    return write


def gzipped(body: Any) -> Behavior:
    """A body compressed without having been asked for it."""
    return answer(200, gzip.compress(orjson.dumps(body)), ("Content-Encoding", "gzip"))


def raw(content: bytes) -> Behavior:
    """Just these bytes, then the end."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        raise HangUpError

    return write


def reset_after(content: bytes = b"") -> Behavior:
    """These bytes, then a TCP reset."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        await asyncio.sleep(0.02)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        raise HangUpError

    return write


def drip(pause_seconds: float) -> Behavior:
    """An answer that comes, byte by byte, and never ends."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return write


def endless(size: int) -> Behavior:
    """A chunked body of that many bytes."""

    async def write(writer: asyncio.StreamWriter) -> None:
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

    async def write(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await behavior(writer)

    return write


def hang() -> Behavior:
    """Nothing at all."""
    return later(FOREVER, raw(b""))


@dataclass
class Server:
    """What is answered, and what was asked.

    Attributes:
        script: behaviors by (endpoint, access token); the last one is repeated.
        time: what stamps arrivals.
        connections: how many were opened.
    """

    port: int = 0
    script: dict[tuple[str, str], list[Behavior]] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    time: Callable[[], float] = lambda: 0.0
    connections: int = 0
    _handlers: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection until either side has enough."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            with suppress(HangUpError, ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._exchange(reader, writer)
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.strip().split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        endpoint = path.removeprefix("/v1/")
        token = headers.get("authorization", "").removeprefix("Bearer ")
        self.arrivals.append(Arrival(endpoint, token, self.time(), headers, method))
        behaviors = self.script.get((endpoint, token)) or [answer(401)]
        await (behaviors.pop(0) if len(behaviors) > 1 else behaviors[0])(writer)

    async def stop(self) -> None:
        """End every connection that is still open."""
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a thread of its own."""
    server = Server()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(server.serve, "127.0.0.1", 0)

    async def stop(listener: asyncio.Server) -> None:
        listener.close()
        await server.stop()

    listener = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(listener), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
