"""Exit reasons: why an actor ended, as data that can be compared, logged and sent.

The vocabulary is OTP's. ``normal``, ``shutdown`` and ``shutdown`` with a note are *clean* ends; everything else is not.
A supervisor restarts a transient child only after an end that is not clean.

>>> NORMAL.clean, Shutdown("maintenance").clean, KILLED.clean
(True, True, False)
>>> str(as_reason("out of paint"))
"'out of paint'"
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import msgspec

from supervision.messages import describe

#: How many characters of a value are shown in the text of a reason. The reason itself has it whole.
LONG = 1000

_KERNEL = str(Path(__file__).parent) + os.sep


class ExitReason(msgspec.Struct, frozen=True, tag_field="reason"):
    """The base of all exit reasons. ``clean`` tells an ordinary end from a failure."""

    clean: ClassVar[bool] = False

    def __str__(self) -> str:
        return type(self).__name__.lower()


class Normal(ExitReason, frozen=True, tag="normal"):
    """The actor ended ordinarily."""

    clean: ClassVar[bool] = True


class Shutdown(ExitReason, frozen=True, tag="shutdown"):
    """An ordered or voluntary early end; ``note`` says more (OTP's ``{shutdown, Term}``)."""

    clean: ClassVar[bool] = True
    note: Any = None

    def __str__(self) -> str:
        return "shutdown" if self.note is None else f"shutdown ({describe(self.note, LONG, str)})"


class Kill(ExitReason, frozen=True, tag="kill"):
    """The order to die that cannot be trapped when it is sent by ``exit``; what others then see is `Killed`."""


class Killed(ExitReason, frozen=True, tag="killed"):
    """The actor was killed: it ran no cleanup code that could be seen from outside."""


class ProcessExited(ExitReason, frozen=True, tag="process_exited"):
    """The process of an isolated actor ended without an Ended frame: with ``status``, or by ``signal``."""

    status: int
    signal: str = ""

    def __str__(self) -> str:
        how = f"was ended by {self.signal}" if self.signal else f"ended with status {self.status}"
        return f"its process {how}"


class NoProc(ExitReason, frozen=True, tag="noproc"):
    """There was no such actor."""

    def __str__(self) -> str:
        return "no such actor"


class NoConnection(ExitReason, frozen=True, tag="noconnection"):
    """The node of the actor can no longer be reached."""

    node: str = ""

    def __str__(self) -> str:
        return f"no connection to node {self.node}" if self.node else "no connection"


class StartTimeout(ExitReason, frozen=True, tag="start_timeout"):
    """The actor did not finish ``init`` within ``seconds``."""

    seconds: float

    def __str__(self) -> str:
        return f"init took longer than {self.seconds:g} s"


class Abnormal(ExitReason, frozen=True, tag="abnormal"):
    """Any other reason, as the value that was given."""

    term: Any

    def __str__(self) -> str:
        return describe(self.term, LONG)


class BadReturnValue(ExitReason, frozen=True, tag="bad_return_value"):
    """A callback returned a value that means nothing there (only handlers of a `Request` return one)."""

    value: Any

    def __str__(self) -> str:
        return f"bad return value {describe(self.value, LONG)}"


class FailedToStartChild(ExitReason, frozen=True, tag="failed_to_start_child"):
    """A supervisor could not start the child ``id``, for ``cause``."""

    id: Any
    cause: ExitReason

    def __str__(self) -> str:
        return f"failed to start child {describe(self.id)}: {self.cause}"


class ApplicationEnded(ExitReason, frozen=True, tag="application_ended"):
    """A permanent or transient application ended, so that all others were stopped."""

    name: str
    cause: ExitReason

    def __str__(self) -> str:
        return f"application {self.name!r} ended: {self.cause}"


class FailedCallback(ExitReason, frozen=True, tag="failed_callback"):
    """A callback of an application failed, or returned what means nothing there."""

    callback: str
    cause: ExitReason

    def __str__(self) -> str:
        return f"{self.callback}: {self.cause}"


class StackFrame(msgspec.Struct, frozen=True, array_like=True):
    """One line of a traceback."""

    file: str
    line: int
    function: str


class Crashed(ExitReason, frozen=True, tag="crashed"):
    """An exception that nobody caught: its class, its message and where it was raised, innermost frame last."""

    kind: str
    message: str
    frames: tuple[StackFrame, ...] = ()

    def __str__(self) -> str:
        where = f" at {Path(self.frames[-1].file).name}:{self.frames[-1].line}" if self.frames else ""
        return f"{self.kind}: {self.message}{where}" if self.message else f"{self.kind}{where}"

    def traceback(self) -> str:
        """Return the traceback as Python prints it, source lines included where the files can be read."""
        import traceback

        lines = traceback.StackSummary.from_list([(f.file, f.line, f.function, None) for f in self.frames]).format()
        return "Traceback (most recent call last):\n" + "".join(lines) + f"{self.kind}: {self.message}"


#: The exit reasons of the kernel: those that can be sent, and read as what they are.
REASONS: tuple[type[ExitReason], ...] = (
    Normal,
    Shutdown,
    Kill,
    Killed,
    ProcessExited,
    NoProc,
    NoConnection,
    StartTimeout,
    Abnormal,
    BadReturnValue,
    FailedToStartChild,
    ApplicationEnded,
    FailedCallback,
    Crashed,
)

NORMAL = Normal()
SHUTDOWN = Shutdown()
KILL = Kill()
KILLED = Killed()
NOPROC = NoProc()


def _frames(traceback: TracebackType | None) -> tuple[StackFrame, ...]:
    own = traceback
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_KERNEL):
        own = own.tb_next
    frame = own or traceback
    frames = []
    while frame is not None:
        code = frame.tb_frame.f_code
        frames.append(StackFrame(code.co_filename, frame.tb_lineno, code.co_qualname))
        frame = frame.tb_next
    return tuple(frames)


def crashed(error: BaseException) -> Crashed:
    """Describe an exception as an exit reason. Frames of the kernel above the actor's own code are left out."""
    kind = type(error)
    try:
        message = str(error)
    except Exception as broken:
        message = f"<its message could not be made: {type(broken).__name__}>"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Crashed(name, message, _frames(error.__traceback__))


def as_reason(value: object) -> ExitReason:
    """Turn what a user gave as a reason into an `ExitReason`.

    An `ExitReason` stays as it is, an exception becomes `Crashed`, anything else `Abnormal`.
    """
    if isinstance(value, ExitReason):
        return value
    if isinstance(value, BaseException):
        return crashed(value)
    return Abnormal(value)
