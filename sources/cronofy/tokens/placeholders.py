"""Placeholders: what a store writes to prove that it can be written, before any refresh token is used up."""

import re
import secrets
import string
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ..secret import Secret
from .base import Renewal
from .token import Token

WORDS = "no-token-"
# a text shorter than this is no real token: many of its pattern may be in use
SHORTEST_TOKEN = 20
# a value this long that a new one begins with is the new one, cut off
CONVINCING_LENGTH = 8
LIFETIME = timedelta(hours=1)
# a token may say what kind it is: ghp_…, sk-…
KIND = re.compile(r"[A-Za-z0-9]{1,10}[_.:-]")
# the letters of hexadecimal numbers fit every rule that takes letters
ALIKE = (
    (string.digits, string.digits), (string.ascii_lowercase, "abcdef"), (string.ascii_uppercase, "ABCDEF"),
)  # fmt: skip


def lookalike(text: str) -> str:
    """A random text with the pattern of this one: a letter for a letter, a digit for a digit.

    So it is as long, and fits a column with a rule for what a token looks like. It shows nothing of what the
    token was.
    """
    if len(text) < SHORTEST_TOKEN:
        return secrets.token_hex(len(text))[: len(text)]
    kind = KIND.match(text)
    kept = kind.end() if kind else 0
    return text[:kept] + "".join(map(_alike, text[kept:]))


def _alike(character: str) -> str:
    return next((secrets.choice(like) for known, like in ALIKE if character in known), character)


def trial_renewals(tokens: Sequence[Token]) -> list[Renewal]:
    """A renewal of every refresh token of a store, with placeholders at least as long as the longest seen."""
    renewable = {token.refresh_token: token for token in tokens if token.refresh_token is not None}
    access = max((len(token.access_token.reveal()) for token in tokens), default=0)
    refresh = max((len(used.reveal()) for used in renewable), default=0)
    expires_at = datetime.now(UTC) + LIFETIME
    return [
        Renewal(token, _placeholder(access), _placeholder(refresh), expires_at)
        for token in renewable.values()
    ]


def _placeholder(length: int) -> Secret:
    """A text at least that long which is clearly no token, and which nothing else holds."""
    length = max(length, SHORTEST_TOKEN)
    return Secret((WORDS + secrets.token_hex(length))[:length])


def is_cut_off(held: str, written: str) -> bool:
    """Whether a value is the beginning of what was written, and no more."""
    return held != written and len(held) >= CONVINCING_LENGTH and written.startswith(held)
