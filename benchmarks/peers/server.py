"""The benchmark server with all three endpoints, and how many answers a second it can give."""

import json
import re
import socket
import time
from collections.abc import Iterable
from multiprocessing.sharedctypes import Synchronized
from typing import Any, ClassVar
from urllib.parse import urlsplit

from benchmarks.server import HEAD, Answering, access_token, userinfo

PROFILES = 2  # of each account
CONNECTIONS = 64
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
REQUEST = re.compile(rb"GET /v1/(\w+) .*\r\nauthorization: bearer ([^\r]+)", re.IGNORECASE | re.DOTALL)
BODY_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class IdentityAnswering(Answering):
    """Answers userinfo, account and profiles from memory, so that it costs the contenders little."""

    answers: ClassVar[dict[tuple[bytes, bytes], bytes]] = {}

    @classmethod
    def prepare(cls, tokens: int) -> None:
        """Render the answers of that many tokens; the server's process inherits them."""
        cls.answers = {
            (endpoint.encode(), access_token(number).encode()): _response(body)
            for number in range(tokens)
            for endpoint, body in _bodies(number).items()
        }

    def __init__(self, answered: "Synchronized[int]") -> None:
        super().__init__(answered)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        # a GET may carry a body: pycronofy sends `{}`
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            body = BODY_LENGTH.search(head)
            behind = end + 4 + (int(body[1]) if body else 0)
            if len(self._received) < behind:
                return
            self._received = self._received[behind:]
            asked = REQUEST.match(head)
            answer = self.answers.get((asked[1], asked[2])) if asked else None
            self._answered.value += 1  # first: who has the answer may look how many there were
            self._transport.write(answer or NOT_FOUND)


def ceiling(url: str, calls: int) -> float:
    """Answers a second to bare sockets which send bytes made before and parse nothing."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    sockets = [socket.create_connection((host, port)) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for first in range(0, calls, CONNECTIONS):
        _round(sockets, range(first, min(first + CONNECTIONS, calls)))
    seconds = time.perf_counter() - started
    for connection in sockets:
        connection.close()
    return calls / seconds


def _round(sockets: list[socket.socket], numbers: Iterable[int]) -> None:
    asked = list(zip(sockets, numbers, strict=False))
    for connection, number in asked:
        token = access_token(number)
        connection.sendall(f"GET /v1/userinfo HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    for connection, number in asked:
        missing = len(IdentityAnswering.answers[b"userinfo", access_token(number).encode()])
        while missing:
            missing -= len(connection.recv(65_536))


def _response(body: dict[str, Any]) -> bytes:
    rendered = json.dumps(body).encode()
    return HEAD % len(rendered) + rendered


def _bodies(number: int) -> dict[str, dict[str, Any]]:
    """The documented bodies of one token: userinfo, and what the other two endpoints repeat of it."""
    whole = userinfo(number)
    data = whole["cronofy.data"]
    account = {
        "account_id": whole["sub"],
        "email": whole["email"],
        "name": whole["name"],
        "scope": data["authorization"]["scope"],
        "default_tzid": whole["zoneinfo"],
    }
    profiles = [
        {field: value for field, value in profile.items() if field != "profile_calendars"}
        for profile in data["profiles"]
    ]
    return {
        "userinfo": whole,
        "account": {"account": account, "sub": whole["sub"]},
        "profiles": {"profiles": profiles},
    }
