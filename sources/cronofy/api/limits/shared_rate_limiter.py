"""The shared rate limiter: several processes of one application keep one set of limits together.

They meet in a log of permissions: a SQLite file on the machine they share, Redis or PostgreSQL. The log is
pyrate-limiter's; what its buckets do, and what is added to it here:

- They count a call when it is permitted, the server when it arrives. So each period is lengthened by a
  second for the way there. That leaves 98.4 % of a limit per minute, and half of a limit per second, which
  is still three times what Cronofy's limit per minute allows in the long run. A permission is used within
  0.4 seconds or not at all, and a call that was answered more than a second later counts once more, because
  it may have arrived that late. Where it took that long to arrive, each process alone still keeps
  its limit per second, all together may exceed it.
- One clock must stamp the log. PostgreSQL's and Redis's own are asked; processes that share a file share
  their machine's.
- Look and write must be one step. The SQLite bucket does it under a file lock, the PostgreSQL one under a
  table lock that it does not wait for. The Redis one counts up to the caller's own stamp and so overlooks
  what was written between its stamp and its script; hence a lock in Redis around both.
- Nothing is deleted unless asked for, every ten seconds here.

The file must be on a local disk, since SQLite's write-ahead log is no use over a network. A place belongs to
one application: a second one needs a file, a Redis database or a PostgreSQL schema of its own. A 429 pauses
the process that was answered so; the others find out by themselves.
"""

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...clock import Clock
from ...errors import ConfigurationError, UnreachableError
from ...secret import Hidden, Secret
from .tuning import (
    CLEAN_EVERY_SECONDS,
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
# of the table or key in the log; kept, since the processes of two releases may meet
NAME = "cronofy_requests"

# what each kind of place needs beside pyrate-limiter, by module
NEEDED = {
    "SQLite": ("pyrate_limiter", "filelock"),
    "Redis": ("pyrate_limiter", "redis"),
    "PostgreSQL": ("pyrate_limiter", "psycopg", "psycopg_pool"),
}
SCHEMES = {"redis": "Redis", "rediss": "Redis", "postgresql": "PostgreSQL", "postgres": "PostgreSQL"}

logger = logging.getLogger("dlt_cronofy")


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


def shared_rates(limits: Sequence[tuple[float, float]]) -> list[tuple[int, float]]:
    """Calls and seconds, lengthened by the margin, in the order and of the kind that pyrate-limiter takes.

    It wants longer periods to allow more calls at a lower rate. Where the longer one allows a higher rate,
    it is brought down to the shorter one's, which keeps it anyway; where it allows no more calls, the
    shorter one says nothing.

    Args:
        limits: whole calls (or infinity) and the seconds they are for.
    """
    rates: list[tuple[int, float]] = []
    for limit, seconds in sorted(limits, key=lambda each: each[1]):
        if math.isinf(limit):
            continue
        calls, lengthened = int(limit), seconds + MARGIN_SECONDS
        if rates:
            calls = min(calls, math.floor(rates[-1][0] * lengthened / rates[-1][1]))
        while rates and rates[-1][0] >= calls:
            rates.pop()
        rates.append((calls, lengthened))
    return rates


class SharedRateLimiter:
    """Permissions drawn from the log of all processes, a few at a time, for the calls of this one.

    Args:
        log: where the processes meet.
        rates: calls and seconds, as the log counts them; not empty.
        clock: of the run.
        on_failure: called once with the reason when the log fails: no call is permitted any more.
    """

    def __init__(
        self,
        log: "BucketLog",
        rates: Sequence[tuple[int, float]],
        clock: Clock,
        on_failure: Callable[[str], object],
    ) -> None:
        self._log = log
        self._clock = clock
        self._on_failure = on_failure
        self._most = min(MOST_AT_ONCE, *(calls for calls, _ in rates))
        self._left = 0
        self._good_until = self._draw_at = -math.inf
        self._owed = 0
        self._drawing: asyncio.Future[None] | None = None
        self.has_failed = False

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
        if seconds > MARGIN_SECONDS:
            self._owed += 1

    def close(self) -> None:
        """Leave the log."""
        self._log.close()

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


class BucketLog:
    """Where the processes meet: a bucket of pyrate-limiter. Its methods block; they run in threads.

    Args:
        bucket: the bucket, which may hold a password.
        label: the kind of place, for messages.
        now_ms: the time of the log's one clock, in milliseconds.
        guard: held while the time is read and the log looked at and written.
        close: what else there is to close.
    """

    def __init__(
        self,
        bucket: Any,
        label: str,
        now_ms: Callable[[], int],
        guard: Callable[[], AbstractContextManager[object]] = nullcontext,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._bucket = Hidden(bucket)
        self._label = label
        self._now_ms = now_ms
        self._guard = guard
        self._close = close
        self._lock = threading.Lock()
        self._cleaned_at = -math.inf
        self._longest_ms = max(rate.interval for rate in bucket.rates)
        self._ahead_since = math.inf

    def draw(self, calls: int, least: int) -> Drawn:
        """Permission for so many calls, or for the least number, as there is room.

        Raises:
            LogError: it failed twice.
        """
        for attempt in range(TRIES):
            if attempt:
                time.sleep(TRY_AGAIN_SECONDS)
            try:
                with self._lock, self._guard():
                    return self._draw(calls, least)
            except Exception as error:  # noqa: BLE001 - each kind of place has errors of its own
                kind = type(error).__name__
        raise LogError(f"{self._label} failed ({kind})")

    def close(self) -> None:
        """Close the bucket and its connections."""
        with self._lock:
            self._bucket.value.close()
            self._close()

    def _draw(self, calls: int, least: int) -> Drawn:
        from pyrate_limiter import RateItem

        bucket = self._bucket.value
        at = time.monotonic()
        now_ms = self._now_ms()
        if at - self._cleaned_at >= CLEAN_EVERY_SECONDS:
            self._cleaned_at = at
            bucket.leak(now_ms)
        for number in (calls, least) if least < calls else (calls,):
            decision = bucket.put_decision(RateItem(NAME, now_ms, number))
            if decision.allowed:
                self._ahead_since = math.inf
                return Drawn(number, at)
        if decision.retry_after_ms is None:
            # another process holds the table; two that ask again at the same instant are refused again
            return Drawn(0, at, random.uniform(0.002, 0.02))  # noqa: S311
        return Drawn(0, at, self._bounded_wait_ms(at, decision.retry_after_ms) / 1000)

    def _bounded_wait_ms(self, at: float, wait_ms: int) -> int:
        """How long to wait, but no longer than the longest period: then the clock was set back.

        Stamps of the future block everyone alike. After a full period in which nobody sent anything they
        are worth nothing, and go.
        """
        if wait_ms <= self._longest_ms + 1:
            self._ahead_since = math.inf
            return max(1, wait_ms)
        self._ahead_since = min(self._ahead_since, at)
        blocked_ms = int((at - self._ahead_since) * 1000)
        if blocked_ms >= self._longest_ms:
            self._bucket.value.flush()
            return 1
        return int(self._longest_ms) - blocked_ms


def open_shared(
    place: Secret,
    limits: Sequence[tuple[float, float]],
    clock: Clock,
    on_failure: Callable[[str], object],
) -> SharedRateLimiter | None:
    """The limiter of all processes that meet at that place; None where nothing is limited.

    Args:
        place: a file, or the URL of Redis or PostgreSQL, which may hold a password.
        limits: whole calls (or infinity) and the seconds they are for.
        clock: of the run.
        on_failure: called once with the reason when the place fails later.

    Raises:
        ConfigurationError: the place is none, cannot be reached, or what it needs is not installed.
    """
    rates = shared_rates(limits)
    return SharedRateLimiter(open_log(place, rates), rates, clock, on_failure) if rates else None


def open_log(place: Secret, rates: Sequence[tuple[int, float]]) -> BucketLog:
    """The log at that place.

    Raises:
        ConfigurationError: the place is none, cannot be reached, or what it needs is not installed.
    """
    kind, label = described(place)
    missing = [module for module in NEEDED[kind] if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"{SETTING}: {kind} needs {' and '.join(missing)}: install the extra shared of dlt-cronofy"
        )
    openers = {"SQLite": _open_sqlite, "Redis": _open_redis, "PostgreSQL": _open_postgres}
    try:
        from pyrate_limiter import Rate

        return openers[kind](
            place, [Rate(calls, math.ceil(seconds * 1000)) for calls, seconds in rates], label
        )
    except Exception as error:  # noqa: BLE001 - and the drivers' frames hold the password
        problem = type(error).__name__
    if kind == "SQLite":
        raise ConfigurationError(
            f"{SETTING}: {label} cannot be used ({problem}); is it there, and may it be written?"
        )
    raise UnreachableError(
        f"{SETTING}: {label} cannot be used ({problem}); does it run, and are user and password right?"
    )


def described(place: Secret) -> tuple[str, str]:
    """The kind of a place, and how messages call it: without user and password.

    Raises:
        ConfigurationError: it is no file and no URL of Redis or PostgreSQL.
    """
    found = _described(place)
    if found is None:
        raise ConfigurationError(
            f"{SETTING} must be a file, or a URL like redis://host:6379/0 or"
            " postgresql://user:password@host:5432/database"
        )
    return found


def _described(place: Secret) -> tuple[str, str] | None:
    """Raises nothing: this frame holds the password."""
    text = place.reveal()
    if "://" not in text:
        return "SQLite", text
    try:
        parts = urlsplit(text)
        kind, host, port = SCHEMES.get(parts.scheme), parts.hostname or "this machine", parts.port
    except ValueError:
        return None
    return (kind, f"{kind} at {host}{f':{port}' if port else ''}") if kind else None


def _open_sqlite(place: Secret, rates: Any, label: str) -> BucketLog:
    from pyrate_limiter import SQLiteBucket

    path = Path(place.reveal())
    if not path.parent.is_dir():
        raise FileNotFoundError
    bucket = SQLiteBucket.init_from_file(rates, table=NAME, db_path=str(path), use_file_lock=True)
    lock: Any = bucket.lock
    lock.timeout, lock.poll_interval = PATIENCE_SECONDS, 0.005
    bucket.conn.execute(f"PRAGMA busy_timeout = {PATIENCE_SECONDS * 1000:.0f}")
    return BucketLog(bucket, label, bucket.now, lambda: lock)


def _open_redis(place: Secret, rates: Any, label: str) -> BucketLog:
    from pyrate_limiter import RedisBucket

    client = import_module("redis").Redis.from_url(
        place.reveal(),
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        # the client's own tries take many seconds; ours are bounded
        retry=import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0),
    )

    def now_ms() -> int:
        seconds, microseconds = client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def guard() -> AbstractContextManager[object]:
        # released by itself if its holder dies; a holder that finds it lost on leaving raises
        lock: AbstractContextManager[object] = client.lock(
            f"{NAME}:lock", timeout=PATIENCE_SECONDS, blocking_timeout=PATIENCE_SECONDS, sleep=0.002
        )
        return lock

    return BucketLog(RedisBucket.init(rates, client, NAME), label, now_ms, guard, client.close)


def _open_postgres(place: Secret, rates: Any, label: str) -> BucketLog:
    from pyrate_limiter import PostgresBucket

    psycopg, psycopg_pool = import_module("psycopg"), import_module("psycopg_pool")
    # fails at once, where the pool would go on trying
    psycopg.connect(place.reveal(), connect_timeout=int(PATIENCE_SECONDS)).close()

    def configure(connection: Any) -> None:
        # the bucket stores times without a zone, in that of the session
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(f"SET statement_timeout = {PATIENCE_SECONDS * 1000:.0f}")
        connection.commit()

    pool = psycopg_pool.ConnectionPool(
        place.reveal(),
        min_size=1,
        max_size=1,
        timeout=PATIENCE_SECONDS,
        reconnect_timeout=PATIENCE_SECONDS,
        kwargs={"connect_timeout": int(PATIENCE_SECONDS)},
        configure=configure,
        open=True,
    )

    def now_ms() -> int:
        # the bucket's own clock falls back to this machine's where the database does not answer
        with pool.connection() as connection:
            query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            return int(connection.execute(query).fetchone()[0])

    try:
        return BucketLog(PostgresBucket(pool, NAME, rates), label, now_ms)
    except BaseException:
        pool.close()
        raise
