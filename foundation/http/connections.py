"""Connections that idle or slow clients cannot keep open: uvicorn's own, with limits on time, size and number."""

from __future__ import annotations

import asyncio
import resource
from typing import Any, cast

import structlog
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from foundation.http.joining import Joining
from foundation.http.limits import Limits

#: Descriptors that are left for everything else in the process.
SPARE_DESCRIPTORS = 128
#: Seconds between two looks at all connections.
LOOK = 1.0
#: How many connections at a time are closed to make room.
ROOM = 16

_END_OF_HEAD = b"\r\n\r\n"
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_log = structlog.get_logger("foundation.http")


def connection_class(limits: Limits, base: type[asyncio.Protocol] | None = None) -> type[asyncio.Protocol]:
    """Return a class of connections with limits.

    Args:
        limits: which.
        base: uvicorn's class of connections; that of whichever parser is installed if None.
    """
    return type("Connection", (_Limited, base or AutoHTTPProtocol), {"limits": limits, "most": _most(limits)})


def _most(limits: Limits) -> int:
    """Return how many connections may be open, with the descriptors that the process has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = limits.max_connections if soft == resource.RLIM_INFINITY else max(ROOM, soft - SPARE_DESCRIPTORS)
    if room < limits.max_connections:
        _log.warning("few_descriptors", limit=soft, connections=room, wanted=limits.max_connections)
    return min(limits.max_connections, room)


class _Limited(asyncio.Protocol):
    """What is added to a connection of uvicorn.

    Attributes:
        since: when it began to wait for the head of a request.
        stuck: since when its client does not read; None if it does.
        received: bytes since then.
        unfinished: how what came last ended, if the head of a request did not end with it.
    """

    limits: Limits
    most: int
    # Those of uvicorn's connections.
    connections: set[Any]
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    since = 0.0
    stuck: float | None = None
    received = 0
    unfinished = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, and make room for it if need be."""
        super().connection_made(cast("asyncio.Transport", Joining(cast("asyncio.Transport", transport), self.loop)))
        self.since = self.loop.time()
        if len(self.connections) > self.most and not make_room(self, self.most):
            self._refuse(_TOO_MANY)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request, unless its head, or all of it, becomes too long."""
        self.received += len(data)
        if self.received > self.limits.max_header:
            if self.waiting:
                end = (self.unfinished + data).find(_END_OF_HEAD)
                head = len(data) if end < 0 else end - len(self.unfinished)
                if self.received - len(data) + head > self.limits.max_header:
                    self._refuse(_TOO_LONG)
                    return
            # Twice: what is sent in small chunks comes with as much again around it.
            elif self.received > self.limits.max_header + 2 * self.limits.longest:
                self.transport.abort()
                return
        super().data_received(data)
        self.unfinished = data[-3:] if self.waiting else b""

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.since = self.loop.time()
        self.received = 0
        super().on_response_complete()  # type: ignore[misc]

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self.stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it does."""
        self.stuck = None
        super().resume_writing()

    @property
    def waiting(self) -> bool:
        """Whether it has no request in hand."""
        return self.cycle is None or self.cycle.response_complete

    def look(self, now: float) -> None:
        """End the connection if its client takes too long."""
        limits = self.limits
        unread = self.stuck is not None and now - self.stuck > limits.write_timeout
        if unread or (self.waiting and now - self.since > limits.idle_timeout + limits.header_timeout):
            self.transport.abort()


def look_at(connections: set[Any], now: float) -> None:
    """End the connections whose clients take too long."""
    for one in list(connections):
        one.look(now)


def end_all(connections: set[Any]) -> None:
    """End all connections at once."""
    for one in list(connections):
        one.transport.abort()


def make_room(new: _Limited, most: int) -> bool:
    """Close the connections that have waited longest for a request, to make room for a new one; tell if there is."""
    others = [one for one in new.connections if one is not new and not one.transport.is_closing()]
    over = len(others) + 1 - most
    if over <= 0:
        return True
    waiting = sorted((one for one in others if one.waiting), key=lambda one: one.since)
    for one in waiting[: over + ROOM]:
        one.transport.abort()
    return len(waiting) >= over
