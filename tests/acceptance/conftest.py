from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.prepared import prepare

from .place import Place
from .server import Script, ScriptedServer

Serve = Callable[[Script], ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a scripted server that ends with the test."""
    with ExitStack() as servers:
        yield lambda script: servers.enter_context(ScriptedServer(script))


@pytest.fixture
def place_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ScriptedServer], Place]:
    """A folder whose loads call the given server, with an empty warehouse; nothing is written outside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def make(server: ScriptedServer) -> Place:
        place = Place(tmp_path, server.base_url)
        prepare(place.database)
        return place

    return make
