"""The watchdog: a thread that notices when the event loop is blocked, and says by which actor and at which line.

It asks the loop for a sign of life all the time; when none comes within the limit it looks at the stack of the loop's
thread. It reports and does nothing else: see section 3.3 of the reference for what could be done and why it is not.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from supervision import events
from supervision._cell import Cell
from supervision._start import start
from supervision._turns import resume, run_turns

if TYPE_CHECKING:
    from supervision.runtime import Runtime

_CODES = (run_turns.__code__, resume.__code__, start.__code__)


class Watchdog:
    """Reports a loop that has not moved for ``limit`` seconds, within a tenth of the limit."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        self._runtime = runtime
        self._loop = loop
        self._limit = limit
        self._loop_thread = threading.get_ident()
        self._alive = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{runtime.label}-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and wait for the thread."""
        self._closed.set()
        self._alive.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return
            asked = self._runtime.clock.time()
            if self._alive.wait(self._limit):
                self._closed.wait(self._limit / 10)
            else:
                self._report(asked)

    def _report(self, asked: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        event = _describe(frame)
        seconds = self._runtime.clock.time() - asked
        self._tell(event, seconds)
        self._alive.wait()
        if not self._closed.is_set():
            total = self._runtime.clock.time() - asked
            self._loop.call_soon_threadsafe(lambda: self._runtime.events.emit(events.LoopUnblocked, seconds=total))

    def _tell(self, what: dict[str, object], seconds: float) -> None:
        self._runtime.events.emit(events.LoopBlocked, seconds=seconds, **what)


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
