"""Trees as values: what is to be started, checked, and not yet running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from foundation.tree.missing import LeftOut
from supervision import ChildSpec


class Tree(msgspec.Struct, frozen=True):
    """A supervision tree that can be started.

    Attributes:
        source: where it is from: a file, or an import path.
        root: the specification of its root supervisor.
        left_out: its optional parts that cannot run here.
    """

    source: str
    root: ChildSpec
    left_out: tuple[LeftOut, ...] = ()

    @property
    def id(self) -> str:
        """The id of the root, with which all paths begin."""
        return str(self.root.id)

    def outline(self) -> Iterator[tuple[str, ChildSpec]]:
        """Return all specifications that are known before the start, parents first, each with its path.

        >>> from supervision import Actor, Supervisor
        >>> root = ChildSpec("app", Supervisor, args=([ChildSpec("worker", Actor)],))
        >>> [path for path, spec in Tree("example", root).outline()]
        ['/app', '/app/worker']
        """
        return _outline("", self.root)


def _outline(above: str, spec: ChildSpec) -> Iterator[tuple[str, ChildSpec]]:
    path = f"{above}/{spec.id}"
    yield path, spec
    for child in children_of(spec):
        yield from _outline(path, child)


def children_of(spec: ChildSpec) -> list[ChildSpec]:
    """Return the children that a supervisor's specification lists; none if it lists them in a way of its own."""
    if not getattr(spec.kind, "is_supervisor", False):
        return []
    listed: Any = spec.kwargs.get("children", spec.args[0] if spec.args else ())
    return [ChildSpec.of(child) for child in listed] if isinstance(listed, (list, tuple)) else []
