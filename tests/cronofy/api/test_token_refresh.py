"""Refreshing against stores that fail: what is used up, what the store holds, and what counts as lost."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from dlt_cronofy.source.api.limits.policy import RequestPolicy
from dlt_cronofy.source.api.limits.tuning import MAX_REFRESHES_IN_FLIGHT
from dlt_cronofy.source.api.retries import Retrier
from dlt_cronofy.source.api.token_refresh import Refreshed, Refresher, open_refresher
from dlt_cronofy.source.clock import SystemClock
from dlt_cronofy.source.records import Outcome
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import ClientCredentials, PollingSettings
from dlt_cronofy.source.tokens.base import Renewal, StoreError, TokenStore
from dlt_cronofy.source.tokens.given_store import GivenStore
from dlt_cronofy.source.tokens.token import Token

TOKENS = 120
SECRET = "hunter2-is-secret"


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dlt_cronofy")


class TokenEndpoint(httpx.AsyncBaseTransport):
    """Cronofy's token endpoint: gives a new pair for a refresh token, once."""

    def __init__(self, keys: Sequence[str], *, rotates: bool = True, seconds: float = 0.002) -> None:
        self.grants = {f"refresh-{key}": key for key in keys}
        self.used: list[str] = []
        self.rotates = rotates
        self.seconds = seconds
        self.garble: Callable[[dict[str, Any]], Any] = lambda response: response
        self.status = 200

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        presented = orjson.loads(request.content)["refresh_token"]
        await asyncio.sleep(self.seconds)
        if self.status != 200:
            return httpx.Response(self.status)
        key = self.grants.get(presented)
        if key is None:
            return httpx.Response(400, json={"error": "invalid_grant"})
        self.used.append(key)
        response = {"access_token": f"access-{key}-{len(self.used)}", "expires_in": 3600}
        if self.rotates:
            del self.grants[presented]
            response["refresh_token"] = f"refresh-{key}-{len(self.used)}"
            self.grants[str(response["refresh_token"])] = key
        return httpx.Response(200, content=orjson.dumps(self.garble(response)))


class MemoryStore:
    """Rows in memory, and what goes wrong when they are written.

    Attributes:
        fails: given the number of the write and a renewal, whether that renewal makes it fail.
    """

    name = "memory"
    folder: Path | None = None

    def __init__(self, keys: Sequence[str], fails: Callable[[int, Renewal], bool]) -> None:
        self.rows = {key: Token(key, Secret(f"access-{key}"), Secret(f"refresh-{key}")) for key in keys}
        self.fails = fails
        self.writes = 0
        self.trial: Callable[[], str | None] = lambda: None

    def read(self) -> list[Token]:
        return list(self.rows.values())

    def why_not_saved(self) -> str | None:
        return self.trial()

    def current(self, token: Token) -> Token | None:
        return self.rows.get(token.key)

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        self.writes += 1
        if any(self.fails(self.writes, renewal) for renewal in renewals):
            raise StoreError("no")
        return [renewal for renewal in renewals if not self._write(renewal)]

    def _write(self, renewal: Renewal) -> bool:
        changed = [row.key for row in self.rows.values() if row.refresh_token == renewal.token.refresh_token]
        for key in changed:
            self.rows[key] = Token(key, renewal.access_token, renewal.refresh_token)
        return bool(changed)

    def held(self) -> dict[str, str]:
        return {key: row.refresh_token.reveal() for key, row in self.rows.items() if row.refresh_token}


class HookedStore(GivenStore):
    """Tokens given by code, and a function that takes the new ones into a vault."""

    def __init__(self, keys: Sequence[str], fails: Callable[[int, Renewal], bool]) -> None:
        self.vault = {key: f"refresh-{key}" for key in keys}
        self.calls = 0

        def keep(renewal: Renewal) -> None:
            self.calls += 1
            if fails(self.calls, renewal):
                raise LookupError(SECRET)
            self.vault[renewal.token.key] = renewal.refresh_token.reveal()

        rows = [
            {"key": key, "access_token": f"access-{key}", "refresh_token": f"refresh-{key}"} for key in keys
        ]
        super().__init__(rows, keep)

    def held(self) -> dict[str, str]:
        return self.vault


def settings(**chosen: Any) -> PollingSettings:
    client = ClientCredentials("client", Secret("secret"))
    chosen = {"requests_per_second": 1e6, "requests_per_minute": 1e6, "max_attempts": 1} | chosen
    return PollingSettings(base_url="http://api.test", client=client, **chosen)


async def refresh_all(
    store: TokenStore,
    endpoint: TokenEndpoint,
    folder: Path,
    chosen: PollingSettings | None = None,
    meanwhile: Callable[[RequestPolicy], None] = lambda _: None,
) -> tuple[Refresher, list[Refreshed]]:
    """Refresh every token of a store at once, as a run with all access tokens expired does."""
    chosen = chosen or settings()
    tokens, clock = store.read(), SystemClock()
    policy = RequestPolicy(chosen, clock, tokens)
    refresher = open_refresher(chosen, store, tokens, folder, clock)
    assert refresher is not None
    retrier = Retrier(endpoint, chosen, policy, clock)
    work = asyncio.gather(*(refresher.refresh(token, retrier) for token in tokens))
    while not work.done():
        meanwhile(policy)
        await asyncio.sleep(0.001)
    await refresher.settle()
    refresher.finish()
    return refresher, await work


def lost(store: Any, endpoint: TokenEndpoint) -> set[str]:
    """The tokens of which the store holds a refresh token that works no more."""
    return {key for key, held in store.held().items() if held not in endpoint.grants}


def keys(count: int = TOKENS) -> list[str]:
    return [f"k{number}" for number in range(count)]


def never(_: int, __: Renewal) -> bool:
    return False


def from_write(first: int) -> Callable[[int, Renewal], bool]:
    return lambda number, _: number >= first


def only_once(failing: int) -> Callable[[int, Renewal], bool]:
    return lambda number, _: number == failing


def of_key(key: str) -> Callable[[int, Renewal], bool]:
    return lambda _, renewal: renewal.token.key == key


@pytest.mark.parametrize("kind", [MemoryStore, HookedStore])
@pytest.mark.parametrize(
    ("fails", "most_lost", "ends"),
    [
        (never, 0, False),
        (from_write(1), 1, True),
        (from_write(2), MAX_REFRESHES_IN_FLIGHT, True),
        (from_write(15), MAX_REFRESHES_IN_FLIGHT, True),
        # passing trouble: what was refreshed meanwhile is written in the end
        (only_once(1), 0, True),
        (only_once(15), 0, True),
        # one row that cannot be written does not take those with it that were written together
        (of_key("k0"), 1, True),
        (of_key("k17"), 1, True),
    ],
    ids=["well", "first", "second", "later", "once at first", "once later", "first row", "a row"],
)
def test_at_most_the_refreshes_under_way_are_lost_and_all_of_them_are_named(
    fails: Callable[[int, Renewal], bool],
    most_lost: int,
    ends: bool,
    kind: type[MemoryStore] | type[HookedStore],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, endpoint = kind(keys(), fails), TokenEndpoint(keys())
    refresher, ended = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert len(endpoint.used) == len(set(endpoint.used))
    assert len(lost(store, endpoint)) <= most_lost
    assert set(refresher.lost) == lost(store, endpoint)
    assert len(refresher.lost) == len(set(refresher.lost))
    assert {key for key in keys() if f"the refresh token of {key} is lost" in caplog.text} == set(
        refresher.lost
    )
    whys = {each.why for each in ended if each.token is None}
    stopped = "not refreshed: the token store cannot be written"
    assert whys <= {stopped, "refreshed, but not written back"}
    assert (len(endpoint.used) < TOKENS) is ends
    assert ("nothing more is refreshed in this run" in caplog.text) is ends
    assert SECRET not in caplog.text
    # the next run asks first about what this one did not settle
    assert bool(list(tmp_path.glob("cronofy-refreshing-*"))) is bool(refresher.lost)


def test_a_refreshed_token_keeps_its_labels(tmp_path: Path) -> None:
    store, endpoint = MemoryStore(keys(1), never), TokenEndpoint(keys(1))
    store.rows = {key: replace(token, labels=("Ada",)) for key, token in store.rows.items()}
    _, [ended] = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert ended.token is not None
    assert (ended.token.access_token, ended.token.labels) == (Secret("access-k0-1"), ("Ada",))


def test_what_waits_for_the_rate_limit_is_not_sent_after_a_failure(tmp_path: Path) -> None:
    """Two requests a second: the first two are sent, and the others wait while the second write fails."""
    store, endpoint = MemoryStore(keys(5), from_write(2)), TokenEndpoint(keys(5))
    chosen = settings(requests_per_second=2)
    refresher, _ = asyncio.run(refresh_all(store, endpoint, tmp_path, chosen))
    assert len(endpoint.used) == 2
    assert len(refresher.lost) == 1


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (lambda: "memory cannot be written: the column is too short", "the column is too short"),
        (lambda: 1 / 0, "memory cannot be tried: ZeroDivisionError"),
    ],
)
def test_a_trial_that_fails_uses_nothing_up(
    trial: Callable[[], str | None], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, endpoint = MemoryStore(keys(), never), TokenEndpoint(keys())
    store.trial = trial
    refresher, ended = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert endpoint.used == []
    assert refresher.lost == []
    assert caplog.text.count("expired tokens are not refreshed: ") == 1
    assert message in caplog.text
    assert {each.why for each in ended} == {"not refreshed: the token store cannot be written"}


class ReadAndSave:
    """The least that an object must have to be taken for a store; it returns nothing."""

    def __init__(self) -> None:
        self.memory = MemoryStore(keys(), never)
        self.read, self.held = self.memory.read, self.memory.held

    def save(self, renewals: Sequence[Renewal]) -> None:
        self.memory.save(renewals)


class Deaf(MemoryStore):
    """Takes every write without a word, and does nothing; says nothing of what it holds either."""

    def _write(self, renewal: Renewal) -> bool:
        return False

    def current(self, token: Token) -> Token | None:
        raise OSError(SECRET)


@pytest.mark.parametrize(
    ("store", "used"), [(ReadAndSave(), TOKENS), (Deaf(keys(), never), 1)], ids=["read and save", "deaf"]
)
def test_a_store_of_somebody_elses_making(store: Any, used: int, tmp_path: Path) -> None:
    endpoint = TokenEndpoint(keys())
    refresher, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert len(endpoint.used) == used
    assert set(refresher.lost) == lost(store, endpoint)


def test_all_tokens_of_a_lost_refresh_token_are_named(tmp_path: Path) -> None:
    store, endpoint = MemoryStore(keys(5), from_write(1)), TokenEndpoint(keys(5))
    for key in ("k1", "k3"):
        store.rows[key] = Token(key, Secret(f"access-{key}"), Secret("refresh-k0"))
    refresher, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert len(endpoint.used) == 1
    assert set(refresher.lost) == {"k0", "k1", "k3"} == lost(store, endpoint) - {"k2", "k4"}


def test_a_refresh_token_that_stays_the_same_is_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, endpoint = MemoryStore(keys(), from_write(1)), TokenEndpoint(keys(), rotates=False)
    refresher, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert len(endpoint.used) == 1
    assert refresher.lost == []
    assert "could not be written back; its refresh token still works" in caplog.text


@pytest.mark.parametrize(
    "garble",
    [
        lambda response: response | {"access_token": "with a blank"},
        lambda response: response | {"refresh_token": "with a blank"},
        lambda response: {"token": response["access_token"]},
        lambda _: ["no object"],
    ],
)
def test_answers_that_cannot_be_kept_end_refreshing(
    garble: Callable[[dict[str, Any]], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each may have used up a refresh token, of which the next run finds out."""
    store, endpoint = MemoryStore(keys(), never), TokenEndpoint(keys())
    endpoint.garble = garble
    _, ended = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert endpoint.used == ["k0", "k1", "k2"]
    assert [each.response.outcome for each in ended if each.response] == 3 * [Outcome.BAD_PAYLOAD]
    assert "the token endpoint's answer for k0 is not of the documented shape" in caplog.text
    later = open_refresher(settings(), store, store.read(), tmp_path, SystemClock())
    assert later is not None
    assert later.is_due(store.rows["k0"])
    assert not later.is_due(store.rows["k3"])


def test_an_odd_answer_among_good_ones_is_its_tokens_own_trouble(tmp_path: Path) -> None:
    store, endpoint = MemoryStore(keys(), never), TokenEndpoint(keys())
    endpoint.garble = lambda response: {} if "-k40-" in response["access_token"] else response
    _, ended = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert len(endpoint.used) == TOKENS
    assert [each.response.outcome for each in ended if each.response] == [Outcome.BAD_PAYLOAD]
    assert lost(store, endpoint) == {"k40"}
    # whether it is lost is known when the next run has asked
    endpoint.garble = lambda response: response
    store.rows = {"k40": store.rows["k40"]}
    later, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert later.lost == ["k40"]


def test_a_run_that_is_stopped_loses_nothing(tmp_path: Path) -> None:
    store, endpoint = MemoryStore(keys(), never), TokenEndpoint(keys(), seconds=0.01)

    def stop(policy: RequestPolicy) -> None:
        if len(endpoint.used) >= 20:
            policy.quota.stop("SIGTERM")

    refresher, ended = asyncio.run(refresh_all(store, endpoint, tmp_path, meanwhile=stop))
    assert 20 <= len(endpoint.used) <= 20 + 2 * MAX_REFRESHES_IN_FLIGHT
    assert lost(store, endpoint) == set()
    assert refresher.lost == []
    assert sum(each.response is not None for each in ended) == TOKENS - len(endpoint.used)
    assert list(tmp_path.iterdir()) == []


def test_an_entry_of_an_earlier_run_stays_while_nothing_could_be_sent(tmp_path: Path) -> None:
    store, endpoint = MemoryStore(keys(3), from_write(1)), TokenEndpoint(keys(3))
    first, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    [key] = first.lost

    async def stopped() -> Refresher:
        policy = RequestPolicy(settings(), SystemClock(), store.read())
        policy.quota.stop("SIGTERM")
        refresher = open_refresher(settings(), store, store.read(), tmp_path, SystemClock())
        assert refresher is not None
        retrier = Retrier(endpoint, settings(), policy, SystemClock())
        await refresher.refresh(store.rows[key], retrier)
        refresher.finish()
        return refresher

    assert asyncio.run(stopped()).lost == []
    store.fails = never
    again, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert again.lost == [key]
    assert list(tmp_path.iterdir()) == []


def test_the_application_may_take_a_user_out_meanwhile(tmp_path: Path) -> None:
    """A row that is gone is no failed write: nobody waits for its tokens."""
    store, endpoint = MemoryStore(keys(), never), TokenEndpoint(keys())
    write = store._write

    def remove(renewal: Renewal) -> bool:
        if renewal.token.key == "k30":
            store.rows.pop("k30", None)
        return write(renewal)

    store._write = remove  # type: ignore[method-assign]
    refresher, _ = asyncio.run(refresh_all(store, endpoint, tmp_path))
    assert len(endpoint.used) == TOKENS
    assert refresher.lost == []


def test_an_error_of_ours_in_one_refresh_abandons_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, endpoint = MemoryStore(keys(3), never), TokenEndpoint(keys(3), seconds=0.05)

    async def run() -> None:
        tokens = store.read()
        policy = RequestPolicy(settings(), SystemClock(), tokens)
        refresher = open_refresher(settings(), store, tokens, tmp_path, SystemClock())
        assert refresher is not None
        retrier = Retrier(endpoint, settings(), policy, SystemClock())
        refresher._let_in_others()
        work = [asyncio.create_task(refresher.refresh(token, retrier)) for token in tokens]
        await asyncio.sleep(0.02)
        refresher._running[Secret("broken")] = asyncio.create_task(fail())
        for task in work:
            task.cancel()
        await refresher.settle()
        refresher.finish()

    async def fail() -> Refreshed:
        raise LookupError

    asyncio.run(run())
    assert len(endpoint.used) == 3
    assert lost(store, endpoint) == set()
