"""The points at which work can be interrupted: where it waits, and before and after a thread works for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from math import inf
from types import coroutine
from typing import Any, TypeVar

from supervision.testing.virtual_time._waiting import line
from supervision.testing.virtual_time.virtual_loop import VirtualClockLoop

T = TypeVar("T")

#: Real seconds in which a thread begins what it is given, unless all are busy.
MOMENT = 0.1


class Points:
    """Counts points, and strikes at one of them.

    A point is the moment in which the work is about to wait; the end of each turn of the loop while it waits; the
    moment in which something is to be done in a thread, before it begins; and that in which it is done, before the loop
    has processed its result.

    Attributes:
        strike: interrupts the work.
        struck: whether it has.
        where: the line at which the work waited then.
        in_threads: what is being done in threads.
    """

    def __init__(self, chosen: int) -> None:
        self.strike: Callable[[], object] = lambda: None
        self.struck = False
        self.where = ""
        self.in_threads: set[threading.Event] = set()
        self._chosen = chosen
        self._counted = 0
        self._counts = False
        self._waiting: Coroutine[Any, Any, Any] | None = None
        self._turn = 0
        #: Jobs that wait in threads: after which turn they may run, whether they were begun, and their release.
        self._jobs: list[tuple[int, threading.Event, threading.Event]] = []
        #: Jobs that are done, and whose results wait for the end of the turn.
        self._heard: list[threading.Event] = []

    @contextmanager
    def counting(self) -> Generator[None]:
        """Count the points in a block."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        self._loop = loop
        self._context = copy_context()
        self._counts = True
        loop.after_turn, loop.hop = self._turned, self.hop
        try:
            yield
        finally:
            self._counts = False
            loop.after_turn = loop.hop = None
            self._release_jobs(inf)

    @coroutine
    def stepped(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Run work step by step, and count where it waits."""
        step: Callable[[Any], Any] = work.send
        value: Any = None
        while True:
            try:
                waits_for = step(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self._waiting = work
            self._count()
            try:
                value = yield waits_for
                step = work.send
            except BaseException as error:
                step, value = work.throw, error
            finally:
                self._waiting = None

    def hop(self, function: Callable[..., Any], turns: int = 0) -> Callable[..., Any]:
        """Wrap a function for a thread: it waits there until the turn of the loop is over, and tells when it is done.

        Args:
            function: what is done there.
            turns: after how many turns of the loop the thread gets it.
        """
        if not self._counts:
            return function
        begun, release = threading.Event(), threading.Event()
        self._jobs.append((self._turn + turns, begun, release))

        def hopped(*args: Any) -> Any:
            self.in_threads.add(release)
            begun.set()
            release.wait()
            try:
                return function(*args)
            finally:
                self.in_threads.discard(release)
                heard = threading.Event()
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._done_in_thread, heard)
                    heard.wait(10 * MOMENT)

        return hopped

    @property
    def place(self) -> str:
        """The line at which the work waits."""
        return line(self._waiting)

    def _done_in_thread(self, heard: threading.Event) -> None:
        # The thread hands over its result after this turn of the loop.
        if not self._counts:
            heard.set()
            return
        self._count()
        self._heard.append(heard)

    def _turned(self) -> None:
        if self._waiting is not None:
            self._count()
        self._release_jobs(self._turn)
        self._turn += 1

    def _release_jobs(self, turn: float) -> None:
        ripe = [release for given, _, release in self._jobs if given <= turn]
        self._jobs = [job for job in self._jobs if job[0] > turn]
        heard, self._heard = self._heard, []
        for event in (*ripe, *heard):
            event.set()

    def _count(self) -> None:
        if self.struck:
            return
        for turn, begun, _ in self._jobs:  # so that a run does not depend on how fast threads begin
            if turn <= self._turn:
                begun.wait(MOMENT)
        self._counted += 1
        if self._counted == self._chosen:
            self.struck = True
            self.where = self.place
            self._context.run(self.strike)
