"""Messages: news as JSON for a webhook, and in words; no link, and nothing personal but by choice."""

import html
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from dlt_cronofy.formatting import count, instant
from dlt_cronofy.source.tables import Row

from .news import (
    AUTHORIZE,
    ENDED,
    INITIAL_SYNC,
    KINDS,
    MIGRATE,
    OPENED,
    RELINKED,
    REMOVED,
    REPLACED,
    TO_DO,
    WIDEN_SCOPE,
    Item,
    News,
)

Message = dict[str, Any]
Escape = Callable[[str], str]

VERSION = 1
IDS, NAMES, EMAILS = "ids", "names", "emails"
# what each of them adds to ids; the first that is known names a person in a text
PEOPLE: dict[str, tuple[str, ...]] = {IDS: (), NAMES: ("name",), EMAILS: ("email", "name")}

# in the headline
COUNTED = {
    AUTHORIZE: "to authorize again",
    WIDEN_SCOPE: "to grant a wider scope",
    INITIAL_SYNC: "stuck in the first sync",
    MIGRATE: "to migrate",
    RELINKED: "relinked",
    REPLACED: "replaced",
    REMOVED: "removed",
}
# of one item, with its time
LISTED = {
    AUTHORIZE: "has to authorize again, not readable since {}",
    WIDEN_SCOPE: "has to grant a wider scope, not readable since {}",
    OPENED: "seen down {}",
    INITIAL_SYNC: "in the first sync since {}",
    MIGRATE: "uses Exchange Web Services, linked {}",
    RELINKED: "relinked {}",
    REPLACED: "replaced {}",
    REMOVED: "removed while down, {}",
}
PROFILE = ("account_id", "profile_type", "profile_id", "provider")


def news_message(news: News, show: str = IDS) -> Message:
    """What is sent: counts of all, and the first fifty items that belong to no mass event.

    Args:
        news: what happened.
        show: `ids`, `names` or `emails`.
    """
    opened = [item for item in news.items if item.kind == OPENED]
    counts = Counter(item.kind for item in news.items)
    look = news.first_look or {}
    message: Message = {
        "version": VERSION,
        "event": "first_look" if news.first_look else "outages_opened" if opened else "news",
        "run_id": news.run_id,
        "unfinished_runs": list(news.unfinished_runs),
        **look,
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "opened": len(opened),
        "already_down": sum(item.is_already_down for item in opened),
        "by_provider": dict(Counter(str(item.facts["provider"]) for item in opened).most_common()),
        "mass_events": [_mass_event(event, show) for event in news.mass_events],
        "outages": [_opened(news, item, show) for item in news.listed if item.kind == OPENED],
        "needs_action": [_action(news, item, show) for item in news.listed if item.kind in TO_DO],
        "ended": [_ended(news, item, show) for item in news.listed if item.kind in ENDED],
        "more": news.more,
    }
    return message | {"text": news_text(news, show)}


def text_message(event: str, text: str) -> Message:
    """A message of words only."""
    return {"version": VERSION, "event": event, "text": text}


def news_text(news: News, show: str = IDS, escape: Escape = str) -> str:
    """The same in words, with the little markup that chats have in common."""
    if news.first_look:
        down, connections = news.first_look["down"], news.first_look["connections"]
        verb = "is" if down == 1 else "are"
        return f"First look: {down:,} of {count(connections, 'connection')} {verb} down; not listed"
    lines = [_headline(news, escape)]
    if news.unfinished_runs:
        lines.append(
            f"with what {', '.join(news.unfinished_runs)} found, which did not finish and may have sent it"
        )
    lines += [escape(_mass_event_line(_mass_event(event, show))) for event in news.mass_events]
    lines += [_line(news, item, show, escape) for item in news.listed]
    if news.more:
        lines.append(f"and {news.more:,} more")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """A text that Slack shows as it is."""
    return html.escape(text, quote=False)


def _headline(news: News, escape: Escape) -> str:
    counts = Counter(item.kind for item in news.items)
    opened = [item for item in news.items if item.kind == OPENED]
    parts = [f"{count(len(opened), 'outage')} opened"] if opened else []
    parts += [f"{counts[kind]:,} {words}" for kind, words in COUNTED.items() if counts[kind]]
    line = f"*{', '.join(parts)}*"
    if opened:
        providers = Counter(str(item.facts["provider"]) for item in opened).most_common()
        line += f": {', '.join(f'{escape(name)} {number}' for name, number in providers)}"
        already_down = sum(item.is_already_down for item in opened)
        line += f"; {already_down} already down when first seen" if already_down else ""
    return line


def _line(news: News, item: Item, show: str, escape: Escape) -> str:
    facts = item.facts
    kind = f" {facts['provider']} {facts['profile_type']}" if facts["profile_type"] else ""
    words = "down when first seen, {}" if item.is_already_down else LISTED[item.kind]
    tokens = ", ".join(_token_keys(news, item))
    return (
        f"• {_subject(facts, show, escape)}{escape(kind)}, {words.format(f'{instant(item.at)} UTC')}"
        f"; token {escape(tokens)}"
    )


def _subject(facts: Row, show: str, escape: Escape) -> str:
    """Whose it is, in the words that may be shown."""
    account = f"`{escape(facts['account_id'])}`" if facts["account_id"] else "an account never read"
    who = next((escape(facts[name]) for name in PEOPLE[show] if facts[name]), account)
    return who if show == IDS or not facts["customer"] else f"{who} ({escape(facts['customer'])})"


def _mass_event_line(event: Message) -> str:
    name = event["name"] or f"one {event['grouped_by'].replace('_', ' ')}"
    hour = instant(datetime.fromisoformat(event["hour"]))
    return (
        f"• mass event: {name}, {event['outages']} of {event['connected']} connections"
        f" ({100 * event['share']:.0f} %) in the hour from {hour} UTC"
    )


def _mass_event(event: Row, show: str) -> Message:
    is_shown = event["grouped_by"] == "provider" or show != IDS
    return event | {"hour": event["hour"].isoformat(), "name": event["name"] if is_shown else None}


def _opened(news: News, item: Item, show: str) -> Message:
    facts = item.facts
    return {
        **_chosen(facts, PROFILE),
        "first_seen_at": _iso(facts["first_seen_at"]),
        "started_after": _iso(facts["started_after"]),
        "already_down": item.is_already_down,
        **_whose(news, item, show),
    }


def _ended(news: News, item: Item, show: str) -> Message:
    facts = item.facts
    return {
        **_chosen(facts, PROFILE),
        "end_reason": item.kind,
        "first_seen_at": _iso(facts["first_seen_at"]),
        "ended_at": _iso(item.at),
        **_whose(news, item, show),
    }


def _action(news: News, item: Item, show: str) -> Message:
    return {
        **_chosen(item.facts, PROFILE),
        "reason": item.kind,
        "since": _iso(item.at),
        "since_known": item.facts["since_known"],
        **_whose(news, item, show),
    }


def _whose(news: News, item: Item, show: str) -> Message:
    shown = () if show == IDS else (*PEOPLE[show], "customer")
    return {"token_keys": _token_keys(news, item), **_chosen(item.facts, shown)}


def _token_keys(news: News, item: Item) -> list[str]:
    account_id = item.facts["account_id"]
    if account_id is None:
        return [item.facts["token_keys"]]
    return list(news.token_keys.get(account_id, ()))


def _chosen(row: Row, names: Iterable[str]) -> Message:
    return {name: row[name] for name in names}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
