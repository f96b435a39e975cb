"""The control endpoints under `/sandbox/`: the clock, the faults and what was asked."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .app import SandboxApp
from .clock import MovableClock
from .faults import Fault


class Control:
    """Turns control requests into calls on a running sandbox. Nobody has to authenticate.

    Args:
        app: the sandbox under control.
        clock: its clock; None if it cannot be moved.
    """

    def __init__(self, app: SandboxApp, clock: MovableClock | None) -> None:
        self._app = app
        self._clock = clock

    def build_app(self) -> Starlette:
        """Returns the ASGI application with the control endpoints."""
        return Starlette(
            routes=[
                Route("/sandbox/clock", self.show_clock, methods=["GET"]),
                Route("/sandbox/clock", self.move_clock, methods=["POST"]),
                Route("/sandbox/faults", self.list_faults, methods=["GET"]),
                Route("/sandbox/faults", self.add_fault, methods=["POST"]),
                Route("/sandbox/faults", self.clear_faults, methods=["DELETE"]),
                Route("/sandbox/requests", self.count_requests, methods=["GET"]),
                Route("/sandbox/requests", self.forget_requests, methods=["DELETE"]),
                Route("/sandbox/tokens/{key}/revoke", self.revoke_token, methods=["POST"]),
            ]
        )

    async def show_clock(self, _: Request) -> Response:
        """GET /sandbox/clock: {"now", "running"}."""
        running = self._clock is None or self._clock.running
        return JSONResponse({"now": self._app.now().isoformat(), "running": running})

    async def move_clock(self, request: Request) -> Response:
        """POST /sandbox/clock with {"now": ISO time} or {"advance_seconds": number}."""
        if self._clock is None:
            return _refuse("this clock cannot be moved", 409)
        try:
            _move(self._clock, await _read_object(request))
        except (ValueError, TypeError, OverflowError) as error:
            return _refuse(str(error))
        return await self.show_clock(request)

    async def list_faults(self, _: Request) -> Response:
        """GET /sandbox/faults: {"faults": {number: fault}}."""
        faults = {number: asdict(fault) for number, fault in self._app.faults.list().items()}
        return JSONResponse({"faults": faults})

    async def add_fault(self, request: Request) -> Response:
        """POST /sandbox/faults with the fields of `Fault`: {"number"}."""
        try:
            number = self._app.faults.add(Fault.parse(await _read_object(request)))
        except ValueError as error:
            return _refuse(str(error))
        return JSONResponse({"number": number}, status_code=201)

    async def clear_faults(self, _: Request) -> Response:
        """DELETE /sandbox/faults: lifts all."""
        self._app.faults.clear()
        return Response(status_code=204)

    async def count_requests(self, _: Request) -> Response:
        """GET /sandbox/requests: {"total", "endpoints": {endpoint: {status: answers}}}."""
        traffic = self._app.traffic
        return JSONResponse({"total": traffic.total, "endpoints": traffic.counts()})

    async def forget_requests(self, _: Request) -> Response:
        """DELETE /sandbox/requests: counts from zero again."""
        self._app.traffic.clear()
        return Response(status_code=204)

    async def revoke_token(self, request: Request) -> Response:
        """POST /sandbox/tokens/{key}/revoke: the user withdraws the authorization, now."""
        try:
            self._app.grants.revoke_key(request.path_params["key"])
        except KeyError:
            return _refuse("no token of that key", 404)
        return Response(status_code=204)


async def _read_object(request: Request) -> dict[str, Any]:
    content = json.loads(await request.body())
    if not isinstance(content, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - one error for every bad body
    return content


def _move(clock: MovableClock, order: dict[str, Any]) -> None:
    if "now" in order:
        instant = datetime.fromisoformat(order["now"])
        clock.move_to(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    elif "advance_seconds" in order:
        clock.advance(timedelta(seconds=order["advance_seconds"]))
    else:
        raise ValueError("say now or advance_seconds")


def _refuse(message: str, status: int = 400) -> Response:
    return JSONResponse({"error": message}, status_code=status)
