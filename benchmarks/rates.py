"""How much of the allowed rate is used, and whether the server ever refuses.

Whole loads over HTTP on loopback into a DuckDB file, with exactly the server's limits as settings, all cases
at once in processes of their own. The server counts each request when it arrives, in sliding windows or in
fixed ones of its own clock, and answers 429 to whatever is too much. Answers take half to one and a half of
the milliseconds given; "slow" connections take a quarter of a second until their first request arrives, as
TLS over a continent does.

The share used: the time in which the limits allow twice a minute's calls, relative to the time it took, from
the first call to the one after those. A client that wastes nothing has that one admitted 120 s later; how
fast a minute's calls go at its beginning weighs nothing. At ten times Cronofy's limits it is one minute.
Where only the limit per second binds it is the same for 20 seconds. The peaks are of all that arrived,
refused or not.

Way back: somebody else uses half of a minute's calls at the beginning, so refusals are unavoidable. From the
moment when there is room again, because the first of those leave the server's window, how long does it take
until a second is used in full?
"""

import asyncio
import math
import multiprocessing
import tempfile
from bisect import bisect_left
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp

from dlt_cronofy.source.api.limits.shared_rate_limiter import NEEDED
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import USERINFO, PollingSettings
from dlt_cronofy.source.tokens.token import Token

from .limited import World, limited, peak, what_was_seen
from .server import serving

SECOND, MINUTE = 1.0, 60.0
SECONDS = 20
# of a second's limit: then it is used in full
FULL = 0.97
CRONOFY = ((SECOND, 50), (MINUTE, 500))
TENFOLD = ((SECOND, 500), (MINUTE, 5000))
SECONDS_ONLY = ((SECOND, 50),)
SLOW_CONNECT_SECONDS = 0.25
WORKERS = 64  # of pyrate-limiter's client
UNLIMITED = 1e9


@dataclass(frozen=True)
class Case:
    """One row: a client in a world.

    Attributes:
        processes: that share one budget.
        shared_in: the kind of place where they meet.
        minutes: to measure, where there is a limit per minute.
    """

    client: str
    world: World
    processes: int = 1
    shared_in: str | None = None
    minutes: int = 2

    @property
    def calls(self) -> int:
        """One more than the limits allow in the measured time."""
        period_seconds, limit = self.world.limits[-1]
        return round(self.seconds / period_seconds) * limit + 1

    @property
    def seconds(self) -> float:
        """The measured time."""
        return self.minutes * MINUTE if self.world.limits[-1][0] == MINUTE else SECONDS * SECOND


def cases() -> list[Case]:
    """All of them; those that share a budget where what it takes is installed."""
    both = ("sliding", "fixed")
    found = [Case("a load", World(windows, CRONOFY, 0.005)) for windows in both]
    found += [Case("a load", World(windows, CRONOFY, 0.2, SLOW_CONNECT_SECONDS)) for windows in both]
    found += [
        Case("a load", World(windows, TENFOLD, 0.05, SLOW_CONNECT_SECONDS), minutes=1) for windows in both
    ]
    found += [
        Case("a load after somebody else", World(windows, CRONOFY, 0.05, foreign_calls=250))
        for windows in both
    ]
    found += [
        Case("a load", World("sliding", SECONDS_ONLY, answer_seconds)) for answer_seconds in (0.05, 0.2)
    ]
    for kind in ("SQLite", "PostgreSQL"):
        if all(find_spec(module) for module in NEEDED[kind]):
            world = World("sliding", CRONOFY, 0.05, SLOW_CONNECT_SECONDS)
            found.append(Case(f"3 loads, one budget in {kind}", world, 3, kind))
    found.append(Case("pyrate-limiter alone", World("sliding", CRONOFY, 0.05, SLOW_CONNECT_SECONDS)))
    return found


def measure() -> list[dict[str, Any]]:
    """One row a case."""
    import dlt_cronofy.load.run  # noqa: F401 - once, and not in each of the processes

    chosen = cases()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(chosen), mp_context=context) as pool:
        return list(pool.map(_row, chosen))


def _row(case: Case) -> dict[str, Any]:
    with serving(limited(case.world)) as (url, _):
        if case.client.startswith("pyrate"):
            asyncio.run(_pyrate(url, case))
        else:
            _loads(url, case)
        seen = what_was_seen(url)
    ours, arrived = seen["ours"], sorted(seen["ours"] + seen["refused"])
    return {
        "client": case.client,
        "windows": case.world.windows,
        "limits": _limits(case.world),
        "ms": f"{case.world.answer_seconds * 1000:.0f}{' slow' if case.world.connect_seconds else ''}",
        "calls": len(ours),
        "429": len(seen["refused"]),
        "peak/s": peak(arrived, SECOND),
        "peak/min": peak(arrived, MINUTE),
        "share": case.seconds / (ours[case.calls - 1] - ours[0]),
        "way back": _way_back(case, seen),
    }


def _limits(world: World) -> str:
    return " + ".join(f"{limit}/{'s' if seconds == SECOND else 'min'}" for seconds, limit in world.limits)


def _way_back(case: Case, seen: dict[str, list[float]]) -> float | str:
    """Seconds from the first of somebody else's calls leaving the window to a second used in full."""
    if not seen["foreign"]:
        return ""
    left = seen["foreign"][0] + MINUTE
    if case.world.windows == "fixed":
        left = seen["foreign"][-1] // MINUTE * MINUTE + MINUTE
    full = FULL * dict(case.world.limits)[SECOND]
    ours = seen["ours"]
    for index, at in enumerate(ours):
        if at >= left and index + 1 - bisect_left(ours, at - SECOND) >= full:
            return at - left
    return math.inf


def _loads(url: str, case: Case) -> None:
    with ExitStack() as stack:
        place = _place(stack, case.shared_in)
        if case.processes == 1:
            _load(url, case, place, 0)
            return
        context = multiprocessing.get_context("fork")
        pool = stack.enter_context(ProcessPoolExecutor(case.processes, mp_context=context))
        for _ in pool.map(
            _load, *zip(*((url, case, place, number) for number in range(case.processes)), strict=True)
        ):
            pass


def _place(stack: ExitStack, kind: str | None) -> str | None:
    if kind is None:
        return None
    if kind == "PostgreSQL":
        from tests.postgres import postgres_server

        return stack.enter_context(postgres_server())
    return f"{stack.enter_context(tempfile.TemporaryDirectory())}/requests.sqlite"


def _load(url: str, case: Case, place: str | None, number: int) -> None:
    """One load of its share of the tokens."""
    from dlt_cronofy.load.run import Load
    from dlt_cronofy.load.steps import LoadOptions
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    limits = dict(case.world.limits)
    polling = PollingSettings(
        base_url=url,
        requests_per_second=limits.get(SECOND, UNLIMITED),
        requests_per_minute=limits.get(MINUTE, UNLIMITED),
        requests_shared_in=Secret(place) if place else None,
    )
    # refusals are tried again, so a few tokens more than calls are no harm
    tokens = [
        Token(f"key_{each}", Secret(f"token-{each}"), None, "us")
        for each in range(number, case.calls + case.processes - 1, case.processes)
    ]
    with tempfile.TemporaryDirectory() as directory:
        pipeline = open_pipeline(
            "duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=Path(directory)
        )
        options = LoadOptions(every=timedelta(0), endpoints=(USERINFO,), refresh_views=False)
        Load(pipeline, polling, tokens, options).run()


async def _pyrate(url: str, case: Case) -> None:
    """Calls with its permission until that many were admitted."""
    from pyrate_limiter import Limiter, Rate

    limiter = Limiter([Rate(limit, round(seconds * 1000)) for seconds, limit in case.world.limits])
    admitted: list[None] = []
    headers = {"Authorization": "Bearer token-1"}

    async def worker(session: aiohttp.ClientSession) -> None:
        while len(admitted) < case.calls:
            await limiter.try_acquire_async("cronofy")
            async with session.get(f"{url}/v1/userinfo", headers=headers) as answer:
                await answer.read()
            if answer.status == HTTPStatus.OK:
                admitted.append(None)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session) for _ in range(WORKERS)))
