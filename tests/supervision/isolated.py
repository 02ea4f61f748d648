"""Actors that live in processes of their own, for tests. They must be importable there."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from supervision import IGNORE, Actor, ExitReason, IdleTimeout, Message, Refuse, ReplyTo, Request, handle


class Point(Message, frozen=True):
    """A point."""

    x: int


class Echo(Request[Any], frozen=True):
    """Anything plain, to be sent back."""

    value: Any


class Points(Request[list[Point]], frozen=True):
    """How many points to make."""

    n: int


class Pid(Request[int], frozen=True):
    """In which process are you?"""


class Do(Request[Any], frozen=True):
    """Something to be done, by name."""

    what: str


class Slowly(Request[Any], frozen=True):
    """The same, after a while."""

    what: str


class Cast(Message, frozen=True):
    """The same, without an answer."""

    what: str


class Strange(Request[Any], frozen=True):
    """Something that nobody handles."""


class Odd(Exception):
    """An error whose arguments do not make it."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


async def never() -> None:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()


class Isolated(Actor):
    """Does what it is told, somewhere else."""

    isolation = "process"

    def __init__(self, log: str | None = None, point: Point | None = None, init: str = "ok") -> None:
        self.log = log
        self.point = point
        self.how = init
        self.token: ReplyTo[Any] | None = None
        self.seen: list[Any] = []

    def init(self) -> Any:
        """Start, or do not."""
        match self.how:
            case "ignore":
                return IGNORE
            case "raise":
                raise LookupError("no start")
            case "refuse":
                raise Refuse("does not want to")
            case "die":
                os._exit(7)
            case "hang":
                return never()
            case "slow":
                return self.runtime.sleep(0)
        return None

    def write(self, text: str) -> None:
        """Write into a file that outlives the process."""
        if self.log is not None:
            with Path(self.log).open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    @handle
    def echo(self, request: Echo) -> Any:
        """Send it back."""
        return request.value

    @handle
    async def points(self, request: Points) -> list[Point]:
        """Make points."""
        await self.runtime.sleep(0)
        if request.n < 0:
            return "no points"  # type: ignore[return-value]
        return [Point(n) for n in range(request.n)]

    @handle
    def pid(self, request: Pid) -> int:
        """Say it."""
        return os.getpid()

    @handle
    async def slowly(self, request: Slowly) -> Any:
        """Refuse, or stop, after a while."""
        await self.runtime.sleep(0)
        if request.what == "refuse":
            raise Refuse(KeyError("later"))
        self.stop()
        return "stopped"

    @handle
    def do(self, request: Do) -> Any:
        """Do it."""
        return getattr(self, f"do_{request.what}")()

    @handle
    def cast(self, message: Cast) -> None:
        """Do it."""
        getattr(self, f"do_{message.what}")()

    @handle
    def idle(self, message: IdleTimeout) -> None:
        """Stop after a while."""
        self.write("idle")
        self.stop("idle")

    def unhandled(self, message: Any) -> Any:
        """Remember it."""
        if not isinstance(message, Strange):
            self.seen.append(type(message).__name__)
            return None
        return super().unhandled(message)

    def terminate(self, reason: ExitReason) -> None:
        """Say so."""
        self.write(f"terminate {reason}")

    def do_seen(self) -> Any:
        """Return what was seen, and the point."""
        return [*self.seen, None if self.point is None else self.point.x]

    def do_segfault(self) -> None:
        """Crash the interpreter."""
        ctypes.string_at(0)

    def do_raise(self) -> None:
        """Crash."""
        raise LookupError("no such thing")

    def do_refuse(self) -> None:
        """Refuse."""
        raise Refuse(KeyError("nothing there"))

    def do_odd(self) -> None:
        """Refuse with an error that cannot be rebuilt."""
        raise Refuse(Odd(1, 2))

    def do_closed(self) -> None:
        """Refuse with an error that holds what cannot travel."""
        raise Refuse(LookupError(threading.Lock()))

    def do_unsendable(self) -> Any:
        """Answer with what cannot be sent."""
        return threading.Lock()

    def do_exit(self) -> None:
        """End the process as if all were well."""
        os._exit(0)

    def do_exit5(self) -> None:
        """End the process with a status."""
        os._exit(5)

    def do_stop(self) -> str:
        """End in order, with an answer."""
        self.stop()
        return "stopped"

    def do_stop_oddly(self) -> None:
        """End for a reason that cannot travel."""
        self.stop(threading.Lock())

    def do_idle(self) -> None:
        """Wait for a message, but not for long."""
        self.idle_timeout(0.01)

    def do_defer(self) -> None:
        """Answer later."""
        self.token = self.defer_reply()

    def do_answer(self) -> None:
        """Answer now what was put off."""
        assert self.token is not None
        self.token.reply("by and by")

    def do_hang(self) -> Any:
        """Never answer."""
        self.write("hangs")
        threading.Event().wait()

    def do_half_a_frame(self) -> None:
        """Write the beginning of a frame, and die."""
        os.write(int(sys.argv[1]), b"\x00\x00\x01\x00half")
        os.kill(os.getpid(), signal.SIGKILL)

    def do_nonsense(self) -> None:
        """Write what is no frame."""
        os.write(int(sys.argv[1]), b"\x00\x00\x00\x04what")

    def do_too_long(self) -> None:
        """Announce a frame that is too long."""
        os.write(int(sys.argv[1]), b"\xff\xff\xff\xff")

    def do_wrong(self) -> None:
        """Send a frame that does not belong here."""
        os.write(int(sys.argv[1]), b"\x00\x00\x00\x09\x91\xa7Started")

    def do_path(self) -> list[str]:
        """Say where modules are looked for."""
        return sys.path


class Trapping(Isolated):
    """The same, trapping exits."""

    trap_exit = True
