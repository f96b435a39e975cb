"""The ledger's expectation: exactly what was sealed is there, not a change less and not one more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.place import Row
from tests.acceptance.server import Request
from tests.acceptance.world import ATTRIBUTES, Record, World

from .ledger import Ledger
from .stage import CONTENT_TABLES, Attempt, Log

NOON = datetime(2025, 4, 1, 12, tzinfo=UTC)
PACKAGE_POLLS = 6


def answers(world: World) -> Log:
    """What the world answers now to every token, in their order."""
    requests = (Request(endpoint, key) for key in world.owners for endpoint in ("userinfo", "account"))
    return [(request, world.answer_steadily(request)) for request in requests]


def attempt(log: Log, **said: Any) -> Attempt:
    """A load that got these answers, and captured them in packages of six polls."""
    polls = [(request.token, request.endpoint) for request, _ in log]
    packages = [set(polls[at : at + PACKAGE_POLLS]) for at in range(0, len(polls), PACKAGE_POLLS)]
    return replace(Attempt(NOON, NOON, log, packages), **said)


def tables(*logs: Log) -> dict[str, list[Row]]:
    """The rows of the tables after loads that got these answers, as a warehouse has them."""
    record = Record()
    for log in logs:
        record.add_run(0, log)
    userinfo = [
        {
            "token_key": token,
            "account_id": document["sub"],
            "type": document["cronofy.type"],
            "email": document.get("email"),
            "name": document.get("name"),
            "scope": document["cronofy.data"]["authorization"]["scope"],
        }
        for token, document in record.userinfo.items()
    ]
    account = [{"token_key": token, **document} for token, document in record.accounts.items()]
    profiles = [
        {**_key("token_key", key), "account_id": account_id, "state": state, **_attributes(attributes)}
        for key, (account_id, state, attributes, _) in record.profiles.items()
    ]
    calendars = [
        {
            "token_key": token,
            "calendar_id": calendar_id,
            "profile_id": profile_id,
            "calendar_name": name,
            "permission_level": level,
            "removed_at": None if listed else NOON,
        }
        for (token, calendar_id), (profile_id, name, level, listed) in record.calendars.items()
    ]
    changes = [
        {
            **_key("account_id", key),
            "observed_at": NOON + timedelta(hours=number),
            "kind": change.kind,
            "state": change.state,
            "previous_state": change.previous_state,
            **_attributes(change.attributes),
        }
        for key, history in record.changes.items()
        for number, change in enumerate(history)
    ]
    found = (userinfo, account, profiles, calendars, changes)
    return dict(zip(CONTENT_TABLES, found, strict=True))


def _key(first: str, key: tuple[str, str, str]) -> Row:
    return dict(zip((first, "profile_type", "profile_id"), key, strict=True))


def _attributes(values: tuple[Any, ...] | None) -> Row:
    return dict(zip(ATTRIBUTES, values or [None] * len(ATTRIBUTES), strict=True))


@dataclass(frozen=True)
class Story:
    """Three loads of a world that turns in between; the middle one was killed."""

    before: Log
    killed: Log
    after: Log

    def packages(self, first: int, last: int) -> Log:
        """The answers of the killed load that are in these of its packages, counted from 1."""
        return self.killed[(first - 1) * PACKAGE_POLLS : last * PACKAGE_POLLS]

    def wrong(self, found: Mapping[str, list[Row]], **said: Any) -> list[str]:
        """What the ledger finds wrong in the tables after the killed load that is said so."""
        ledger = Ledger()
        assert ledger.add([], attempt(self.before), tables(self.before)) == []
        return ledger.add([attempt(self.killed, **said)], attempt(self.after), found)


@pytest.fixture(scope="module")
def story() -> Story:
    world = World(seed=5, accounts=12, shared=False)
    logs = []
    for _ in range(3):
        world.turn()
        logs.append(answers(world))
    return Story(*logs)


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        (0, {}),
        (1, {"sealed": 1}),
        (1, {"sealed": 1, "arrived": 1}),
        (2, {"sealed": 2, "arrived": 1}),
        (3, {"arrived": 3}),
        (4, {"sealed": 4, "arrived": 3}),
    ],
    ids=str,
)
def test_what_was_sealed_is_expected_whether_or_not_its_polls_are(
    story: Story, loaded: int, said: dict[str, int]
) -> None:
    """They are a part of the killed load: neither all that was asked nor nothing of it explains them."""
    assert story.wrong(tables(story.before, story.packages(1, loaded), story.after), **said) == []


@pytest.mark.parametrize(
    "loaded", [lambda story: [], lambda story: story.packages(1, 1), lambda story: story.packages(1, 3)]
)
def test_less_or_more_than_was_sealed_is_wrong(story: Story, loaded: Callable[[Story], Log]) -> None:
    found = story.wrong(tables(story.before, loaded(story), story.after), sealed=2, arrived=1)
    assert any(line.startswith("profile_changes") for line in found)


def test_a_package_before_one_that_is_there_is_missed(story: Story) -> None:
    found = story.wrong(tables(story.before, story.packages(2, 2), story.after), sealed=2)
    assert any(line.startswith("profile_changes") for line in found)


@pytest.mark.parametrize("copies", [0, 2])
def test_a_change_that_is_lost_or_doubled_is_wrong(story: Story, copies: int) -> None:
    found = tables(story.before, story.packages(1, 1), story.after)
    *others, change = found["profile_changes"]
    (line,) = story.wrong(found | {"profile_changes": [*others, *[change] * copies]}, sealed=1)
    assert change["profile_id"] in line


def test_of_a_lost_working_directory_each_table_got_as_far_as_it_did(story: Story) -> None:
    none, all_of_it = (
        tables(story.before, story.after),
        tables(story.before, story.packages(1, 1), story.after),
    )
    for got_through in ("profiles", "profile_changes"):
        found = {name: (all_of_it if name == got_through else none)[name] for name in CONTENT_TABLES}
        assert story.wrong(found, sealed=1, lost=True) == []
        assert story.wrong(found, sealed=1) != []
        # a poll in the warehouse says that all it showed is there
        assert story.wrong(found, sealed=1, arrived=1, lost=True) != []


def test_what_two_killed_loads_sealed_is_expected_in_their_order(story: Story) -> None:
    first, second, last = story.packages(1, 2), story.after[: 2 * PACKAGE_POLLS], story.before
    killed = [attempt(story.killed, sealed=2), attempt(story.after, sealed=2)]
    for parts, is_right in (((first, second), True), ((second, first), False)):
        ledger = Ledger()
        assert ledger.add([], attempt(story.before), tables(story.before)) == []
        wrong = ledger.add(killed, attempt(last), tables(story.before, *parts, last))
        assert (wrong == []) == is_right
