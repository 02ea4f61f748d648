"""Inspect, suspend and trace a running actor (OTP's ``sys``): for debugging, for operations, for tests.

Every actor answers these requests, whatever it handles itself. A request waits in the mailbox behind earlier messages,
and is carried out between two messages. All functions take a `Ref` or a `Name`, and raise `CallError` as a call does.

>>> import asyncio
>>> from supervision import Actor, Message, Runtime, handle, system
>>> class Add(Message):
...     n: int
>>> class Counter(Actor):
...     def __init__(self) -> None:
...         self.total = 0
...
...     @handle
...     def add(self, message: Add) -> None:
...         self.total += message.n
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         counter = await runtime.spawn(Counter)
...         counter.cast(Add(2))
...         print(await system.get_state(counter))
...         await system.suspend(counter)
...         counter.cast(Add(40))
...         await system.replace_state(counter, lambda state: {"total": 0})
...         await system.resume(counter)
...         print(await system.get_state(counter))
>>> asyncio.run(main())
{'total': 2}
{'total': 40}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from supervision._core.introspection import attributes, formatted_status
from supervision._core.layers import DONE as DONE
from supervision._core.layers import Failed as Failed
from supervision._core.layers import Handled as Handled
from supervision._core.layers import MessageCounter, Observer, ObserverLayer, RecentEvents, add_layer, observer_layer
from supervision._core.layers import Received as Received
from supervision._core.layers import Replied as Replied
from supervision._core.layers import Statistics as Statistics
from supervision._core.layers import SystemEvent as SystemEvent
from supervision.errors import BadOption, CallbackFailed, Refuse
from supervision.messages import SystemRequest, cut
from supervision.ref import as_address

if TYPE_CHECKING:
    from supervision.actor import Actor
    from supervision.ref import Address


class Status(msgspec.Struct, frozen=True):
    """An actor at this moment, for people.

    Attributes:
        path: its place in the tree.
        kind: its class.
        name: under which it is registered.
        state: ``running`` or ``suspended``.
        behaviour: what it has become, None at the beginning.
        parent: the path of the actor that started it.
        observers: the ids of its observers.
        mailbox: how many messages wait.
        status: what its `Actor.format_status` returned, or a text that says why it could not.
    """

    path: str
    kind: str
    name: str | None
    state: str
    behaviour: str | None
    parent: str | None
    observers: tuple[Any, ...]
    mailbox: int
    status: Any


# -- requests -------------------------------------------------------------------------------------------------------


class GetState(SystemRequest[dict[str, Any]], frozen=True):
    """Return the attributes."""

    def carry_out(self, actor: Actor) -> dict[str, Any]:
        """Do it."""
        return attributes(actor)


class ReplaceState(SystemRequest[dict[str, Any]], frozen=True):
    """Replace the attributes by what ``function`` makes of them."""

    function: Callable[[dict[str, Any]], Mapping[str, Any]]

    def carry_out(self, actor: Actor) -> dict[str, Any]:
        """Do it."""
        before = attributes(actor)
        try:
            after = dict(self.function(dict(before)))
        except Exception as error:
            raise Refuse(CallbackFailed(self.function, error)) from error
        for name in before.keys() - after.keys():
            delattr(actor, name)
        for name, value in after.items():
            setattr(actor, name, value)
        return after


class GetStatus(SystemRequest[Status], frozen=True):
    """Return the status."""

    def carry_out(self, actor: Actor) -> Status:
        """Do it."""
        cell = actor._cell
        parent = cell.parent
        watch = observer_layer(cell)
        return Status(
            cell.path,
            cell.kind.__name__,
            cell.name,
            "suspended" if cell.suspended else "running",
            cell.behaviour,
            parent.path if parent is not None else None,
            () if watch is None else tuple(watch.observers),
            cell.mailbox_statistics().length,
            formatted_status(actor),
        )


class Suspend(SystemRequest[None], frozen=True):
    """Suspend the actor."""

    def carry_out(self, actor: Actor) -> None:
        """Do it."""
        actor._cell.suspend()


class Resume(SystemRequest[None], frozen=True):
    """Resume the actor."""

    def carry_out(self, actor: Actor) -> None:
        """Do it."""
        actor._cell.resume()


class Install(SystemRequest[None], frozen=True):
    """Add an observer."""

    id: Any
    observer: Observer

    def carry_out(self, actor: Actor) -> None:
        """Do it."""
        cell = actor._cell
        watch = observer_layer(cell)
        if watch is None:
            watch = ObserverLayer()
            add_layer(cell, watch)
        if self.id in watch.observers:
            raise Refuse(BadOption("observer", self.id, "is installed already; give it another id"))
        watch.observers[self.id] = self.observer


class Remove(SystemRequest[bool], frozen=True):
    """Remove an observer; the answer tells whether it was there."""

    id: Any

    def carry_out(self, actor: Actor) -> bool:
        """Do it."""
        watch = observer_layer(actor._cell)
        if watch is None or self.id not in watch.observers:
            return False
        watch.remove(actor._cell, self.id)
        return True


class NoDebug(SystemRequest[None], frozen=True):
    """Remove all observers."""

    def carry_out(self, actor: Actor) -> None:
        """Do it."""
        watch = observer_layer(actor._cell)
        for id in () if watch is None else tuple(watch.observers):
            watch.remove(actor._cell, id)  # type: ignore[union-attr]


class Observed(SystemRequest[Any], frozen=True):
    """Return what one of the observers of this module has seen."""

    id: Any

    def carry_out(self, actor: Actor) -> Any:
        """Do it."""
        watch = observer_layer(actor._cell)
        observer: Any = None if watch is None else watch.observers.get(self.id)
        return None if observer is None else observer.seen(actor)


# -- functions ------------------------------------------------------------------------------------------------------


async def get_state(actor: Address) -> dict[str, Any]:
    """Return the attributes of an actor by name: the objects themselves, so do not change them."""
    return await as_address("actor", actor).call(GetState())


async def replace_state(actor: Address, function: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """Give an actor other attributes.

    Args:
        actor: whose.
        function: gets the attributes by name, and returns all that the actor is to have.

    Returns:
        The new ones.

    Raises:
        CallbackFailed: the function raised, or returned no mapping; the actor is as it was.
    """
    return await as_address("actor", actor).call(ReplaceState(function))


async def get_status(actor: Address) -> Status:
    """Return the status of an actor, with its state as its `Actor.format_status` shows it."""
    return await as_address("actor", actor).call(GetStatus())


async def suspend(actor: Address) -> None:
    """Suspend an actor: it answers system requests and ends when told to; all else waits. Twice is once."""
    await as_address("actor", actor).call(Suspend())


async def resume(actor: Address) -> None:
    """Let a suspended actor go on, with what has come meanwhile, in order. It is fine if it is not suspended."""
    await as_address("actor", actor).call(Resume())


async def install(actor: Address, observer: Observer, id: Any = None) -> None:
    """Have a function called with each `SystemEvent` of an actor, until it returns `DONE`, raises, or is removed.

    Args:
        actor: the actor to observe: this incarnation, not its successor.
        observer: called in the actor, between its messages; it must not block.
        id: for `remove`; the observer itself if None.

    Raises:
        BadOption: there is an observer with this id.
    """
    await as_address("actor", actor).call(Install(observer if id is None else id, observer))


async def remove(actor: Address, id: Any) -> bool:
    """Remove an observer; tell whether it was there."""
    return await as_address("actor", actor).call(Remove(id))


async def no_debug(actor: Address) -> None:
    """Remove all observers, traces, logs and statistics."""
    await as_address("actor", actor).call(NoDebug())


async def trace(actor: Address, write: Callable[[str], object] = print) -> None:
    """Write a line for each event of an actor, until `no_debug`."""
    ref = str(actor)
    await install(actor, lambda event: write(f"{ref} {cut(repr(event), 500)}") and None, "trace")


async def log(actor: Address, length: int = 10) -> None:
    """Keep the last ``length`` events of an actor, for `get_log` and its crash report."""
    if length < 1:
        raise BadOption("length", length, "give a whole number from 1")
    await install(actor, RecentEvents(length), "log")


async def get_log(actor: Address) -> list[SystemEvent]:
    """Return the events that were kept, oldest first; none without `log`."""
    return await as_address("actor", actor).call(Observed("log")) or []


async def start_statistics(actor: Address) -> None:
    """Begin to count the messages of an actor."""
    clock = as_address("actor", actor).runtime.clock
    await install(actor, MessageCounter(clock.time()), "statistics")


async def get_statistics(actor: Address) -> Statistics | None:
    """Return what an actor has done since `start_statistics`; None if that was not called."""
    statistics: Statistics | None = await as_address("actor", actor).call(Observed("statistics"))
    return statistics
