"""A look at the actors of a runtime as they are at this moment: as a tree, and whether all is as it should be.

Nobody is asked and nothing is waited for, so that the view is whole, and is there also while supervisors are busy.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from foundation.tree.missing import LeftOut, left_out
from supervision import ActorInfo, ChildInfo, Ref, Runtime, SupervisorInfo, look


class Budget(msgspec.Struct, frozen=True):
    """A supervisor's restart budget: ``used`` of ``allowed`` restarts in the last ``seconds``; ``left`` remain."""

    used: int
    allowed: int
    left: int
    seconds: float


class Node(msgspec.Struct, frozen=True):
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
    budget: Budget | None = None
    summary: dict[str, str] = {}
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """Return this node and all under it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


class View(msgspec.Struct, frozen=True):
    """A runtime at this moment.

    Attributes:
        node: the name of the runtime.
        actors: how many are alive.
        runnable: how many have messages to handle.
        zombies: how many killed ones have code that still runs.
        dead_letters: messages that nobody read, by reason.
        tree: the actors that have no parent, with those under them.
        left_out: the optional parts of the tree that cannot run here.
    """

    node: str
    actors: int
    runnable: int
    zombies: int
    dead_letters: dict[str, int]
    tree: tuple[Node, ...]
    left_out: tuple[LeftOut, ...]

    def walk(self) -> Iterator[Node]:
        """Return all nodes, parents first."""
        for root in self.tree:
            yield from root.walk()


class Degraded(msgspec.Struct, frozen=True):
    """Something is not as it should be: what, and in what state it is."""

    path: str
    state: str


def view(runtime: Runtime) -> View:
    """Return a runtime as it is at this moment."""
    numbers = runtime.statistics()
    return View(
        runtime.node,
        numbers.actors,
        numbers.runnable,
        numbers.zombies,
        numbers.dead_letters,
        _Looker(runtime).roots(),
        left_out(runtime),
    )


class _Looker:
    """Puts the actors of a runtime into a tree."""

    def __init__(self, runtime: Runtime) -> None:
        infos = [info for ref in runtime.actors() if (info := runtime.info(ref)) is not None]
        alive = {info.ref for info in infos}
        self._under: dict[Ref | None, list[ActorInfo]] = {}
        for info in infos:
            parent = info.parent if info.parent in alive else None
            self._under.setdefault(parent, []).append(info)

    def roots(self) -> tuple[Node, ...]:
        """Return the actors that have no living parent."""
        return tuple(self._node(info, None) for info in self._under.get(None, ()))

    def _node(self, info: ActorInfo, child: ChildInfo | None) -> Node:
        keeper = look(info.ref)
        return Node(
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
            children=tuple(self._children(info, keeper)),
        )

    def _children(self, info: ActorInfo, keeper: SupervisorInfo | None) -> Iterator[Node]:
        """Return what a supervisor lists, in its order, and then other actors under it."""
        under = {below.ref: below for below in self._under.get(info.ref, ())}
        listed, coming = ((), frozenset()) if keeper is None else (keeper.children, keeper.coming)
        known = {child.ref for child in listed}
        starting = {below.path: below for below in under.values() if below.ref not in known}
        for child in listed:
            path = f"{info.path}/{child.id}"
            actor = under.get(child.ref) if child.ref is not None else starting.pop(path, None)
            if actor is None:
                will = "starting" if info.state == "starting" else "restarting"
                yield _absent(path, child, will if child.id in coming else "stopped")
            else:
                yield self._node(actor, child)
        for below in starting.values():
            yield self._node(below, None)


def _absent(path: str, child: ChildInfo, state: str) -> Node:
    spec = child.spec
    return Node(
        path=path,
        id=str(child.id),
        kind=getattr(spec.start, "__qualname__", type(spec.start).__name__),
        state=state,
        name=spec.name,
        restart=spec.restart,
        restarts=child.restarts,
    )


def _budget(keeper: SupervisorInfo) -> Budget:
    state = keeper.budget
    return Budget(state.used, state.allowed, max(0, state.allowed - state.used), state.seconds)


def degraded(now: View) -> list[Degraded]:
    """Return what keeps a tree from being ready: whatever starts, restarts or stops; or that there is no tree.

    A child that a supervisor has stopped for good, or that ended as it should, and a part that is left out do not.
    """
    if not now.tree:
        return [Degraded("/", "not started")]
    return [Degraded(node.path, node.state) for node in now.walk() if node.state not in ("running", "stopped")]
