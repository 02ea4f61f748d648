"""Actors and messages of the cluster's tests."""

from __future__ import annotations

import asyncio
from typing import Any

from supervision import Actor, Down, Exit, Mailbox, Message, Name, Ref, Refuse, Request, handle


class Unfit(Exception):
    """What a handler answers with."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class Note(Message):
    text: str


class NoteFor(Message):
    to: Ref
    text: str


class Unknown(Request[str]):
    """Nobody handles it."""


class Notes(Request[list[str]]):
    pass


class Echo(Request[str]):
    text: str
    raises = (Unfit,)


class Wait(Request[str]):
    """Is answered when it is let go."""


class LetGo(Message):
    pass


class Myself(Request[Ref]):
    pass


class Crash(Message):
    pass


class Point(Message):
    x: int


class Anything(Request[Any]):
    what: str


class Mistaken(Request[str]):
    """Is answered by what it does not promise."""


class Introduce(Request[str]):
    ref: Ref
    name: Name


class Clerk(Actor):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.gate = asyncio.Event()

    @handle
    def note(self, message: Note) -> None:
        self.notes.append(message.text)

    @handle
    def pass_on(self, message: NoteFor) -> None:
        message.to.cast(Note(message.text))

    @handle
    def tell(self, request: Notes) -> list[str]:
        return list(self.notes)

    @handle
    def echo(self, request: Echo) -> str:
        if request.text == "unfit":
            raise Refuse(Unfit("today"))
        if request.text == "wrong":
            raise Refuse(ValueError("not that"))
        return request.text

    @handle
    async def wait(self, request: Wait) -> str:
        self.notes.append("waits")
        await self.gate.wait()
        return "let go"

    @handle
    def let_go(self, message: LetGo) -> None:
        self.gate.set()

    @handle
    def myself(self, request: Myself) -> Ref:
        return self.ref

    @handle
    def crash(self, message: Crash) -> None:
        raise RuntimeError("as asked")

    @handle
    def anything(self, request: Anything) -> Any:
        return {"point": Point(3), "loop": self.gate, "list": [1], "huge": "x" * (2 << 20), "none": None}[request.what]

    @handle
    def mistaken(self, request: Mistaken) -> str:
        wrong: Any = 5
        return wrong

    @handle
    def introduce(self, request: Introduce) -> str:
        request.ref.cast(Note("hello"))
        return request.name.key


class Slow(Actor):
    """Handles one message, and then waits to be let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.handled = 0

    @handle
    async def note(self, message: Note) -> None:
        await self.gate.wait()
        self.handled += 1


class Full(Slow):
    """Refuses what does not fit into its mailbox."""

    mailbox = Mailbox(capacity=1, overflow="refuse")

    @handle
    async def wait(self, request: Wait) -> str:
        return "never"


class Patient(Slow):
    """Lets its senders wait."""

    mailbox = Mailbox(capacity=1, overflow="wait")


class Watcher(Actor):
    """Notes who has ended, and why."""

    trap_exit = True

    def __init__(self) -> None:
        self.downs: list[Down] = []
        self.exits: list[Exit] = []
        self.notes: list[str] = []

    @handle
    def down(self, message: Down) -> None:
        self.downs.append(message)
        self.notes.append("down")

    @handle
    def note(self, message: Note) -> None:
        self.notes.append(message.text)

    @handle
    def exit(self, message: Exit) -> None:
        self.exits.append(message)
