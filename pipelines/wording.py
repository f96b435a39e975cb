"""Figures in words, the same in the terminal and in the report."""

import math
from datetime import UTC, datetime

SHOWN_DIGEST_DIGITS = 8
SECONDS_PER_DAY = 86_400

# what an outcome means for the person who has to act
ADVICE = {
    "token_rejected": "authorize again",
    "grant_revoked": "authorize again",
    "forbidden": "authorize again, with more scope",
    "plan_required": "the Cronofy plan lacks this",
    "provider_locked": "provider credentials missing",
    "rate_limited": "tried again next load",
    "server_error": "tried again next load",
    "timeout": "tried again next load",
    "network_error": "tried again next load",
    "bad_payload": "not the documented answer",
    "skipped": "not tried",
}


def count(number: int, noun: str) -> str:
    """`1 token`, `2,500 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share in percent, `–` where there is none."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def instant(moment: datetime | None) -> str:
    """A UTC time to the minute, `never` where there is none."""
    if moment is None:
        return "never"
    return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d %H:%M}"


def duration(seconds: float | None) -> str:
    """A duration in the two largest units that matter: `3 d 4 h`, `25 min`."""
    if seconds is None or math.isnan(seconds):
        return "–"
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h" if days < 10 else f"{days} d"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def digest_shortened(text: str | None) -> str | None:
    """A personal text as stored; of a digest enough to find it by."""
    # not above: --help needs words, and no dlt
    from sources.cronofy.history.privacy import PREFIX, PROTECTED

    if not text or not PROTECTED.fullmatch(text):
        return text
    return f"{text[: len(PREFIX) + SHOWN_DIGEST_DIGITS]}…"
