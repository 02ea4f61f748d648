"""What waits on a loop, and where: for the errors that say why a test does not go on."""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervision._core.cancellation import frames_of
from supervision._core.cell import Cell
from supervision._core.phases import DEAD, STARTING, SUSPENDED, Sentinel
from supervision.call import Call
from supervision.messages import describe

if TYPE_CHECKING:
    from supervision.runtime import Runtime


#: Code whose frames do not say where work waits: Python's own, `Runtime.sleep`, and that of interruptions.
_UNINFORMATIVE = (
    sysconfig.get_path("stdlib"),
    "<frozen",
    str(Path(__file__).parents[2] / "runtime.py"),
    str(Path(__file__).parents[1] / "interruptions" / "scenario.py"),
)


def line(work: Any) -> str:
    """Return the innermost line at which a coroutine waits, of code that is not Python's own."""
    frames = list(frames_of(work))
    outside = [frame for frame in frames if not frame.f_code.co_filename.startswith(_UNINFORMATIVE)]
    for frame in reversed(outside or frames):
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
    return "an unknown place"


#: How many lines are shown; the others are counted.
MOST = 10


def who_waits(loop: asyncio.AbstractEventLoop, runtimes: Iterable[Runtime]) -> list[str]:
    """Return who waits on a loop, a line each: the actors of some runtimes, then what else runs as a task."""
    worlds = sorted(runtimes, key=lambda runtime: runtime.label)
    told = [text for runtime in worlds for text in busy(runtime)]
    workers = {f"{runtime.label}-worker" for runtime in worlds}
    tasks = sorted((task for task in asyncio.all_tasks(loop) if task.get_name() not in workers), key=_number)
    return shortened([*told, *(of_task(task) for task in tasks)])


def busy(runtime: Runtime) -> Iterator[str]:
    """Return what each actor does that is not idle, a line each, in the order of their starts."""
    for cell in runtime.actors():
        assert isinstance(cell, Cell)
        text = what_it_does(cell)
        if text:
            yield text


def what_it_does(cell: Cell) -> str:
    """Return in a line what an actor does or waits for; nothing if it is idle."""
    doing = []
    if cell.phase == STARTING:
        doing.append("starts")
    elif cell.body is not None:
        doing.append("handles a message" if cell.call_in_hand is None else f"answers {_asked(cell.call_in_hand)}")
    if cell.body is not None:
        doing.append(f"waits at {line(cell.body)}")
        doing += [f"for {target}" for target in _calls(cell.awaiting)]
    if cell.head is SUSPENDED:
        doing.append("is suspended")
    if cell.deferred:
        doing.append(f"owes {len(cell.deferred)} answers")
    number = cell.mailbox_statistics().length
    if number:
        doing.append(f"{number} messages wait")
    elif not doing and not isinstance(cell.head, Sentinel) and cell.phase != DEAD:
        doing.append("runs")
    return f"{cell.path}: {', '.join(doing)}" if doing else ""


def shortened(lines: list[str]) -> list[str]:
    """Return the first lines, and how many more there are."""
    more = len(lines) - MOST
    return lines if more <= 0 else [*lines[:MOST], f"and {more} more"]


def of_task(task: asyncio.Task[Any]) -> str:
    """Return a task in a line: where it waits."""
    calls = "".join(f", for {target}" for target in _calls(getattr(task, "_fut_waiter", None)))
    return f"task {task.get_name()!r}: waits at {line(task.get_coro())}{calls}"


def _number(task: asyncio.Task[Any]) -> tuple[int, str]:
    name = task.get_name()
    return len(name), name


def _calls(awaited: object) -> Iterator[str]:
    if isinstance(awaited, Call):
        yield f"the answer of {awaited.target.path} to {_asked(awaited)}"


def _asked(call: Call[Any]) -> str:
    return describe(call.message)
