"""Faults that the server commits on request: the wrong answer, part of one, or none."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, get_args

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

FaultKind = Literal[
    "status", "body", "reset", "truncated", "html", "wrong_shape", "empty", "redirect", "hang", "drip"
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
JSON_TYPE = "application/json"
HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>"
WRONG_SHAPE = '{"result":["unexpected"],"cronofy.data":[]}'
DRIPS = 20
FAULTY_ENDPOINTS = ("userinfo", "account", "profiles", "token", "revoke")


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, and when.

    Attributes:
        kind: `status` answers `status` with `body`; `body` is a 200 with `body`; `reset` closes the
            connection, with `partial` after part of the answer; `truncated` is a complete answer whose JSON
            breaks off; `html` a 200 with a web page; `wrong_shape` a 200 with JSON of no known shape; `empty`
            a 200 without a body; `redirect` a 302 to `url`; `hang` is silent for `seconds` and then closes
            the connection; `drip` spreads the right answer over `seconds`.
        probability: of hitting a request that matches.
        token_key: hits this token alone; None for all.
        endpoint: `userinfo`, `account`, `profiles`, `token` or `revoke`; None for all.
        count: hits this many requests and is then spent; None for ever.
        status: what `status` answers.
        retry_after: Retry-After header of `status`: seconds or an HTTP date.
        body: text that `status` and `body` answer.
        seconds: how long `hang` and `drip` take.
        url: where `redirect` points.
        partial: see `reset`.
    """

    kind: FaultKind
    probability: float = 1.0
    token_key: str | None = None
    endpoint: str | None = None
    count: int | None = None
    status: int = 500
    retry_after: float | str | None = None
    body: str = ""
    seconds: float = 30.0
    url: str | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        problems = (
            (self.kind not in KINDS, f"unknown kind of fault {self.kind!r}; known: {', '.join(KINDS)}"),
            (
                self.endpoint not in (None, *FAULTY_ENDPOINTS),
                f"unknown endpoint {self.endpoint!r}; known: {', '.join(FAULTY_ENDPOINTS)}",
            ),
            (not 0 <= self.probability <= 1, "probability lies between 0 and 1"),
            (self.count is not None and self.count < 1, "count is at least 1"),
            (not 200 <= self.status <= 599, "status lies between 200 and 599"),
            (self.status in {204, 304} and self.body != "", f"a {self.status} carries no body"),
            (self.seconds < 0, "seconds are not negative"),
            (self.kind == "redirect" and not self.url, "a redirect needs a url"),
        )
        for is_wrong, message in problems:
            if is_wrong:
                raise ValueError(message)

    @classmethod
    def parse(cls, fields_by_name: Mapping[str, Any]) -> "Fault":
        """Builds a fault from the JSON object of a control request; raises ValueError as for a bad field."""
        try:
            return cls(**fields_by_name)
        except TypeError as error:
            raise ValueError(f"these fields make no fault: {error}") from error


class Faults:
    """The faults in force. Any thread may change them while the server runs.

    Args:
        seed: feeds the draws for faults with a probability below 1.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = Random(seed)  # noqa: S311 - a simulation, no secrets
        self._numbers = itertools.count(1)
        self._faults: dict[int, Fault] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, fault: Fault | FaultKind, **settings: Any) -> int:
        """Puts a fault, or one of that kind and settings, in force; of several that match, the oldest hits.

        Returns its number; raises ValueError if a setting is unknown or out of its range.
        """
        number = next(self._numbers)
        self._faults[number] = fault if isinstance(fault, Fault) else Fault.parse({"kind": fault, **settings})
        return number

    def clear(self) -> None:
        """Lifts every fault."""
        self._faults.clear()

    def list(self) -> dict[int, Fault]:
        """Returns the faults in force by number; `count` is what is left of it."""
        return dict(self._faults)

    def choose(self, endpoint: str, token_key: str | None) -> Fault | None:
        """Returns the fault that hits a request, counting it; None if it is spared."""
        for number, fault in self.list().items():
            is_meant = fault.endpoint in (None, endpoint) and fault.token_key in (None, token_key)
            if is_meant and self._rng.random() < fault.probability:
                if fault.count is not None:
                    self._faults.pop(number, None)
                    if fault.count > 1:
                        self._faults = {number: replace(fault, count=fault.count - 1)} | self._faults
                return fault
        return None


def misbehave(fault: Fault, answer: Callable[[], Response]) -> Response:
    """Returns what is sent in place of the right `answer`, which is asked for only where part of it is."""
    match fault.kind:
        case "hang" | "reset":
            return BrokenResponse(fault, answer() if fault.partial else None)
        case "truncated":
            right = answer()
            half = bytes(right.body)[: max(1, len(right.body) // 2)]
            return Response(half or b"{", right.status_code, media_type=JSON_TYPE)
        case "drip":
            right = answer()
            parts = _drip(bytes(right.body), fault.seconds)
            return StreamingResponse(parts, right.status_code, dict(right.headers))
        case _:
            return _replace(fault)


def _replace(fault: Fault) -> Response:
    """Returns the complete answer that a fault amounts to."""
    match fault.kind:
        case "status":
            headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
            return Response(fault.body, fault.status, headers, JSON_TYPE if fault.body else None)
        case "redirect":
            return Response(status_code=302, headers={"location": fault.url or ""})
        case "html":
            return Response(HTML, media_type="text/html")
        case "wrong_shape":
            return Response(WRONG_SHAPE, media_type=JSON_TYPE)
        case _:
            return Response(fault.body, media_type=JSON_TYPE if fault.body else None)


class BrokenResponse(Response):
    """Sends half of `right`, or nothing, and closes its connection to `HttpServer`: a hang or a reset."""

    def __init__(self, fault: Fault, right: Response | None) -> None:
        super().__init__()
        self._fault = fault
        self._right = right

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends what there is to send."""
        if self._fault.kind == "hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_disconnection(receive), self._fault.seconds)
        elif self._right is not None:
            body = bytes(self._right.body) or b"{}"
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            status = self._right.status_code
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        close(scope["state"]["transport"], abruptly=self._fault.kind == "reset" and self._right is None)
        await _disconnection(receive)


def close(transport: asyncio.Transport, *, abruptly: bool) -> None:
    """Closes a connection in order, or `abruptly` with a TCP reset."""
    if abruptly:
        # without lingering, closing sends a reset
        lingering = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        transport.abort()
    else:
        transport.close()


async def _drip(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // DRIPS))
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / DRIPS)
        yield body[start : start + size]


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
