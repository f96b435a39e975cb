"""A local server that behaves as Cronofy's API is documented to, over a simulated population.

Example:
    >>> world = build_world(accounts=200, seed=7, start=datetime(2025, 3, 1, tzinfo=UTC), days=60)
    >>> clock = MovableClock(world.start)
    >>> world.write_tokens("sandbox_tokens.csv")
    >>> with serve(world, clock=clock) as server:
    ...     clock.advance(timedelta(hours=6))
    ...     httpx.get(f"{server.base_url}/v1/userinfo", headers={"Authorization": f"Bearer {access_token}"})
"""

from pipelines.sandbox.app import SandboxApp
from pipelines.sandbox.clock import MovableClock
from pipelines.sandbox.faults import KINDS, Fault, FaultKind, Faults
from pipelines.sandbox.grants import OAuth
from pipelines.sandbox.limits import Limits
from pipelines.sandbox.records import Account, Change, SandboxToken, Wave
from pipelines.sandbox.server import SandboxServer, run_forever, serve
from pipelines.sandbox.world import World, build_world

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
