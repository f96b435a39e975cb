"""The control endpoints under `/sandbox/`: the clock, the faults and what was asked. They need no token."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .app import SandboxApp
from .faults import Fault


class Control:
    """Turns control requests into calls on a running sandbox."""

    def __init__(self, app: SandboxApp) -> None:
        self._app = app

    def build_app(self) -> Starlette:
        """Returns the control endpoints; what is wrong with an order is answered with 400, or 404."""
        refusals = {ValueError: 400, TypeError: 400, OverflowError: 400, KeyError: 404}
        return Starlette(
            routes=[
                Route("/clock", self.show_clock, methods=["GET"]),
                Route("/clock", self.move_clock, methods=["POST"]),
                Route("/faults", self.list_faults, methods=["GET"]),
                Route("/faults", self.add_fault, methods=["POST"]),
                Route("/faults", self.clear_faults, methods=["DELETE"]),
                Route("/requests", self.count_requests, methods=["GET"]),
                Route("/requests", self.forget_requests, methods=["DELETE"]),
                Route("/tokens/{key}/revoke", self.revoke_token, methods=["POST"]),
            ],
            exception_handlers={kind: _refuse(status) for kind, status in refusals.items()},
        )

    async def show_clock(self, _: Request) -> Response:
        """GET: {"now", "running"}."""
        clock = self._app.clock
        return JSONResponse({"now": clock.now().isoformat(), "running": clock.running})

    async def move_clock(self, request: Request) -> Response:
        """POST with {"now": ISO time} or {"advance_seconds": number}."""
        order = await _read_object(request)
        if "now" in order:
            instant = datetime.fromisoformat(order["now"])
            self._app.clock.move_to(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
        elif "advance_seconds" in order:
            self._app.clock.advance(timedelta(seconds=order["advance_seconds"]))
        else:
            raise ValueError("say now or advance_seconds")
        return await self.show_clock(request)

    async def list_faults(self, _: Request) -> Response:
        """GET: {"faults": {number: fault}}."""
        faults = {str(number): asdict(fault) for number, fault in self._app.faults.list().items()}
        return JSONResponse({"faults": faults})

    async def add_fault(self, request: Request) -> Response:
        """POST with the fields of `Fault`: {"number"}."""
        number = self._app.faults.add(Fault.parse(await _read_object(request)))
        return JSONResponse({"number": number}, status_code=201)

    async def clear_faults(self, _: Request) -> Response:
        """DELETE: lifts all."""
        self._app.faults.clear()
        return Response(status_code=204)

    async def count_requests(self, _: Request) -> Response:
        """GET: {"total", "endpoints": {endpoint: {status: answers}}}."""
        traffic = self._app.traffic
        return JSONResponse({"total": traffic.total, "endpoints": traffic.counts()})

    async def forget_requests(self, _: Request) -> Response:
        """DELETE: counts from zero again."""
        self._app.traffic.clear()
        return Response(status_code=204)

    async def revoke_token(self, request: Request) -> Response:
        """POST: the user withdraws the authorization, now."""
        self._app.grants.revoke_key(request.path_params["key"])
        return Response(status_code=204)


async def _read_object(request: Request) -> dict[str, Any]:
    content = json.loads(await request.body())
    if not isinstance(content, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - one error for every bad body
    return content


def _refuse(status: int) -> Any:
    return lambda _, error: JSONResponse({"error": str(error)}, status_code=status)
