"""The message: counts of all, some by name, and nothing personal unless it is asked for."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from dlt_cronofy.alerts.messages import EMAILS, IDS, NAMES, escaped, news_message, news_text
from dlt_cronofy.alerts.news import LISTED_ITEMS, Item, News
from dlt_cronofy.source.tables import Row

SEEN = datetime(2026, 1, 5, 6, 12, tzinfo=UTC)
BEFORE = SEEN - timedelta(hours=1)
PERSON = {
    "customer": "Adatum",
    "email_domain": "adatum.example",
    "email": "ann@adatum.example",
    "name": "Ann",
}
PERSONAL = ("Ann", "ann@adatum.example", "Adatum", "adatum.example")


def outage(number: int = 1, **facts: object) -> Row:
    return {
        "account_id": f"acc_{number}",
        **PERSON,
        "profile_type": "calendar",
        "profile_id": "pro_1",
        "provider": "office365",
        "first_seen_at": SEEN,
        "started_after": BEFORE,
        "ended_at": None,
        "replaced_at": None,
        "end_reason": "open",
    } | facts


def action(reason: str, **facts: object) -> Row:
    return {
        "account_id": "acc_1",
        **PERSON,
        "token_keys": "key1",
        "profile_type": None,
        "profile_id": None,
        "provider": None,
        "reason": reason,
        "since": SEEN,
        "since_known": True,
    } | facts


MASS_EVENTS = [
    {
        "hour": SEEN.replace(minute=0),
        "grouped_by": by,
        "name": name,
        "outages": 9,
        "connected": 30,
        "share": 0.3,
    }
    for by, name in (("provider", "zoom"), ("customer", "Adatum"), ("email_domain", "adatum.example"))
]
PROFILE = {"profile_type": "calendar", "profile_id": "pro_1", "provider": "office365"}
NEWS = News(
    "run_2",
    ["run_1"],
    [
        Item("authorize", action("authorize"), SEEN),
        Item(
            "widen_scope", action("widen_scope", account_id=None, customer=None, name=None, email=None), SEEN
        ),
        Item("opened", outage(), SEEN),
        Item("opened", outage(2, started_after=None, name=None), SEEN),
        Item("opened", outage(3, provider="zoom"), SEEN),
        Item("initial_sync", action("initial_sync", **PROFILE), SEEN),
        Item("migrate", action("migrate", **PROFILE), SEEN),
        Item("relinked", outage(ended_at=SEEN, first_seen_at=BEFORE), SEEN),
        Item("replaced", outage(replaced_at=SEEN, ended_at=BEFORE), SEEN),
        Item("removed", outage(ended_at=SEEN), SEEN),
    ],
    MASS_EVENTS,
    {4},
    token_keys={"acc_1": ["key1", "key1b"], "acc_2": ["key2"]},
)

TEXT = """\
*3 outages opened, 1 to authorize again, 1 to grant a wider scope, 1 stuck in the first sync, 1 to migrate, \
1 relinked, 1 replaced, 1 removed*: office365 2, zoom 1; 1 already down when first seen
with what run_1 found, which did not finish and may have sent it
• mass event: zoom, 9 of 30 connections (30 %) in the hour from 2026-01-05 06:00 UTC
• mass event: one customer, 9 of 30 connections (30 %) in the hour from 2026-01-05 06:00 UTC
• mass event: one email domain, 9 of 30 connections (30 %) in the hour from 2026-01-05 06:00 UTC
• `acc_1`, has to authorize again, not readable since 2026-01-05 06:12 UTC; token key1, key1b
• an account never read, has to grant a wider scope, not readable since 2026-01-05 06:12 UTC; token key1
• `acc_1` office365 calendar, seen down 2026-01-05 06:12 UTC; token key1, key1b
• `acc_2` office365 calendar, down when first seen, 2026-01-05 06:12 UTC; token key2
• `acc_1` office365 calendar, in the first sync since 2026-01-05 06:12 UTC; token key1, key1b
• `acc_1` office365 calendar, uses Exchange Web Services, linked 2026-01-05 06:12 UTC; token key1, key1b
• `acc_1` office365 calendar, relinked 2026-01-05 06:12 UTC; token key1, key1b
• `acc_1` office365 calendar, replaced 2026-01-05 06:12 UTC; token key1, key1b
• `acc_1` office365 calendar, removed while down, 2026-01-05 06:12 UTC; token key1, key1b"""


def test_in_words() -> None:
    assert news_text(NEWS) == TEXT


def test_as_json() -> None:
    message = news_message(NEWS)
    lists = {name: message.pop(name) for name in ("outages", "needs_action", "ended", "mass_events")}
    assert message == {
        "version": 1,
        "event": "outages_opened",
        "run_id": "run_2",
        "unfinished_runs": ["run_1"],
        "counts": {
            "authorize": 1,
            "widen_scope": 1,
            "opened": 3,
            "initial_sync": 1,
            "migrate": 1,
            "relinked": 1,
            "replaced": 1,
            "removed": 1,
        },
        "opened": 3,
        "already_down": 1,
        "by_provider": {"office365": 2, "zoom": 1},
        "more": 0,
        "text": TEXT,
    }
    assert lists["outages"][0] == {
        "account_id": "acc_1",
        **PROFILE,
        "first_seen_at": SEEN.isoformat(),
        "started_after": BEFORE.isoformat(),
        "already_down": False,
        "token_keys": ["key1", "key1b"],
    }
    assert [each["already_down"] for each in lists["outages"]] == [False, True]
    assert lists["needs_action"][1] == {
        "account_id": None,
        "profile_type": None,
        "profile_id": None,
        "provider": None,
        "reason": "widen_scope",
        "since": SEEN.isoformat(),
        "since_known": True,
        "token_keys": ["key1"],
    }
    assert [each["reason"] for each in lists["needs_action"]] == [
        "authorize",
        "widen_scope",
        "initial_sync",
        "migrate",
    ]
    assert [(each["end_reason"], each["ended_at"]) for each in lists["ended"]] == [
        (reason, SEEN.isoformat()) for reason in ("relinked", "replaced", "removed")
    ]
    assert [each["name"] for each in lists["mass_events"]] == ["zoom", None, None]
    assert lists["mass_events"][0] == MASS_EVENTS[0] | {"hour": "2026-01-05T06:00:00+00:00"}


# what is shown, the personal words in the message, and how lines begin: with a name, and where it is unknown
SHOWN: dict[str, tuple[tuple[str, ...], str, str]] = {
    IDS: ((), "• `acc_1` office", "• `acc_2` office"),
    NAMES: (("Ann", "Adatum", "adatum.example"), "• Ann (Adatum) office", "• `acc_2` (Adatum) office"),
    EMAILS: (PERSONAL, "• ann@adatum.example (Adatum) office", "• ann@adatum.example (Adatum) office"),
}


@pytest.mark.parametrize("show", SHOWN)
def test_how_people_are_named(show: str) -> None:
    words, *beginnings = SHOWN[show]
    message = json.dumps(news_message(NEWS, show), ensure_ascii=False)
    assert {word for word in PERSONAL if f'"{word}"' in message} == set(words)
    assert ("@" in message) == (show == EMAILS)
    assert "http" not in message
    seen = [line for line in news_text(NEWS, show).splitlines() if "seen" in line and line.startswith("•")]
    assert [line.startswith(start) for line, start in zip(seen, beginnings, strict=True)] == [True, True]


def test_many_are_counted_and_some_are_listed() -> None:
    items = [Item("opened", outage(number), SEEN) for number in range(LISTED_ITEMS + 20)]
    items += [Item("removed", outage(), SEEN)] * 3
    news = News("run", items=items, mass_events=MASS_EVENTS[:1], in_mass_events=set(range(13)))
    message = news_message(news)
    assert (message["opened"], len(message["outages"]), message["ended"], message["more"]) == (70, 50, [], 10)
    lines = news_text(news).splitlines()
    assert lines[0] == "*70 outages opened, 3 removed*: office365 70"
    assert (len(lines), lines[-1]) == (LISTED_ITEMS + 3, "and 10 more")


@pytest.mark.parametrize(
    ("down", "connections", "text"),
    [
        (515, 15_884, "First look: 515 of 15,884 connections are down; not listed"),
        (1, 1, "First look: 1 of 1 connection is down; not listed"),
    ],
)
def test_the_first_look_is_one_line(down: int, connections: int, text: str) -> None:
    news = News("run", first_look={"connections": connections, "down": down})
    message = news_message(news)
    assert (news_text(news), message["text"], message["event"]) == (text, text, "first_look")
    assert (message["down"], message["connections"]) == (down, connections)
    assert (message["opened"], message["outages"]) == (0, [])


def test_news_without_outages_is_another_event() -> None:
    message = news_message(News("run", items=[Item("removed", outage(), SEEN)]))
    assert (message["event"], message["opened"], message["by_provider"]) == ("news", 0, {})


def test_what_slack_would_take_for_markup_is_escaped() -> None:
    facts = outage(1, provider="<!channel>", name="a&b", customer="<c>")
    news = News("run", items=[Item("opened", facts, SEEN)], token_keys={"acc_1": ["<t>"]})
    assert news_text(news, NAMES, escaped) == (
        "*1 outage opened*: &lt;!channel&gt; 1\n"
        "• a&amp;b (&lt;c&gt;) &lt;!channel&gt; calendar, seen down 2026-01-05 06:12 UTC; token &lt;t&gt;"
    )
