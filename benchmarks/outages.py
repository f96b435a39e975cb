"""What failing tokens cost the others, and what a server that fails everything is asked.

Whole loads of userinfo into a new file each, without rate limits, against the same server. Where 8 % fail,
5 % are rejected, 2 % are answered 503 and 1 % not at all, at random places of the token store. The goals:
that load takes at most 1.5 times as long and loads every good token; a server that fails everything sees at
most 1.1 requests a token.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import USERINFO
from dlt_cronofy.source.tokens.token import Token
from dlt_cronofy.warehouse.pipeline import open_pipeline

from .server import Answering, serving
from .throughput import SWEEP_ALWAYS, settings

TOKENS, ROUNDS = 10_000, 2
TIMEOUT_SECONDS = 2.0
SHARES = {"rejected": 0.05, "failing": 0.02, "hanging": 0.01}
STATUS = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n"


class Faulty(Answering):
    """Does with a token what its name says."""

    def answer(self, token: bytes) -> bytes:
        """A good answer, 401, 503 or nothing."""
        fate = token.split(b"-", 1)[0]
        if fate == b"hanging":
            return b""
        return {b"rejected": STATUS % 401, b"failing": STATUS % 503}.get(fate) or super().answer(token)


def measure() -> list[dict[str, Any]]:
    """One row a world: seconds, their ratio to the world where all is good, tokens, requests a token."""
    worlds = {
        "all good": ["good"] * TOKENS,
        "8 % fail": _fates(),
        "all fail": ["failing"] * TOKENS,
    }
    results: dict[str, list[LoadResult]] = {name: [] for name in worlds}
    with serving(Faulty) as (url, _):
        for number in range(ROUNDS):
            for name, fates in worlds.items():
                if number == 0 or "good" in fates:  # of the last one requests are counted, not seconds
                    results[name].append(_load(url, fates))
    seconds = {name: statistics.median(each.seconds for each in found) for name, found in results.items()}
    return [
        {
            "the server": name,
            "seconds": seconds[name],
            "ratio to all good": seconds[name] / seconds["all good"],
            "good tokens": fates.count("good"),
            "loaded": min(each.outcomes.get("ok", 0) for each in results[name]),
            "requests a token": max(each.requests for each in results[name]) / TOKENS,
        }
        for name, fates in worlds.items()
    ]


def _fates() -> list[str]:
    """What becomes of each token, in the order of the store."""
    fates = [fate for fate, share in SHARES.items() for _ in range(round(TOKENS * share))]
    fates += ["good"] * (TOKENS - len(fates))
    Random(7).shuffle(fates)
    return fates


def _load(url: str, fates: Sequence[str]) -> LoadResult:
    tokens = [
        Token(f"key_{number}", Secret(f"{fate}-{number}"), None, "us") for number, fate in enumerate(fates)
    ]
    polling = replace(settings(url), timeout_seconds=TIMEOUT_SECONDS)
    with tempfile.TemporaryDirectory() as directory:
        pipeline = open_pipeline(
            "duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=Path(directory)
        )
        options = LoadOptions(every=SWEEP_ALWAYS, endpoints=(USERINFO,))
        return Load(pipeline, polling, tokens, options).run()
