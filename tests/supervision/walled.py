"""Actors in processes that declare what they answer with, and some that try more than that."""

from __future__ import annotations

import enum
import os
import threading
from contextvars import Context, copy_context
from typing import Any

import msgspec

from supervision import Actor, ExitReason, Message, Refuse, Request, handle
from supervision.errors import BadOption, ChildNotFound
from tests.supervision.isolated import Do, Point


class Colour(enum.Enum):
    """A colour."""

    RED = "red"


class Shape(Message, frozen=True):
    """Anything that can be drawn."""

    colour: Colour


class Circle(Shape, frozen=True):
    """A kind of shape."""

    radius: float


class Box(Message, frozen=True):
    """Another thing."""

    size: int


class OutOfPaint(Exception):
    """An error that requests declare. Its arguments do not make it."""

    def __init__(self, colour: str, rest: object) -> None:
        self.colour = colour
        super().__init__(f"no more {colour}")


class Faulty(Exception):
    """An error that nobody declares."""

    made = 0

    def __init__(self, text: str) -> None:
        Faulty.made += 1
        super().__init__(text)


class Unprintable(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no")


class Bored(ExitReason, frozen=True, tag="bored"):
    """A reason of one's own, and a clean one."""

    clean = True

    def __str__(self) -> str:
        return "<bored>"


class Draw(Request[Circle | Box], frozen=True):
    """A request with two kinds of answers."""

    what: str


class Paint(Request[Colour], frozen=True):
    """A request for an enum."""

    raises = (OutOfPaint,)
    colour: str
    shapes: list[Shape] = []


class Whereabouts(Request[str], frozen=True):
    """A request that has a context, which does not travel."""

    where: str
    context: Context = msgspec.field(default_factory=copy_context)


class Told(Message, frozen=True):
    """Its annotation leads nowhere."""

    what: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Walled(Actor):
    """Answers with all kinds of things."""

    isolation = "process"
    max_frame = 1 << 14

    @handle
    def paint(self, request: Paint) -> Colour:
        """Say the colour, or that there is none."""
        if request.colour == "red":
            return Colour.RED
        raise Refuse(OutOfPaint("red", threading.Lock()))

    @handle
    def draw(self, request: Draw) -> Any:
        """Draw, or do not."""
        match request.what:
            case "faulty":
                self.do_faulty()
            case "unprintable":
                raise Refuse(Unprintable())
            case "option":
                raise Refuse(BadOption("paint", "blue", "choose red"))
            case "long":
                raise Refuse(ValueError("x" * 10_000))
            case "child":
                raise Refuse(ChildNotFound("x"))
        return request.what if request.what.startswith("xx") else Circle(Colour.RED, 2.0)

    def do_faulty(self) -> None:
        """Raise an error that nobody declares."""
        try:
            raise Faulty("it is broken")
        except Faulty as error:
            raise Refuse(error) from None

    @handle
    def say(self, request: Whereabouts) -> str:
        """Say where it is, in the context that it has here."""
        return request.context.run(lambda: request.where)

    @handle
    def end(self, message: Point) -> None:
        """End, out of boredom."""
        self.stop(Bored() if message.x == 1 else "x" * 10_000)


class Forking(Actor):
    """Has a child of its own, which keeps what it inherits."""

    isolation = "process"

    @handle
    def do(self, request: Do) -> Any:
        """Fork, or die."""
        if request.what == "die":
            os._exit(9)
        pid = os.fork()
        if pid == 0:
            threading.Event().wait()
        return pid
