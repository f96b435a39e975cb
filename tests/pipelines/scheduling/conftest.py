import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dlt_cronofy.sandbox import MovableClock, SandboxServer, World, build_world, serve

from .machine import Machine

START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="session")
def world() -> World:
    """A few people, of whom some are down and some cannot be read."""
    return build_world(accounts=20, seed=7, start=START, days=20)


@pytest.fixture(scope="session")
def sandbox(world: World) -> Iterator[SandboxServer]:
    with serve(world, clock=MovableClock(START + timedelta(days=10), running=True)) as server:
        yield server


@pytest.fixture
def machine(tmp_path: Path, world: World, sandbox: SandboxServer) -> Machine:
    database = tmp_path / "application.sqlite"
    rows = [(token.key, token.access_token) for token in world.tokens]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE cronofy_tokens (id TEXT, token TEXT)")
        connection.executemany("INSERT INTO cronofy_tokens VALUES (?, ?)", rows)
    machine = Machine(tmp_path, sandbox.base_url, database)
    machine.install()
    return machine
