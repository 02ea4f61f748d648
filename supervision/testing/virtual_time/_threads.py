"""Which threads are at work, and which only wait for something to do.

A thread waits if it stands in one of the standard library's own waits: for a condition, an event or a queue, for
another thread, for a file that a loop watches, or for the next piece of work of a pool. What it waits for is examined
as well, so nothing is missed: that is another thread, or the loop itself. Everything else is work: Python code,
``time.sleep``, files, sockets, processes.
"""

from __future__ import annotations

import concurrent.futures.thread
import selectors
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from time import monotonic, sleep
from types import CodeType, FrameType
from typing import Any, Self
from weakref import WeakKeyDictionary

from supervision._core import threads
from supervision._core.watchdog import Watchdog
from supervision.frames import frames_of_threads

Locals = Mapping[str, Any]
#: All threads that Python has made, by their numbers.
_ALL: Mapping[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
_WORKER: CodeType = concurrent.futures.thread._worker.__code__
#: Real seconds in which a thread that has been given work goes on, also on a busy machine.
A_MOMENT = 0.25


def _condition(here: Locals) -> bool:
    # `notify` takes the thread out of the list at once, long before that runs again.
    return here.get("waiter") in here["self"]._waiters


def _pool(here: Locals) -> bool:
    pool = here["executor_reference"]()
    if pool is None or pool._shutdown or here.get("work_item") is not None:
        return False  # a thread of a pool that is shut down is about to end
    if not here["work_queue"].empty():
        return False
    # Work is handed to a thread that still stands here. The pool counts which of them have none.
    frames = frames_of_threads()
    here_too = sum(frames[one.ident].f_code is _WORKER for one in pool._threads if one.ident in frames)
    return _uncounted.setdefault(pool, _Uncounted()).counts(pool, here_too - pool._idle_semaphore._value)


class _Uncounted:
    """The idle threads that a pool does not count as idle.

    Since Python 3.12 a thread that ends one piece of work may take the next before the pool has given that to another,
    which then stays idle and is counted as busy for ever. A thread that has work leaves the place where it waits as
    soon as it is given a moment; one that has none stays. Such ones are counted from then on, as the pool should have:
    otherwise work that it hands to them later was not seen until they begin with it.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._since = 0.0

    def counts(self, pool: Any, missing: int) -> bool:
        """Whether a pool counts its idle threads, so many of which are missing; if need be, from now on."""
        if missing > 0:
            now = monotonic()
            if missing != self._seen:
                self._seen, self._since = missing, now
            if now - self._since < A_MOMENT:
                return False
            pool._idle_semaphore.release(missing)
        self._seen = 0
        return True

    @property
    def is_settled(self) -> bool:
        """Whether no thread is missing in the count, as far as is known."""
        return not self._seen

    def begin(self) -> None:
        """Look anew: what was seen may be long over, and this be another piece of work."""
        self._seen = 0


#: By the pool.
_uncounted: WeakKeyDictionary[Any, _Uncounted] = WeakKeyDictionary()


def _pool_of_actors(here: Locals) -> bool:
    return here["self"]._work.empty() and here.get("work") is None


def _end_of_thread(here: Locals) -> bool:
    return here["self"].ident in frames_of_threads()


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
    frame = frames_of_threads().get(thread)
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
        return cls(frames_of_threads())

    def __contains__(self, thread: object) -> bool:
        """Whether the thread with this number is one of them."""
        return isinstance(thread, int) and thread in self._threads and _ALL.get(thread) is self._threads[thread]


def may_wake(apart_from: Container[int]) -> list[int]:
    """Return the threads that could still wake a loop, but for these and the present one.

    Those are all that do not wait for others without a time-out. A watchdog only checks on its loop.
    """
    frames = frames_of_threads()
    here = threading.get_ident()
    others = [thread for thread in frames if thread != here and thread not in apart_from]
    return [thread for thread in others if not waits_for_others(thread) and not _watches(frames[thread])]


def _watches(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not Watchdog._watch.__code__:
        frame = frame.f_back
    return frame is not None


def at_work(apart_from: Container[int]) -> list[int]:
    """Return the threads that are at work, but for these and the present one."""
    here = threading.get_ident()
    frames = frames_of_threads()
    return [
        thread for thread, frame in frames.items() if thread != here and thread not in apart_from and not _waits(frame)
    ]


def look_anew() -> None:
    """Begin to look at threads. Other code has run since the last look: a pool may have been given other work."""
    for one in _uncounted.values():
        one.begin()


def at_work_already() -> list[int]:
    """Return the threads that are at work, and do not only seem to be: for that, a moment may have to pass."""
    look_anew()
    found = at_work(())
    until = monotonic() + 2 * A_MOMENT
    while not all(one.is_settled for one in _uncounted.values()) and monotonic() < until:
        sleep(0.001)
        found = at_work(())
    return found


def name_of(thread: int) -> str:
    """Return the name of a thread, for people."""
    known = next((one for one in threading.enumerate() if one.ident == thread), None)
    return f"thread {thread}" if known is None else f"thread {known.name!r}"
