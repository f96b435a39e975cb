"""What is news: what each run found, once, and never lost where a run did not finish."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dlt_cronofy.alerts.news import (
    INITIAL_SYNC,
    MIGRATE,
    OPENED,
    RUNS,
    Item,
    News,
    Reported,
    action_items,
    find_news,
    group_mass_events,
    newest_run,
    newly_refused,
    outage_items,
    reported_runs,
)
from dlt_cronofy.source.tables import Row
from dlt_cronofy.warehouse.dataset import read, sql_client
from tests.acceptance.documents import Document, disconnected, profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import Reply, ScriptedServer
from tests.pipelines.conftest import Answers
from tests.prepared import prepare

START = datetime(2026, 1, 5, 6, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def run(name: str, hours: float, *, finished: bool = True, polls: bool = True) -> Row:
    """A row of `runs`: a run that took half an hour."""
    return {
        "run_id": name,
        "started_at": at(hours),
        "finished_at": at(hours + 0.5) if finished else None,
        "first_polled_at": at(hours + 0.1) if polls else None,
        "last_polled_at": at(hours + 0.4) if polls else None,
    }


# the runs so far, newest last; which of them report; what they report on
REPORTED: dict[str, tuple[list[Row], list[str], Reported | None]] = {
    "the first look": ([run("a", 0, finished=False)], ["a"], Reported(["a"], [], at(0.1), None)),
    "the first look, after one that was killed": (
        [run("a", 0, finished=False), run("b", 1, finished=False)],
        ["b"],
        Reported(["a", "b"], ["a"], at(0.1), None),
    ),
    "after a finished run": (
        [run("a", 0), run("b", 1, finished=False)],
        ["b"],
        Reported(["b"], [], at(1.1), at(0.4)),
    ),
    "after two that were killed": (
        [run("a", 0), run("b", 1, finished=False), run("c", 2, finished=False), run("d", 3, finished=False)],
        ["d"],
        Reported(["b", "c", "d"], ["c", "b"], at(1.1), at(0.4)),
    ),
    "a killed run that a later one has reported": (
        [run("a", 0, finished=False), run("b", 1), run("c", 2, finished=False)],
        ["c"],
        Reported(["c"], [], at(2.1), at(1.4)),
    ),
    "packages of that run arrive late": (
        [run("a", 0, finished=False), run("b", 1), run("c", 2, finished=False)],
        ["c", "a"],
        Reported(["a", "c"], [], at(0.1), at(1.4)),
    ),
    "nothing was polled": ([run("a", 0), run("b", 1, polls=False)], ["b"], None),
    "nothing was polled, but by a killed one": (
        [run("a", 0), run("b", 1, finished=False), run("c", 2, polls=False)],
        ["c"],
        Reported(["b", "c"], ["b"], at(1.1), at(0.4)),
    ),
    "one that began later is not before it": (
        [run("a", 0), run("b", 1), run("c", 1.2, finished=False)],
        ["b"],
        Reported(["b"], [], at(1.1), at(0.4)),
    ),
    "no such run": ([run("a", 0)], ["b"], None),
}


@pytest.mark.parametrize("case", REPORTED)
def test_what_is_reported(case: str) -> None:
    runs, run_ids, expected = REPORTED[case]
    assert reported_runs(runs[::-1], run_ids) == expected


def change(kind: str, hours: float, profile_id: str = "pro_1") -> Row:
    return {
        "account_id": "acc_1",
        "profile_type": "calendar",
        "profile_id": profile_id,
        "observed_at": at(hours),
        "kind": kind,
    }


def outage(
    seen: float, ended: float | None = None, reason: str = "open", replaced: float | None = None
) -> Row:
    return {
        "account_id": "acc_1",
        "customer": "Adatum",
        "email_domain": "adatum.example",
        "profile_type": "calendar",
        "profile_id": "pro_1",
        "provider": "office365",
        "first_seen_at": at(seen),
        "started_after": at(seen - 1),
        "ended_at": None if ended is None else at(ended),
        "replaced_at": None if replaced is None else at(replaced),
        "end_reason": reason,
    }


# what the runs changed, an outage, and what is news of it: kind and hour
OUTAGES: dict[str, tuple[list[Row], Row, tuple[str, float] | None]] = {
    "it opened": ([change("disconnected", 5)], outage(5), ("opened", 5)),
    "it is open for longer": ([change("first_seen", 5, "pro_2")], outage(4), None),
    "it opened and was relinked since": (
        [change("disconnected", 5), change("connected", 6)],
        outage(5, 6, "relinked"),
        ("relinked", 6),
    ),
    "it was relinked": ([change("connected", 6)], outage(2, 6, "relinked"), ("relinked", 6)),
    "it was removed": ([change("removed", 6)], outage(2, 6, "removed"), ("removed", 6)),
    "it ended before": ([change("first_seen", 7, "pro_2")], outage(2, 6, "removed"), None),
    "it was replaced at once": (
        [change("removed", 6), change("first_seen", 6, "pro_2")],
        outage(2, 6, "replaced", 6),
        ("replaced", 6),
    ),
    "it was removed before, and is replaced": (
        [change("first_seen", 9, "pro_2")],
        outage(2, 6, "replaced", 9),
        ("replaced", 9),
    ),
    "it was replaced before": ([change("first_seen", 11, "pro_3")], outage(2, 6, "replaced", 9), None),
}


@pytest.mark.parametrize("case", OUTAGES)
def test_news_of_an_outage(case: str) -> None:
    changes, row, expected = OUTAGES[case]
    found = [(item.kind, item.at) for item in outage_items(changes, [row])]
    assert found == ([(expected[0], at(expected[1]))] if expected else [])


# since when the token fails, when it was last refused before the runs, and whether that is news
REFUSALS: dict[str, tuple[float, float | None, bool]] = {
    "it was read the last time": (10.1, None, True),
    "it was refused the last time": (5, 9, False),
    "it failed otherwise, and is refused": (5, None, True),
    "it was refused once, and read since": (10.1, 3, True),
    "it was refused once, read since, and failed": (8, 3, True),
    "it fails for longer than is looked up": (-24 * 8, None, False),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("account_id", ["acc_1", None])
def test_a_token_that_begins_to_be_refused(account_id: str | None, case: str) -> None:
    failing_since, refused_at, expected = REFUSALS[case]
    token = {
        "token_key": "one",
        "account_id": account_id,
        "endpoint": "userinfo",
        "failing_since": at(failing_since),
    }
    earlier = {("one", "account"): at(9)}  # another endpoint says nothing of this one
    if refused_at is not None:
        earlier["one", "userinfo"] = at(refused_at)
    assert newly_refused([token], earlier, at(10)) == ({account_id or "one"} if expected else set())


def test_what_is_new_to_do() -> None:
    def action(reason: str, since: float, **facts: Any) -> Row:
        row = change("", 0) | {"reason": reason, "since": at(since), "token_keys": "one,two"}
        return row | facts

    actions = [
        action("authorize", 5),
        action("authorize", 5, account_id="acc_2"),
        action("widen_scope", 5, account_id=None, token_keys="three"),
        action(INITIAL_SYNC, 6),
        action(INITIAL_SYNC, 5.9),
        action(MIGRATE, 0, profile_id="pro_9"),
        action(MIGRATE, 0, profile_id="pro_8"),
    ]
    changes = [change("first_seen", 9, "pro_9"), change("disconnected", 9, "pro_8")]
    found = action_items(actions, changes, {"acc_2", "three"}, stuck_since=at(6))
    assert [item.facts for item in found] == [actions[1], actions[2], actions[3], actions[5]]


def test_an_item_belongs_to_the_largest_mass_event() -> None:
    def event(grouped_by: str, name: str, outages: int, hour: float = 5) -> Row:
        return {"hour": at(hour), "grouped_by": grouped_by, "name": name, "outages": outages, "share": 0.5}

    items = [Item(OPENED, outage(5.5) | {"customer": customer}, at(5.5)) for customer in ("Adatum", None)]
    items.append(Item(OPENED, outage(5.5) | {"provider": "zoom"}, at(5.5)))
    items.append(Item(OPENED, outage(5.5) | {"started_after": None}, at(5.5)))
    items.append(Item("relinked", outage(2, 5.5, "relinked"), at(5.5)))
    office, domain = event("provider", "office365", 9), event("email_domain", "adatum.example", 8)
    others = [event("customer", "Adatum", 7), event("provider", "office365", 20, hour=4)]
    assert group_mass_events([*others, domain, office], items) == ([office, domain], {0, 1, 2})
    assert group_mass_events(others, items) == (others[:1], {0, 2})


EWS = profile("pro_e", service="office365") | {"provider_protocol": "exchange_web_services"}
MASS = [f"mass_{number}" for number in range(6)]


def answers_of(turn: int) -> dict[str, Document | Reply]:
    """What each token is answered in the loads at the hours of `HOURS`."""
    work = profile("pro_1", name="work@example.com")
    new = profile("pro_2", name="Work@example.com")
    syncing = profile("pro_s", calendars=[], syncing=True)
    down, refused, failing = disconnected(work), Reply(401), Reply(503)
    turns: dict[str, list[Document | Reply]] = {
        "breaks": [userinfo("acc_breaks", [each]) for each in (work, down, down, down)],
        "relinks": [userinfo("acc_relinks", [each]) for each in (down, work, work, work)],
        "replaces": [userinfo("acc_replaces", listed) for listed in ([down], [], [new], [new])],
        "syncs": [userinfo("acc_syncs", [syncing])] * 4,
        "revoked": [userinfo("acc_revoked", [work]), failing, refused, refused],
        "moves": [userinfo("acc_moves", listed) for listed in ([], [EWS], [EWS], [EWS])],
    }
    mass = [userinfo("acc_mass", [each]) for each in (work, work, down, down)]
    for key in MASS:
        turns[key] = [userinfo(f"acc_{key}", each["cronofy.data"]["profiles"]) for each in mass]
    return {key: answers[turn] for key, answers in turns.items()}


HOURS = (0, 12, 26, 30)


# what is news of each load: kind and account
EXPECTED: list[set[tuple[str, str]]] = [
    set(),
    {
        ("opened", "acc_breaks"),
        ("relinked", "acc_relinks"),
        ("removed", "acc_replaces"),
        ("migrate", "acc_moves"),
    },
    {
        ("replaced", "acc_replaces"),
        ("initial_sync", "acc_syncs"),
        ("authorize", "acc_revoked"),
        *(("opened", f"acc_{key}") for key in MASS),
    },
    set(),
]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, list[News | None]]]:
    """Four loads, and what was news after each."""
    folder, answers, found = tmp_path_factory.mktemp("story"), Answers(), []
    with ScriptedServer(answers) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DLT_DATA_DIR", str(folder / "data"))
        place = Place(folder, server.base_url)
        prepare(place.database)
        place.write_tokens(answers_of(0))
        for turn, hours in enumerate(HOURS):
            answers.by_token = answers_of(turn)
            place.clock.offset = timedelta(hours=hours - HOURS[-1])
            run_id = place.load(refresh_views=True, max_attempts=1).run_id
            with sql_client(place.pipeline()) as client:
                found.append(find_news(client, [run_id]))
        yield place, found


def test_each_is_news_once(story: tuple[Place, list[News | None]]) -> None:
    _, found = story
    assert [
        {(item.kind, item.facts["account_id"]) for item in news.items} if news else set() for news in found
    ] == EXPECTED
    assert found[3] is None


def test_the_first_look_is_counted(story: tuple[Place, list[News | None]]) -> None:
    _, (first, *_) = story
    assert first
    assert (first.first_look, first.items) == ({"connections": 11, "down": 2}, ())


def test_a_mass_event_stands_for_its_outages(story: tuple[Place, list[News | None]]) -> None:
    _, (_, _, third, _) = story
    assert third
    (event,) = third.mass_events
    assert (event["grouped_by"], event["name"], event["outages"]) == ("provider", "gsuite", len(MASS))
    assert {item.kind for item in third.listed} == {"replaced", "initial_sync", "authorize"}
    assert third.token_keys == {f"acc_{key}": [key] for key in ("replaces", "revoked", "syncs")}


def test_a_run_that_did_not_finish_is_reported_by_the_next(story: tuple[Place, list[News | None]]) -> None:
    """As if the third load had been killed when all was loaded."""
    place, (_, _, third, _) = story
    assert third
    with sql_client(place.pipeline()) as client:
        runs = read(client, RUNS)
    runs[1]["finished_at"] = None
    reported = reported_runs(runs, [runs[0]["run_id"]])
    assert reported
    assert (reported.unfinished, reported.run_ids) == (
        [third.run_id],
        sorted([third.run_id, runs[0]["run_id"]]),
    )
    assert newest_run_of(place) == runs[0]["run_id"]


def newest_run_of(place: Place) -> str | None:
    with sql_client(place.pipeline()) as client:
        return newest_run(client)
