"""Which threads are at work, and which only wait for something to do.

A thread waits if it stands in one of the standard library's own waits: for a condition, an event or a queue, for
another thread, for a file that a loop watches, or for the next piece of work of a pool. What it waits for is examined
as well, so nothing is missed: that is another thread, or the loop itself. Everything else is work: Python code,
``time.sleep``, files, sockets, processes.
"""

from __future__ import annotations

import concurrent.futures.thread
import selectors
import sys
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from types import CodeType, FrameType
from typing import Any, Self

from supervision._core import threads
from supervision._core.watchdog import Watchdog

Locals = Mapping[str, Any]
#: All threads that Python has made, by their numbers.
_ALL: Mapping[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
_WORKER: CodeType = concurrent.futures.thread._worker.__code__


def _condition(here: Locals) -> bool:
    # `notify` takes the thread out of the list at once, long before that runs again.
    return here.get("waiter") in here["self"]._waiters


def _pool(here: Locals) -> bool:
    pool = here["executor_reference"]()
    if pool is None or pool._shutdown or here.get("work_item") is not None:
        return False  # a thread of a pool that is shut down is about to end
    # Work is handed to a thread that still stands here. The pool counts which of them have none.
    frames = sys._current_frames()
    here_too = sum(frames[one.ident].f_code is _WORKER for one in pool._threads if one.ident in frames)
    return bool(here["work_queue"].empty() and pool._idle_semaphore._value >= here_too)


def _pool_of_actors(here: Locals) -> bool:
    return here["self"]._work.empty() and here.get("work") is None


def _end_of_thread(here: Locals) -> bool:
    return here["self"].ident in sys._current_frames()


def _files(here: Locals) -> bool:
    return here.get("timeout") in (None, -1)  # as epoll says it


#: By the code that a thread runs: whether it waits there, judged by its variables.
_WAITS: dict[CodeType, Callable[[Locals], bool]] = {
    threading.Condition.wait.__code__: _condition,
    _WORKER: _pool,
    threads._Worker._run.__code__: _pool_of_actors,
    getattr(threading.Thread, "_wait_for_tstate_lock", threading.Thread.join).__code__: _end_of_thread,  # until 3.12
    selectors.DefaultSelector.select.__code__: _files,
}


def _waits(frame: FrameType) -> bool:
    waits = _WAITS.get(frame.f_code)
    return waits is not None and waits(frame.f_locals)


def waits_for_others(thread: int) -> bool:
    """Whether a thread waits for others, without a time-out."""
    frame = sys._current_frames().get(thread)
    return frame is None or (_waits(frame) and frame.f_locals.get("timeout") in (None, -1))


class ThreadSet:
    """A set of threads. The system may give the number of an ended thread to a new one, which is not in the set.

    Args:
        threads: their numbers.
    """

    def __init__(self, threads: Iterable[int] = ()) -> None:
        self._threads = {thread: _ALL.get(thread) for thread in threads}

    @classmethod
    def now(cls) -> Self:
        """Return all threads that there are."""
        return cls(sys._current_frames())

    def __contains__(self, thread: object) -> bool:
        """Whether the thread with this number is one of them."""
        return isinstance(thread, int) and thread in self._threads and _ALL.get(thread) is self._threads[thread]


def may_wake(apart_from: Container[int]) -> list[int]:
    """Return the threads that could still wake a loop, but for these and the present one.

    Those are all that do not wait for others without a time-out. A watchdog only checks on its loop.
    """
    frames = sys._current_frames()
    here = threading.get_ident()
    others = [thread for thread in frames if thread != here and thread not in apart_from]
    return [thread for thread in others if not waits_for_others(thread) and not _watches(frames[thread])]


def _watches(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not Watchdog._watch.__code__:
        frame = frame.f_back
    return frame is not None


def at_work(apart_from: Container[int]) -> list[int]:
    """Return the threads that are at work, but for these and the present one."""
    frames = sys._current_frames()
    if len(frames) == 1:
        return []
    here = threading.get_ident()
    return [
        thread for thread, frame in frames.items() if thread != here and thread not in apart_from and not _waits(frame)
    ]


def name_of(thread: int) -> str:
    """Return the name of a thread, for people."""
    known = next((one for one in threading.enumerate() if one.ident == thread), None)
    return f"thread {thread}" if known is None else f"thread {known.name!r}"
