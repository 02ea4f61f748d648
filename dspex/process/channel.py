"""The connection between the two processes: frames, each with its length before it."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import NamedTuple, Self

_LENGTH = struct.Struct("!Q")


class Frame(NamedTuple):
    """What one process says to the other.

    Attributes:
        kind: what is to be done.
        run: the number of the run that it belongs to.
        number: the number of the question, if it is one, or belongs to one.
        data: the values, packed.
    """

    kind: str
    run: int = 0
    number: int = 0
    data: bytes = b""


class Channel:
    """One end of the connection, in an event loop.

    Args:
        reader: of the socket.
        writer: of the socket.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Self:
        """Return an end of a connected pair of sockets."""
        return cls(*await asyncio.open_connection(sock=sock))

    def send(self, frame: Frame) -> None:
        """Send a frame; in the loop. To a process that has ended, nothing is sent."""
        data = pickle.dumps(tuple(frame))
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def receive(self) -> Frame | None:
        """Return the next frame; None when the other process has ended."""
        try:
            length = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
            return Frame(*pickle.loads(await self._reader.readexactly(length)))  # noqa: S301  # of our own process
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        """End the connection."""
        self._writer.close()
