"""Placeholders: what a store writes to prove that it can be written, before any refresh token is used up."""

import re
import secrets
import string
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from ..secret import Secret
from .base import Renewal
from .token import Token

WORDS = "no-token-"
# shorter ones are random throughout, so that no two are alike
SHORTEST_WITH_WORDS = 20
# a value this long that a new one begins with is the new one, cut off
CONVINCING_LENGTH = 8
LIFETIME = timedelta(hours=1)
# a token may say what kind it is: ghp_…, sk-…
KIND = re.compile(r"[A-Za-z0-9]{1,10}[_.:-]")
CLASSES = (string.digits, "abcdef", "ABCDEF", string.ascii_lowercase, string.ascii_uppercase)


def placeholder(length: int) -> str:
    """A text of that length which is clearly no token, and which nothing else holds."""
    words = WORDS if length >= SHORTEST_WITH_WORDS else ""
    return (words + secrets.token_hex(length))[:length]


def lookalike(text: str) -> str:
    """A random text with the pattern of this one: a letter for a letter, a digit for a digit.

    For a column with a rule for what a token looks like. It shows nothing of what the token was.
    """
    kind = KIND.match(text)
    kept = kind.end() if kind else 0
    is_hexadecimal = re.fullmatch(r"[0-9a-fA-F]*", text[kept:]) is not None
    classes = CLASSES if is_hexadecimal else (CLASSES[0], *CLASSES[3:])
    return text[:kept] + "".join(_alike(character, classes) for character in text[kept:])


def _alike(character: str, classes: Iterable[str]) -> str:
    return secrets.choice(next((each for each in classes if character in each), character))


def trial_renewals(tokens: Sequence[Token]) -> list[Renewal]:
    """A renewal of every refresh token of a store, with placeholders at least as long as the longest seen."""
    renewable = {token.refresh_token: token for token in tokens if token.refresh_token is not None}
    access = max((len(token.access_token.reveal()) for token in tokens), default=0)
    refresh = max((len(used.reveal()) for used in renewable), default=0)
    access, refresh = max(access, SHORTEST_WITH_WORDS), max(refresh, SHORTEST_WITH_WORDS)
    expires_at = datetime.now(UTC) + LIFETIME
    return [
        Renewal(token, Secret(placeholder(access)), Secret(placeholder(refresh)), expires_at)
        for token in renewable.values()
    ]


def is_cut_off(held: str, written: str) -> bool:
    """Whether a value is the beginning of what was written, and no more."""
    return held != written and len(held) >= CONVINCING_LENGTH and written.startswith(held)
