"""Calls a second against a loopback server without limits, relative to bare loops in the same run.

Each contender makes the same userinfo calls; the median of the rounds is shown. The bare httpx loop is an
`httpx.AsyncClient` over the transport that polling uses, with the same number of calls under way. Polling is
client, budget, breakers and parsing; the load is the whole of it, planning, change capture, dlt and DuckDB
included.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from dlt_cronofy.load.gc_tuning import rare_collection
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.api.client import CronofyClient
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.tuning import MAX_IN_FLIGHT
from dlt_cronofy.source.api.poller import Backlog, Poller
from dlt_cronofy.source.api.transport import open_transport
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.history.digests import body_digests
from dlt_cronofy.source.records import PollTask
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import USERINFO, PollingSettings
from dlt_cronofy.source.tokens.token import Token
from dlt_cronofy.warehouse.pipeline import open_pipeline

from .server import access_token, serving

CALLS, LOAD_TOKENS, ROUNDS = 4_000, 10_000, 3
UNLIMITED = 1e9
SWEEPS = ("whole load, first sweep", "whole load, nothing new")


def measure() -> list[dict[str, Any]]:
    """One row a contender: calls a second and the ratio to the bare aiohttp loop."""
    with serving() as (url, _):
        contenders: dict[str, Callable[[], float]] = {
            "bare aiohttp loop": lambda: _rate(_aiohttp_loop(url)),
            "bare httpx loop, stock pool": lambda: _rate(_httpx_loop(url)),
            "bare httpx loop, this transport": lambda: _rate(_transport_loop(url)),
            "polling (client, budget, parsing)": lambda: _polling_rate(url),
        }
        rates: dict[str, list[float]] = {name: [] for name in (*contenders, *SWEEPS)}
        for _round in range(ROUNDS):
            for name, run in contenders.items():
                rates[name].append(run())
            for name, rate in zip(SWEEPS, _loads(url), strict=True):
                rates[name].append(rate)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return [
        {
            "contender": name,
            "calls/s": round(rate),
            "ratio to bare httpx, this transport": rate / medians["bare httpx loop, this transport"],
            "ratio to bare aiohttp": rate / medians["bare aiohttp loop"],
        }
        for name, rate in medians.items()
    ]


def token(number: int) -> Token:
    """A token the benchmark server answers."""
    return Token(f"key_{number}", Secret(access_token(number)), None, "us")


def settings(url: str) -> PollingSettings:
    """No rate limits."""
    return PollingSettings(base_url=url, requests_per_second=UNLIMITED, requests_per_minute=UNLIMITED)


def _rate(work: Awaitable[None]) -> float:
    async def timed() -> float:
        started = time.perf_counter()
        await work
        return CALLS / (time.perf_counter() - started)

    return asyncio.run(timed())


async def _fan_out(call: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(CALLS))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(worker() for _ in range(MAX_IN_FLIGHT)))


def _headers(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer token-{number}"}


async def _aiohttp_loop(url: str) -> None:
    connector = aiohttp.TCPConnector(limit=MAX_IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(number: int) -> None:
            async with session.get(f"{url}/v1/userinfo", headers=_headers(number)) as response:
                await response.read()

        await _fan_out(call)


async def _httpx_loop(url: str) -> None:
    limits = httpx.Limits(max_connections=MAX_IN_FLIGHT, max_keepalive_connections=MAX_IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits) as http:
        await _fan_out(lambda number: http.get(f"{url}/v1/userinfo", headers=_headers(number)))


async def _transport_loop(url: str) -> None:
    async with open_transport() as transport, httpx.AsyncClient(transport=transport) as http:
        await _fan_out(lambda number: http.get(f"{url}/v1/userinfo", headers=_headers(number)))


async def _polling(url: str) -> None:
    clock = SystemClock()
    polling = settings(url)
    policy = RequestPolicy(polling, clock, [token(0)])
    async with open_transport() as transport:
        client = CronofyClient(transport, polling, policy, clock)
        # room for all of them: nobody takes them
        backlog = Backlog(CALLS)
        poller = Poller(client, policy, clock, body_digests(polling), backlog, lambda _: None)
        await poller.poll(PollTask(token(number), (USERINFO,)) for number in range(CALLS))


def _polling_rate(url: str) -> float:
    with rare_collection():  # as in a load
        return _rate(_polling(url))


def _loads(url: str) -> Iterator[float]:
    """Calls a second of a first load into a new file, and of another one that finds nothing new."""
    with tempfile.TemporaryDirectory() as directory:
        pipeline = open_pipeline(
            "duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=Path(directory)
        )
        tokens = [token(number) for number in range(LOAD_TOKENS)]
        options = LoadOptions(every=SWEEP_ALWAYS, endpoints=(USERINFO,))
        for _ in SWEEPS:
            result = Load(pipeline, settings(url), tokens, options).run()
            yield result.requests / result.seconds


SWEEP_ALWAYS = LoadOptions().every * 0
