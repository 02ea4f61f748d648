"""Optional parts of a tree: which are not started as they cannot run here, such as for want of a package, and why.

An optional group becomes a supervisor that may be absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import util
from typing import Any

import msgspec

from foundation.tree.errors import explain
from supervision import (
    IGNORE,
    ChildLike,
    Runtime,
    Stop,
    Supervisor,
)
from supervision.reasons import as_reason


class LeftOutPart(msgspec.Struct, frozen=True):
    """A part of a tree that does not run.

    Attributes:
        path: its place in the tree.
        why: what is missing.
        remedy: the command that installs it; empty if none is known.
    """

    path: str
    why: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.path} is left out: {_line(self.why, self.remedy)}"


class MissingDependency(Exception):
    """Something that a part of a tree needs is not installed.

    Attributes:
        remedy: the command that installs it; empty if none is known.
        path: which part of the tree needs it.
    """

    def __init__(self, why: str, remedy: str = "") -> None:
        self.remedy = remedy
        self.path = ""
        super().__init__(why)

    @property
    def line(self) -> str:
        """What is missing, and the command that installs it."""
        return _line(str(self), self.remedy)


def _line(why: str, remedy: str) -> str:
    return f"{why}; run: {remedy}" if remedy and remedy not in why else why


def missing_dependency(error: Exception) -> MissingDependency | None:
    """Return what an error says is missing; None if it is about something else.

    An `ImportError` says that something is missing; and so does any exception with the attributes ``missing`` (what)
    and ``remedy`` (the command that installs it).
    """
    if isinstance(error, MissingDependency):
        return error
    if isinstance(error, ImportError) or hasattr(error, "missing"):
        return MissingDependency(str(error), getattr(error, "remedy", ""))
    return None


def require_module(name: str) -> None:
    """Make sure that a module could be imported.

    Raises:
        MissingDependency: it could not.
    """
    try:
        found = util.find_spec(name) is not None
    except ImportError:
        found = False
    if not found:
        raise MissingDependency(f"{name} is not installed")


#: Where a runtime has the parts that are not started. The tuple is replaced, never changed.
_LEFT_OUT = "parts that are left out"


def leave_out(runtime: Runtime, *parts: LeftOutPart) -> None:
    """Note parts that do not run, for whoever asks `left_out`."""
    runtime.shared[_LEFT_OUT] = (*left_out(runtime), *parts)


def left_out(runtime: Runtime) -> tuple[LeftOutPart, ...]:
    """Return the parts of the tree in a runtime that do not run, as they cannot run here."""
    found: tuple[LeftOutPart, ...] = runtime.shared.get(_LEFT_OUT, ())
    return found


class Presence:
    """Whether an optional part has ever run; shared by its incarnations."""

    def __init__(self) -> None:
        self.proven = False


class OptionalSupervisor(Supervisor):
    """A supervisor that does not run, instead of failing, if its children cannot be started the first time.

    Args:
        children: as for `Supervisor`.
        presence: whether it has run before; then a start that fails is a failure.
        options: as for `Supervisor`.
    """

    def __init__(self, children: Iterable[ChildLike] = (), *, presence: Presence, **options: Any) -> None:
        super().__init__(children, **options)
        self._presence = presence

    async def init(self) -> Any:
        """Start the children, or tell why not."""
        try:
            await super().init()
        except Stop as stop:
            if self._presence.proven:
                raise
            leave_out(self.runtime, LeftOutPart(self.ref.path, explain(as_reason(stop.reason))))
            return IGNORE
        self._presence.proven = True
        return None
