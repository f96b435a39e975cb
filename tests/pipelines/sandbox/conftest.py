from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from dlt_cronofy.sandbox import MovableClock, SandboxServer, SandboxToken, World, build_world, serve
from dlt_cronofy.sandbox.records import Account

START = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def world() -> World:
    return build_world(accounts=200, seed=7, start=START, days=60)


@pytest.fixture(scope="session")
def small_world() -> World:
    return build_world(accounts=12, seed=3, start=START, days=30)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock(START)


@pytest.fixture
def server(small_world: World, clock: MovableClock) -> Iterator[SandboxServer]:
    with serve(small_world, clock=clock) as running:
        yield running


@pytest.fixture
def http(server: SandboxServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, trust_env=False, timeout=5) as client:
        yield client


@pytest.fixture
def token(small_world: World) -> SandboxToken:
    """A token that is good from beginning to end and can be refreshed."""
    return next(
        each for each in small_world.tokens if is_good(each) and owner(small_world, each).type == "account"
    )


def is_good(token: SandboxToken) -> bool:
    return not token.forbidden and token.revoked_at is None and token.refresh_token is not None


def owner(world: World, token: SandboxToken) -> Account:
    return world.account(token.account_id)


def bearer(token: SandboxToken | str) -> dict[str, str]:
    secret = token if isinstance(token, str) else token.access_token
    return {"Authorization": f"Bearer {secret}"}


def breakpoints(account: Account) -> list[datetime]:
    """The instants at which a body of the account changes, in order."""
    return sorted({at for profile in account.profiles for at in profile.history.times[1:]})
