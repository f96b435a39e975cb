"""Loopback servers, a clock that does not wait, and a dlt that keeps to the test's own directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dlt_cronofy.source.history import parse as parsing
from dlt_cronofy.source.history.parse import parse
from dlt_cronofy.source.privacy import PersonalData
from dlt_cronofy.source.records import Payload
from tests.cronofy.clocks import ManualClock
from tests.cronofy.server import Server


@pytest.fixture(autouse=True, scope="session")
def _quiet_dlt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        environment.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("dlt")))
        yield


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock) -> Iterator[Server]:
    with Server() as running:
        running.time = clock.monotonic
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another host, where no token may go."""
    with Server() as running:
        yield running


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, without anyone's configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoint of every answer that is parsed from now on."""
    endpoints: list[str] = []

    def noted(endpoint: str, body: bytes, personal_data: PersonalData) -> Payload:
        endpoints.append(endpoint)
        return parse(endpoint, body, personal_data)

    monkeypatch.setattr(parsing, "parse", noted)
    return endpoints
