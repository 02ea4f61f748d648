"""The protocol between the two processes: frames, each with its length before it, and the tags of values in them."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import pathlib
import socket
import struct
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import msgspec

_LENGTH = struct.Struct("!Q")
#: How much longer than what is in it a frame may be, in bytes.
_HEAD = 1000
#: The most bytes that the process may send at once.
LONGEST = 1 << 26
#: The longest frame that a program's process may send, in bytes.
LONGEST_FRAME = LONGEST + _HEAD
#: How much of a text about something else is sent, in characters.
LONGEST_TEXT = 100_000


class RunFrame(msgspec.Struct, array_like=True, frozen=True):
    """What one process says to the other.

    Attributes:
        kind: what is to be done.
        run: the number of the run that it belongs to.
        number: the number of the question, if it is one, or belongs to one.
        data: the values: pickled on the way to the program's process, plain data on the way back.
    """

    kind: str
    run: int = 0
    number: int = 0
    data: bytes = b""


class Channel:
    """One end of the connection, in an event loop.

    Args:
        sock: the socket.
        reader: of the socket.
        writer: of the socket.
        longest: the longest frame that is received, in bytes; None for any.
    """

    def __init__(
        self,
        sock: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        longest: int | None,
    ) -> None:
        self._socket = sock
        self._reader = reader
        self._writer = writer
        self._longest = longest

    @classmethod
    async def open(cls, sock: socket.socket, longest: int | None = None) -> Self:
        """Return an end of a connected pair of sockets."""
        return cls(sock, *await asyncio.open_connection(sock=sock), longest)

    def send(self, frame: RunFrame) -> None:
        """Send a frame; in the loop. To a process that has ended, nothing is sent."""
        data = msgspec.msgpack.encode(frame)
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def drain(self) -> None:
        """Wait until the other process has taken most of what was sent."""
        with suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> RunFrame | None:
        """Return the next frame; None when the other process has ended. Half a frame is none.

        Raises:
            ValueError: this is no frame, or too long a one.
        """
        try:
            length = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
            if self._longest is not None and length > self._longest:
                raise ValueError(f"a frame of {length:,} bytes")
            return msgspec.msgpack.decode(await self._reader.readexactly(length), type=RunFrame)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def hang_up(self) -> None:
        """End the connection with a process that has ended, though others may have it too; hear what it has said."""
        left = LONGEST
        with suppress(OSError):
            while left > 0 and (part := self._socket.recv(1 << 16)):
                self._reader.feed_data(part)
                left -= len(part)
        self._reader.feed_eof()
        self._writer.transport.abort()

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


class ValueTag(enum.IntEnum):
    """What a list stands for."""

    LIST = 0
    TUPLE = 1
    DICT = 2
    SET = 3
    FROZENSET = 4
    INT = 5
    STR = 6
    TEXT = 7
    ARRAY = 8
    KEPT = 9
    MODULE = 10
    KNOWN = 11
    CLASS = 12
    SIGNATURE = 13
    ANNOTATION = 14
    OBJECT = 15
    MEMBER = 16
    ERROR = 17
    UNSENT = 18


#: Kinds of values that are written as texts: how they are written, and read.
TEXTS: Mapping[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda value: f"{value.days} {value.seconds} {value.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split())),
    ),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "path": (type(pathlib.Path()), str, pathlib.Path),
    "complex": (complex, repr, complex),
}


@dataclass(frozen=True)
class Unsent:
    """Stands, where a program's calls are looked at, for something of its process that is no data.

    Attributes:
        kind: the name of its class.
        text: its ``repr``.
    """

    kind: str
    text: str
