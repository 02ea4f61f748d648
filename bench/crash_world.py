"""Who is there beside the service that the suite ``crash --agents`` kills: the receiver of effects, and the load."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path
from typing import Any

import msgspec

from bench.crash_desk import DESKS, Answer, Message


class Done(msgspec.Struct, frozen=True):
    """A line of the ledger: something that the receiver of effects was asked to do.

    Attributes:
        token: under which.
        kind: what.
        data: about it.
        again: whether it was asked before under this token: then it is not done again.
    """

    token: str
    kind: str
    data: dict[str, Any]
    again: bool = False


class Acknowledged(msgspec.Struct, frozen=True):
    """A line of what the load was told: what became of an order, or of one that it has asked for again."""

    desk: int
    n: int
    outcome: str


class Receiver(asyncio.Protocol):
    """A service over HTTP that does what it is asked to, once for each token, and notes it in a ledger.

    What is done and its token are one line, which is there when it is answered, whoever is killed. Now and then it can
    not be asked (before), or does not answer (after).

    Args:
        ledger: the file, open for appending.
        known: the tokens in it.
        draw: when it is out of order.
        trouble: how often, from 0 to 1.
    """

    def __init__(self, ledger: int, known: set[str], draw: random.Random, trouble: float) -> None:
        self._ledger = ledger
        self._known = known
        self._draw = draw
        self._trouble = trouble
        self._bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._bytes += data
        while b"\r\n\r\n" in self._bytes:
            head, rest = self._bytes.split(b"\r\n\r\n", 1)
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            if len(rest) < length:
                return
            self._bytes = rest[length:]
            self._asked(rest[:length])

    def _asked(self, body: bytes) -> None:
        if self._draw.random() < self._trouble:
            self._transport.write(b"HTTP/1.1 503 not now\r\nContent-Length: 0\r\n\r\n")
            return
        asked = msgspec.json.decode(body)
        token = asked["id"]
        line = Done(token, asked["type"], asked["data"], token in self._known)
        os.write(self._ledger, msgspec.json.encode(line) + b"\n")
        self._known.add(token)
        if self._draw.random() < self._trouble:
            self._transport.abort()
            return
        self._transport.write(b"HTTP/1.1 200 done\r\nContent-Length: 0\r\n\r\n")


async def receive(ledger: Path, listener: socket.socket, seed: int, trouble: float) -> None:
    """Be the receiver of effects, until it is killed."""
    file = os.open(ledger, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    known = {line.token for line in lines(ledger, Done)}
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Receiver(file, known, draw, trouble), sock=listener)
    await server.serve_forever()


def lines(path: Path, kind: Any) -> list[Any]:
    """Return the lines of a file."""
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


class Load:
    """Asks for orders, one after the other at each desk, and notes what it was told of them.

    It asks again under the same id until it is told; and now and then once more, though it was.

    Args:
        socket: of the service.
        notes: the file in which it notes them.
        seed: of what it does.
    """

    def __init__(self, socket: Path, notes: Path, seed: int) -> None:
        self._socket = socket
        self._draw = random.Random(seed)
        self._notes = os.open(notes, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    async def run(self, stopping: asyncio.Event) -> None:
        """Ask until it is told to stop, and then until all that was asked for is answered."""
        await asyncio.gather(*(self._orders(desk, stopping) for desk in range(DESKS)))

    async def _orders(self, desk: int, stopping: asyncio.Event) -> None:
        connection: Any = None
        n = 1
        while not stopping.is_set():
            answer, connection = await self._ask(connection, Message(desk, n))
            self._note(desk, n, answer)
            if answer.outcome == "ok" and self._draw.random() < 0.05:
                answer, connection = await self._ask(connection, Message(desk, n))
                self._note(desk, n, Answer("twice" if answer.outcome != "again" else "known"))
            n += 1
            await asyncio.sleep(self._draw.expovariate(200))

    def _note(self, desk: int, n: int, answer: Answer) -> None:
        os.write(self._notes, msgspec.json.encode(Acknowledged(desk, n, answer.outcome)) + b"\n")

    async def _ask(self, connection: Any, message: Message) -> tuple[Answer, Any]:
        """Ask until there is an answer that says what has become of it; return it, and the connection."""
        while True:
            try:
                if connection is None:
                    connection = await asyncio.open_unix_connection(self._socket)
                reader, writer = connection
                writer.write(msgspec.json.encode(message) + b"\n")
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    raise ConnectionError("it was cut")
            except OSError:
                connection = None
                continue
            answer = msgspec.json.decode(line, type=Answer)
            if answer.outcome != "failed":
                return answer, connection
            await asyncio.sleep(0.01)
