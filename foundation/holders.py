"""Holders: the actors on whose behalf something is held, and monitors that give it back when they end.

What is granted is noted in a `Grants`, which belongs to the runtime; a `Granter` hears of the ends of those who hold
something, and has it taken back, whatever became of the code that asked for it. An actor that keeps what is held in its
own state watches the holders with `HolderMonitors`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from contextvars import Context
from typing import Any, Generic, TypeVar

from foundation.options import is_a
from supervision import Actor, Down, Message, Monitor, Name, NotRunning, Ref, Runtime, current_actor, handle

T = TypeVar("T", bound=Hashable)


def current_holder() -> Ref | None:
    """Return the actor in which this code runs, or None."""
    try:
        return current_actor()
    except NotRunning:
        return None


def holder_in(runtime: Runtime) -> Ref | None:
    """Return the actor of a runtime in which this code runs; None outside of its actors."""
    here = current_holder()
    return here if here is not None and here.runtime is runtime else None


class WatchHolder(Message, frozen=True):
    """To a `Granter`: look whether the end of an actor matters, now that it holds more or less."""

    ref: Any


class Grants:
    """What is granted to whom.

    Args:
        address: of the `Granter`.
    """

    def __init__(self, address: Name) -> None:
        self._address = address
        self._held: dict[Ref, dict[Hashable, None]] = {}

    def add(self, holder: Ref | None, what: Hashable) -> None:
        """Note that an actor holds something. Nobody holds it until it is given back."""
        if holder is None:
            return
        held = self._held.get(holder)
        if held is None:
            self._held[holder] = {what: None}
            self._tell(holder)
        else:
            held[what] = None

    def remove(self, holder: Ref | None, what: Hashable) -> None:
        """Note that it holds it no more."""
        held = None if holder is None else self._held.get(holder)
        if held is not None and holder is not None:
            held.pop(what, None)
            if not held:
                del self._held[holder]
                self._tell(holder)

    def _tell(self, holder: Ref) -> None:
        # In an empty context: the fence around code that goes on after its actor was killed would hold it up.
        Context().run(self._address.cast, WatchHolder(holder))

    def of(self, holder: Ref) -> tuple[Hashable, ...]:
        """Return what an actor holds, first granted first."""
        return tuple(self._held.get(holder, ()))

    def holders(self) -> tuple[Ref, ...]:
        """Return all that hold something."""
        return tuple(self._held)


class Granter(Actor):
    """Takes back what actors hold, when they end. A restart of it takes nothing away from anybody."""

    infrastructure = True
    _grants: Grants

    def take_over(self, grants: Grants) -> None:
        """Watch those who hold something already; to be called in ``init``."""
        self._grants = grants
        self._watched: dict[Ref, Monitor] = {}
        for holder in grants.holders():
            self._watched[holder] = self.monitor(holder)

    @abstractmethod
    def take_back(self, what: Any) -> None:
        """Take something back whose holder has ended."""

    @handle
    def watch(self, message: WatchHolder) -> None:
        """Begin or cease to watch an actor."""
        ref = message.ref
        if not is_a(ref, Ref):
            return
        holds = bool(self._grants.of(ref))
        if holds and ref not in self._watched:
            self._watched[ref] = self.monitor(ref)
        elif not holds and ref in self._watched:
            self.demonitor(self._watched.pop(ref), flush=True)

    @handle
    def ended(self, message: Down) -> None:
        """Take back what an actor has held, that has ended."""
        ref: Any = message.target
        if is_a(ref, Ref) and self._watched.get(ref) is message.monitor:
            del self._watched[ref]
            for what in self._grants.of(ref):
                self.take_back(what)


class HolderMonitors(Generic[T]):
    """Monitors of the actors that hold something: one each. Handling one end is proportional to what that actor held.

    Args:
        watcher: who gets the `Down` messages.
    """

    def __init__(self, watcher: Actor) -> None:
        self._watcher = watcher
        self._monitors: dict[Ref, Monitor] = {}
        self._theirs: dict[Ref, dict[T, None]] = {}

    def add(self, ref: Ref | None, what: T) -> None:
        """Watch an actor, for something that is its own from now on; None is nobody."""
        if ref is None:
            return
        theirs = self._theirs.get(ref)
        if theirs is None:
            theirs = self._theirs[ref] = {}
            self._monitors[ref] = self._watcher.monitor(ref)
        theirs[what] = None

    def discard(self, ref: Ref | None, what: T) -> None:
        """Something is not an actor's any more. Who has nothing is not watched."""
        theirs = None if ref is None else self._theirs.get(ref)
        if ref is None or theirs is None:
            return
        theirs.pop(what, None)
        if not theirs:
            del self._theirs[ref]
            self._watcher.demonitor(self._monitors.pop(ref))

    def ended(self, message: Down) -> list[T]:
        """Return what an actor had that has ended; nothing if the message is about another watch, or nobody's."""
        monitor = message.monitor
        if type(monitor) is not Monitor or monitor.cell is not None:
            return []
        ref = monitor.target
        if not isinstance(ref, Ref) or self._monitors.get(ref) is not monitor:
            return []
        del self._monitors[ref]
        return list(self._theirs.pop(ref))
