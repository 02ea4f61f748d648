"""Faults: what can go wrong with an actor, as data that can be written into a plan.

Each is inflicted on one incarnation, at one moment. Some last until something happens, such as the next message; all of
those can be healed before. What each is good for is said in ``docs/chaos-testing.md``.
"""

from __future__ import annotations

from typing import Literal, get_args, get_type_hints

import msgspec

from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole


class Fault(msgspec.Struct, frozen=True, tag_field="fault", omit_defaults=True, forbid_unknown_fields=True):
    """The base of all faults.

    Raises:
        BadOption, BadTime: an argument is none that this fault has.
    """

    def __post_init__(self) -> None:
        name = type(self).__name__
        words = get_type_hints(type(self))
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if field == "seconds":
                seconds(f"{name}: seconds", value)
            elif field == "share":
                if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
                    raise BadOption(f"{name}: share", value, "give a number from 0 to 1")
            elif field in ("skip", "times", "amount"):
                if not is_whole(value, 0):
                    raise BadOption(f"{name}: {field}", value, "give a whole number, 0 or more")
            elif (known := get_args(words[field])) and str not in known and value not in known:
                raise BadOption(f"{name}: {field}", value, f"choose one of {', '.join(known)}")


class Kill(Fault, frozen=True, tag="kill"):
    """Kill it, whatever it is doing: no cleanup, and what its code still does has no effect."""


class ExitFault(Fault, frozen=True, tag="exit"):
    """Send it an exit signal. One that traps exits gets a message; ``normal`` has no effect on others.

    Args:
        reason: ``normal``, ``shutdown``, ``kill``, or anything else, which becomes an abnormal reason.
    """

    reason: str = "chaos"


class Crash(Fault, frozen=True, tag="crash"):
    """Let its handler raise an exception.

    Args:
        message: the text of the `ChaosCrash`.
        skip: how many messages are handled before.
        only: the name of a class of messages; others do not count.
    """

    message: str = "chaos"
    skip: int = 0
    only: str | None = None


class KillDuring(Fault, frozen=True, tag="kill_during"):
    """Kill it at a bad moment.

    Args:
        phase: ``init`` of its next start; the next ``handler``, in which it has a message in hand; ``terminate``, when
            it is told to end; the next ``restart``, when its replacement starts.
    """

    phase: Literal["init", "handler", "terminate", "restart"] = "handler"


class FailStart(Fault, frozen=True, tag="fail_start"):
    """Let its next starts fail.

    Args:
        times: how many.
        how: ``raise`` an exception, ``refuse`` without a crash report, ``ignore`` the start, ``hang`` until it is
            stopped, or be ``slow``: start well, but ``seconds`` later.
        seconds: for ``slow``.
        pattern: which of the next starts, such as ``"x.x"`` for the first and the third; instead of ``times``.
    """

    times: int = 1
    how: Literal["raise", "refuse", "ignore", "hang", "slow"] = "raise"
    seconds: float = 1.0
    pattern: str = ""

    def hits(self, start: int) -> bool:
        """Whether the start with this number, from 0, is to fail."""
        return self.pattern[start : start + 1] == "x" if self.pattern else start < self.times

    def lasts(self, start: int) -> bool:
        """Whether any start from this number on is to fail."""
        return "x" in self.pattern[start:] if self.pattern else start < self.times


class SlowStop(Fault, frozen=True, tag="slow_stop"):
    """Let it take ``seconds`` more to end when it is told to."""

    seconds: float = 1.0


class RefuseStop(Fault, frozen=True, tag="refuse_stop"):
    """Let it ignore the order to end, so that it has to be killed.

    Args:
        swallow: whether it also catches its cancellation, so that its code lives on as a zombie for a while.
    """

    swallow: bool = False


class Hang(Fault, frozen=True, tag="hang"):
    """Let it wait ``seconds`` before it handles its next message; the others wait behind that."""

    seconds: float = 1.0


class BlockLoop(Fault, frozen=True, tag="block_loop"):
    """Let its next handler block the whole event loop for ``seconds`` of real time."""

    seconds: float = 1.0


class SwallowCancel(Fault, frozen=True, tag="swallow_cancel"):
    """Let its next handler wait, and catch its cancellation ``times`` times, before it handles the message."""

    times: int = 1


class Drop(Fault, frozen=True, tag="drop"):
    """Lose messages to it on the way.

    What it sends to itself, also by a timer, is not affected; nor is it by `Delay` and `Duplicate`.

    Args:
        share: which share of them, from 0 to 1.
        only: the name of a class of messages; others arrive.
    """

    share: float = 1.0
    only: str | None = None


class Delay(Fault, frozen=True, tag="delay"):
    """Let messages to it arrive ``seconds`` late; their order stays.

    Args:
        seconds: how late.
        only: the name of a class of messages; others are not late, unless they stand behind one that is.
    """

    seconds: float = 1.0
    only: str | None = None


class Duplicate(Fault, frozen=True, tag="duplicate"):
    """Let messages to it arrive twice. The answer to the second of two requests vanishes.

    Args:
        share: which share of them, from 0 to 1.
        only: the name of a class of messages; others arrive once.
    """

    share: float = 1.0
    only: str | None = None


class LateReply(Fault, frozen=True, tag="late_reply"):
    """Let it answer its next request ``seconds`` late, when the caller may have given up."""

    seconds: float = 10.0


class Suspend(Fault, frozen=True, tag="suspend"):
    """Hold it for ``seconds``: messages wait, and calls time out."""

    seconds: float = 1.0


class Exhaust(Fault, frozen=True, tag="exhaust"):
    """Use up something for ``seconds``.

    Args:
        what: the room in its ``mailbox``, filled with messages that nobody handles; the process's ``files``; its
            ``threads``; or ``tasks`` of the loop.
        amount: how many.
        seconds: for how long, except for the mailbox.
    """

    what: Literal["mailbox", "files", "threads", "tasks"] = "mailbox"
    amount: int = 100
    seconds: float = 1.0


class Sigkill(Fault, frozen=True, tag="sigkill"):
    """Send SIGKILL to the process in which an isolated actor lives. Nothing happens to one that has none."""


#: All of them, for plans.
AnyFault = (
    Kill
    | ExitFault
    | Crash
    | KillDuring
    | FailStart
    | SlowStop
    | RefuseStop
    | Hang
    | BlockLoop
    | SwallowCancel
    | Drop
    | Delay
    | Duplicate
    | LateReply
    | Suspend
    | Exhaust
    | Sigkill
)


class ChaosCrash(Exception):
    """What an actor raises when the fault `Crash` hits it."""
