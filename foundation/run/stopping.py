"""Stopping: Ctrl-C, SIGTERM and SIGHUP ask for an orderly stop; a second one, or a deadline, ends the process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from supervision.frames import frames_of_threads

HANDLED = tuple(each for each in signal.Signals if each.name in ("SIGINT", "SIGTERM", "SIGHUP"))

#: Seconds beyond the limit of the tree for what is ended by force, for loops that are closed and for exit handlers.
LAST = 5.0

#: Seconds in which it has to be told what is stuck.
TELLING = 2.0

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class StopSignals:
    """Hears of the signals that ask this process to stop.

    Args:
        begin: called in the signal handler, at the first one.
    """

    def __init__(self, begin: Callable[[], object] = lambda: None) -> None:
        self._begin = begin
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Set by the first signal.
        self.stop = asyncio.Event()
        #: The name of the first signal; empty before it.
        self.name = ""

    def listen(self) -> None:
        """Tell the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        if self.name:
            self.stop.set()

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Take the first signal. Called by the interpreter between any two instructions of the main thread.

        Nothing is printed, locked or waited for here.
        """
        end_at_once()
        self.name = signal.Signals(number).name
        self._begin()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.stop.set)

    def ask(self, why: str) -> None:
        """Ask for an orderly stop as a signal does, on the loop; ``why`` stands for its name."""
        if not self.stop.is_set():
            self.name = why
            self._begin()
            self.stop.set()

    @contextmanager
    def installed(self) -> Generator[StopSignals]:
        """Handle signals within the block, and restore what was there before. An ignored SIGHUP (``nohup``) stays."""
        before: dict[signal.Signals, _Handler] = {number: signal.getsignal(number) for number in HANDLED}
        for number, handler in before.items():
            if number is signal.SIGHUP and handler == signal.SIG_IGN:
                continue
            signal.signal(number, self.receive)
            deliver_once(number)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def end_at_once(process: int | None = None) -> None:
    """Let the kernel end the process at the next signal: this works whatever it is stuck in.

    The first process of a container is an exception: there the kernel ignores a signal without a handler.
    """
    first = (os.getpid() if process is None else process) == 1
    for number in HANDLED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave if first else signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's shape
    os._exit(128 + number)


def deliver_once(number: int, library: Any = None) -> bool:
    """Have the kernel forget the handler of a signal once it has delivered it.

    The interpreter runs handlers between two instructions. In code that keeps it from that (one long computation in C)
    the first signal has no effect yet; so the second ends the process.

    Args:
        number: the signal.
        library: the C library; the process's own if None.

    Returns:
        Whether the C library can do this: that of GNU can.
    """
    try:
        known = ctypes.CDLL(None) if library is None else library
        forget, install = known.signal, known.sysv_signal
    except (AttributeError, OSError, TypeError):
        return False
    forget.restype = ctypes.c_void_p
    install.argtypes = [ctypes.c_int, ctypes.c_void_p]
    install(number, forget(number, None))
    return True


class ExitDeadline:
    """A thread that ends the process when it has not ended in time. The loop cannot: it may be what is stuck.

    Args:
        leave: ends the process at once.
    """

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        #: Seconds from `begin` on.
        self.limit = LAST
        #: Tells what is stuck. It may get stuck itself.
        self.tell: Callable[[], object] = lambda: None
        self.leave = leave
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._begun = False
        self._due: SimpleQueue[bool] = SimpleQueue()
        self._told = threading.Event()
        threading.Thread(target=self._run, name="ending", daemon=True).start()
        # Both from the beginning: while Python 3.12 waits for threads at its end, no new ones can be made.
        threading.Thread(target=self._tell, name="ending-teller", daemon=True).start()

    def begin(self) -> None:
        """The process is to end: count from here. May be called in a signal handler; twice is once."""
        if not self._begun:
            self._begun = True
            self._orders.put(True)

    def cancel(self) -> None:
        """The process goes on."""
        self._orders.put(False)

    def _run(self) -> None:
        try:
            if self._orders.get():
                self._orders.get(timeout=min(self.limit, threading.TIMEOUT_MAX))
            self._due.put(False)
        except Empty:
            self._due.put(True)
            self._told.wait(TELLING)
            self.leave(1)

    def _tell(self) -> None:
        if self._due.get():
            self.tell()
            self._told.set()


def stuck() -> str:
    """Return which threads keep this process from ending, and where its main thread is."""
    main = threading.main_thread()
    frame = frames_of_threads().get(main.ident or 0)
    where = "" if frame is None else f" is at {frame.f_code.co_filename}:{frame.f_lineno}"
    others = [t.name for t in threading.enumerate() if t is not main and not t.daemon]
    return ", ".join([f"the main thread{where}", *(f"the thread {name}" for name in others)])
