"""The points at which work can be interrupted: where it waits, and where a thread works for it."""

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
    moment in which something is to be done in a thread, before it begins; and that in which it is done, before anybody
    has heard of it.

    Attributes:
        strike: does the harm.
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
        self._visited = 0
        self._looks_on = False
        self._waiting: Coroutine[Any, Any, Any] | None = None
        self._turn = 0
        #: What is given to threads, after which turn, and waits there; and threads that are done, and wait to be heard.
        self._gates: list[tuple[int, threading.Event, threading.Event]] = []
        self._heard: list[threading.Event] = []

    @contextmanager
    def looking_on(self) -> Generator[None]:
        """Count what happens in a block."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        self._loop = loop
        self._context = copy_context()
        self._looks_on = True
        loop.after_turn, loop.hop = self._turned, self.hop
        try:
            yield
        finally:
            self._looks_on = False
            loop.after_turn = loop.hop = None
            self._open_gates(inf)

    @coroutine
    def stepped(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Do work step by step, and see where it waits."""
        step: Callable[[Any], Any] = work.send
        value: Any = None
        while True:
            try:
                waits_for = step(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self._waiting = work
            self._visit()
            try:
                value = yield waits_for
                step = work.send
            except BaseException as error:
                step, value = work.throw, error
            finally:
                self._waiting = None

    def hop(self, function: Callable[..., Any], turns: int = 0) -> Callable[..., Any]:
        """Return a function for a thread: it waits there until the loop's turn is over, and tells when it is done.

        Args:
            function: what is done there.
            turns: after how many turns of the loop the thread gets it.
        """
        if not self._looks_on:
            return function
        begun, gate = threading.Event(), threading.Event()
        self._gates.append((self._turn + turns, begun, gate))

        def hopped(*args: Any) -> Any:
            self.in_threads.add(gate)
            begun.set()
            gate.wait()
            try:
                return function(*args)
            finally:
                self.in_threads.discard(gate)
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
        # The thread tells its result after this turn of the loop.
        if not self._looks_on:
            heard.set()
            return
        self._visit()
        self._heard.append(heard)

    def _turned(self) -> None:
        if self._waiting is not None:
            self._visit()
        self._open_gates(self._turn)
        self._turn += 1

    def _open_gates(self, turn: float) -> None:
        ripe = [gate for given, _, gate in self._gates if given <= turn]
        self._gates = [gate for gate in self._gates if gate[0] > turn]
        heard, self._heard = self._heard, []
        for event in (*ripe, *heard):
            event.set()

    def _visit(self) -> None:
        if self.struck:
            return
        for turn, begun, _ in self._gates:  # so that a run does not depend on how fast threads begin
            if turn <= self._turn:
                begun.wait(MOMENT)
        self._visited += 1
        if self._visited == self._chosen:
            self.struck = True
            self.where = self.place
            self._context.run(self.strike)
