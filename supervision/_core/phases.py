"""The phases of an actor, sentinels for the head of a mailbox, and the context variable of the current actor."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from supervision.messages import Down, Exit, IdleTimeout, ParentExit, Wake

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision.call import Call
    from supervision.reasons import ExitReason

STARTING, RUNNING, STOPPING, EXITING, DEAD = range(5)


class Sentinel:
    """A value that is never a message."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


#: At the head of a mailbox: nothing waits, nothing runs.
IDLE: Any = Sentinel("idle")
#: At the head of a mailbox: the actor is starting or has ended.
CLOSED: Any = Sentinel("closed")
#: At the head of a mailbox: the actor is suspended; messages wait.
SUSPENDED: Any = Sentinel("suspended")
#: Returned by ``init`` to decline the start (OTP's ``ignore``).
IGNORE: Any = Sentinel("IGNORE")
#: Results of a turn without a next message: the actor waits, or has ended.
WAITING: Any = Sentinel("waiting")
GONE: Any = Sentinel("gone")

#: The actor in whose context the code runs.
current: ContextVar[Cell | None] = ContextVar("supervision.current_actor", default=None)

#: The request for which the code runs: that of the ``async`` handler that made the task.
answering: ContextVar[Call[Any] | None] = ContextVar("supervision.answering", default=None)

WAKE = Wake()
KERNEL_MESSAGES = (Exit, Down, IdleTimeout, ParentExit)


class Intent:
    """What a handler requested (stop, continue, idle time-out, …), carried out after it returns."""

    __slots__ = ("admitted", "call", "continuations", "idle", "reply", "stop")

    def __init__(self) -> None:
        self.stop: ExitReason | None = None
        self.call: Call[Any] | None = None
        self.reply: Any = None
        self.idle: float | None = None
        self.continuations: deque[Any] = deque()
        #: While the actor is suspended: the messages that it handles all the same.
        self.admitted: deque[Any] | None = None


#: The intent of an actor that has ended; of one whose ``init`` declined the start.
NO_INTENT = Intent()
START_IGNORED = Intent()
