"""Prepared writes: done in a registry, seen by nobody, and published or undone by who coordinates a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from foundation.registry.directory import Directory
from foundation.registry.snapshot import Snapshot
from foundation.registry.tables import Tables
from supervision import Name


class Prepared:
    """Writes of a registry that wait for a decision. Until then its other writes wait; readers see what was.

    It belongs to the directory and not to the registry's actor, so that it outlives a restart of that.

    Attributes:
        directory: whose writes these are.
        tables: in which they are done.
        writes: what was asked for.
        state: ``open``, ``published`` or ``undone``.
        coordinator: who will decide, once it has said yes and writes it down: while it lives, nobody else does.
    """

    def __init__(self, directory: Directory, tables: Tables, meta: Mapping[Any, Any], writes: Sequence[Any]) -> None:
        self.directory = directory
        self.tables = tables
        self.writes = writes
        self._meta = meta
        self.state: Literal["open", "published", "undone"] = "open"
        self.coordinator: Name | None = None

    @property
    def coming(self) -> bool:
        """Whether a decision is on its way, however long the disk takes."""
        coordinator = self.coordinator
        return self.state == "open" and coordinator is not None and coordinator.resolve() is not None

    def publish(self) -> None:
        """Let everybody see the writes. It takes no time, so that several registries can be published at one moment."""
        if self.state == "open":
            self.state = "published"
            self.tables.end(undo=False)
            self.directory.root = root = Snapshot(self.tables, self._meta)
            self.tables.publish(root)
            self.directory.prepared = None

    def undo(self) -> None:
        """Take the writes back."""
        if self.state == "open":
            self.state = "undone"
            self.tables.end(undo=True)
            self.directory.prepared = None
