from collections.abc import Callable

import pytest

from tests.acceptance.conftest import Serve, place_for, serve
from tests.acceptance.documents import Document, account
from tests.acceptance.place import Place
from tests.acceptance.server import Reply, Request, ScriptedServer, says

from .loads import Loads

__all__ = ["Answers", "answers", "place", "place_for", "serve", "server"]


class Answers:
    """A script by access token: a document, or a reply; tokens without either get 401."""

    def __init__(self) -> None:
        self.by_token: dict[str, Document | Reply] = {}

    def __call__(self, request: Request) -> Reply:
        answer = self.by_token.get(request.token, Reply(401))
        if isinstance(answer, Reply):
            return answer
        if request.endpoint == "account":
            return says(account(answer["sub"]))
        if request.endpoint == "profiles":
            return says({"profiles": answer["cronofy.data"]["profiles"]})
        return says(answer)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def server(serve: Serve, answers: Answers) -> ScriptedServer:
    return serve(answers)


@pytest.fixture
def place(server: ScriptedServer, place_for: Callable[[ScriptedServer], Place]) -> Place:
    return place_for(server)


@pytest.fixture
def new_place(place: Place) -> Place:
    """The same before its first load."""
    place.database.unlink()
    return place


@pytest.fixture
def loads(place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Loads:
    monkeypatch.delenv("PIPELINES_DIR", raising=False)
    return Loads(place, answers)
