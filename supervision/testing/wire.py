"""The way of messages to one actor, on which they can be lost, be late, or arrive twice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from supervision._bounded import BoundedCell
from supervision._cell import Cell
from supervision._marks import DEAD, IDLE, current
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.messages import Request, SystemRequest
from supervision.testing.faults import Delay, Drop, Duplicate

R = TypeVar("R")
WireFault = Drop | Delay | Duplicate

_WIRES = "supervision.testing.wires"


class Wire:
    """What can happen to messages on their way to one actor."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._free = 0.0
        self.faults: list[tuple[WireFault, Random]] = []
        self.plain: type[Cell] = type(cell)

    def carry(self, message: Any, arrive: Callable[[], None]) -> None:
        """Let a message arrive: now, later, twice or never."""
        delay, copies = 0.0, 1
        for fault, chance in self.faults:
            if fault.only is not None and type(message).__name__ != fault.only:
                continue
            if isinstance(fault, Delay):
                delay = max(delay, fault.seconds)
            elif chance.random() < fault.share:
                copies = 0 if isinstance(fault, Drop) else copies * 2
        for _ in range(copies):
            self._arrive(delay, arrive)
        if not copies:
            self._cell.dead_letter(message, "chaos")

    def _arrive(self, delay: float, arrive: Callable[[], None]) -> None:
        sched = self._cell.sched
        now = sched.now()
        self._free = max(self._free, now + delay)
        if self._free > now:
            sched.timers.after(self._free - now, arrive)
        else:
            arrive()


def wires(cell: Cell) -> dict[Cell, Wire]:
    """Return the wires of a runtime."""
    known: dict[Cell, Wire] = cell.runtime.shared.setdefault(_WIRES, {})
    return known


def spoil(cell: Cell, fault: WireFault, chance: Random) -> Callable[[], None]:
    """Let a fault happen on the way to an actor; return what mends it."""
    known = wires(cell)
    wire = known.get(cell)
    if wire is None:
        wire = known[cell] = Wire(cell)
        _turn_into(cell, _WiredBounded if isinstance(cell, BoundedCell) else _Wired)
    entry = (fault, chance)
    wire.faults.append(entry)

    def mend() -> None:
        wire.faults.remove(entry)
        if not wire.faults:
            del known[cell]
            _turn_into(cell, wire.plain)

    return mend


def _turn_into(cell: Any, kind: type[Cell]) -> None:
    """Change the class of a cell. The layout is the same."""
    cell.__class__ = kind


class _OnWire(Cell):
    """What both kinds of wired actors share."""

    __slots__ = ()

    def cast(self, message: Any) -> None:
        plain = super().cast
        sender = current.get()
        if sender is not None and sender.phase == DEAD:
            plain(message)
        else:
            wires(self)[self].carry(message, lambda: _outside(plain, message))

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        if isinstance(request, SystemRequest):
            return super().call(request, timeout)
        call: Call[R] = Call(loop=self.sched.loop)
        call.message = request
        call.target = self
        self.sched.set_deadline(call, timeout)
        caller = current.get()
        if caller is None or self.sched.inherit(call, caller):
            wires(self)[self].carry(request, lambda: self._take_call(call))
        return call

    async def send(self, message: Any) -> None:
        self.cast(message)

    def _take_call(self, call: Call[Any]) -> None:
        if self.head is IDLE and not isinstance(self, BoundedCell):
            self.head = call
            self.sched.enqueue(self)
        else:
            self._enqueue_call(call)


def _outside(plain: Callable[[Any], None], message: Any) -> None:
    """Deliver a message that is late, whoever runs at the moment."""
    token = current.set(None)
    try:
        plain(message)
    finally:
        current.reset(token)


class _Wired(_OnWire):
    __slots__ = ()


class _WiredBounded(_OnWire, BoundedCell):
    __slots__ = ()
