"""The cancellation ladder: cancel, cancel again, close, report a zombie.

Python cannot force a coroutine to end. So the code of a killed actor that goes on is cancelled, up to three times; then
closed, which gets past ``except CancelledError`` and ``except Exception``; and if it swallows even that, reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from supervision import events
from supervision._core.death import body_closed

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision._core.scheduler import Scheduler

CANCELS = 3


class CancellationLadder:
    """The attempts to end the code of one killed actor. ``since`` is when it was killed."""

    __slots__ = ("_cancels", "_cell", "_sched", "given_up", "since")

    def __init__(self, sched: Scheduler, cell: Cell) -> None:
        self._sched = sched
        self._cell = cell
        self._cancels = 0
        self.since = sched.now()
        self.given_up = False

    def climb(self) -> None:
        """Take the next step, and come back after the grace time if the code still runs."""
        cell = self._cell
        if cell.body is None or cell.worker is None:
            return
        if self._cancels < CANCELS:
            self._cancels += 1
            cell.worker.cancel()
        elif self._closed():
            return
        else:
            self.given_up = True
            cell.emit(events.Zombie, stack=stack_of(cell))
            return
        self._sched.timers.after(self._sched.runtime.kill_grace, self.climb)

    def _closed(self) -> bool:
        cell = self._cell
        body, worker = cell.body, cell.worker
        assert body is not None
        assert worker is not None
        try:
            cell.context_of().run(body.close)
        except BaseException:
            if getattr(body, "cr_frame", None) is not None:
                worker.cancel()  # It waits for something else now, which its worker does not know.
                return False
        body_closed(cell)
        worker.cancel()
        return True


def stack_of(cell: Cell) -> str:
    """Return where the code of an actor waits, as a traceback, innermost frame last."""
    lines = (
        f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_qualname}\n'
        for frame in frames_of(cell.body)
    )
    return "".join(lines)


def frames_of(code: object) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine, and of all that it awaits, innermost last."""
    while code is not None:
        frame = getattr(code, "cr_frame", None) or getattr(code, "gi_frame", None)
        if frame is not None:
            yield frame
        code = getattr(code, "cr_await", None) or getattr(code, "gi_yieldfrom", None)
