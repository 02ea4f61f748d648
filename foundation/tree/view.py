"""A view of the actors of a runtime as they are at this moment: as a tree, and whether all is as it should be.

Nobody is asked and nothing is waited for, so that the view is whole, and is there also while supervisors are busy. With
many actors `view_part` yields to the loop between slices, and so shows one part a moment later than another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeAlias

import msgspec

from foundation.tree.optional import LeftOutPart, left_out
from supervision import ActorInfo, ChildInfo, Ref, Runtime, SupervisorInfo, supervisor_info

#: How many levels, and how many actors, are shown, unless somebody asks for more.
DEPTH, LIMIT = 50, 1000
#: So many actors are looked at before others go on.
SLICE = 200


class BudgetView(msgspec.Struct, frozen=True):
    """A supervisor's restart budget: ``used`` of ``allowed`` restarts in the last ``seconds``; ``left`` remain."""

    used: int
    allowed: int
    left: int
    seconds: float


class TreeNode(msgspec.Struct, frozen=True):
    """An actor, or a child of a supervisor that has none at this moment.

    Attributes:
        path: its place.
        id: what its supervisor calls it.
        kind: its class.
        state: ``starting``, ``running``, ``stopping``, ``exiting``; without an actor ``stopped``, or, if there will be
            one, ``starting`` or ``restarting``.
        incarnation: the number of its actor in the runtime; None without one.
        name: under which it is registered.
        restart: its restart type, if it has a supervisor.
        uptime: seconds since it was started.
        restarts: how often its supervisor has restarted it.
        mailbox: how many messages wait for it.
        budget: a supervisor's restart budget.
        summary: what the actor says of itself in a few words.
        children: those under it.
        more: how many there are besides, directly under it.
    """

    path: str
    id: str
    kind: str
    state: str
    incarnation: int | None = None
    name: str | None = None
    restart: str | None = None
    uptime: float = 0.0
    restarts: int = 0
    mailbox: int = 0
    budget: BudgetView | None = None
    summary: dict[str, str] = {}
    children: tuple[TreeNode, ...] = ()
    more: int = 0

    def walk(self) -> Iterator[TreeNode]:
        """Return this node and all under it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


class TreeView(msgspec.Struct, frozen=True):
    """A runtime at this moment.

    Attributes:
        node: the name of the runtime.
        actors: how many are alive.
        runnable: how many have messages to handle.
        zombies: how many killed ones have code that still runs.
        dead_letters: messages that nobody read, by reason.
        tree: the actors that have no parent, with those under them.
        left_out: the optional parts of the tree that cannot run here.
        more: how many actors without a parent there are besides.
    """

    node: str
    actors: int
    runnable: int
    zombies: int
    dead_letters: dict[str, int]
    tree: tuple[TreeNode, ...]
    left_out: tuple[LeftOutPart, ...]
    more: int = 0

    def walk(self) -> Iterator[TreeNode]:
        """Return all nodes, parents first."""
        for root in self.tree:
            yield from root.walk()


class Degraded(msgspec.Struct, frozen=True):
    """Something is not as it should be: what, and in what state it is."""

    path: str
    state: str


#: An actor, or the node of a child that has none, with what its supervisor tells of it.
Seen: TypeAlias = tuple[Ref | TreeNode, ChildInfo | None]


class NoSuchPath(LookupError):
    """There is no actor at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"there is no actor at {path!r}")


def view_tree(runtime: Runtime) -> TreeView:
    """Return a runtime as it is at this moment, whole."""
    looker = _Looker(runtime)
    for ref in runtime.actors():
        looker.add(ref)
    return _view(runtime, looker.roots(""))


async def view_part(runtime: Runtime, *, path: str = "", depth: int = DEPTH, limit: int = LIMIT) -> TreeView:
    """Return a part of a runtime. Others go on in between.

    Args:
        runtime: which.
        path: of the actor to begin with; empty for all that have no parent.
        depth: how many levels to show.
        limit: how many actors to show.

    Raises:
        NoSuchPath: there is none at the path.
    """
    looker = _Looker(runtime, depth, limit)
    for number, ref in enumerate(runtime.actors(), 1):
        looker.add(ref)
        if number % SLICE == 0:
            await runtime.sleep(0.0)
    return _view(runtime, looker.roots(path))


def _view(runtime: Runtime, found: tuple[tuple[TreeNode, ...], int]) -> TreeView:
    numbers = runtime.statistics()
    counts = (numbers.actors, numbers.runnable, numbers.zombies, numbers.dead_letters)
    return TreeView(runtime.node, *counts, found[0], left_out(runtime), found[1])


class _Looker:
    """Puts the actors of a runtime into a tree."""

    def __init__(self, runtime: Runtime, depth: int | None = None, limit: int | None = None) -> None:
        self._runtime = runtime
        self._depth = depth
        self._left = limit
        self._count = 0
        self._under: dict[Ref | None, dict[Ref, None]] = {}

    def add(self, ref: Ref) -> None:
        """Take an actor in, unless it has ended."""
        if ref.reason is None:
            self._under.setdefault(self._runtime.parent(ref), {})[ref] = None
            self._count += 1

    def roots(self, path: str) -> tuple[tuple[TreeNode, ...], int]:
        """Return the actors that have no living parent, or the one at a path; and how many there are besides."""
        refs = list(self._under.get(None, ()))
        if path:
            refs = [ref for under in self._under.values() for ref in under if ref.path == path]
            if not refs:
                raise NoSuchPath(path)
        if self._left is not None and self._count <= self._left:
            self._left = None
        return self._shown(((ref, None) for ref in refs), len(refs), self._depth, self._left)

    def _shown(
        self, listed: Iterable[Seen], size: int, depth: int | None, most: int | None
    ) -> tuple[tuple[TreeNode, ...], int]:
        """Return as many as may be shown, and how many there are besides."""
        nodes: list[TreeNode] = []
        for seen, child in islice(listed, most if depth is None or depth > 0 else 0):
            if self._left is not None:
                if self._left <= 0:
                    break
                self._left -= 1
            if isinstance(seen, TreeNode):
                nodes.append(seen)
            elif (info := self._runtime.info(seen)) is not None:
                nodes.append(self._node(info, child, None if depth is None else depth - 1))
        return tuple(nodes), size - len(nodes)

    def _node(self, info: ActorInfo, child: ChildInfo | None, depth: int | None) -> TreeNode:
        # One with very many leaves some room for those after it.
        most = None if self._left is None else (self._left + 1) // 2
        keeper = supervisor_info(info.ref, most)
        under = self._under.get(info.ref, {})
        size = len(under) if keeper is None else max(keeper.size, len(under))
        children, more = self._shown(self._children(info, under, keeper), size, depth, most)
        return TreeNode(
            path=info.path,
            id=info.path.rpartition("/")[2] if child is None else str(child.id),
            kind=info.kind,
            state=info.state,
            incarnation=info.ref.id,
            name=info.name,
            restart=None if child is None else child.spec.restart,
            uptime=round(info.uptime, 3),
            restarts=0 if child is None else child.restarts,
            mailbox=info.mailbox,
            budget=None if keeper is None else _budget(keeper),
            summary=info.summary,
            children=children,
            more=max(0, more),
        )

    def _children(self, info: ActorInfo, under: Mapping[Ref, None], keeper: SupervisorInfo | None) -> Iterator[Seen]:
        """Return what a supervisor lists, in its order, and then other actors under it."""
        listed = () if keeper is None else keeper.children
        known = {child.ref for child in listed}
        whole = keeper is None or keeper.size == len(listed)
        starting = {below.path: below for below in under if below not in known} if whole else {}
        for child in listed:
            path = f"{info.path}/{child.id}"
            actor = starting.pop(path, None) if child.ref is None else child.ref if child.ref in under else None
            if actor is None:
                assert keeper is not None
                will = "starting" if info.state == "starting" else "restarting"
                yield _absent(path, child, will if child.id in keeper.pending else "stopped"), child
            else:
                yield actor, child
        yield from ((below, None) for below in starting.values())


def _absent(path: str, child: ChildInfo, state: str) -> TreeNode:
    spec = child.spec
    return TreeNode(
        path=path,
        id=str(child.id),
        kind=getattr(spec.start, "__qualname__", type(spec.start).__name__),
        state=state,
        name=spec.name,
        restart=spec.restart,
        restarts=child.restarts,
    )


def _budget(keeper: SupervisorInfo) -> BudgetView:
    state = keeper.budget
    return BudgetView(state.used, state.allowed, max(0, state.allowed - state.used), state.seconds)
