"""The connections that the server holds, so that faults can break them."""

import asyncio

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_transports: dict[tuple[object, object], asyncio.Transport] = {}


class TrackedProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also remembers its transport by the addresses of both ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remembers the connection."""
        super().connection_made(transport)
        _transports[self.client, self.server] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        _transports.pop((self.client, self.server), None)
        super().connection_lost(exc)


def find_transport(scope: Scope) -> asyncio.Transport | None:
    """Returns the transport that a request came over; None if it is closed, or not one of these."""
    return _transports.get((scope["client"], scope["server"]))
