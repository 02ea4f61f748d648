"""What a tree does without: parts that are marked as optional and cannot run here, such as for want of a package."""

from __future__ import annotations

from importlib import util
from weakref import WeakKeyDictionary

import msgspec

from supervision import Runtime


class LeftOut(msgspec.Struct, frozen=True):
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


class MissingPart(Exception):
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


def missing_part(error: Exception) -> MissingPart | None:
    """Return what an error says is missing; None if it is about something else.

    An `ImportError` says that something is missing; and so does any exception with the attributes ``missing`` (what)
    and ``remedy`` (the command that installs it).
    """
    if isinstance(error, MissingPart):
        return error
    if isinstance(error, ImportError) or hasattr(error, "missing"):
        return MissingPart(str(error), getattr(error, "remedy", ""))
    return None


def require_module(name: str) -> None:
    """Make sure that a module could be imported.

    Raises:
        MissingPart: it could not.
    """
    try:
        found = util.find_spec(name) is not None
    except ImportError:
        found = False
    if not found:
        raise MissingPart(f"{name} is not installed")


#: By runtime: what its tree does without. A tuple is replaced, never changed.
_left_out: WeakKeyDictionary[Runtime, tuple[LeftOut, ...]] = WeakKeyDictionary()


def leave_out(runtime: Runtime, *parts: LeftOut) -> None:
    """Note parts that do not run, for whoever asks `left_out`."""
    _left_out[runtime] = (*left_out(runtime), *parts)


def left_out(runtime: Runtime) -> tuple[LeftOut, ...]:
    """Return the parts of the tree in a runtime that do not run, as they cannot run here."""
    return _left_out.get(runtime, ())
