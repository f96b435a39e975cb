"""Checks of the token store, the data centers, the warehouse and the handoff."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import dlt

from dlt_cronofy.formatting import count, row_lines
from dlt_cronofy.shards.exchange_directory import SETTING as HANDOFF_SETTING
from dlt_cronofy.shards.exchange_directory import possible_exchange
from dlt_cronofy.source.api.client import CronofyClient
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.transport import open_transport
from dlt_cronofy.source.clock import Clock, SystemClock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import OUTCOMES, REFUSALS, Outcome, Response, skipped
from dlt_cronofy.source.settings import USERINFO, PollingSettings
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.token import LISTED_ROWS, StoredTokens, Token
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import duckdb_file, location

REFRESHED = "expired; a load refreshes it"
FETCHED = "a load gets one with the refresh token"
NOT_REFRESHED = (
    "expired or revoked; with client_id and client_secret in [sources.cronofy] a load refreshes it"
)
NO_ACCESS_TOKEN = "no access token"  # noqa: S105 - a message

CALLS_PER_DATA_CENTER = 3
SHOWN_ROWS = 20

# the file that is written, read and removed
TRIAL = "check"


@dataclass(frozen=True)
class Checked:
    """What a data center says of the tokens it was tried with.

    Attributes:
        answer: the good one, else the most informative one.
        calls: how many were made.
        advice: what a person can do, or what a load will.
        is_well: whether nobody has to do anything.
    """

    data_center: str
    host: str
    response: Response
    calls: int
    advice: str | None
    is_well: bool


def check_calls(
    settings: PollingSettings, tokens: Sequence[Token], unwritable: str | None = None
) -> list[Checked]:
    """Try each data center with one of its tokens, and where that is refused with up to two others.

    Nothing is refreshed: an access token that a load would replace is no fault, as long as the store can
    take the new one.

    Args:
        settings: how to call.
        tokens: those of the store.
        unwritable: why refreshed tokens could not be written back; None where they could.
    """
    return asyncio.run(_check(settings, _to_try(settings, tokens, SystemClock().now()), unwritable))


def _to_try(settings: PollingSettings, tokens: Sequence[Token], now: datetime) -> dict[str, list[Token]]:
    """By data center the first tokens, those that cannot be good last."""
    found: dict[str, tuple[list[Token], list[Token], list[Token]]] = {}
    for token in tokens:
        kinds = found.setdefault(token.data_center or settings.data_center, ([], [], []))
        expired = token.expires_at is not None and now >= token.expires_at
        kind = kinds[(1 if expired else 0) if token.has_access_token else 2]
        if len(kind) < CALLS_PER_DATA_CENTER:
            kind.append(token)
    return {
        data_center: [token for kind in kinds for token in kind][:CALLS_PER_DATA_CENTER]
        for data_center, kinds in found.items()
    }


def store_lines(tokens: StoredTokens) -> Iterator[str]:
    """What the token store holds: tokens, users who have not connected, rows that cannot be used."""
    yield f"{count(len(tokens), 'token')}, each with its own key"
    yield from row_lines(tokens.unusable, len(tokens.unusable), len(tokens.not_connected), SHOWN_ROWS)


def rows_as_dict(tokens: StoredTokens) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "tokens": len(tokens),
        "not_connected": len(tokens.not_connected),
        "unusable_rows": len(tokens.unusable),
        "unusable": [asdict(row) for row in tokens.unusable[:LISTED_ROWS]],
    }


def check_lines(checked: Sequence[Checked]) -> Iterator[str]:
    """What the checks found, a line a data center, with what to do about it."""
    for each in checked:
        response, advice = each.response, f": {each.advice}" if each.advice else ""
        why = f" ({response.message})" if response.message else ""
        if response.outcome is Outcome.SKIPPED:
            yield f"{each.data_center}: {each.host} was not called{why}{advice}"
            continue
        said = f"answered {response.outcome.value}" if response.http_status else "did not answer"
        yield f"{each.data_center}: {each.host} {said} in {response.latency_ms} ms{why}{advice}"


def checks_as_dict(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """The same for `--json`, a dictionary a data center."""
    return [
        {
            "data_center": each.data_center,
            "host": each.host,
            "outcome": each.response.outcome.value,
            "http_status": each.response.http_status,
            "latency_ms": each.response.latency_ms,
            "message": each.response.message,
            "calls": each.calls,
            "advice": each.advice,
            "is_well": each.is_well,
        }
        for each in checked
    ]


def check_store(settings: PollingSettings, store: TokenStore, tokens: Sequence[Token]) -> str | None:
    """Why refreshed tokens could not be written back; None when they can, or nothing is to be refreshed."""
    if settings.client is None or not any(token.refresh_token for token in tokens):
        return None
    # a store of somebody's own may not say
    why = getattr(store, "why_not_saved", lambda: None)()
    return why and f"expired tokens will not be refreshed: {why}"


def check_warehouse(pipeline: dlt.Pipeline) -> str:
    """Whether the warehouse lets us in, and what is there; creates nothing.

    Raises:
        DltException: it does not let us in, or its credentials are missing.
    """
    place, dataset = location(pipeline), pipeline.dataset_name
    file = duckdb_file(pipeline)
    if file is not None and not file.exists():
        return f"{place} does not exist yet; the first load creates it"
    with sql_client(pipeline) as client:
        if not client.has_dataset():
            return f"{place} answers; dataset {dataset} does not exist yet, and the first load creates it"
    return f"{place} answers; dataset {dataset} exists"


def check_handoff() -> str | None:
    """Whether files can pass through the handoff; None where none is configured. Leaves nothing there.

    Raises:
        ConfigurationError: they cannot.
    """
    handoff = possible_exchange()
    if handoff is None:
        return None
    word = secrets.token_bytes(8)
    try:
        handoff.write(TRIAL, lambda: TRIAL, lambda file: file.write(word))
        with handoff.open(TRIAL, TRIAL) as file:
            is_same = file.read() == word
        handoff.remove(TRIAL)
    except Exception as error:  # noqa: BLE001 - each kind of place has errors of its own
        problem = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(
            f"{HANDOFF_SETTING}: {handoff.root} cannot be used ({problem}); may it be written?"
        ) from None
    if not is_same:
        raise ConfigurationError(f"{HANDOFF_SETTING}: {handoff.root} does not keep what is written to it")
    return f"{handoff.root} keeps what is written to it"


async def _check(
    settings: PollingSettings, to_try: dict[str, list[Token]], unwritable: str | None
) -> list[Checked]:
    clock = SystemClock()
    # one attempt each: a check says how it is now
    settings = replace(settings, max_attempts=1)
    policy = RequestPolicy(settings, clock, (token for tokens in to_try.values() for token in tokens))
    try:
        async with open_transport() as transport:
            client = CronofyClient(transport, settings, policy, clock)
            return [
                _judged(data_center, settings, await _answers(client, tokens, clock), unwritable)
                for data_center, tokens in to_try.items()
            ]
    finally:
        policy.close()


async def _answers(
    client: CronofyClient, tokens: Sequence[Token], clock: Clock
) -> list[tuple[Token, Response]]:
    """The answers for one token after the other, until one is about the data center and not about a token."""
    responses: list[tuple[Token, Response]] = []
    for token in tokens:
        if not token.has_access_token:
            responses.append((token, skipped(clock.now(), NO_ACCESS_TOKEN)))
            continue
        # without a deadline only a shared budget that fails meanwhile leaves a read without an answer
        response = await client.read(USERINFO, token) or skipped(
            clock.now(), "requests_shared_in cannot be used"
        )
        responses.append((token, response))
        if response.outcome not in REFUSALS:
            break
    return responses


def _judged(
    data_center: str,
    settings: PollingSettings,
    responses: Sequence[tuple[Token, Response]],
    unwritable: str | None,
) -> Checked:
    """What the answers come to: the last one where it is about the data center, else what a load would do."""
    calls = sum(response.attempts for _, response in responses)

    def checked(response: Response, advice: str | None, *, is_well: bool) -> Checked:
        return Checked(data_center, settings.host(data_center), response, calls, advice, is_well)

    last = responses[-1][1]
    if last.outcome not in REFUSALS and last.message != NO_ACCESS_TOKEN:
        return checked(last, OUTCOMES[last.outcome].setup_advice or None, is_well=last.outcome is Outcome.OK)
    fixable = [response for token, response in responses if _is_fixed_by_refresh(token, response)]
    if not fixable:
        first = responses[0][1]
        return checked(first, OUTCOMES[first.outcome].setup_advice or None, is_well=False)
    if settings.client is None:
        return checked(fixable[0], NOT_REFRESHED, is_well=False)
    if unwritable is not None:
        return checked(fixable[0], unwritable, is_well=False)
    return checked(fixable[0], REFRESHED if fixable[0].attempts else FETCHED, is_well=True)


def _is_fixed_by_refresh(token: Token, response: Response) -> bool:
    rejected = response.outcome is Outcome.TOKEN_REJECTED or not token.has_access_token
    return rejected and token.refresh_token is not None
