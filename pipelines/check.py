"""Checking: does each data center accept one of its tokens, do warehouse and handoff let us in?"""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import dlt

from sources.cronofy.calls.answers import Answer, skipped
from sources.cronofy.calls.client import CronofyClient
from sources.cronofy.calls.conduct import Conduct
from sources.cronofy.calls.exchange import Exchange
from sources.cronofy.calls.transport import open_transport
from sources.cronofy.clock import Clock, SystemClock
from sources.cronofy.errors import ConfigurationError
from sources.cronofy.settings import USERINFO, PollingSettings
from sources.cronofy.stores import TokenStore
from sources.cronofy.tokens import Token

from .shards.handoff import SETTING as HANDOFF_SETTING
from .shards.handoff import possible_handoff
from .warehouse import duckdb_file, location, sql_client

# what to do about an outcome that a person can mend
ADVICE = {
    "token_rejected": "the token is not of this data center, expired or revoked; authorize again",
    "forbidden": "the token lacks a scope; authorize again with more scope",
    "plan_required": "the Cronofy plan lacks the identity API",
    "bad_payload": "is base_url right?",
    "network_error": "is the host right, and within reach?",
    "timeout": "is the host right, and within reach?",
    "server_error": "try again later",
    "rate_limited": "try again later",
}

# the file that is written, read and removed
TRIAL = "check"

Checked = tuple[str, str, Answer]


def check_calls(settings: PollingSettings, tokens: Sequence[Token]) -> list[Checked]:
    """One call per data center, with the first token of each: data center, host, answer."""
    first: dict[str, Token] = {}
    for token in tokens:
        first.setdefault(token.data_center or settings.data_center, token)
    return asyncio.run(_check(settings, first))


def check_lines(checked: Sequence[Checked]) -> Iterator[str]:
    """What the checks found, a line a data center, with what to do about it."""
    for data_center, host, answer in checked:
        said = f"answered {answer.outcome.value}" if answer.http_status else "did not answer"
        why = f" ({answer.message})" if answer.message else ""
        advice = ADVICE.get(answer.outcome.value)
        yield f"{data_center}: {host} {said} in {answer.latency_ms} ms{why}" + (
            f": {advice}" if advice else ""
        )


def checks_as_dict(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """The same for `--json`, a dictionary a data center."""
    return [
        {
            "data_center": data_center,
            "host": host,
            "outcome": answer.outcome.value,
            "http_status": answer.http_status,
            "latency_ms": answer.latency_ms,
            "message": answer.message,
            "advice": ADVICE.get(answer.outcome.value),
        }
        for data_center, host, answer in checked
    ]


def check_store(settings: PollingSettings, store: TokenStore, tokens: Sequence[Token]) -> str | None:
    """Why refreshed tokens could not be written back; None when they can, or nothing is to be refreshed."""
    if settings.client is None or not any(token.refresh_token for token in tokens):
        return None
    why = store.why_not_saved()
    return why and f"expired tokens will not be refreshed: {why}"


def check_warehouse(pipeline: dlt.Pipeline) -> str:
    """Whether the warehouse lets us in, and what is there; creates nothing.

    Raises:
        DltException: it does not let us in, or its credentials are missing.
    """
    place, dataset = location(pipeline), pipeline.dataset_name
    file = duckdb_file(pipeline)
    if file is not None and not file.exists():
        return f"{place} is not there yet; the first load makes it"
    with sql_client(pipeline) as client:
        if not client.has_dataset():
            return f"{place} answers; dataset {dataset} is not there yet, and the first load makes it"
    return f"{place} answers; dataset {dataset} is there"


def check_handoff() -> str | None:
    """Whether files can pass through the handoff; None where none is configured. Leaves nothing there.

    Raises:
        ConfigurationError: they cannot.
    """
    handoff = possible_handoff()
    if handoff is None:
        return None
    word = secrets.token_bytes(8)
    try:
        handoff.write(TRIAL, lambda: TRIAL, lambda file: file.write(word))
        with handoff.open(TRIAL, TRIAL) as file:
            is_same = file.read() == word
        handoff.remove_run(TRIAL)
    except Exception as error:  # noqa: BLE001 - each kind of place has errors of its own
        problem = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(
            f"{HANDOFF_SETTING}: {handoff.root} cannot be used ({problem}); may it be written?"
        ) from None
    if not is_same:
        raise ConfigurationError(f"{HANDOFF_SETTING}: {handoff.root} does not keep what is written to it")
    return f"{handoff.root} keeps what is written to it"


async def _check(settings: PollingSettings, tokens: dict[str, Token]) -> list[Checked]:
    clock = SystemClock()
    # one attempt each: a check says how it is now
    settings = replace(settings, max_attempts=1)
    conduct = Conduct.of(settings, clock, tokens.values())
    try:
        async with open_transport() as transport:
            client = CronofyClient(Exchange(transport, settings, conduct, clock), settings, clock)
            return [
                (data_center, settings.host(data_center), await _answer(client, token, clock))
                for data_center, token in tokens.items()
            ]
    finally:
        conduct.close()


async def _answer(client: CronofyClient, token: Token, clock: Clock) -> Answer:
    answer = await client.read(USERINFO, token)
    # without a deadline only a shared budget that fails meanwhile leaves a read without an answer
    return answer or skipped(clock.now(), "not called: requests_shared_in cannot be used")
