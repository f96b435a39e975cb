"""A loopback server in a process of its own, cheap enough not to be the bottleneck (the sandbox would)."""

import asyncio
import csv
import json
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any


def userinfo(number: int) -> dict[str, Any]:
    """A body of the documented shape: two profiles, one calendar each."""
    profiles = [
        {
            "provider_name": "google",
            "provider_service": "gsuite",
            "profile_id": f"pro_{number:024d}_{letter}",
            "profile_name": f"user{number}@example.com",
            "profile_connected": number % 20 != 0,
            "profile_initial_sync_required": False,
            "profile_calendars": [
                {
                    "calendar_id": f"cal_{number:024d}_{letter}",
                    "calendar_name": "Calendar",
                    "calendar_readonly": False,
                    "calendar_deleted": False,
                    "calendar_primary": True,
                    "calendar_integrated_conferencing_available": True,
                    "calendar_attachments_available": True,
                    "permission_level": "sandbox",
                }
            ],
        }
        for letter in "ab"
    ]
    return {
        "sub": f"acc_{number:024d}",
        "email": f"user{number}@example.com",
        "name": f"User {number}",
        "zoneinfo": "Europe/London",
        "cronofy.type": "account",
        "cronofy.data": {
            "authorization": {"scope": "read_write", "status": "active"},
            "profiles": profiles,
            "conferencing_profiles": [],
        },
    }


def access_token(number: int) -> str:
    """The access token of an account of the benchmark server."""
    return f"token-{number}"


def write_tokens(file: Path, tokens: int) -> Path:
    """A token store with that many of its accounts."""
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["key", "access_token", "refresh_token", "data_center"])
        writer.writerows([f"key_{number}", access_token(number), "", "us"] for number in range(tokens))
    return file


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Answering(asyncio.Protocol):
    """Answers every request of a connection, pipelined or not, with the token number's body."""

    def __init__(self, answered: "Synchronized[int]") -> None:
        self._answered = answered
        self._pending = b""
        self._bodies: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            head, self._pending = self._pending[:end], self._pending[end + 4 :]
            at = head.lower().find(b"authorization: bearer ") + 22
            token = head[at:].split(b"\r\n", 1)[0]
            self._transport.write(self.answer(token))
            self._answered.value += 1

    def answer(self, token: bytes) -> bytes:
        """What is sent; nothing for a request that is left hanging."""
        body = json.dumps(userinfo(int(token.rsplit(b"-", 1)[1]))).encode()
        return HEAD % len(body) + body


def _serve(bound: socket.socket, answered: "Synchronized[int]", protocol: type[Answering]) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: protocol(answered), sock=bound)
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def serving(protocol: type[Answering] = Answering) -> Iterator[tuple[str, "Synchronized[int]"]]:
    """The base URL of a running server, and the number of requests it has answered."""
    context = multiprocessing.get_context("fork")
    answered: Synchronized[int] = context.Value("q", 0)
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    bound.listen(1024)
    process = context.Process(target=_serve, args=(bound, answered, protocol), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", answered
    finally:
        process.terminate()
        process.join()
        bound.close()
