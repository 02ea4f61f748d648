"""Which of the files that a loop watches are awaited: for the rest of a message, a process, a connection.

An open socket alone is no work. A listening server, and a connection on which nobody reads, are not awaited. A
connection whose other end is in the same loop is awaited while data is under way. One whose protocol does not tell
whether it reads is awaited while a recent request on it has no answer. A connection whose last request was answered,
or that a server keeps open for the next one, is idle.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import stat
import struct
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

#: Real seconds that data takes to the other end of a connection inside this process, at most.
UNDER_WAY = 0.05
#: Real seconds without an answer after which the connection of an unknown protocol counts as idle.
SILENT = 5.0
#: Where Linux stores how long ago data was last sent and received, in milliseconds, and how many pieces of data were
#: sent (struct tcp_info).
_LAST_SENT, _LAST_RECEIVED, _SENT = 44, 52, 156


def awaited(keys: Iterable[selectors.SelectorKey], heard: Mapping[int, int]) -> list[int]:
    """Return the numbers of the files that are awaited.

    Args:
        keys: the files that a loop watches.
        heard: how much had been sent on each when something was last heard there (`sent`), as far as known.
    """
    keys = list(keys)
    ends, servers = _ends(keys)
    return [key.fd for key in keys if _is_awaited(key, ends, servers, heard)]


def sent(fd: int) -> int | None:
    """Return how many pieces of data were sent on a connection; None if that is not known, or it is none."""
    if not _is_socket(fd):
        return None
    with _socket(fd) as one:
        info = _info(one)
    return None if info is None or len(info) < _SENT + 4 else struct.unpack_from("I", info, _SENT)[0]


def _is_awaited(key: selectors.SelectorKey, ends: set[Any], servers: set[Any], heard: Mapping[int, int]) -> bool:
    reader, writer = key.data
    if writer is not None or not _is_socket(key.fd):
        return True
    with _socket(key.fd) as one:
        if _listens(one):
            return False
        silent = _silent_for(one)
        if silent is None:
            return True
        if _peer(one) in ends:
            return silent < UNDER_WAY
        served = _port(one) in servers
    reads = _reads(reader._callback)
    if reads is not None:
        return reads
    answered = key.fd in heard and heard[key.fd] == sent(key.fd)
    return silent < (UNDER_WAY if served or answered else SILENT)


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


@contextmanager
def _socket(fd: int) -> Generator[socket.socket]:
    """Look at the socket of a file, which stays open."""
    one = socket.socket(fileno=fd)
    try:
        yield one
    finally:
        one.detach()


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _silent_for(one: socket.socket) -> float | None:
    """Return for how many seconds nothing was sent or received; None if that is not known."""
    info = _info(one)
    if info is None:
        return None
    last: tuple[int, int] = (
        struct.unpack_from("I", info, _LAST_SENT)[0],
        struct.unpack_from("I", info, _LAST_RECEIVED)[0],
    )
    return min(last) / 1000.0


def _info(one: socket.socket) -> bytes | None:
    try:
        return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SENT + 4)
    except (AttributeError, OSError):  # not on Linux; not TCP
        return None


def _ends(keys: Iterable[selectors.SelectorKey]) -> tuple[set[Any], set[Any]]:
    """Return the addresses of the ends that are here, and the ports on which somebody listens."""
    ends, servers = set(), set()
    for key in keys:
        if _is_socket(key.fd):
            with _socket(key.fd) as one:
                ends.add(one.getsockname())
                if _listens(one):
                    servers.add(_port(one))
    return ends, servers


def _port(one: socket.socket) -> Any:
    """Return the port of this end, or what stands for it."""
    address = one.getsockname()
    return address[1] if isinstance(address, tuple) else address


def _peer(one: socket.socket) -> Any:
    try:
        return one.getpeername()
    except OSError:  # the connection has ended
        return None


def _reads(callback: Any) -> bool | None:
    """Return whether somebody reads; None if that is not known."""
    transport = getattr(callback, "__self__", None)
    if not isinstance(transport, asyncio.BaseTransport):
        return True  # such as `loop.sock_recv`
    protocol: Any = transport.get_protocol()
    protocol = getattr(protocol, "_app_protocol", protocol)  # that which is inside TLS
    stream = getattr(protocol, "_stream_reader", None)
    if isinstance(stream, asyncio.StreamReader):
        return stream._waiter is not None  # type: ignore[attr-defined]
    event = getattr(protocol, "read_event", None)  # anyio's
    return bool(event._waiters) if isinstance(event, asyncio.Event) else None
