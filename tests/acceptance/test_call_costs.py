"""A sweep costs one call per token, and writes what changed and nothing else."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from .conftest import Serve
from .documents import Document, account, calendar, disconnected, profile, userinfo
from .place import TABLES, Place
from .server import Reply, Request, ScriptedServer, says

N = 100
HOUR = timedelta(hours=1)
PlaceFor = Callable[[ScriptedServer], Place]


class Town:
    """N accounts with one token each; every account has two profiles, one calendar in each."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {
            f"token{number}": userinfo(
                f"acc_{number}",
                [
                    profile(f"pro_{number}_{letter}", calendars=[calendar(f"cal_{number}_{letter}")])
                    for letter in "ab"
                ],
            )
            for number in range(N)
        }

    def answer(self, request: Request) -> Reply:
        document = self.documents[request.token]
        return says(account(document["sub"]) if request.endpoint == "account" else document)

    def break_profile(self, token: str) -> None:
        """The first profile of that token's account goes down."""
        profiles = self.documents[token]["cronofy.data"]["profiles"]
        profiles[0] = disconnected(profiles[0])


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def server(town: Town, serve: Serve) -> ScriptedServer:
    return serve(town.answer)


@pytest.fixture
def place(server: ScriptedServer, place_for: PlaceFor, town: Town) -> Place:
    place = place_for(server)
    place.write_tokens(town.documents)
    return place


def test_sweeps_cost_what_they_must(place: Place, server: ScriptedServer, town: Town) -> None:
    first = place.load(every=HOUR)
    assert server.calls == Counter(userinfo=N, account=N)
    assert Counter(request.token for request, _ in server.log) == dict.fromkeys(town.documents, 2)
    assert first.requests == first.polls == 2 * N
    assert place.counts() == {
        "account": N,
        "calendars": 2 * N,
        "polls": 2 * N,
        "profile_changes": 2 * N,
        "profiles": 2 * N,
        "userinfo": N,
    }

    server.log.clear()
    again = place.load(every=HOUR)
    assert server.log == []
    assert (again.due, again.requests, again.polls, again.rows) == (0, 0, 0, {})
    assert place.counts()["polls"] == 2 * N


@pytest.mark.long
def test_a_sweep_that_finds_one_percent_changed_writes_one_percent(
    place: Place, server: ScriptedServer, town: Town
) -> None:
    place.load()
    before, content = (
        place.counts(),
        {name: place.rows(name) for name in ("userinfo", "account", "calendars")},
    )
    changed = [f"token{number}" for number in range(0, N, 100)]
    assert len(changed) == N // 100
    for token in changed:
        town.break_profile(token)
    server.log.clear()
    place.clock.offset = 2 * HOUR
    place.load(every=HOUR)

    assert server.calls == Counter(userinfo=N)
    after = place.counts()
    assert {table: after[table] - before[table] for table in after} == {
        "account": 0,
        "calendars": 0,
        "polls": N,
        "profile_changes": len(changed),
        "profiles": 0,
        "userinfo": 0,
    }
    assert {name: place.rows(name) for name in content} == content
    assert place.query(
        "SELECT token_key, kind FROM profile_changes WHERE kind <> 'first_seen' ORDER BY 1"
    ) == [(token, "disconnected") for token in sorted(changed)]
    rewritten = place.query(
        "SELECT token_key, state FROM profiles WHERE run_id = (SELECT MAX(run_id) FROM polls) ORDER BY 1"
    )
    assert rewritten == [(token, "disconnected") for token in sorted(changed)]


class Family:
    """Accounts with three tokens each, of which some are refused."""

    def __init__(self, accounts: int) -> None:
        self.profiles = {f"acc_{number}": [profile(f"pro_{number}")] for number in range(accounts)}
        self.tokens = [f"{account}-{letter}" for account in self.profiles for letter in "abc"]
        self.refused: set[str] = set()

    def answer(self, request: Request) -> Reply:
        if request.token in self.refused:
            return Reply(401)
        sub = request.token.partition("-")[0]
        return says(account(sub) if request.endpoint == "account" else userinfo(sub, self.profiles[sub]))


def asked(server: ScriptedServer) -> list[str]:
    """The tokens of the requests since the last time."""
    tokens = sorted(request.token for request, _ in server.log)
    server.log.clear()
    return tokens


@pytest.mark.long
def test_the_tokens_of_an_account_are_polled_once_a_sweep(serve: Serve, place_for: PlaceFor) -> None:
    """In turns; what one shows is known of all, and where one is refused another one is asked."""
    family = Family(3)
    server = serve(family.answer)
    place = place_for(server)
    place.write_tokens(family.tokens)
    place.load(endpoints=("userinfo",))
    assert asked(server) == family.tokens  # whose they are is not known yet

    turns = Counter[str]()
    for day in range(1, 4):
        place.clock.offset = timedelta(days=day)
        result = place.load(endpoints=("userinfo",))
        turns.update(asked(server))
        assert (result.due, result.fallback_tokens, result.requests, result.fresh) == (3, 6, 3, 0)
        assert result.rows == {"polls": 3}
        assert result.stopped_by is None
    assert turns == Counter(family.tokens)

    family.profiles["acc_1"] = [disconnected(profile("pro_1"))]
    place.clock.offset = timedelta(days=4)
    place.load(endpoints=("userinfo",))
    assert len(asked(server)) == 3
    assert place.query("SELECT token_key, state FROM profiles WHERE account_id = 'acc_1' ORDER BY 1") == [
        (f"acc_1-{letter}", "disconnected") for letter in "abc"
    ]
    assert len(place.query("SELECT 1 FROM profile_changes WHERE kind = 'disconnected'")) == 1

    family.refused = {"acc_0-a", "acc_0-b", "acc_2-a", "acc_2-b", "acc_2-c"}
    place.clock.offset = timedelta(days=5)
    result = place.load(endpoints=("userinfo",))
    assert {token for token in asked(server) if "acc_0" in token} <= {f"acc_0-{letter}" for letter in "abc"}
    ok = place.query(
        "SELECT account_id FROM polls WHERE outcome = 'ok' AND run_id = (SELECT MAX(run_id) FROM polls)"
    )
    assert sorted(ok) == [("acc_0",), ("acc_1",)]  # nobody is left to ask for the last one
    assert result.stopped_by is None


@pytest.mark.long
def test_account_is_read_once_a_day(place: Place, server: ScriptedServer) -> None:
    """And the same answers again leave one row in `polls` and nothing else."""
    place.load()
    for hours, account_calls in ((12, 0), (25, N)):
        before = {table: place.rows(table) for table in TABLES if table != "polls"}
        server.log.clear()
        place.clock.offset = hours * HOUR
        result = place.load()
        assert server.calls == Counter(userinfo=N) + Counter(account=account_calls)
        assert result.rows == {"polls": N + account_calls}
        assert {table: place.rows(table) for table in before} == before
