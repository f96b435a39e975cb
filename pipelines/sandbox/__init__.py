"""A local server that behaves as Cronofy's API is documented to, over a simulated population.

Example:
    >>> world = build_world(accounts=200, seed=7, start=datetime(2025, 3, 1, tzinfo=UTC), days=60)
    >>> with serve(world, clock=MovableClock(world.start)) as server:
    ...     server.clock.advance(timedelta(hours=6))
    ...     httpx.get(f"{server.base_url}/v1/userinfo", headers={"Authorization": f"Bearer {access_token}"})
"""

from .clock import MovableClock
from .faults import Fault
from .grants import OAuth
from .records import SandboxToken
from .server import SandboxServer, serve
from .traffic import Limits
from .world import World, build_world

__all__ = [
    "Fault",
    "Limits",
    "MovableClock",
    "OAuth",
    "SandboxServer",
    "SandboxToken",
    "World",
    "build_world",
    "serve",
]
