"""State of coordinators that survives their restart: it is kept with the runtime, under the name of their actor.

So are requests to release or undo something: a message can be lost with a mailbox, so what is given back is kept here,
and the message only says that there is something; the next incarnation looks by itself. Releases and undos survive a
cancelled caller and a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from supervision import Call, Message, Runtime
from supervision.errors import CallError

R = TypeVar("R")


def retained(runtime: Runtime, name: str) -> dict[Any, Any]:
    """Return what is known under a name, for reading and, by the actor of that name, for writing."""
    known: dict[Any, Any] = runtime.shared.setdefault(("foundation.coordination", name), {})
    return known


def remember(known: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Note something of a key; beyond ``most`` keys, the one that was noted first is forgotten."""
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]


class MonotonicCounter:
    """Numbers that only grow, also for what is forgotten and known again: fencing tokens, terms, generations.

    Args:
        runtime: it outlives its actors.
        name: of the actor.

    Whatever is known for the first time begins after the largest number of all that was forgotten.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._known = retained(runtime, f"{name}: numbers")

    @property
    def last(self) -> int:
        """The largest number of what was forgotten."""
        return self._known.get("last", 0)  # type: ignore[no-any-return]

    def next(self) -> int:
        """Return a number that is larger than all of them."""
        self.forget(self.last + 1)
        return self.last

    def forget(self, number: int) -> None:
        """Remember that a number was used, instead of what it was used for."""
        self._known["last"] = max(self.last, number)


class RunUndo(Message, frozen=True):
    """To a coordinator: requests to release or undo something wait for it."""


class UndoQueue:
    """Requests to release or undo something, which wait for an actor.

    Args:
        runtime: where the actor runs.
        name: of the actor.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._waiting: dict[Any, Any] = retained(runtime, f"{name}: given back")

    def put(self, key: Any, what: Any) -> None:
        """Give something back. The same ``key`` is the same thing.

        The message goes out outside the context of the sending actor, which may be killed: it may still give back.
        """
        self._waiting[key] = what
        actor = self._runtime.whereis(self._name)
        if actor is not None:
            Context().run(actor.cast, RunUndo())

    def take(self) -> list[Any]:
        """Return all of it, and forget it."""
        given = list(self._waiting.values())
        self._waiting.clear()
        return given


async def answer_or_undo(call: Call[R], undo: Callable[[R], object] | None = None) -> R:
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


async def answer_or_else(call: Call[R], otherwise: Callable[[], object]) -> R:
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
