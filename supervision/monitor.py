"""Monitors: one actor watches another, one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervision._links import Linked
    from supervision.ref import Name, Ref


class Monitor:
    """One watch of one actor by another. Each fires once, with a `Down` message, whatever the reason of the end."""

    __slots__ = ("cell", "target", "watcher")

    def __init__(self, watcher: Linked, target: Ref | Name, cell: Linked | None) -> None:
        self.watcher = watcher
        #: What was asked to be watched.
        self.target = target
        #: The incarnation that is watched; None once the monitor has fired or was removed.
        self.cell = cell

    def __repr__(self) -> str:
        return f"<Monitor of {self.target}>"
