"""Delivery to one actor, with loss, delay and duplication."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from supervision._core.cell import Cell
from supervision._core.cell_variants import BoundedCell, Propagating, PropagatingBoundedCell, PropagatingCell
from supervision._core.phases import DEAD, current
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.mailbox import BoundedBox
from supervision.messages import Request, SystemRequest
from supervision.propagation import unwrap
from supervision.testing.fault_injection.faults import Delay, Drop, Duplicate

R = TypeVar("R")
WireFault = Drop | Delay | Duplicate
Tap = Callable[[Any, int], object]

_WIRES = "supervision.testing.wires"


class Wire:
    """Delivery of messages to one actor. What it sends to itself is not affected."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._free = 0.0
        self.faults: list[tuple[WireFault, Random]] = []
        #: Called with each message that arrives, and how many times it does: -1 takes one back.
        self.taps: list[Tap] = []
        self.plain: type[Cell] = type(cell)

    def deliver(self, message: Any, arrive: Callable[[], None]) -> None:
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
            self._arrive(delay, message, arrive)
        if not copies:
            self._cell.dead_letter(message, "chaos")

    def _arrive(self, delay: float, message: Any, arrive: Callable[[], None]) -> None:
        def there() -> None:
            self.tell(message, 1)
            arrive()

        sched = self._cell.sched
        now = sched.now()
        self._free = max(self._free, now + delay)
        if self._free > now:
            sched.timers.after(self._free - now, there)
        else:
            there()

    def tell(self, message: Any, number: int) -> None:
        """Call the taps."""
        for tap in self.taps:
            tap(message, number)

    def drop_if_idle(self) -> None:
        """Restore plain delivery if there are no faults and no taps."""
        if not self.faults and not self.taps:
            del wires(self._cell)[self._cell]
            _turn_into(self._cell, self.plain)


def wires(cell: Cell) -> dict[Cell, Wire]:
    """Return the wires of a runtime."""
    known: dict[Cell, Wire] = cell.runtime.shared.setdefault(_WIRES, {})
    return known


def add_wire_fault(cell: Cell, fault: WireFault, chance: Random) -> Callable[[], None]:
    """Add a fault to the delivery to an actor; return a function that removes it."""
    wire = _wire(cell)
    entry = (fault, chance)
    wire.faults.append(entry)

    def mend() -> None:
        wire.faults.remove(entry)
        wire.drop_if_idle()

    return mend


def add_tap(cell: Cell, tap: Tap) -> Callable[[], None]:
    """Call a function with each message that arrives at an actor; return a function that ends that."""
    wire = _wire(cell)
    wire.taps.append(tap)

    def end() -> None:
        wire.taps.remove(tap)
        wire.drop_if_idle()

    return end


def _wire(cell: Cell) -> Wire:
    known = wires(cell)
    if cell not in known:
        known[cell] = Wire(cell)
        _turn_into(cell, _WIRED[type(cell)])
    return known[cell]


def _turn_into(cell: Any, kind: type[Cell]) -> None:
    """Change the class of a cell. The layout is the same."""
    cell.__class__ = kind


class _OnWire(Cell):
    """Delivery by way of the wire, for every kind of cell."""

    __slots__ = ()

    def cast(self, message: Any) -> None:
        plain = super().cast
        sender = current.get()
        if sender is not None and sender.phase == DEAD:
            plain(message)
        elif sender is self:
            wires(self)[self].tell(unwrap(message), 1)
            plain(message)
        else:
            wires(self)[self].deliver(unwrap(message), lambda: _outside(plain, message))

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        if isinstance(request, SystemRequest):
            return super().call(request, timeout)
        call: Call[R] = Call(loop=self.sched.loop)
        call.message = request
        call.target = self
        if self.sched.prepare_call(call, timeout, current.get()):
            wires(self)[self].deliver(request, lambda: self.take_call(call))
        return call

    async def send(self, message: Any) -> None:
        wire = wires(self)[self]
        full = isinstance(self.box, BoundedBox) and self.box.full() and self.kind.mailbox.overflow in ("wait", "refuse")
        if wire.faults or not full:
            self.cast(message)
            return
        wire.tell(unwrap(message), 1)
        try:
            await super().send(message)
        except BaseException:
            wire.tell(unwrap(message), -1)
            raise


def _outside(plain: Callable[[Any], None], message: Any) -> None:
    """Deliver a late message outside of any actor's context."""
    token = current.set(None)
    try:
        plain(message)
    finally:
        current.reset(token)


class _Wired(_OnWire):
    __slots__ = ()


class _WiredBounded(_OnWire, BoundedCell):
    __slots__ = ()


class _WiredPropagating(Propagating, _OnWire):
    __slots__ = ()


class _WiredBoundedPropagating(Propagating, _OnWire, BoundedCell):
    __slots__ = ()


_WIRED: dict[type[Cell], type[Cell]] = {
    Cell: _Wired,
    BoundedCell: _WiredBounded,
    PropagatingCell: _WiredPropagating,
    PropagatingBoundedCell: _WiredBoundedPropagating,
}
