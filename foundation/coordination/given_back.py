"""What is given back: it arrives, whoever gives it back is cut off or has been killed, and whenever its actor restarts.

A message can be lost with a mailbox. So what is given back is kept with the runtime, and the message to its actor only
says that there is something; the next incarnation looks by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from foundation.coordination.kept import kept
from supervision import Call, Message, Runtime
from supervision.errors import CallError

R = TypeVar("R")


class Collect(Message, frozen=True):
    """Something was given back."""


class GivenBack:
    """What was given back to an actor.

    Args:
        runtime: where the actor runs.
        name: of the actor.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._waiting: dict[Any, Any] = kept(runtime, f"{name}: given back")

    def put(self, key: Any, what: Any) -> None:
        """Give something back. The same ``key`` is the same thing.

        The message goes out in nobody's name: the code of a killed actor may do nothing any more, but give back.
        """
        self._waiting[key] = what
        actor = self._runtime.whereis(self._name)
        if actor is not None:
            Context().run(actor.cast, Collect())

    def take(self) -> list[Any]:
        """Return all of it, and forget it."""
        given = list(self._waiting.values())
        self._waiting.clear()
        return given


async def seen(call: Call[R], undo: Callable[[R], object] | None = None) -> R:
    """Wait for an answer; ``undo`` what it grants if whoever waits is cut off before it sees it.

    Args:
        call: the request. It is withdrawn if whoever waits is cut off before there is an answer.
        undo: gets the answer that nobody has seen; None if it grants nothing that could go back.
    """
    try:
        return await call
    except BaseException:
        unseen = not call.cancel() and not call.cancelled() and call.exception() is None
        if unseen and undo is not None:
            undo(call.result())
        raise


async def done(call: Call[R], otherwise: Callable[[], object]) -> R:
    """Wait for the answer to a request that gives something back; give it back ``otherwise`` if there is none.

    Args:
        call: the request. One that nobody waits for any more is not handled.
        otherwise: called if whoever waits is cut off, or the actor is not there, or too late.
    """
    try:
        return await call
    except BaseException:
        if call.cancel() or call.cancelled() or isinstance(call.exception(), CallError):
            otherwise()
        raise
