"""The injector: inflicts faults on the actors of one runtime, and heals what lasts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import singledispatchmethod
from random import Random
from typing import Any, TypeVar

from supervision import events, system
from supervision._cell import Cell
from supervision._marks import IGNORE
from supervision._scheduler import Prelude
from supervision.errors import Refuse
from supervision.messages import Message
from supervision.reasons import KILL, NORMAL, SHUTDOWN, Abnormal, ExitReason
from supervision.runtime import Runtime
from supervision.testing.faults import (
    ChaosCrash,
    Delay,
    Drop,
    Duplicate,
    Exhaust,
    Exit,
    FailStart,
    Fault,
    Kill,
    KillDuring,
    Sigkill,
    Suspend,
)
from supervision.testing.layers import finish, strike
from supervision.testing.wire import spoil

T = TypeVar("T")
Heal = Callable[[], None]
Init = Callable[[], Any]

_REASONS: dict[str, ExitReason] = {"normal": NORMAL, "shutdown": SHUTDOWN, "kill": KILL}


class Junk(Message, frozen=True):
    """A message that nobody handles, to fill a mailbox with."""


class Injector:
    """Inflicts faults.

    Args:
        runtime: on whose actors.
        seed: for what chance there is in faults, such as which messages are dropped.
    """

    def __init__(self, runtime: Runtime, seed: int = 0) -> None:
        self._runtime = runtime
        self._chance = Random(seed)
        self.closed = False
        #: How to heal what lasts, newest last.
        self._lasting: dict[object, Heal] = {}
        #: By path: the starts that are to fail, and how many there have been.
        self._starts: dict[str, tuple[FailStart, int]] = {}
        #: The paths whose next start is to be killed.
        self._doomed: set[str] = set()
        self._subscription = runtime.subscribe(self._starting, events.StartAttempt)

    def inflict(self, cell: Cell, fault: Fault) -> Heal:
        """Let something go wrong with an actor.

        Returns:
            A function that heals it, as far as it can be; calling it twice is fine.
        """
        heal = self._as_nobody(self._inflict, fault, cell)
        key = object()

        def once() -> None:
            mend = self._lasting.pop(key, None)
            if mend is not None:
                self._as_nobody(mend)

        if heal is not None:
            self._lasting[key] = heal
        return once

    def heal(self) -> None:
        """Heal all that lasts, newest first."""
        while self._lasting:
            _, mend = self._lasting.popitem()
            self._as_nobody(mend)

    def close(self) -> None:
        """Heal all that lasts, and let the runtime alone from now on."""
        self.heal()
        self.closed = True
        self._subscription.close()

    def _as_nobody(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function outside of all actors: whoever lets chaos in may have died."""
        return self._runtime.scheduler.base.copy().run(function, *args)

    # -- one fault -------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _inflict(self, fault: Fault, cell: Cell) -> Heal | None:
        return strike(fault, cell).heal

    @_inflict.register
    def _kill(self, fault: Kill, cell: Cell) -> Heal | None:
        cell.kill()
        return None

    @_inflict.register
    def _sigkill(self, fault: Sigkill, cell: Cell) -> Heal | None:
        process = self._runtime.processes.get(cell)
        if process is not None:
            process.kill()
        return None

    @_inflict.register
    def _exit(self, fault: Exit, cell: Cell) -> Heal | None:
        cell.signal(None, _REASONS.get(fault.reason, Abnormal(fault.reason)))
        return None

    @_inflict.register
    def _kill_during(self, fault: KillDuring, cell: Cell) -> Heal | None:
        if fault.phase in ("handler", "terminate"):
            return strike(fault, cell).heal
        path = cell.path
        self._doomed.add(path)
        return lambda: self._doomed.discard(path)

    @_inflict.register
    def _drop(self, fault: Drop | Delay | Duplicate, cell: Cell) -> Heal | None:
        return spoil(cell, fault, Random(self._chance.random()))

    @_inflict.register
    def _suspend(self, fault: Suspend, cell: Cell) -> Heal | None:
        cell.call(system.Suspend(), timeout=None).add_done_callback(_ignore)

        def resume() -> None:
            if cell.alive:
                cell.call(system.Resume(), timeout=None).add_done_callback(_ignore)

        return self._for(fault.seconds, resume)

    @_inflict.register
    def _exhaust(self, fault: Exhaust, cell: Cell) -> Heal | None:
        if fault.what == "mailbox":
            for _ in range(fault.amount):
                cell.cast(Junk())
            return None
        take = {"files": _take_files, "threads": _take_threads, "tasks": _take_tasks}[fault.what]
        return self._for(fault.seconds, take(fault.amount))

    def _for(self, seconds: float, heal: Heal) -> Heal:
        """Return a function that heals, and have it called in some seconds; it heals once."""
        left = [heal]

        def once() -> None:
            timer.cancel()
            while left:
                left.pop()()

        timer = self._runtime.scheduler.timers.after(seconds, once)
        return once

    # -- starts ----------------------------------------------------------------------------------------------

    @_inflict.register
    def _fail_start(self, fault: FailStart, cell: Cell) -> Heal | None:
        path = cell.path
        self._starts[path] = (fault, 0)
        self._runtime.scheduler.prelude = self._prelude

        def mend() -> None:
            self._starts.pop(path, None)
            if not self._starts:
                self._runtime.scheduler.prelude = None

        return mend

    def _prelude(self, cell: Cell) -> Prelude | None:
        path = cell.path
        fault, number = self._starts.get(path, (None, 0))
        if fault is None:
            return None
        if fault.lasts(number + 1):
            self._starts[path] = (fault, number + 1)
        else:
            del self._starts[path]
        return _failing(self._runtime, fault) if fault.hits(number) else None

    def _starting(self, event: events.StartAttempt) -> None:
        if event.path in self._doomed:
            self._doomed.remove(event.path)
            cell = event.ref
            # Not at once: so that it is in the middle of an ``init`` that waits.
            self._runtime.scheduler.loop.call_soon(cell.kill)


def _failing(runtime: Runtime, fault: FailStart) -> Prelude:
    """Return what happens instead of an ``init``."""

    async def hang(_: Init) -> None:
        await runtime.scheduler.loop.create_future()

    async def slow(init: Init) -> Any:
        await runtime.sleep(fault.seconds)
        return await finish(init())

    def ignore(_: Init) -> Any:
        return IGNORE

    def fail(_: Init) -> None:
        if fault.how == "refuse":
            raise Refuse("chaos: the start was to fail")
        raise ChaosCrash("the start was to fail")

    return {"hang": hang, "slow": slow, "ignore": ignore}.get(fault.how, fail)


def _ignore(call: asyncio.Future[Any]) -> None:
    """An actor that dies before it is suspended, or resumed, is none of our concern."""
    call.exception()


def _take_files(amount: int) -> Heal:
    files: list[int] = []
    with suppress(OSError):
        files.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(amount))

    def give_back() -> None:
        while files:
            os.close(files.pop())

    return give_back


def _take_threads(amount: int) -> Heal:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, name="chaos", daemon=True) for _ in range(amount)]
    for thread in threads:
        thread.start()

    def give_back() -> None:
        over.set()
        for thread in threads:
            thread.join()

    return give_back


def _take_tasks(amount: int) -> Heal:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    tasks = {loop.create_task(_wait(over)) for _ in range(amount)}

    def give_back() -> None:
        over.set_result(None)
        tasks.clear()

    return give_back


async def _wait(over: asyncio.Future[None]) -> None:
    await asyncio.shield(over)
