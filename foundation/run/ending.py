"""The end of the process: within its limit, whatever is stuck."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

#: Seconds beyond the limit of the tree for what is ended by force, for loops that are closed and for exit handlers.
LAST = 5.0
#: Seconds in which it has to be told what is stuck.
TELLING = 2.0


class Ending:
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
    frame = sys._current_frames().get(main.ident or 0)
    where = "" if frame is None else f" is at {frame.f_code.co_filename}:{frame.f_lineno}"
    others = [t.name for t in threading.enumerate() if t is not main and not t.daemon]
    return ", ".join([f"the main thread{where}", *(f"the thread {name}" for name in others)])
