"""Actors and functions that the trees of these tests are made of."""

from __future__ import annotations

from typing import Any

from foundation.tree import Degraded, Tree, TreeView
from supervision import IGNORE, Actor, ChildSpec, Supervisor
from supervision.testing.probe import Do as Do
from supervision.testing.probe import Probe as Probe


class Worker(Actor):
    """Keeps its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


class Picky(Actor):
    """Takes two arguments."""

    def __init__(self, first: int, second: int = 2) -> None:
        self.sum = first + second


class Failing(Actor):
    """Does not start."""

    def init(self) -> None:
        """Fail."""
        raise ValueError("no luck")


class Unwilling(Actor):
    """Does not want to run."""

    def init(self) -> Any:
        """Ignore the start."""
        return IGNORE


class Absent(Exception):
    """Says that something is missing, and what to do about it."""

    missing = "the moon"
    remedy = "wait for night"


def moon() -> None:
    """Is missing."""
    raise Absent("there is no moon")


def sun() -> None:
    """Is there."""


def burning() -> None:
    """Raises."""
    raise ValueError("it burns")


def two() -> list[Any]:
    """Return two children."""
    return [ChildSpec("a", Worker), Worker]


def seven() -> int:
    """Return what is no list."""
    return 7


def twice() -> list[Any]:
    """Return children with the same id."""
    return [Worker, Worker]


class Nested:
    """Has something inside."""

    CHILDREN = two()


ROOT = ChildSpec("root", Supervisor, args=([Worker],))
READY = Tree("ready", ROOT)
MAPPING = {"id": "m", "children": [{"id": "w", "start": "tests.foundation.parts:Worker"}]}
NUMBER = 7
CUSTOM = Supervisor


def degraded(now: TreeView) -> list[Degraded]:
    """Return what keeps a tree from being ready: whatever starts, restarts or stops; or that there is no tree.

    A child that a supervisor has stopped for good, or that ended as it should, and a part that is left out do not.
    """
    if not now.tree:
        return [Degraded("/", "not started")]
    return [Degraded(node.path, node.state) for node in now.walk() if node.state not in ("running", "stopped")]
