"""Commits faults: sends the wrong answer, part of one, or none."""

import asyncio
import socket
import struct
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from .answers import Answer, build_answer
from .connections import find_transport
from .faults import Fault

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>"
WRONG_SHAPE = b'{"result":["unexpected"],"cronofy.data":[]}'
DRIPS = 20
ABORT_ON_CLOSE = struct.pack("ii", 1, 0)


class Misbehavior:
    """Sends faulty answers over live connections."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every pause at once. Call it in the server's loop."""
        self._stopping.set()

    async def commit(
        self, fault: Fault, answer: Callable[[], Answer], scope: Scope, receive: Receive, send: Send
    ) -> int | str:
        """Commits `fault` in place of `answer` and returns what to count it as: a status, or its kind."""
        replacement = _replace(fault, answer)
        if replacement is not None:
            await replacement.send(send)
            return replacement.status
        if fault.kind == "drip":
            return await self._drip(answer(), fault.seconds, send)
        if fault.kind == "hang":
            await self._pause(fault.seconds, receive)
        elif fault.partial:
            await _send_half(answer(), send)
        await _close(scope, receive, abruptly=fault.kind == "reset" and not fault.partial)
        return fault.kind

    async def _drip(self, answer: Answer, seconds: float, send: Send) -> int:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        size = max(1, -(-len(answer.body) // DRIPS))
        for start in range(0, len(answer.body), size):
            await self._pause(seconds / DRIPS)
            part = answer.body[start : start + size]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return answer.status

    async def _pause(self, seconds: float, receive: Receive | None = None) -> None:
        """Waits for `seconds`, for the client to leave (if `receive` is given) or for the server to stop."""
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._stopping.wait())]
        if receive is not None:
            waits.append(asyncio.create_task(_disconnection(receive)))
        _, pending = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _replace(fault: Fault, answer: Callable[[], Answer]) -> Answer | None:
    """Returns the complete answer that a fault amounts to; None if it is about how an answer is sent."""
    match fault.kind:
        case "status":
            headers = (
                () if fault.retry_after is None else ((b"retry-after", str(fault.retry_after).encode()),)
            )
            return build_answer(fault.status, fault.body.encode(), headers)
        case "body":
            return build_answer(200, fault.body.encode())
        case "html":
            return build_answer(200, HTML, content_type=b"text/html; charset=utf-8")
        case "wrong_shape":
            return build_answer(200, WRONG_SHAPE)
        case "empty":
            return build_answer(200)
        case "redirect":
            return build_answer(302, headers=((b"location", (fault.url or "").encode()),))
        case "truncated":
            right = answer()
            return build_answer(right.status, right.body[: max(1, len(right.body) // 2)] or b"{")
        case _:
            return None


async def _send_half(answer: Answer, send: Send) -> None:
    body = answer.body or b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _close(scope: Scope, receive: Receive, *, abruptly: bool) -> None:
    transport = find_transport(scope)
    if transport is None:
        return
    if abruptly:
        # without lingering, closing sends a reset instead of an orderly end
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_ON_CLOSE)
        transport.abort()
    else:
        transport.close()
    await _disconnection(receive)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
