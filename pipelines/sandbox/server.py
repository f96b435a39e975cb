"""Runs the sandbox over HTTP on the loopback interface: in a thread, or in the foreground."""

import contextlib
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

import uvicorn

from .app import SandboxApp
from .clock import MovableClock
from .connections import TrackedProtocol
from .control import Control
from .faults import Faults
from .grants import OAuth
from .limits import Limits
from .traffic import Traffic
from .world import World

HOST = "127.0.0.1"
# longer than a client pauses between loads, so that it does not meet connections about to be closed
KEEP_ALIVE_SECONDS = 120
START_SECONDS = 10.0
BACKLOG = 1024

Now = Callable[[], datetime]


class _Uvicorn(uvicorn.Server):
    """uvicorn that says when it serves, and that wakes pausing faults before it waits for them."""

    def __init__(self, app: SandboxApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=TrackedProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="critical",
                date_header=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self.serving = threading.Event()
        self._sandbox = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.misbehavior.stop()
        await super().shutdown(sockets)


class SandboxServer:
    """A sandbox served by a daemon thread from `__enter__` to `__exit__`. Built by `serve`."""

    def __init__(self, app: SandboxApp, clock: MovableClock | None, port: int) -> None:
        self.app = app
        self.clock = clock
        self._port = port
        self._socket: socket.socket | None = None
        self._server = _Uvicorn(app)
        self._thread = threading.Thread(target=self._run, name="cronofy-sandbox", daemon=True)

    def __enter__(self) -> Self:
        self._socket = _bind(self._port)
        self._port = self._socket.getsockname()[1]
        self._thread.start()
        if not self._server.serving.wait(START_SECONDS):
            raise RuntimeError("the sandbox did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def base_url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8765`."""
        return f"http://{HOST}:{self._port}"

    @property
    def world(self) -> World:
        """The world it answers from."""
        return self.app.world

    @property
    def faults(self) -> Faults:
        """The faults in force; `add`, `remove` and `clear` take effect at once."""
        return self.app.faults

    @property
    def requests(self) -> int:
        """How many requests to the API have come in so far."""
        return self.app.traffic.total

    @property
    def traffic(self) -> Traffic:
        """The requests by endpoint and status, and the peak rate."""
        return self.app.traffic

    def revoke(self, key: str) -> None:
        """Withdraws one token's authorization, as its user would; raises KeyError for an unknown key."""
        self.app.grants.revoke_key(key)

    def _run(self) -> None:
        assert self._socket is not None
        self._server.run(sockets=[self._socket])


def serve(
    world: World,
    *,
    clock: MovableClock | Now | None = None,
    port: int = 0,
    limits: Limits | None = None,
    oauth: OAuth | None = None,
    fault_seed: int = 0,
) -> SandboxServer:
    """Returns a server for a `with` block; inside it, the sandbox answers on 127.0.0.1.

    Args:
        world: what it answers from.
        clock: the time it answers for; None for a clock that stands still at the world's start. A plain
            function will do, but then `/sandbox/clock` cannot move it.
        port: where to listen; 0 for any free port.
        limits: rate limits; None for none, `Limits()` for the real ones.
        oauth: how the token endpoints behave; None for `OAuth()`.
        fault_seed: feeds the draws for faults with a probability below 1.

    Example:
        >>> with serve(world, clock=clock, limits=Limits()) as server:
        ...     server.faults.add("status", status=503, endpoint="userinfo", count=3)
        ...     load(base_url=server.base_url)

    Raises:
        OSError: the port is taken (on entering the block).
    """
    shown_time = MovableClock(world.start) if clock is None else clock
    movable = shown_time if isinstance(shown_time, MovableClock) else None
    return SandboxServer(_build_app(world, shown_time, limits, oauth, fault_seed), movable, port)


def run_forever(
    world: World,
    *,
    clock: MovableClock | Now | None = None,
    port: int = 8765,
    limits: Limits | None = None,
    oauth: OAuth | None = None,
    fault_seed: int = 0,
    faults: Faults | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serves in the foreground until interrupted (Ctrl+C or SIGTERM).

    Args:
        world: what it answers from.
        clock: as for `serve`; None for a clock that runs on from the world's start.
        port: where to listen; 0 for any free port.
        limits: as for `serve`.
        oauth: as for `serve`.
        fault_seed: as for `serve`.
        faults: faults in force from the beginning, in place of none.
        on_ready: called with the base URL as soon as connections are accepted.

    Raises:
        OSError: the port is taken.
    """
    shown_time = MovableClock(world.start, running=True) if clock is None else clock
    app = _build_app(world, shown_time, limits, oauth, fault_seed)
    if faults is not None:
        app.faults = faults
    bound = _bind(port)
    if on_ready is not None:
        on_ready(f"http://{HOST}:{bound.getsockname()[1]}")
    with contextlib.suppress(KeyboardInterrupt):
        _Uvicorn(app).run(sockets=[bound])


def _build_app(
    world: World, clock: MovableClock | Now, limits: Limits | None, oauth: OAuth | None, fault_seed: int
) -> SandboxApp:
    app = SandboxApp(world, clock, limits=limits, oauth=oauth, fault_seed=fault_seed)
    app.control = Control(app, clock if isinstance(clock, MovableClock) else None).build_app()
    return app


def _bind(port: int) -> socket.socket:
    # asyncio turns off Nagle's algorithm only for sockets that name TCP; with it, each answer takes 40 ms
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
