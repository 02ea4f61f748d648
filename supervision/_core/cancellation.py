"""What becomes of the code of killed actors: it is fenced, and then made to end.

A fence takes the effect from whatever that code still does. Then comes the cancellation ladder: cancel, cancel again,
close, report a zombie. Python cannot force a coroutine to end. So the code of a killed actor that goes on is cancelled,
up to three times; then closed, which gets past ``except CancelledError`` and ``except Exception``; and if it swallows
even that, reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING
from weakref import ref

from supervision import events
from supervision._core.deadlines import Deadlines
from supervision._core.death import body_closed
from supervision._core.phases import DEAD, EXITING, current

if TYPE_CHECKING:
    from supervision._core.cell import Cell

CANCELS = 3


class CancellationLadder:
    """The attempts to end the code of one killed actor. ``since`` is when it was killed."""

    __slots__ = ("_cancels", "_cell", "_sched", "given_up", "since")

    def __init__(self, sched: Fencing, cell: Cell) -> None:
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


class Fencing(Deadlines):
    """The part of a `Scheduler` that deals with the code of killed actors."""

    __slots__ = ("_killed", "fenced", "ladders")

    _killed: set[ref[Cell]]
    #: How many killed actors there are whose code, or whose tasks, may still do something.
    fenced: int
    ladders: dict[Cell, CancellationLadder]

    def is_fenced(self) -> bool:
        """Whether the code that runs belongs to a dead actor."""
        cell = current.get()
        return cell is not None and cell.phase == DEAD

    def fence(self, cell: Cell) -> None:
        """Fence the code of a killed actor: nothing that it does has an effect any more."""
        self.fenced += 1
        self.ladders[cell] = CancellationLadder(self, cell)

    def fence_tasks(self, cell: Cell) -> None:
        """Fence the tasks of a killed actor, for as long as any of them may exist."""

        def gone(killed: ref[Cell]) -> None:
            self._killed.discard(killed)
            self.fenced -= 1

        self.fenced += 1
        self._killed.add(ref(cell, gone))

    def climb(self, cell: Cell) -> None:
        """Begin to stop the code of a fenced actor."""
        self.ladders[cell].climb()

    def stop_waiting_code(self, cell: Cell) -> None:
        """Cancel the coroutine of an actor that ended while it was running."""
        assert cell.worker is not None
        if cell.phase == DEAD:
            self.climb(cell)
        else:
            cell.worker.cancel()
            self.end_in_time(cell)

    def unfence(self, cell: Cell) -> None:
        """Lift the fence of an actor whose code has ended."""
        ladder = self.ladders.pop(cell, None)
        if ladder is not None:
            self.fenced -= 1
            if ladder.given_up:
                cell.emit(events.ZombieEnded, seconds=self.now() - ladder.since)

    def end_in_time(self, cell: Cell) -> None:
        """Declare an actor dead that takes too long to end after an exit signal."""

        def too_late() -> None:
            if cell.phase == EXITING and cell.exit_reason is not None:
                cell.end_by_force(cell.exit_reason)

        self.timers.after(self.runtime.exit_grace, too_late)

    def interrupt(self, error: BaseException) -> None:
        """Pass a Ctrl-C that hit an actor on: the actor crashes, and the loop raises KeyboardInterrupt."""
        if isinstance(error, KeyboardInterrupt):
            self.loop.call_soon(_raise, error)


def _raise(error: BaseException) -> None:
    raise error


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
