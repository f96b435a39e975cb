"""Calls a token, sweep by sweep: 1.00 where nothing is new, less where tokens share an account.

A population of tokens, a fifth of which are second tokens of an account, is loaded five times into one file:
first of all, at once again, and then day by day, with and without `/v1/account`, which is read once a day at
most. A client that reads all three endpoints needs 3 calls for the same facts. What is not due is not asked.
"""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.sandbox import MovableClock
from dlt_cronofy.sandbox.demo import DemoClock
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import DEFAULT_ENDPOINTS, USERINFO
from dlt_cronofy.source.tokens.token import Token
from dlt_cronofy.warehouse.pipeline import open_pipeline

from .peers.server import IdentityAnswering
from .server import serving
from .throughput import settings

ACCOUNTS, SECOND_TOKENS = 1_600, 400
START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STOCK_CALLS = 3
# name, time since the start, endpoints
SWEEPS: tuple[tuple[str, timedelta, Sequence[str]], ...] = (
    ("first", 0 * DAY, DEFAULT_ENDPOINTS),
    ("a minute later, --every 1h", HOUR / 60, DEFAULT_ENDPOINTS),
    ("two hours later", 2 * HOUR, DEFAULT_ENDPOINTS),
    ("a day later, userinfo alone", DAY + 3 * HOUR, (USERINFO,)),
    ("a day later, account as well", 2 * DAY + 3 * HOUR, DEFAULT_ENDPOINTS),
)


def measure() -> list[dict[str, Any]]:
    """One row a sweep: calls at the server, by token and by account, and rows written besides polls."""
    rows = []
    _prepare_answers()
    with serving(IdentityAnswering) as (url, answered), tempfile.TemporaryDirectory() as directory:
        for name, ahead, endpoints in SWEEPS:
            before = answered.value
            pipeline = open_pipeline(
                "duckdb", credentials=f"{directory}/cronofy.duckdb", pipelines_dir=Path(directory)
            )
            options = LoadOptions(every=HOUR, endpoints=endpoints)
            result = Load(
                pipeline, settings(url), _tokens(), options, DemoClock(MovableClock(START + ahead))
            ).run()
            calls = answered.value - before
            rows.append(
                {
                    "sweep": name,
                    "due tokens": result.due,
                    "calls": calls,
                    "calls a token": calls / (ACCOUNTS + SECOND_TOKENS),
                    "calls an account": calls / ACCOUNTS,
                    "stock client": STOCK_CALLS,
                    "rows besides polls": sum(result.rows.values()) - result.rows.get("polls", 0),
                }
            )
    return rows


def _prepare_answers() -> None:
    IdentityAnswering.prepare(ACCOUNTS)
    for (endpoint, token), answer in list(IdentityAnswering.answers.items()):
        IdentityAnswering.answers[endpoint, b"second-" + token] = answer


def _tokens() -> list[Token]:
    names = [f"token-{number}" for number in range(ACCOUNTS)]
    names += [f"second-{name}" for name in names[:SECOND_TOKENS]]
    return [Token(name, Secret(name), None, "us") for name in names]
