"""The shared rate limiter: several processes of one application keep one set of limits together.

They meet in a log of permissions, one short text: in a SQLite file on the machine they share, in Redis or in
PostgreSQL. One process at a time reads it, takes what there is room for and writes it back.

- A call is logged when it is permitted, and the server counts it when it arrives. So each period is
  lengthened by a second for the way there. That leaves 98.4 % of a limit per minute, and half of a limit per
  second, which is still three times what Cronofy's limit per minute allows in the long run. A permission is
  used within 0.4 seconds or not at all, and a call that was answered more than a second later counts once
  more, because it may have arrived that late. Where it took that long to arrive, each process alone still
  keeps its limit per second, all together may exceed it.
- One clock stamps the log: PostgreSQL's, Redis's, or that of the machine with the file. Where it is set back,
  what has a stamp of the future counts from then on.

The file must be on a local disk, since SQLite's write-ahead log is no use over a network. A place belongs to
one application: a second one needs a file, a Redis database or a PostgreSQL schema of its own. A 429 pauses
the process that was answered so; the others find out by themselves.
"""

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from ...clock import Clock
from ...errors import ConfigurationError, UnreachableError
from ...secret import Secret
from .tuning import (
    MARGIN_SECONDS,
    MOST_AT_ONCE,
    PATIENCE_SECONDS,
    TRIES,
    TRY_AGAIN_SECONDS,
    USED_WITHIN_SECONDS,
)

SETTING = "requests_shared_in in [sources.cronofy]"
# the reason given to `RunQuota.stop` when the log fails in the middle of a run
STOPPED_BY = "requests_shared_in"
# of the table or key; kept, since the processes of two releases may meet
NAME = "cronofy_request_log"
CREATE = f"CREATE TABLE IF NOT EXISTS {NAME} (id INTEGER PRIMARY KEY, log TEXT NOT NULL)"
READ = f"SELECT log FROM {NAME}"  # noqa: S608 - our own name
WRITE = f"INSERT INTO {NAME} VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET log = excluded.log"  # noqa: S608
# in PostgreSQL
LOCK = f"SELECT pg_advisory_xact_lock({0x63726F6E6F6679})"
READ_WITH_TIME = f"SELECT extract(epoch FROM clock_timestamp())::float8, ({READ})"  # noqa: S608

# what each kind of place needs, by module
NEEDED = {"SQLite": (), "Redis": ("redis",), "PostgreSQL": ("psycopg",)}
SCHEMES = {"redis": "Redis", "rediss": "Redis", "postgresql": "PostgreSQL", "postgres": "PostgreSQL"}

logger = logging.getLogger("dlt_cronofy")

# calls and the seconds they are for
Rates = Sequence[tuple[int, float]]
# stamps and calls, the oldest first
Logged = list[tuple[float, int]]
# the time and the log as it is -> the log as it is to be
Change = Callable[[float, str | bytes | None], str]


class LogError(Exception):
    """The log cannot be used now; the one-line message says which and what kind of fault, and no secret."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the log permits.

    Attributes:
        calls: that many; 0 when there was no room.
        at: monotonic seconds, no later than the log's stamp.
        wait_seconds: until there may be room.
    """

    calls: int
    at: float
    wait_seconds: float = 0.0


class SharedRateLimiter:
    """Permissions drawn from the log of all processes, a few at a time, for the calls of this one.

    Args:
        log: where the processes meet.
        clock: of the run.
        on_failure: called once with the reason when the log fails: no call is permitted any more.
    """

    def __init__(self, log: "RequestLog", clock: Clock, on_failure: Callable[[str], object]) -> None:
        self._log = log
        self._clock = clock
        self._on_failure = on_failure
        self._most = min(MOST_AT_ONCE, *(calls for calls, _ in log.rates))
        self._left = 0
        self._good_until = self._draw_at = -math.inf
        self._owed = 0
        self._drawing: asyncio.Future[None] | None = None
        self.has_failed = False
        self.close = log.close

    def use(self, now: float) -> bool:
        """Use one of the permissions drawn, if there is one left that is still good."""
        if not self._left or now > self._good_until:
            return False
        self._left -= 1
        return True

    def wait_seconds(self, now: float) -> float:
        """Seconds until drawing makes sense."""
        return self._draw_at - now

    async def draw(self, wanted: Callable[[], int]) -> None:
        """Draw for as many calls as are wanted by then, or wait until another caller has drawn."""
        if self._drawing is None or self._drawing.done():
            self._drawing = asyncio.ensure_future(self._draw(wanted))
        # one caller that is cancelled does not break off what the others wait for
        await asyncio.shield(self._drawing)

    def answered(self, seconds: float) -> None:
        """A call was answered that long after its permission: it counts again if it may have been late."""
        self._owed += seconds > MARGIN_SECONDS

    async def _draw(self, wanted: Callable[[], int]) -> None:
        owed = min(self._owed, self._most - 1)
        try:
            drawn = await asyncio.to_thread(self._log.draw, min(wanted() + owed, self._most), 1 + owed)
        except LogError as error:
            self.has_failed = True
            logger.error("%s: %s; no further request is sent", SETTING, error)
            self._on_failure(STOPPED_BY)
            return
        if drawn.calls:
            self._owed -= owed
            self._left = drawn.calls - owed
            self._good_until = drawn.at + USED_WITHIN_SECONDS
        else:
            self._draw_at = self._clock.monotonic() + drawn.wait_seconds


class Connection(NamedTuple):
    """A way to the log: changes it, while nobody else may; and its end."""

    change: Callable[[Change], object]
    close: Callable[[], object]


class RequestLog:
    """Where the processes meet. Its methods block; they run in threads.

    Args:
        place: a file, or a URL that may hold a password.
        rates: as the log counts them; not empty.

    Raises:
        ConfigurationError: the place is none, cannot be reached, or what it needs is not installed.
    """

    def __init__(self, place: Secret, rates: Rates) -> None:
        self.rates = rates
        self._place = place
        found = described(place)
        if found is None:
            raise ConfigurationError(
                f"{SETTING} must be a file, or a URL like redis://host:6379/0 or"
                " postgresql://user:password@host:5432/database"
            )
        self._kind, self.label = found
        self._lock = threading.Lock()
        missing = [module for module in NEEDED[self._kind] if find_spec(module) is None]
        if missing:
            needs = f"{self._kind} needs {' and '.join(missing)}"
            raise ConfigurationError(f"{SETTING}: {needs}: install the extra shared of dlt-cronofy")
        self._connection: Connection | None = None
        try:
            self._connect()
        except Exception as error:  # noqa: BLE001 - and the drivers' frames hold the password
            problem = type(error).__name__
        else:
            return
        unusable = f"{SETTING}: {self.label} cannot be used ({problem})"
        if self._kind == "SQLite":
            raise ConfigurationError(f"{unusable}; is it there, and may it be written?")
        raise UnreachableError(f"{unusable}; does it run, and are user and password right?")

    def draw(self, calls: int, least: int) -> Drawn:
        """Permission for so many calls, or for fewer, down to the least number, as there is room.

        Raises:
            LogError: it failed twice.
        """
        kind = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(TRY_AGAIN_SECONDS)
            try:
                with self._lock:
                    return self._draw(calls, least)
            except Exception as error:  # noqa: BLE001 - each kind of place has errors of its own
                kind = type(error).__name__
            self.close()
        raise LogError(f"{self.label} failed ({kind})")

    def close(self) -> None:
        """Close the connection; the next draw opens another one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = OPENERS[self._kind](self._place)
        return self._connection

    def _draw(self, calls: int, least: int) -> Drawn:
        drawn = Drawn(0, time.monotonic())

        def change(now: float, log: str | bytes | None) -> str:
            nonlocal drawn
            logged = still_counted(now, orjson.loads(log or "[]"), self.rates)
            permitted, wait_seconds = decide(now, logged, self.rates, calls, least)
            drawn = Drawn(permitted, drawn.at, wait_seconds)
            return orjson.dumps([*logged, (now, permitted)] if permitted else logged).decode()

        self._connect().change(change)
        return drawn


def still_counted(now: float, logged: Logged, rates: Rates) -> Logged:
    """What is logged of the longest period; a stamp of the future is from before the clock was set back."""
    longest = max(seconds for _, seconds in rates)
    return [(min(stamp, now), calls) for stamp, calls in logged if stamp > now - longest]


def decide(now: float, logged: Logged, rates: Rates, calls: int, least: int) -> tuple[int, float]:
    """How many of the calls there is room for; where that is less than the least number, 0 and the wait."""
    wait_seconds = 0.0
    for limit, seconds in rates:
        counted = [each for each in logged if each[0] > now - seconds]
        room = limit - sum(number for _, number in counted)
        calls = min(calls, room)
        if room < least:
            # the oldest makes room for one at least
            wait_seconds = max(wait_seconds, counted[0][0] + seconds - now)
    return (0, wait_seconds) if wait_seconds else (calls, 0.0)


def shared_rates(limits: Sequence[tuple[float, float]]) -> Rates:
    """Calls and seconds, lengthened by the margin; without what is not limited.

    Args:
        limits: whole calls (or infinity) and the seconds they are for.
    """
    return [(int(limit), seconds + MARGIN_SECONDS) for limit, seconds in limits if math.isfinite(limit)]


def described(place: Secret) -> tuple[str, str] | None:
    """The kind of a place, and how messages call it: without user and password; None where it is none.

    Raises nothing: this frame holds the password.
    """
    text = place.reveal()
    if "://" not in text:
        return "SQLite", text
    try:
        parts = urlsplit(text)
        kind, host, port = SCHEMES.get(parts.scheme), parts.hostname or "this machine", parts.port
    except ValueError:
        return None
    return (kind, f"{kind} at {host}{f':{port}' if port else ''}") if kind else None


def _open_sqlite(place: Secret) -> Connection:
    # draws come from any thread, one at a time
    database = sqlite3.connect(
        place.reveal(), PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
    )
    database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {CREATE};")

    def change(changed: Change) -> None:
        with database:
            database.execute("BEGIN IMMEDIATE")
            (log,) = database.execute(READ).fetchone() or (None,)
            database.execute(WRITE.replace("%s", "?"), [changed(time.time(), log)])

    return Connection(change, database.close)


def _open_redis(place: Secret) -> Connection:
    client = import_module("redis").Redis.from_url(
        place.reveal(),
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        # the client's own tries take many seconds; ours are bounded
        retry=import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0),
    )
    client.ping()

    def change(changed: Change) -> None:
        # released by itself if its holder dies; a holder that finds it lost on leaving raises
        with client.lock(
            f"{NAME}:lock", timeout=PATIENCE_SECONDS, blocking_timeout=PATIENCE_SECONDS, sleep=0.002
        ):
            seconds, microseconds = client.time()
            client.set(NAME, changed(seconds + microseconds / 1e6, client.get(NAME)))

    return Connection(change, client.close)


def _open_postgres(place: Secret) -> Connection:
    database = import_module("psycopg").connect(
        place.reveal(), connect_timeout=int(PATIENCE_SECONDS), autocommit=True
    )
    database.execute(f"SET statement_timeout = {PATIENCE_SECONDS * 1000:.0f}")
    # one transaction: two processes may not create it at once
    database.execute(f"{LOCK}; {CREATE}")

    def change(changed: Change) -> None:
        with database.transaction():
            database.execute(LOCK)
            database.execute(WRITE, [changed(*database.execute(READ_WITH_TIME).fetchone())])

    return Connection(change, database.close)


OPENERS: dict[str, Callable[[Secret], Connection]] = {
    "SQLite": _open_sqlite,
    "Redis": _open_redis,
    "PostgreSQL": _open_postgres,
}
