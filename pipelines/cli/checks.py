"""Checks of all that a load depends on: token store, data centers, application, warehouse, other settings."""

import asyncio
import os
import secrets
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import dlt

from dlt_cronofy.alerts.sending import configured_alerts
from dlt_cronofy.formatting import count, row_lines
from dlt_cronofy.shards.exchange_directory import SETTING as HANDOFF_SETTING
from dlt_cronofy.shards.exchange_directory import possible_exchange
from dlt_cronofy.source.api.client import CronofyClient
from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.retries import Retrier
from dlt_cronofy.source.api.token_endpoint import CLIENT_REFUSED, error_code, read_document, refresh_request
from dlt_cronofy.source.api.transport import open_transport
from dlt_cronofy.source.clock import Clock, SystemClock
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import OUTCOMES, REFUSALS, Outcome, Response, skipped
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import USERINFO, PollingSettings
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.due_query import read_notified
from dlt_cronofy.source.tokens.token import LISTED_ROWS, StoredTokens, Token
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import duckdb_file, location

from .refusals import missing_rights

REFRESHED = "expired; a load refreshes it"
FETCHED = "a load gets one with the refresh token"
NOT_REFRESHED = (
    "expired or revoked; with client_id and client_secret in [sources.cronofy] a load refreshes it"
)
NO_ACCESS_TOKEN = "no access token"  # noqa: S105 - a message

CLIENT_NOT_ACCEPTED = (
    "client_id and client_secret in [sources.cronofy] are not accepted ({code}): expired tokens will not be"
    " refreshed; copy both from Cronofy's dashboard, from the application of this data center"
)

CALLS_PER_DATA_CENTER = 3
# no refresh token of anybody: what is accepted or not is the application
NO_REFRESH_TOKEN = Secret("dlt-cronofy-check")
SHOWN_ROWS = 20

LACKS_RIGHTS = "a load could not write to the warehouse; first:"

# the file that is written, read and removed
TRIAL = "check"


@dataclass(frozen=True)
class Checked:
    """What a data center says of the tokens it was tried with."""

    data_center: str
    host: str
    response: Response  # the good one, else the most informative one
    calls: int  # made
    advice: str | None  # what a person can do, or what a load will
    is_well: bool  # nobody has to do anything

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        names = ("outcome", "http_status", "latency_ms", "message")
        facts = {name: getattr(self, name) for name in ("data_center", "host", "calls", "advice", "is_well")}
        return facts | {name: getattr(self.response, name) for name in names}

    def __str__(self) -> str:
        response, host = self.response, f"{self.data_center}: {self.host}"
        if response.outcome is Outcome.SKIPPED:
            found = f"{host} was not called"
        else:
            said = f"answered {response.outcome.value}" if response.http_status else "did not answer"
            found = f"{host} {said} in {response.latency_ms} ms"
        return (
            found
            + (f" ({response.message})" if response.message else "")
            + (f": {self.advice}" if self.advice else "")
        )


@dataclass
class Findings:
    """What was found; `lines` looks, and the rest says what came of it."""

    settings: PollingSettings
    store: TokenStore
    tokens: StoredTokens
    pipeline: dlt.Pipeline
    unwritable: str | None = None
    data_centers: list[Checked] = field(default_factory=list)
    warehouse: str = ""
    missing_rights: list[str] = field(default_factory=list)
    handoff: str | None = None

    def lines(self) -> Iterator[str]:
        """Check all, a line for each finding.

        Raises:
            ConfigurationError: the handoff cannot be used.
            DltException: the warehouse does not let us in, or its credentials are missing.
        """
        # bad configuration is one line, before anything is called
        has_alerts, tokens = configured_alerts() is not None, self.tokens
        yield f"{count(len(tokens), 'token')}, each with its own key"
        yield from row_lines(tokens.unusable, len(tokens.unusable), len(tokens.not_connected), SHOWN_ROWS)
        self.unwritable = check_store(self.settings, self.store, tokens)
        self.data_centers = check_calls(self.settings, tokens, self.unwritable)
        yield from map(str, self.data_centers)
        if self.unwritable:
            yield self.unwritable
        yield from check_settings(self.settings)
        if has_alerts:
            yield "alerts_to has the form it needs; no message was sent"
        self.warehouse, self.handoff = check_warehouse(self.pipeline), check_handoff()
        yield from filter(None, (self.handoff, self.warehouse))
        self.missing_rights = check_rights(self.pipeline, self.settings)
        yield from (
            [LACKS_RIGHTS, *(f"  {each}" for each in self.missing_rights)] if self.missing_rights else ()
        )

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything."""
        is_store_well = self.unwritable is None and not self.tokens.unusable
        is_warehouse_well = not self.missing_rights
        return is_store_well and is_warehouse_well and all(each.is_well for each in self.data_centers)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        found = {
            "tokens": len(self.tokens),
            "not_connected": len(self.tokens.not_connected),
            "unusable_rows": len(self.tokens.unusable),
            "unusable": [asdict(row) for row in self.tokens.unusable[:LISTED_ROWS]],
            "data_centers": [each.as_dict() for each in self.data_centers],
            "warehouse": self.warehouse,
        }
        others = {
            "not_written_back": self.unwritable,
            "handoff": self.handoff,
            "missing_rights": self.missing_rights,
        }
        return found | {name: value for name, value in others.items() if value}


def check_calls(
    settings: PollingSettings, tokens: Sequence[Token], unwritable: str | None = None
) -> list[Checked]:
    """Try each data center with one of its tokens, and where that is refused with up to two others.

    Nothing is refreshed. An access token that a load would replace is no fault, unless `unwritable` says why
    the store could not take the new one. Where there are refresh tokens, the token endpoint is asked with
    one that is none, which shows whether the application's credentials are right; then at most two tokens
    that a load would refresh are tried.
    """
    refreshing = {token.data_center or settings.data_center for token in tokens if token.refresh_token}
    to_try = _to_try(settings, tokens, SystemClock().now())
    return asyncio.run(_check(settings, to_try, refreshing if settings.client else set(), unwritable))


def _to_try(settings: PollingSettings, tokens: Sequence[Token], now: datetime) -> dict[str, list[Token]]:
    """By data center the first tokens, those that cannot be good last."""

    def doubt(token: Token) -> int:
        if not token.has_access_token:
            return 2
        return int(token.expires_at is not None and now >= token.expires_at)

    found: dict[str, list[Token]] = {}
    for token in sorted(tokens, key=doubt):
        chosen = found.setdefault(token.data_center or settings.data_center, [])
        if len(chosen) < CALLS_PER_DATA_CENTER:
            chosen.append(token)
    return found


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


def check_rights(pipeline: dlt.Pipeline, settings: PollingSettings) -> list[str]:
    """What to do so that a load may write to the warehouse; empty where nothing is known to be missing."""
    file = duckdb_file(pipeline)
    if file is None:
        return missing_rights(pipeline, settings.hold.total_seconds())
    # DuckDB writes its log beside the file
    places = [file.parent, *([file] if file.exists() else [])]
    return [f"make {place} writable" for place in places if not os.access(place, os.W_OK)]


def check_settings(settings: PollingSettings) -> Iterator[str]:
    """A line for each of the other settings that a load depends on.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    if settings.requests_shared_in is not None:
        yield "requests_shared_in can be used"  # or the calls would have failed
    if settings.proxy is None and any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        yield "HTTPS_PROXY is not used for Cronofy; set proxy in [sources.cronofy] if it is needed"
    if settings.due_query is not None:
        found = read_notified(settings, SystemClock().now())
        yield f"due_query can be run; it names {len(found):,} tokens or accounts"


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
    settings: PollingSettings,
    to_try: dict[str, list[Token]],
    refreshing: Container[str],
    unwritable: str | None,
) -> list[Checked]:
    clock = SystemClock()
    # one attempt each: a check says how it is now
    settings = replace(settings, max_attempts=1)
    policy = RequestPolicy(settings, clock, (token for tokens in to_try.values() for token in tokens))
    try:
        async with open_transport(settings.proxy) as transport:
            client = CronofyClient(transport, settings, policy, clock)
            retrier = Retrier(transport, settings, policy, clock)
            found = []
            for data_center, tokens in to_try.items():
                will_ask = data_center in refreshing
                responses = await _answers(client, tokens, clock, leave_one=will_ask)
                checked = _judged(data_center, settings, responses, unwritable)
                if will_ask and checked.calls < CALLS_PER_DATA_CENTER:
                    checked = await _with_client(checked, settings, retrier)
                found.append(checked)
            return found
    finally:
        policy.close()


async def _with_client(checked: Checked, settings: PollingSettings, retrier: Retrier) -> Checked:
    """The same, unless the token endpoint refuses the application."""
    client = settings.client
    assert client is not None
    url = f"{checked.host}/oauth/token"
    response = await retrier.send(checked.data_center, lambda: refresh_request(url, client, NO_REFRESH_TOKEN))
    if response is None:
        return checked
    calls = checked.calls + response.attempts
    code = error_code(read_document(response.body))
    if code not in CLIENT_REFUSED:
        return replace(checked, calls=calls)
    return replace(checked, calls=calls, advice=CLIENT_NOT_ACCEPTED.format(code=code), is_well=False)


async def _answers(
    client: CronofyClient, tokens: Sequence[Token], clock: Clock, *, leave_one: bool
) -> list[tuple[Token, Response]]:
    """The answers for one token after the other, until one is about the data center and not about a token.

    Where one call is to be left, the last token is not tried if a load would refresh one before it.
    """
    responses: list[tuple[Token, Response]] = []
    for token in tokens:
        fixable = any(_is_fixed_by_refresh(each, response) for each, response in responses)
        if leave_one and fixable and len(responses) == CALLS_PER_DATA_CENTER - 1:
            break
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
    last = responses[-1][1]
    is_about_center = last.outcome not in REFUSALS and last.message != NO_ACCESS_TOKEN
    fixable = [response for token, response in responses if _is_fixed_by_refresh(token, response)]
    advice: str | None
    if is_about_center or not fixable:
        response = last if is_about_center else responses[0][1]
        advice, is_well = OUTCOMES[response.outcome].setup_advice or None, response.outcome is Outcome.OK
    else:
        response = fixable[0]
        problem = NOT_REFRESHED if settings.client is None else unwritable
        advice, is_well = problem or (REFRESHED if response.attempts else FETCHED), problem is None
    calls = sum(response.attempts for _, response in responses)
    return Checked(data_center, settings.host(data_center), response, calls, advice, is_well)


def _is_fixed_by_refresh(token: Token, response: Response) -> bool:
    rejected = response.outcome is Outcome.TOKEN_REJECTED or not token.has_access_token
    return rejected and token.refresh_token is not None
