"""Runs the sandbox over HTTP on the loopback interface: in a thread, or in the foreground."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.routing import Mount, Router
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .app import SandboxApp
from .clock import MovableClock
from .control import Control
from .grants import OAuth
from .traffic import Limits
from .world import World

HOST = "127.0.0.1"
# longer than a client pauses between loads, so that it does not meet connections about to be closed
KEEP_ALIVE_SECONDS = 120
BACKLOG = 1024


class _Connection(H11Protocol):
    """uvicorn's HTTP protocol, whose requests know their connection, so that faults can break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}


class HttpServer:
    """Serves an application on 127.0.0.1: from a thread in a `with` block, or by `run_forever`.

    Either raises OSError if the port is taken. uvicorn's own `Server` takes two tenths of a second to stop.
    """

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self.connections: set[object] = set()
        self._app = app
        self._port = port

    def __enter__(self) -> Self:
        bound = self._bind()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=[bound], name="cronofy-sandbox", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    @property
    def base_url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8765`."""
        return f"http://{HOST}:{self._port}"

    def run_forever(self, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Serves in the foreground until Ctrl+C; calls `on_ready` with the base URL once it listens."""
        bound = self._bind()
        on_ready(self.base_url)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self._serve(bound, asyncio.Event()))

    def _run(self, bound: socket.socket) -> None:
        with self._runner as runner:
            runner.run(self._serve(bound, self._stopped))

    async def _serve(self, bound: socket.socket, stopped: asyncio.Event) -> None:
        options: dict[str, Any] = {"lifespan": "off", "log_config": None, "log_level": "critical"}
        # nobody speaks WebSocket here, and uvicorn 0.34 imports what `websockets` 14 deprecates for it
        config = uvicorn.Config(self._app, timeout_keep_alive=KEEP_ALIVE_SECONDS, ws="none", **options)
        config.load()
        state = ServerState()
        self.connections = state.connections  # type: ignore[assignment]
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: _Connection(config, state, {}), sock=bound)
        try:
            await stopped.wait()
        finally:
            listener.close()
            for connection in list(state.connections):
                connection.transport.abort()

    def _bind(self) -> socket.socket:
        # asyncio turns off Nagle's algorithm only for sockets that name TCP; with it, each answer takes 40 ms
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((HOST, self._port))
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
        self._port = bound.getsockname()[1]
        return bound


class SandboxServer(HttpServer):
    """A sandbox over HTTP, with its control endpoints. Built by `serve`."""

    def __init__(self, app: SandboxApp, port: int) -> None:
        routes = [*app.build_routes(), Mount("/sandbox", Control(app).build_app())]
        self.router = Router(routes, redirect_slashes=False)
        super().__init__(self.router, port)
        self.app = app
        self.world = app.world
        self.clock = app.clock
        self.faults = app.faults
        self.traffic = app.traffic


def serve(
    world: World,
    *,
    clock: MovableClock | None = None,
    port: int = 0,
    limits: Limits | None = None,
    oauth: OAuth | None = None,
    fault_seed: int = 0,
) -> SandboxServer:
    """Returns a server for a `with` block; inside it, the sandbox answers on 127.0.0.1.

    Args:
        world: what it answers from.
        clock: the time it answers for; None for a clock that stands still at the world's start.
        port: 0 for any free port.
        limits: rate limits; None for none, `Limits()` for the real ones.
        oauth: how the token endpoints behave; None for `OAuth()`.
        fault_seed: feeds the draws for faults with a probability below 1.

    Example:
        >>> with serve(world, clock=clock, limits=Limits()) as server:
        ...     server.faults.add("status", status=503, endpoint="userinfo", count=3)
        ...     load(base_url=server.base_url)
    """
    shown = clock or MovableClock(world.start)
    return SandboxServer(SandboxApp(world, shown, limits=limits, oauth=oauth, fault_seed=fault_seed), port)
