"""What is told of actors, of a runtime, and of code that goes on behind a fence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervision._core.cancellation import CancellationLadder, stack_of
from supervision._core.introspection import summary_of
from supervision._core.phases import DEAD, EXITING, RUNNING, STARTING, STOPPING
from supervision.call import Call
from supervision.reasons import ExitReason
from supervision.ref import Ref

if TYPE_CHECKING:
    from supervision._core.cell import Cell

PHASES = {STARTING: "starting", RUNNING: "running", STOPPING: "stopping", EXITING: "exiting", DEAD: "dead"}


class ActorInfo(msgspec.Struct, frozen=True):
    """A live actor at this moment. ``uptime`` is in seconds; ``waits_for`` is whom its handler has called.

    ``parent`` started it as its child; None if nobody did. ``summary`` is what its `Actor.summary` says.
    """

    ref: Ref
    path: str
    kind: str
    name: str | None
    state: str
    uptime: float
    mailbox: int
    links: int
    monitors: int
    waits_for: str | None
    parent: Ref | None = None
    summary: dict[str, str] = {}


class ZombieInfo(msgspec.Struct, frozen=True):
    """The code of a killed actor that still runs: for ``age`` seconds, ``given_up`` when nothing can end it."""

    ref: Ref
    path: str
    reason: ExitReason | None
    age: float
    given_up: bool
    stack: str


class RuntimeStatistics(msgspec.Struct, frozen=True):
    """A runtime at this moment.

    ``dead_letters`` counts by reason. ``leaked_threads`` still run a handler of an actor that was killed.
    """

    actors: int
    names: int
    runnable: int
    timers: int
    zombies: int
    dead_letters: dict[str, int]
    processes: int = 0
    leaked_threads: int = 0


def info_of(cell: Cell) -> ActorInfo:
    """Return what is known of a live actor."""
    waits_for = str(cell.awaiting.target) if isinstance(cell.awaiting, Call) else None
    return ActorInfo(
        cell,
        cell.path,
        cell.kind.__qualname__,
        cell.name,
        "suspended" if cell.suspended else PHASES[cell.phase],
        0.0 if cell.born is None else cell.sched.now() - cell.born,
        cell.mailbox_statistics().length,
        sum(1 for _ in cell.peers()),
        len(cell.monitors or ()),
        waits_for,
        cell.parent,
        {} if cell.born is None else summary_of(cell.actor),
    )


def zombie_info(cell: Cell, ladder: CancellationLadder) -> ZombieInfo:
    """Return what is known of the code of a killed actor that still runs."""
    age = cell.sched.now() - ladder.since
    return ZombieInfo(cell, cell.path, cell.exit_reason, age, ladder.given_up, stack_of(cell))
