"""A loopback server that enforces rate limits as Cronofy may count them, and remembers what it saw."""

import asyncio
import json
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from random import Random
from typing import Any

from .server import HEAD, Answering

REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
# the token that asks what was seen
ASKING = b"what-was-seen"


@dataclass(frozen=True)
class World:
    """A server and the way to it.

    Attributes:
        windows: `sliding`, or `fixed` ones that begin where the server's clock says.
        limits: calls by the seconds of the window they are for.
        answer_seconds: half to one and a half of it, at random.
        connect_seconds: until the first request of a connection arrives, as with TLS over a continent.
        foreign_calls: what somebody else uses of the limits at the beginning, as fast as these allow.
    """

    windows: str
    limits: tuple[tuple[float, int], ...]
    answer_seconds: float
    connect_seconds: float = 0.0
    foreign_calls: int = 0


@dataclass
class Counter:
    """Counts admitted calls in every window; refused ones do not count."""

    world: World
    admitted: list[float] = field(default_factory=list)

    def room(self, now: float) -> int:
        """How many calls would be admitted now."""
        return min(limit - self._counted(now, seconds) for seconds, limit in self.world.limits)

    def _counted(self, now: float, seconds: float) -> int:
        if self.world.windows == "fixed":
            return len(self.admitted) - bisect_left(self.admitted, now // seconds * seconds)
        return len(self.admitted) - bisect_left(self.admitted, now - seconds)


class Limited(Answering):
    """Admits or refuses each request when it arrives, and answers later."""

    def __init__(self, answered: "Synchronized[int]", seen: "Seen") -> None:
        super().__init__(answered)
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connect_seconds = self._seen.world.connect_seconds
        if connect_seconds:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(connect_seconds, self._resume)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def answer(self, token: bytes) -> bytes:
        """Nothing at once; what is due follows."""
        if token == ASKING:
            body = json.dumps(self._seen.report()).encode()
            return HEAD % len(body) + body
        reply = super().answer(token) if self._seen.admits(time.monotonic()) else REFUSAL
        delay = self._seen.world.answer_seconds * self._seen.chance.uniform(0.5, 1.5)
        asyncio.get_running_loop().call_later(delay, partial(self._transport.write, reply))
        return b""


class Seen:
    """What arrived: ours admitted, ours refused, and what somebody else sent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = Random(7)
        self._counter = Counter(world)
        self._ours: list[float] = []
        self._refused: list[float] = []
        self._foreign: list[float] = []

    def admits(self, now: float) -> bool:
        """Whether a call of ours is admitted; somebody else's went first."""
        wanted = self.world.foreign_calls - len(self._foreign)
        for _ in range(min(wanted, self._counter.room(now))):
            self._counter.admitted.append(now)
            self._foreign.append(now)
        if self._counter.room(now) < 1:
            self._refused.append(now)
            return False
        self._counter.admitted.append(now)
        self._ours.append(now)
        return True

    def report(self) -> dict[str, list[float]]:
        """Times of arrival, in seconds of the machine's monotonic clock."""
        return {"ours": self._ours, "refused": self._refused, "foreign": self._foreign}


def limited(world: World) -> Any:
    """What makes a connection's protocol, for `server.serving`."""
    return partial(Limited, seen=Seen(world))


def what_was_seen(url: str) -> dict[str, list[float]]:
    """Ask the server."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {ASKING.decode()}"})
    with urllib.request.urlopen(request) as answer:
        found: dict[str, list[float]] = json.load(answer)
    return found


def peak(times: Sequence[float], seconds: float) -> int:
    """The most of these times in any window of that length."""
    return max(
        (index + 1 - bisect_left(times, at - seconds + 1e-9) for index, at in enumerate(times)), default=0
    )
