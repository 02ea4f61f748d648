"""Calls: a request on its way, and the token with which it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supervision.errors import AlreadyReplied

if TYPE_CHECKING:
    from supervision._core.cell import Cell

R = TypeVar("R")

#: Seconds that a call waits for its answer unless it says otherwise (OTP's 5000 ms).
DEFAULT_TIMEOUT = 5.0


class Call(asyncio.Future[R]):
    """A request that was sent, and the future of its answer.

    ``await`` it for the answer. It may also be kept, passed to `asyncio.wait`, or cancelled: a request that nobody
    waits for any more is not handled, and an answer that comes late vanishes.
    """

    __slots__ = ("_begun", "again", "caller", "deadline", "load", "message", "target")

    #: The actor in whose handler the call was made. Not set if it was made elsewhere.
    caller: Cell
    #: What it carries. Not set if nothing.
    load: Any
    message: Any
    target: Cell
    deadline: float | None
    #: The name whose next holder gets it if its target ends before it is begun. Unset: the call fails with its target.
    again: str
    #: Set when a handler begins the request, and not before: a call that is answered costs one store.
    _begun: bool

    @property
    def begun(self) -> bool:
        """Whether a handler has begun the request. What none has begun has left no trace, and can be asked again.

        It stays true whatever becomes of the request then: while it is put aside, or waits to be handled a second time,
        or is to be answered later, unless its actor says that it has done nothing for it yet
        (``defer_reply(begun=False)``). A request that has failed and was not begun will never be.
        """
        return getattr(self, "_begun", False)


class ReplyTo(Generic[R]):
    """The right to answer one request, once, from anywhere: it can be kept or handed to another actor."""

    __slots__ = ("_call", "_cell")

    def __init__(self, cell: Cell, call: Call[R]) -> None:
        self._cell = cell
        self._call: Call[R] | None = call

    @property
    def request(self) -> Any:
        """The request to be answered, or None once it is."""
        return None if self._call is None else self._call.message

    @property
    def waiting(self) -> bool:
        """Whether the caller still waits for the answer."""
        return self._call is not None and not self._call.done()

    @property
    def deadline(self) -> float | None:
        """The runtime's time at which the caller gives up, or None if it never does."""
        return None if self._call is None else self._call.deadline

    def begin(self) -> bool:
        """Begin a request that was deferred with ``defer_reply(begun=False)``. Call it before anything else is done.

        Returns:
            Whether it is to be carried out: whether the caller still waits. If not, it may have been sent to another
            actor, and must be left alone.
        """
        call = self._call
        if call is None or call.done():
            return False
        call._begun = True
        return True

    def on_abandoned(self, callback: Callable[[], object]) -> None:
        """Call a function once the caller no longer waits: it has given up, or its deadline has passed.

        Nothing is called if the request is answered before that. It is called in the loop, soon after, and also when
        the actor itself has ended. Nothing of the request is kept for the actor from then on; an answer vanishes.
        """
        call = self._call
        if call is not None:
            call.add_done_callback(lambda _: self._abandoned(call, callback))

    def _abandoned(self, call: Call[R], callback: Callable[[], object]) -> None:
        if self._call is call:
            if self._cell.deferred is not None:
                self._cell.deferred.pop(call, None)
            callback()

    def _take(self, outcome: Any) -> Call[R] | None:
        call = self._call
        if call is None:
            raise AlreadyReplied("this request")
        if self._cell.sched.fenced and self._cell.sched.is_fenced():
            self._cell.dead_letter(call.message, "fenced")
            return None
        self._call = None
        self._cell.deferred_done(call, outcome)
        return call

    def reply(self, value: R) -> None:
        """Answer the request. The answer vanishes if the caller has given up, or if the actor has been killed.

        Raises:
            AlreadyReplied: it has been answered already.
        """
        call = self._take(value)
        if call is not None:
            self._cell.sched.reply(call, value)

    def fail(self, error: BaseException) -> None:
        """Answer the request with an exception that the caller's ``await`` raises.

        Raises:
            AlreadyReplied: it has been answered already.
        """
        call = self._take(error)
        if call is not None:
            self._cell.sched.fail(call, error)
