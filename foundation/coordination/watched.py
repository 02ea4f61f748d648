"""Watch once, forget at the end: the actors whose end another actor has to hear of."""

from __future__ import annotations

from collections.abc import Container

from supervision import Actor, Down, Monitor, Ref


class Watched:
    """The actors that one actor watches, each by one monitor, however often it is asked to.

    Args:
        watcher: who gets the `Down` messages.
    """

    def __init__(self, watcher: Actor) -> None:
        self._watcher = watcher
        self._monitors: dict[Ref, Monitor] = {}

    def add(self, ref: Ref | None) -> None:
        """Watch an actor; None is nobody."""
        if ref is not None and ref not in self._monitors:
            self._monitors[ref] = self._watcher.monitor(ref)

    def ended(self, message: Down) -> Ref:
        """Return who has ended, and watch it no more."""
        ref = message.target
        assert isinstance(ref, Ref)
        del self._monitors[ref]
        return ref

    def only(self, wanted: Container[Ref | None]) -> None:
        """Watch nobody any more who is not among these."""
        for ref in [ref for ref in self._monitors if ref not in wanted]:
            self._watcher.demonitor(self._monitors.pop(ref), flush=True)
