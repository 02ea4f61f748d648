"""What a message travels in when it carries something: see `Carrier`."""

from __future__ import annotations

from typing import Any, TypeVar

from supervision.call import Call

R = TypeVar("R")


class Carried:
    """A message without an answer, and what goes along with it."""

    __slots__ = ("load", "message")

    def __init__(self, message: Any, load: Any) -> None:
        self.message = message
        self.load = load

    def __repr__(self) -> str:
        return repr(self.message)


class CarriedCall(Call[R]):
    """A request on its way with something to carry."""

    __slots__ = ()


def bare(message: Any) -> Any:
    """Return a message without what it carries."""
    return message.message if type(message) is Carried else message
