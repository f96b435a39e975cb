"""Digests: what recognizes an answer that says the same as the last one, without parsing it. Pure.

A digest is keyed: nobody who reads the warehouse can test a guess about what an answer said. The key comes
from a secret that the warehouse does not hold, and from all that shapes rows: another release, another
`personal_data` or other labels read every answer once.

Beside the digest stands how many profiles the answer listed, which its row of `polls` needs, and how many
rows of each table the warehouse held afterwards: a digest speaks for these only while they are there. A table
that was not loaded at the time is not named, and the digest does not speak for it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..settings import ACCOUNT, PROFILES, USERINFO, PollingSettings
from ..tables import CALENDARS, PROFILE_CHANGES
from ..tokens.token import Token
from ..version import VERSION

# another release may make other rows of the same answer
FORMAT = VERSION
DIGEST_BYTES = 16
NONE = "-"

# the tables whose rows an answer of an endpoint decides; an endpoint has a table of its name
SPEAKS_FOR = {
    USERINFO: (USERINFO, PROFILES, CALENDARS.name, PROFILE_CHANGES.name),
    ACCOUNT: (ACCOUNT,),
    PROFILES: (PROFILES, PROFILE_CHANGES.name),
}

# By table, how many rows the warehouse has of what an answer lists. Of `userinfo`, `account` and `calendars`
# the rows of the token that are not removed. Of `profiles` four counts of these: calendar profiles, of these
# disconnected, conferencing profiles, of these disconnected. Of `profile_changes` the same four of the
# account, by the newest change of each profile.
Held = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Listed:
    """How many profiles one answer lists; None where it has no such list."""

    profiles: int | None = None
    disconnected: int | None = None
    conferencing_profiles: int | None = None
    conferencing_disconnected: int | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The profile types it is a sample of."""
        types = (("calendar", self.profiles), ("conferencing", self.conferencing_profiles))
        return tuple(name for name, count in types if count is not None)


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """The last ok answer of one endpoint of a token, as `token_status` keeps it."""

    digest: str
    listed: Listed
    held: Held = field(default_factory=dict)

    def __str__(self) -> str:
        listed = (
            self.listed.profiles,
            self.listed.disconnected,
            self.listed.conferencing_profiles,
            self.listed.conferencing_disconnected,
        )
        return ":".join((self.digest, _dotted(listed), *map(held_text, self.held, self.held.values()), ""))


def held_text(table: str, counts: Sequence[object]) -> str:
    """How a digest names a table and its counts; a colon stands before it and after it."""
    return f"{table}={_dotted(counts)}"


def _dotted(counts: Sequence[object]) -> str:
    return ".".join(NONE if each is None else str(each) for each in counts)


def listed_of(known: str) -> Listed:
    """The counts beside a digest, as `KnownAnswer` writes them."""
    counts = known.split(":", 2)[1].split(".")
    return Listed(*(None if each == NONE else int(each) for each in counts))


def is_same(known: str | None, digest: str | None) -> bool:
    """Whether the last answer is known and had that digest."""
    return known is not None and digest is not None and known.startswith(f"{digest}:")


def body_digests(settings: PollingSettings) -> Callable[[Token], Callable[[bytes], str]]:
    """For each token what makes the digest of a body.

    The secret of the key is the application's, where there is one; else the token itself. A refresh token
    stays the same for years; where there is only an access token, a new one makes the answer look new once.
    """
    personal = settings.personal_data
    shape = "\0".join((FORMAT, personal.mode, *(settings.token_labels or ())))
    secrets = (personal.key, settings.client.client_secret if settings.client else None)
    shared = [secret.reveal().encode() for secret in secrets if secret is not None]
    base = _key(shape.encode(), *shared)

    def of_token(token: Token) -> Callable[[bytes], str]:
        key = base if shared else _key(base, (token.refresh_token or token.access_token).reveal().encode())
        return lambda body: hashlib.blake2b(body, key=key, digest_size=DIGEST_BYTES).hexdigest()

    return of_token


def _key(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
