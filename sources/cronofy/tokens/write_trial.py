"""Trials: what a store writes to prove that it can be written, before any refresh token is used up."""

import re
import secrets
import string
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from ..secret import Secret
from .base import Renewal
from .token import Token

WORDS = "no-token-"
# shorter ones are random throughout, so that no two are alike
SHORTEST_WITH_WORDS = 20
# a value this long that a new one begins with is the new one, cut off
TELLING_LENGTH = 8
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


def longest(tokens: Iterable[Token]) -> tuple[int, int]:
    """Characters of the longest access token and of the longest refresh token."""
    access = refresh = 0
    for token in tokens:
        access = max(access, len(token.access_token.reveal()))
        refresh = max(refresh, len(token.refresh_token.reveal()) if token.refresh_token else 0)
    return access, refresh


def trial_renewals(tokens: Sequence[Token], now: datetime) -> list[Renewal]:
    """A renewal of every refresh token of a store, with placeholders at least as long as the longest seen."""
    access, refresh = (max(length, SHORTEST_WITH_WORDS) for length in longest(tokens))
    renewable = {token.refresh_token: token for token in tokens if token.refresh_token is not None}
    return [
        Renewal(token, Secret(placeholder(access)), Secret(placeholder(refresh)), now + LIFETIME)
        for token in renewable.values()
    ]


def is_cut_off(held: str, written: str) -> bool:
    """Whether a value is the beginning of what was written, and no more."""
    return held != written and len(held) >= TELLING_LENGTH and written.startswith(held)


def is_as_written(before: Token, after: Token, renewal: Renewal | None) -> bool:
    """Whether a row reads as it must after a trial.

    Args:
        before: the row's token as it was.
        after: the same row's, read back.
        renewal: what was written to the row; None where it had to stay.
    """
    kept = (before.key, before.data_center, before.labels)
    if (after.key, after.data_center, after.labels) != kept:
        return False
    if renewal is None:
        return after == before
    pair = (renewal.access_token, renewal.refresh_token)
    expiry, written = after.expires_at, renewal.expires_at
    # a column of days, or of numbers that are not exact, is as good as it gets
    is_near = expiry is None or written is None or abs(expiry - written) <= timedelta(days=1)
    return (after.access_token, after.refresh_token) == pair and is_near
