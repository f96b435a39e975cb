"""Figures in words, the same in the terminal and in the report."""

import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlt_cronofy.source.tokens.token import UnusableRow

PROGRAM = "dlt-cronofy"
SHOWN_DIGEST_DIGITS = 8
SHOWN_ROWS = 5
SECONDS_PER_DAY = 86_400

# what people call the providers of the API; others are shown as the API calls them
PROVIDER_NAMES = {
    "gsuite": "Google Workspace",
    "google": "Google",
    "office365": "Microsoft 365",
    "outlook_com": "Outlook.com",
    "live_connect": "Outlook.com",
    "exchange": "Exchange",
    "icloud": "iCloud",
    "apple": "iCloud",
    "zoom": "Zoom",
    "ms_teams": "Microsoft Teams",
    "google_meet_api": "Google Meet",
    "go_to": "GoTo Meeting",
    "cronofy": "Application calendar",
}
# the reasons of needs_action, the most urgent first: what somebody has to do, or what is wrong
REASON_NAMES = {
    "authorize": "authorize again",
    "widen_scope": "grant more access",
    "relink": "relink",
    "initial_sync": "first sync is stuck",
    "no_writable_calendar": "no writable calendar",
    "migrate": "move to Microsoft Graph",
}


def provider_name(provider: str | None) -> str:
    """What people call a provider; empty where there is none."""
    return PROVIDER_NAMES.get(provider, provider) if provider else ""


def reason_name(reason: str) -> str:
    """A reason of `needs_action` in people's words."""
    return REASON_NAMES.get(reason, reason)


def advice(outcome: str) -> str:
    """What the person who has to act does about an outcome; empty where it is none that we know."""
    # not above: --help needs words, and no dlt
    from dlt_cronofy.source.records import OUTCOMES, Outcome

    return OUTCOMES[Outcome(outcome)].advice if outcome in set(Outcome) else ""


def program() -> str:
    """How this program was called, so that a command we print can be run."""
    called = Path(sys.argv[0])
    if called.name != PROGRAM or shutil.which(PROGRAM) == str(called):
        return PROGRAM
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


def count(number: int, noun: str) -> str:
    """`1 token`, `2,500 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def row_lines(
    unusable: Sequence["UnusableRow"], unusable_rows: int, not_connected: int, shown: int = SHOWN_ROWS
) -> Iterator[str]:
    """The rows of a token store that are not polled: how many, and the first unusable ones."""
    if not_connected:
        yield f"  not connected  {count(not_connected, 'user')} without a token"
    if unusable_rows:
        yield f"  unusable  {count(unusable_rows, 'row')} of the token store cannot be used"
        for row in unusable[:shown]:
            yield f"    {row}"
        if unusable_rows > shown and unusable:
            yield f"    and {count(unusable_rows - shown, 'more row')}; --json lists them"


def percent(share: float | None) -> str:
    """A share in percent, `–` where there is none."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def instant(moment: datetime | None) -> str:
    """A UTC time to the minute, `never` where there is none."""
    if moment is None:
        return "never"
    return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d %H:%M}"


def duration(seconds: float | None) -> str:
    """A duration as people say it, in the two largest units that matter: `3 days 4 h`, `1 day`, `25 min`."""
    if seconds is None or math.isnan(seconds):
        return "–"
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{count(days, 'day')} {hours} h" if hours and days < 10 else count(days, "day")
    rest = f"{minutes % 60} min"
    if hours:
        return f"{hours} h {rest}" if minutes % 60 else f"{hours} h"
    return rest if minutes else "under 1 min"


def digest_shortened(text: str | None) -> str | None:
    """A personal text as stored; of a digest enough to find it by."""
    # not above: --help needs words, and no dlt
    from dlt_cronofy.source.privacy import PREFIX, PROTECTED

    if not text or not PROTECTED.fullmatch(text):
        return text
    return f"{text[: len(PREFIX) + SHOWN_DIGEST_DIGITS]}…"
