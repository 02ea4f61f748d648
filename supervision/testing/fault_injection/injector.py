"""The injector: injects faults into the actors of one runtime, and heals those that last."""

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
from supervision._core.cell import Cell
from supervision._core.phases import IGNORE
from supervision._core.scheduler import InitHook
from supervision.errors import Refuse
from supervision.messages import Message
from supervision.reasons import KILL, NORMAL, SHUTDOWN, Abnormal, ExitReason
from supervision.runtime import Runtime
from supervision.testing.fault_injection.faults import (
    ChaosCrash,
    Delay,
    Drop,
    Duplicate,
    Exhaust,
    ExitFault,
    FailStart,
    Fault,
    Kill,
    KillDuring,
    Sigkill,
    Suspend,
)
from supervision.testing.fault_injection.handler_faults import MayStrike, always, arm_fault, finish
from supervision.testing.fault_injection.wire import add_wire_fault

T = TypeVar("T")
Heal = Callable[[], None]
Init = Callable[[], Any]

_REASONS: dict[str, ExitReason] = {"normal": NORMAL, "shutdown": SHUTDOWN, "kill": KILL}


class Junk(Message, frozen=True):
    """A message that nobody handles, to fill a mailbox with."""


class Injector:
    """Injects faults.

    Args:
        runtime: on whose actors.
        seed: for the random choices of faults, such as which messages are dropped.
    """

    def __init__(self, runtime: Runtime, seed: int = 0) -> None:
        self._runtime = runtime
        self._chance = Random(seed)
        self.closed = False
        #: How to heal faults that last, newest last.
        self._lasting: dict[object, Heal] = {}
        #: By path: the starts that are to fail, one fault after the other.
        self._starts: dict[str, list[_Starts]] = {}
        #: The paths whose next start is to be killed, and whether that may be then.
        self._doomed: dict[str, MayStrike] = {}
        self._subscription = runtime.subscribe(self._starting, events.StartAttempt)

    def inject(self, cell: Cell, fault: Fault, may: MayStrike = always) -> Heal:
        """Inject a fault into an actor.

        Args:
            cell: the actor.
            fault: what.
            may: if the fault waits for something, such as the next message: asked in the moment in which that has
                come, with the actor that is to be struck, which is the next incarnation if it is a start. False spares
                that one.

        Returns:
            A function that heals it, as far as it can be; calling it twice is fine.
        """
        heal = self._outside_of_actors(self._inject, fault, cell, may)
        key = object()

        def once() -> None:
            mend = self._lasting.pop(key, None)
            if mend is not None:
                self._outside_of_actors(mend)

        if heal is not None:
            self._lasting[key] = heal
        return once

    def heal(self) -> None:
        """Heal all that lasts, newest first."""
        while self._lasting:
            _, mend = self._lasting.popitem()
            self._outside_of_actors(mend)

    def close(self) -> None:
        """Heal all that lasts, and let the runtime alone from now on."""
        self.heal()
        self.closed = True
        self._subscription.close()

    def _outside_of_actors(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function outside of all actors: the one that has started chaos may be dead."""
        return self._runtime.scheduler.base.copy().run(function, *args)

    # -- one fault -------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _inject(self, fault: Fault, cell: Cell, may: MayStrike) -> Heal | None:
        hit = arm_fault(fault, cell)
        hit.may = may
        return hit.heal

    @_inject.register
    def _kill(self, fault: Kill, cell: Cell, may: MayStrike) -> Heal | None:
        cell.kill()
        return None

    @_inject.register
    def _sigkill(self, fault: Sigkill, cell: Cell, may: MayStrike) -> Heal | None:
        process = self._runtime.processes.get(cell)
        if process is not None:
            process.kill()
        return None

    @_inject.register
    def _exit(self, fault: ExitFault, cell: Cell, may: MayStrike) -> Heal | None:
        cell.signal(None, _REASONS.get(fault.reason, Abnormal(fault.reason)))
        return None

    @_inject.register
    def _kill_during(self, fault: KillDuring, cell: Cell, may: MayStrike) -> Heal | None:
        if fault.phase in ("handler", "terminate"):
            hit = arm_fault(fault, cell)
            hit.may = may
            return hit.heal
        path = cell.path
        self._doomed[path] = may

        def spare() -> None:
            self._doomed.pop(path, None)

        return spare

    @_inject.register
    def _drop(self, fault: Drop | Delay | Duplicate, cell: Cell, may: MayStrike) -> Heal | None:
        return add_wire_fault(cell, fault, Random(self._chance.random()))

    @_inject.register
    def _suspend(self, fault: Suspend, cell: Cell, may: MayStrike) -> Heal | None:
        cell.call(system.Suspend(), timeout=None).add_done_callback(_ignore)

        def resume() -> None:
            if cell.alive:
                cell.call(system.Resume(), timeout=None).add_done_callback(_ignore)

        return self._for(fault.seconds, resume)

    @_inject.register
    def _exhaust(self, fault: Exhaust, cell: Cell, may: MayStrike) -> Heal | None:
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

    @_inject.register
    def _fail_start(self, fault: FailStart, cell: Cell, may: MayStrike) -> Heal | None:
        path = cell.path
        starts = _Starts(self._runtime, fault, may)
        self._starts.setdefault(path, []).append(starts)
        self._runtime.scheduler.init_hook = self._init_hook

        def mend() -> None:
            starts.heal()
            self._no_more(path, starts)

        return mend

    def _no_more(self, path: str, starts: _Starts) -> None:
        left = self._starts.get(path, [])
        if starts in left:
            left.remove(starts)
        if not left:
            self._starts.pop(path, None)
        if not self._starts:
            self._runtime.scheduler.init_hook = None

    def _init_hook(self, cell: Cell) -> InitHook | None:
        path = cell.path
        for starts in self._starts.get(path, ()):
            hook = starts.next(cell)
            if not starts.lasts():
                self._no_more(path, starts)
            return hook
        return None

    def _starting(self, event: events.StartAttempt) -> None:
        may = self._doomed.pop(event.path, None)
        cell = event.ref
        assert isinstance(cell, Cell)
        if may is not None and may(cell):
            # In the next turn of the loop, in the middle of an ``init`` that waits.
            self._runtime.scheduler.loop.call_soon(cell.kill)


class _Starts:
    """The starts that a fault lets fail."""

    def __init__(self, runtime: Runtime, fault: FailStart, may: MayStrike) -> None:
        self._runtime = runtime
        self._fault = fault
        self._may = may
        self._number = 0
        self._healed: asyncio.Future[None] = runtime.scheduler.loop.create_future()

    def next(self, cell: Cell) -> InitHook | None:
        """Return what runs in place of the next ``init``; None if that is left alone."""
        number = self._number
        self._number += 1
        return self._failing() if self._fault.hits(number) and self._may(cell) else None

    def lasts(self) -> bool:
        """Whether any start is still to fail."""
        return self._fault.lasts(self._number)

    def heal(self) -> None:
        """Let starts that hang go on."""
        self._healed.set_result(None)

    def _failing(self) -> InitHook:
        fault = self._fault

        async def hang(init: Init) -> Any:
            await asyncio.shield(self._healed)
            return await finish(init())

        async def slow(init: Init) -> Any:
            await self._runtime.scheduler.wait(asyncio.shield(self._healed), fault.seconds)
            return await finish(init())

        def ignore(_: Init) -> Any:
            return IGNORE

        def fail(_: Init) -> None:
            if fault.how == "refuse":
                raise Refuse("chaos: the start was to fail")
            raise ChaosCrash("the start was to fail")

        return {"hang": hang, "slow": slow, "ignore": ignore}.get(fault.how, fail)


def _ignore(call: asyncio.Future[Any]) -> None:
    """Ignore that an actor died before it was suspended or resumed."""
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
