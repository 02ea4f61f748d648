"""Handlers: how they are marked, which one takes a message, and which cannot be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervision import Actor, Message, Request, Runtime, handle
from supervision.errors import BadHandler


class One(Message, frozen=True):
    """A message."""


class Two(Message, frozen=True):
    """Another."""


class Special(One, frozen=True):
    """A message of a more special class."""


class Which(Request[str], frozen=True):
    """Which handler took it?"""


class Loose(msgspec.Struct):
    """A struct that can be changed."""


class Base(Actor):
    """Has three handlers."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @handle
    def one(self, message: One) -> None:
        """Take one."""
        self.log.append("one")

    @handle
    def two_or_text(self, message: Two | str) -> None:
        """Take either."""
        self.log.append("two or text")

    @handle(int, float)
    def number(self, message: Any) -> None:
        """Take numbers."""
        self.log.append("number")


class Derived(Base):
    """Takes some of it differently."""

    @handle
    def special(self, message: Special) -> None:
        """Take the special ones."""
        self.log.append("special")

    def number(self, message: Any) -> None:
        """Take numbers, under the mark of the base."""
        self.log.append("number again")


async def test_a_message_goes_to_the_handler_of_its_class_or_of_the_nearest_base(runtime: Runtime) -> None:
    for kind, expected in (
        (Base, ["one", "one", "two or text", "two or text", "number", "number"]),
        (Derived, ["one", "special", "two or text", "two or text", "number again", "number again"]),
    ):
        log: list[str] = []
        ref = await runtime.spawn(kind, log)
        for message in (One(), Special(), Two(), "text", 1, 1.5):
            ref.cast(message)
        await ref.stop()
        assert log == expected


def wrong(source: str) -> None:
    """Make an actor with a method from source code."""
    names = {"handle": handle, "One": One, "Loose": Loose, "Actor": Actor, "Any": Any}
    exec(f"class Wrong(Actor):\n    {source}", names)


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("@handle\n    def x(self): pass", "a handler takes self and one message"),
        ("@handle\n    def x(self, a: One, b: One): pass", "a handler takes self and one message"),
        ("@handle(One)\n    def x(self): pass", "a handler takes self and one message"),
        ("@handle\n    def x(self, a): pass", "annotate the message with its class"),
        ("@handle\n    def x(self, a: Nowhere): pass", "the annotation cannot be resolved"),
        ("@handle\n    def x(self, a: 3): pass", "annotate the message with a class"),
        ("@handle(3)\n    def x(self, a): pass", "annotate the message with a class"),
        ("@handle()\n    def x(self, a): pass", "name at least one type of message"),
        ("@handle(Loose)\n    def x(self, a): pass", "declare the struct with frozen=True"),
        ("@handle\n    def x(self, a: Loose): pass", "declare the struct with frozen=True"),
        ("@handle\n    def x(self, a: One): yield", "mark a plain method"),
        ("@handle\n    async def x(self, a: One): yield", "mark a plain method"),
        ("x = handle(One)(print)", "mark a plain method"),
        ("@handle\n    def x(self, a: One): pass\n    @handle\n    def y(self, a: One): pass", "x handles this type"),
    ],
)
def test_a_handler_that_cannot_be_is_named_when_its_class_is_made(source: str, remedy: str) -> None:
    with pytest.raises(BadHandler) as caught:
        wrong(source)
    assert remedy in str(caught.value)


async def test_a_class_of_messages_that_is_defined_in_a_function_is_found(runtime: Runtime) -> None:
    class Local(Message, frozen=True):
        """Known only here."""

    class Knows(Actor):
        """Handles it."""

        @handle
        def local(self, message: Local) -> None:
            """Stop."""
            self.stop()

    ref = await runtime.spawn(Knows)
    ref.cast(Local())
    assert (await ref.join()).clean
