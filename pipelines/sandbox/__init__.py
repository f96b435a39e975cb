"""A local server that behaves as Cronofy's API is documented to, over a simulated population.

Example:
    >>> world = build_world(accounts=200, seed=7, start=datetime(2025, 3, 1, tzinfo=UTC), days=60)
    >>> clock = MovableClock(world.start)
    >>> world.write_tokens("sandbox_tokens.csv")
    >>> with serve(world, clock=clock) as server:
    ...     clock.advance(timedelta(hours=6))
    ...     httpx.get(f"{server.base_url}/v1/userinfo", headers={"Authorization": f"Bearer {access_token}"})
"""

from .app import SandboxApp
from .clock import MovableClock
from .faults import KINDS, Fault, FaultKind, Faults
from .grants import OAuth
from .limits import Limits
from .records import Account, Change, SandboxToken, Wave
from .server import SandboxServer, run_forever, serve
from .world import World, build_world

__all__ = [
    "KINDS",
    "Account",
    "Change",
    "Fault",
    "FaultKind",
    "Faults",
    "Limits",
    "MovableClock",
    "OAuth",
    "SandboxApp",
    "SandboxServer",
    "SandboxToken",
    "Wave",
    "World",
    "build_world",
    "run_forever",
    "serve",
]
