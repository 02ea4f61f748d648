"""Victims: which actors a fault may hit."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from supervision._core.cell import Cell
from supervision.ref import Address, as_address
from supervision.runtime import Runtime
from supervision.supervisors._base import BaseSupervisor
from supervision.supervisors.childspec import ChildSpec


class Victims(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A choice among the actors of a runtime. All conditions must hold.

    Supervisors and what else is infrastructure (registries, groups) are left alone unless ``infrastructure`` is set.
    Actors without a supervisor are never hit, as nobody would start them again.

    Args:
        path: a pattern for the place in the tree, such as ``/app/workers/*``; ``*`` stands for anything.
        kind: the name of a class.
        tag: a word in the ``tags`` of its child specification, or of a supervisor's above it.
        restart: a restart type.
        depth: how far from the root, which is 1.
        infrastructure: whether supervisors and the like are meant as well.

    >>> Victims("/app/*", restart="permanent")
    Victims(path='/app/*', kind=None, tag=None, restart='permanent', depth=None, infrastructure=False)
    """

    path: str = "*"
    kind: str | None = None
    tag: str | None = None
    restart: str | None = None
    depth: int | None = None
    infrastructure: bool = False

    def among(self, runtime: Runtime) -> list[Cell]:
        """Return those that may be hit at this moment, in the order of their paths."""
        return sorted(self._chosen(runtime), key=lambda cell: cell.path)

    def includes(self, ref: Address) -> bool:
        """Whether an actor may be hit at this moment.

        Raises:
            BadOption, NoProcess: it is no `Ref`, and no `Name` that somebody holds.
        """
        cell = as_address("victim", ref).runtime.own_cell("victim", ref)
        spec = child_spec_of(cell)
        return spec is not None and self._fits(cell, spec)

    def _chosen(self, runtime: Runtime) -> Iterator[Cell]:
        for cell in runtime.actors():
            assert isinstance(cell, Cell)
            if self.includes(cell):
                yield cell

    def _fits(self, cell: Cell, spec: ChildSpec) -> bool:
        path = cell.path
        return (
            (self.infrastructure or not cell.kind.infrastructure)
            and (self.kind is None or cell.kind.__name__ == self.kind)
            and (self.tag is None or self.tag in spec.tags or self.tag in _tags_above(cell))
            and (self.restart is None or spec.restart == self.restart)
            and (self.depth is None or path.count("/") == self.depth)
            and fnmatchcase(path, self.path)
        )


def supervisor_of(cell: Cell) -> BaseSupervisor | None:
    """Return the supervisor of an actor, if it has one that lives."""
    parent: Any = cell.parent
    supervisor = None if parent is None or parent.phase > cell.phase else parent.actor
    return supervisor if isinstance(supervisor, BaseSupervisor) else None


def child_spec_of(cell: Cell) -> ChildSpec | None:
    """Return the specification of an actor that is a child of a living supervisor."""
    supervisor = supervisor_of(cell)
    return None if supervisor is None else supervisor.spec_of(cell)


def _tags_above(cell: Cell) -> set[str]:
    """Return the tags of the supervisors above an actor."""
    tags: set[str] = set()
    above: Any = cell.parent
    while above is not None:
        spec = child_spec_of(above)
        tags.update(() if spec is None else spec.tags)
        above = above.parent
    return tags
