"""The server all contenders ask: each request gets the body of its path and token, however it is sent."""

import json
import multiprocessing
from typing import Any

import pytest

from benchmarks.peers.server import NOT_FOUND, PROFILES, IdentityAnswering
from benchmarks.server import userinfo


class Sent:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.responses: list[bytes] = []

    def write(self, response: bytes) -> None:
        self.responses.append(response)


def request(endpoint: str, number: int, *headers: str, body: str = "") -> bytes:
    lines = (f"GET /v1/{endpoint} HTTP/1.1", "Host: h", *headers, f"authorization: Bearer token-{number}")
    return ("\r\n".join(lines) + "\r\nAccept: */*\r\n\r\n" + body).encode()


def answers(*packets: bytes) -> list[bytes]:
    IdentityAnswering.prepare(3)
    answered: Any = multiprocessing.Value("q", 0)
    protocol, sent = IdentityAnswering(answered), Sent()
    protocol.connection_made(sent)  # type: ignore[arg-type]
    for packet in packets:
        protocol.data_received(packet)
    assert answered.value == len(sent.responses)
    return sent.responses


def bodies(*packets: bytes) -> list[dict[str, Any]]:
    return [json.loads(response.split(b"\r\n\r\n", 1)[1]) for response in answers(*packets)]


def test_each_endpoint_answers_with_its_documented_body_of_the_token() -> None:
    whole, account, profiles = bodies(*(request(name, 2) for name in ("userinfo", "account", "profiles")))
    assert whole == userinfo(2)
    assert account["account"]["account_id"] == account["sub"] == whole["sub"]
    listed = whole["cronofy.data"]["profiles"]
    assert len(profiles["profiles"]) == len(listed) == PROFILES
    for profile, complete in zip(profiles["profiles"], listed, strict=True):
        assert complete == profile | {"profile_calendars": complete["profile_calendars"]}


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_requests_may_come_in_any_pieces(size: int) -> None:
    stream = b"".join(
        [
            request("userinfo", 0),
            request("account", 1, "Content-Length: 2", body="{}"),
            request("account", 2, "Content-Length: 0"),
        ]
    )
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    subs = [body["sub"] for body in bodies(*pieces)]
    assert subs == [userinfo(number)["sub"] for number in range(3)]


@pytest.mark.parametrize("packet", [request("events", 0), request("userinfo", 3), b"POST / HTTP/1.1\r\n\r\n"])
def test_anything_else_is_not_found(packet: bytes) -> None:
    assert answers(packet) == [NOT_FOUND]
