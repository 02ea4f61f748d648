"""Answers that arrive piece by piece, as server-sent events (the HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope
from starlette.types import Send as AsgiSend

from foundation.call_ids import CALL_ID
from foundation.http.cancellation import client_disconnected
from foundation.http.problems import Problem, fault, json_bytes
from foundation.programs import Answer, Chunk, NobodyReads, Piece, SendPiece
from supervision import Refuse, Runtime

EVENT_STREAM = "text/event-stream"
#: Seconds between two signs of life, for what stands between the program and its reader, and ends quiet connections.
PING = 15.0
#: How many pieces may wait for their reader, before the program does.
BUFFER = 16

_HEADERS = {
    "cache-control": "no-store",
    "vary": "accept",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}
_PING = b": ping\n\n"
_CALL_ID = CALL_ID.decode()

_Work: TypeAlias = Callable[[SendPiece], Awaitable[Answer]]


async def streamed(runtime: Runtime, request: Request, work: _Work, call: str) -> Response:
    """Return the response that streams an answer, as soon as there is something to send.

    Args:
        runtime: whose clock is used.
        request: a client that goes away cancels the work.
        work: is given where pieces are to be sent, and returns the answer.
        call: the id of the call: it is in the headers, and that of the last event.

    Raises:
        Problem: there is no answer, and nothing has been sent yet.
    """
    sending, pieces = anyio.create_memory_object_stream[bytes](BUFFER)
    task = asyncio.get_running_loop().create_task(_working(runtime, work, sending))
    try:
        first = await _first(request, pieces)
        events = _only(await _last(runtime, task, call)) if first is None else _all(runtime, first, pieces, task, call)
    except BaseException:
        task.cancel()
        pieces.close()
        raise
    return _Events(events, pieces, task, call)


class _Events(StreamingResponse):
    """Ends the work when the client has gone."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        pieces: MemoryObjectReceiveStream[bytes],
        task: asyncio.Task[Answer],
        call: str,
    ) -> None:
        super().__init__(events, headers={**_HEADERS, _CALL_ID: call}, media_type=EVENT_STREAM)
        self._pieces = pieces
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        """Send all events."""
        with ExitStack() as when_over:
            when_over.callback(self._pieces.close)
            when_over.callback(self._task.cancel)
            await super().__call__(scope, receive, send)


async def _working(runtime: Runtime, work: _Work, sending: MemoryObjectSendStream[bytes]) -> Answer:
    async def send(piece: Piece) -> None:
        event = _event("chunk" if isinstance(piece, Chunk) else "status", piece)
        try:
            await sending.send(event)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Refuse(NobodyReads("nobody reads this answer any more")) from None

    alive = asyncio.get_running_loop().create_task(_pinging(runtime, sending))
    try:
        return await work(send)
    finally:
        alive.cancel()
        sending.close()


async def _pinging(runtime: Runtime, sending: MemoryObjectSendStream[bytes]) -> None:
    while True:
        await runtime.sleep(PING)
        await sending.send(_PING)


async def _first(request: Request, pieces: MemoryObjectReceiveStream[bytes]) -> bytes | None:
    """Return what is to be sent first; None if there is nothing but the answer.

    Raises:
        Problem: the client has gone.
    """
    piece = asyncio.ensure_future(_next(pieces))
    # After the body, nothing comes from a client but its end.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([piece, gone], return_when=asyncio.FIRST_COMPLETED)
        if not piece.done():
            raise client_disconnected()
        return piece.result()
    finally:
        piece.cancel()
        gone.cancel()


async def _next(pieces: MemoryObjectReceiveStream[bytes]) -> bytes | None:
    try:
        return await pieces.receive()
    except anyio.EndOfStream:
        return None


async def _only(event: bytes) -> AsyncIterator[bytes]:
    yield event


async def _all(
    runtime: Runtime, first: bytes, pieces: MemoryObjectReceiveStream[bytes], task: asyncio.Task[Answer], call: str
) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
    try:
        last = await _last(runtime, task, call)
    except Problem as problem:
        last = _event("error", problem.body(), call)
    yield last


async def _last(runtime: Runtime, task: asyncio.Task[Answer], call: str) -> bytes:
    """Return the event of the answer.

    Raises:
        Problem: there is none, or it cannot be written.
    """
    try:
        return _answer(await task, call)
    except Problem:
        raise
    except Exception as error:
        detail = "the answer could not be sent to its end"
        raise fault(runtime, HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail, error) from error


def _answer(answer: Answer, call: str) -> bytes:
    return _event("answer", answer.outputs, call)


def _event(name: str, data: Any, call: str = "") -> bytes:
    id = b"id: %s\n" % call.encode() if call else b""
    return b"event: %s\n%sdata: %s\n\n" % (name.encode(), id, json_bytes(data))
