"""Requests to a running supervisor: start, stop, restart, forget, list and count children.

The results are those of OTP's ``supervisor`` module; where OTP answers ``{error, Why}`` these raise a typed error.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from supervision.messages import Request
from supervision.ref import Address, Ref, as_address
from supervision.supervisors.childspec import ChildLike, ChildSpec
from supervision.supervisors.restarts import BudgetState

R = TypeVar("R")


class ChildInfo(msgspec.Struct, frozen=True):
    """A child at this moment. ``ref`` is None while it does not run; ``restarting`` tells why that may be."""

    id: Any
    ref: Ref | None
    restarting: bool
    spec: ChildSpec
    info: Any = None
    restarts: int = 0

    @property
    def type(self) -> str:
        """``worker`` or ``supervisor``."""
        return self.spec.type or "worker"


class ChildCounts(msgspec.Struct, frozen=True):
    """How many children: specifications, running ones, and of what type by specification."""

    specs: int
    active: int
    supervisors: int
    workers: int


class SupervisorInfo(msgspec.Struct, frozen=True):
    """A supervisor at this moment: its children, first started first, and its restart budget.

    ``pending`` has the ids of those that do not run but will: the supervisor itself is starting, or about to restart
    them, alone or with others. ``size`` is the number of all children, also if fewer are listed.
    """

    children: tuple[ChildInfo, ...]
    budget: BudgetState
    pending: frozenset[Any] = frozenset()
    size: int = 0


class SupervisorStatistics(msgspec.Struct, frozen=True):
    """A supervisor in numbers: its children, its budget, and how many restarts of present children it has made."""

    counts: ChildCounts
    budget: BudgetState
    restarts: int


class SupervisorRequest(Request[R], Generic[R], frozen=True):
    """A request to a supervisor. A supervisor that does not offer it refuses it, and goes on."""


class StartChild(SupervisorRequest[Ref | None], frozen=True):
    """Start a child. The answer is its address, or None if it ignored the start."""

    spec: Any


class TerminateChild(SupervisorRequest[None], frozen=True):
    """Stop a child and keep its specification, unless it is temporary."""

    id: Any


class RestartChild(SupervisorRequest[Ref | None], frozen=True):
    """Start a stopped child again."""

    id: Any


class DeleteChild(SupervisorRequest[None], frozen=True):
    """Forget the specification of a stopped child."""

    id: Any


class WhichChildren(SupervisorRequest[list[ChildInfo]], frozen=True):
    """List the children, last started first."""


class WhichChild(SupervisorRequest[ChildInfo], frozen=True):
    """Return one child."""

    id: Any


class CountChildren(SupervisorRequest[ChildCounts], frozen=True):
    """Count the children."""


class GetChildSpec(SupervisorRequest[ChildSpec], frozen=True):
    """Return the specification of a child, with all defaults filled in."""

    id: Any


class GetStatistics(SupervisorRequest[SupervisorStatistics], frozen=True):
    """Return the supervisor in numbers."""


class GetBudget(SupervisorRequest[BudgetState], frozen=True):
    """Return how much of the restart budget is used."""


async def start_child(supervisor: Address, spec: ChildLike) -> Ref | None:
    """Start a child under a supervisor.

    Args:
        supervisor: a `Supervisor` or a `DynamicSupervisor`.
        spec: a `ChildSpec`, a mapping with its fields, or an actor class.

    Returns:
        The child's address, or None if its ``init`` answered IGNORE.

    Raises:
        BadChildSpec: the specification is wrong; nothing has changed.
        AlreadyStarted, AlreadyPresent: the id is taken; or the name is, by another actor.
        MaxChildren: the dynamic supervisor is full.
        StartError: the child did not start; its specification is not kept.
        NoProcess: there is no such supervisor.
    """
    call = as_address("supervisor", supervisor).call(StartChild(ChildSpec.of(spec)), timeout=None)
    ref = await call
    call.message = None  # so that the arguments of a temporary child can be freed
    return ref


async def terminate_child(supervisor: Address, id: object) -> None:
    """Stop a child: by its id, or, under a dynamic supervisor, by its address.

    Raises:
        ChildNotFound: there is no such child.
    """
    await as_address("supervisor", supervisor).call(TerminateChild(id), timeout=None)


async def restart_child(supervisor: Address, id: object) -> Ref | None:
    """Start a stopped child again; the restart budget is not touched.

    Raises:
        ChildNotFound, ChildRunning, ChildRestarting: it is not there, or not stopped.
        StartError: it did not start; its specification is kept.
    """
    return await as_address("supervisor", supervisor).call(RestartChild(id), timeout=None)


async def delete_child(supervisor: Address, id: object) -> None:
    """Forget the specification of a stopped child.

    Raises:
        ChildNotFound, ChildRunning, ChildRestarting: it is not there, or not stopped.
    """
    await as_address("supervisor", supervisor).call(DeleteChild(id), timeout=None)


async def which_children(supervisor: Address) -> list[ChildInfo]:
    """Return the children of a supervisor, last started first."""
    return await as_address("supervisor", supervisor).call(WhichChildren(), timeout=None)


async def which_child(supervisor: Address, id: object) -> ChildInfo:
    """Return one child of a supervisor.

    Raises:
        ChildNotFound: there is no such child.
    """
    return await as_address("supervisor", supervisor).call(WhichChild(id), timeout=None)


async def count_children(supervisor: Address) -> ChildCounts:
    """Count the children of a supervisor."""
    return await as_address("supervisor", supervisor).call(CountChildren(), timeout=None)


async def statistics(supervisor: Address) -> SupervisorStatistics:
    """Return a supervisor in numbers."""
    return await as_address("supervisor", supervisor).call(GetStatistics(), timeout=None)


async def get_child_spec(supervisor: Address, id: object) -> ChildSpec:
    """Return the specification of a child, with defaults filled in.

    Raises:
        ChildNotFound: there is no such child.
    """
    return await as_address("supervisor", supervisor).call(GetChildSpec(id), timeout=None)
