"""Watch while there is something to watch for: the actors whose end another actor has to hear of, and what it ends."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from supervision import Actor, Down, Monitor, Ref

T = TypeVar("T", bound=Hashable)


class Watched(Generic[T]):
    """The actors that one actor watches, each by one monitor, and what is theirs: the end of one costs that much.

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
