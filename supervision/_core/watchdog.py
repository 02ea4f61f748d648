"""The watchdog: a thread that notices when the event loop is blocked, and reports the actor and the line.

It asks the loop for a sign of life all the time; when none comes within the limit it looks at the stack of the loop's
thread. It reports and does nothing else: see section 3.3 of the reference for what could be done and why it is not.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from supervision import events
from supervision._core.cell import Cell
from supervision._core.start import start
from supervision._core.turns import answer_at_once, resume, run_turns
from supervision.clock import machine_time
from supervision.frames import frames_of_threads

if TYPE_CHECKING:
    from supervision.runtime import Runtime

_CODES = (run_turns.__code__, answer_at_once.__code__, resume.__code__, start.__code__)


#: While the loop stands still it is reported again after twice the time, up to so many seconds between two reports.
_LONGEST = 60.0


class Watchdog:
    """Reports a loop that has not moved for ``limit`` seconds, within a tenth of the limit.

    It is reported again as long as it lasts, each time after twice the time, and when it is over, with its length.
    """

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        self._runtime = runtime
        self._loop = loop
        self._limit = limit
        self._loop_thread = threading.get_ident()
        self._alive = threading.Event()
        self._answered = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{runtime.label}-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch. It is the loop that calls this, and so is alive."""
        self._answered = machine_time()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and wait for the thread."""
        self._closed.set()
        self._alive.set()
        self._thread.join()

    def _answer(self) -> None:
        """Run by the loop: a sign of life."""
        self._answered = machine_time()
        self._alive.set()

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._alive.clear()
            asked = machine_time()
            # Code that does not release the interpreter stops this thread too: then the time since the last sign of
            # life was long, whenever this thread runs again.
            since = asked if asked - self._answered < self._limit else self._answered
            try:
                self._loop.call_soon_threadsafe(self._answer)
                self._wait(since)
            except RuntimeError:
                return
            self._closed.wait(self._limit / 10)

    def _wait(self, since: float) -> None:
        """Wait for the sign of life, and report while there is none; then report how long it took, if it was long."""
        pause, again = self._limit, False
        while not self._alive.wait(pause):
            if self._loop.is_closed():
                return
            self._report(machine_time() - since, again)
            again = True
            pause = min(2 * pause, max(_LONGEST, self._limit))
        seconds = self._answered - since
        if seconds >= self._limit and not self._closed.is_set():
            self._loop.call_soon_threadsafe(lambda: self._runtime.events.emit(events.LoopUnblocked, seconds=seconds))

    def _report(self, seconds: float, again: bool) -> None:
        what = _describe(frames_of_threads().get(self._loop_thread))
        self._runtime.events.emit_from_thread(events.LoopBlocked, seconds=seconds, again=again, **what)


def _describe(frame: FrameType | None) -> dict[str, object]:
    if frame is None:
        return {"path": None, "file": "?", "line": 0, "stack": ""}
    stack = "".join(traceback.format_stack(frame))
    culprit: FrameType | None = frame
    path = None
    while culprit is not None:
        if culprit.f_code in _CODES:
            cell = culprit.f_locals.get("cell")
            path = cell.path if isinstance(cell, Cell) else None
            break
        culprit = culprit.f_back
    return {"path": path, "file": frame.f_code.co_filename, "line": frame.f_lineno, "stack": stack}
