"""What happens in a world while its clock runs, line by line."""

import threading
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

from .clock import MovableClock
from .records import Link
from .world import World

# how long a line may be late, in real seconds
LOOK_EVERY_SECONDS = 0.5

HAPPENINGS: dict[tuple[Link, Link], str] = {
    ("absent", "syncing"): "is new",
    ("absent", "connected"): "is new",
    ("syncing", "disconnected"): "broke",
    ("connected", "disconnected"): "broke",
    ("disconnected", "syncing"): "is connected again",
    ("disconnected", "connected"): "is connected again",
    ("disconnected", "absent"): "was removed",
    ("connected", "absent"): "was removed",
    ("syncing", "absent"): "was removed",
}


def list_happenings(world: World) -> list[tuple[datetime, str]]:
    """Returns when profiles break, heal, come or go, and when tokens are withdrawn, in order of time."""
    happenings = [
        (at, f"{after.profile_name} ({profile.provider.slug}) {HAPPENINGS[before.link, after.link]}")
        for account in world.accounts
        for profile in account.profiles
        for (_, before), (at, after) in pairwise(profile.history.changes())
        if (before.link, after.link) in HAPPENINGS
    ]
    happenings += [
        (token.revoked_at, f"{token.key} withdrew the authorization")
        for token in world.tokens
        if token.revoked_at is not None
    ]
    return sorted(happenings)


def follow(world: World, clock: MovableClock, say: Callable[[str], None], stopped: threading.Event) -> None:
    """Says what happens from now on, as it happens, until the world or the caller ends."""
    now = clock.now()
    for at, line in list_happenings(world):
        if at < now:
            continue
        while clock.now() < at:
            if stopped.wait(LOOK_EVERY_SECONDS):
                return
        say(f"{at:%Y-%m-%d %H:%M}  {line}")
