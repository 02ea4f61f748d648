"""Faults in the handling of a message, each installed as a layer before an actor's handlers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import singledispatch
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from supervision._core.cell import Cell
from supervision._core.layers import Layer, add_layer, remove_layer
from supervision.messages import ParentExit
from supervision.testing.fault_injection.faults import (
    BlockLoop,
    ChaosCrash,
    Crash,
    Fault,
    Hang,
    KillDuring,
    LateReply,
    RefuseStop,
    SlowStop,
    SwallowCancel,
)

if TYPE_CHECKING:
    from supervision._core.dispatch import Handler

#: Goes on with the message as if nothing had happened.
Proceed = Callable[[], Any]
#: Tells of an actor whether a fault may strike it now.
MayStrike = Callable[[Cell], bool]


def always(_: Cell) -> bool:
    """Spare nobody."""
    return True


class OneShotLayer:
    """A layer of one actor that acts on one message and is then removed; `heal` removes it before."""

    def __init__(self, cell: Cell, act: Callable[[Proceed], Any], wanted: Callable[[Any], bool]) -> None:
        self.cell = cell
        #: Called when it is about to act; False spares the actor.
        self.may: MayStrike = always
        self.healed: asyncio.Future[None] = cell.sched.loop.create_future()
        self._act = act
        self._wanted = wanted
        self._layer: Layer | None = self._meet
        add_layer(cell, self._meet)

    def _meet(self, actor: Any, message: Any, proceed: Handler) -> Any:
        if not self._wanted(message):
            return proceed(actor, message)
        self._withdraw()
        if not self.may(self.cell):
            return proceed(actor, message)
        return self._act(lambda: proceed(actor, message))

    def _withdraw(self) -> None:
        layer, self._layer = self._layer, None
        if layer is not None and self.cell.table is not None:
            remove_layer(self.cell, layer)

    def heal(self) -> None:
        """Remove it; code that it holds up goes on."""
        self._withdraw()
        self.healed.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait, at the most until it is healed."""
        await self.cell.sched.wait(asyncio.shield(self.healed), seconds)


def ordinary(message: Any) -> bool:
    """Whether a message is not an order to end."""
    return not isinstance(message, ParentExit)


def order_to_end(message: Any) -> bool:
    """Whether a message is an order to end."""
    return isinstance(message, ParentExit)


async def finish(result: Any) -> Any:
    """Await what a handler returned, if it is a coroutine."""
    return await result if type(result) is CoroutineType else result


@singledispatch
def arm_fault(fault: Fault, cell: Cell) -> OneShotLayer:
    """Install a fault as a layer; return its handle."""
    raise TypeError(f"{fault!r} on {cell!r} is no fault in the handling of a message")


@arm_fault.register
def crash(fault: Crash, cell: Cell) -> OneShotLayer:
    """Raise an exception, after ``skip`` messages."""
    left = fault.skip

    def wanted(message: Any) -> bool:
        nonlocal left
        if not ordinary(message) or fault.only not in (None, type(message).__name__):
            return False
        left -= 1
        return left < 0

    def act(_: Proceed) -> Any:
        raise ChaosCrash(fault.message)

    return OneShotLayer(cell, act, wanted)


@arm_fault.register
def kill_during(fault: KillDuring, cell: Cell) -> OneShotLayer:
    """Kill it while it handles a message."""

    def act(proceed: Proceed) -> Any:
        cell.kill()
        return proceed()

    return OneShotLayer(cell, act, ordinary if fault.phase == "handler" else order_to_end)


@arm_fault.register
def hang(fault: Hang, cell: Cell) -> OneShotLayer:
    """Wait before a message."""

    async def act(proceed: Proceed) -> Any:
        await layer.wait(fault.seconds)
        return await finish(proceed())

    layer = OneShotLayer(cell, act, ordinary)
    return layer


@arm_fault.register
def late_reply(fault: LateReply, cell: Cell) -> OneShotLayer:
    """Wait before an answer."""

    async def act(proceed: Proceed) -> Any:
        result = await finish(proceed())
        await layer.wait(fault.seconds)
        return result

    layer = OneShotLayer(cell, act, lambda message: cell.call_in_hand is not None)
    return layer


@arm_fault.register
def block_loop(fault: BlockLoop, cell: Cell) -> OneShotLayer:
    """Block the loop."""

    def act(proceed: Proceed) -> Any:
        time.sleep(fault.seconds)
        return proceed()

    return OneShotLayer(cell, act, ordinary)


@arm_fault.register
def swallow_cancel(fault: SwallowCancel, cell: Cell) -> OneShotLayer:
    """Wait, and catch the first cancellations."""

    async def act(proceed: Proceed) -> Any:
        left = fault.times
        while left and not layer.healed.done():
            left -= 1
            with suppress(asyncio.CancelledError):
                await asyncio.shield(layer.healed)
        return await finish(proceed())

    layer = OneShotLayer(cell, act, ordinary)
    return layer


class _StopLayer(OneShotLayer):
    """A layer at the order to end: while it lasts, the actor traps exits, so that the order comes as a message."""

    def __init__(self, cell: Cell, act: Callable[[Proceed], Any]) -> None:
        self._trapped = cell.trap_exit
        cell.trap_exit = True
        super().__init__(cell, act, order_to_end)

    def heal(self) -> None:
        """Remove it."""
        self.cell.trap_exit = self._trapped
        super().heal()


@arm_fault.register
def slow_stop(fault: SlowStop, cell: Cell) -> OneShotLayer:
    """Wait before the end."""

    async def act(proceed: Proceed) -> Any:
        await layer.wait(fault.seconds)
        return await finish(proceed())

    layer = _StopLayer(cell, act)
    return layer


@arm_fault.register
def refuse_stop(fault: RefuseStop, cell: Cell) -> OneShotLayer:
    """Do not end."""

    async def act(_: Proceed) -> Any:
        while not layer.healed.done():
            try:
                await asyncio.shield(layer.healed)
            except asyncio.CancelledError:
                if not fault.swallow:
                    raise

    layer = _StopLayer(cell, act)
    return layer
