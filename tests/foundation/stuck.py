"""Actors, and other things, that get stuck in all the ways there are: for tests of how a process ends."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from pathlib import Path

import structlog

from supervision import Actor, Message, handle


class Go(Message, frozen=True):
    """Begin."""


class Beginning(Actor):
    """Begins with something once it is started."""

    def init(self) -> None:
        """Begin soon."""
        self.ref.cast(Go())


class BlocksWhenTold(Actor):
    """Blocks the loop while somebody writes into a named pipe."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def init(self) -> None:
        """Wait for somebody in a thread, which does not block yet."""
        self.waiting = asyncio.ensure_future(asyncio.to_thread(self.file.open))
        self.waiting.add_done_callback(lambda opened: opened.result().read())


class Stubborn(Beginning):
    """Does not end, whatever is done."""

    shutdown = 0.1

    @handle
    async def go(self, message: Go) -> None:
        """Go on for ever."""
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except BaseException:
                self.runtime.clock.time()


class Slow(Beginning):
    """Takes its time to stop."""

    trap_exit = True
    shutdown = 1000.0

    async def terminate(self, reason: object) -> None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()

    @handle
    def go(self, message: Go) -> None:
        """Do nothing."""


class Waits(Beginning):
    """Blocks the loop: it waits for what never comes."""

    @handle
    def go(self, message: Go) -> None:
        """Block."""
        told("blocks")
        threading.Event().wait()


class Computes(Beginning):
    """Blocks the loop, and the interpreter: signal handlers do not run."""

    @handle
    def go(self, message: Go) -> None:
        """Compute something long, in C."""
        told("blocks")
        sum(range(10**15))


class BlocksThread(Beginning):
    """Has a thread blocked that the interpreter waits for when it ends."""

    @handle
    def go(self, message: Go) -> None:
        """Block a thread."""
        threading.Thread(target=threading.Event().wait, name="blocked-thread").start()


class BlocksExecutor(Beginning):
    """Has a thread of the loop's executor blocked."""

    @handle
    def go(self, message: Go) -> None:
        """Block it."""
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)


class BlocksAtExit(Beginning):
    """Has an exit handler that blocks."""

    @handle
    def go(self, message: Go) -> None:
        """Register it."""
        atexit.register(threading.Event().wait)


class Storm(Beginning):
    """Logs, prints and crashes without end; the loop goes on."""

    @handle
    async def go(self, message: Go) -> None:
        """Say a lot."""
        for _ in range(50):
            structlog.get_logger("storm").warning("storm", text="x" * 10_000)
            print("x" * 10_000)
        await self.runtime.sleep(0.01)
        raise RuntimeError("storm")


def told(what: str) -> None:
    """Say something at once: what is printed goes through a thread."""
    os.write(1, f"{what}\n".encode())
