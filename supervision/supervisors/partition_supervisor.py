"""Partitioned supervisors: a copy of one child for each partition, found by a key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from numbers import Number
from typing import Any
from zlib import crc32

import msgspec

from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision.errors import BadChildSpec, BadOption, NoPartitions, NoProcess, Refuse
from supervision.options import is_whole
from supervision.ref import Address, Name, Ref, as_address
from supervision.supervisors.administration import SupervisorRequest
from supervision.supervisors.childspec import ChildLike, ChildSpec
from supervision.supervisors.supervisor import Child, Strategy, Supervisor

#: Gives a copy its arguments, from those of the specification and the number of its partition.
WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...]]


class Resize(SupervisorRequest[int], frozen=True):
    """Change the number of partitions. The answer is the number before."""

    partitions: int


class PartitionSupervisor(Supervisor):
    """A supervisor of ``partitions`` copies of one child, for actors that would be a bottleneck (Elixir's).

    The copies have the ids 0, 1, 2 …; `partition` finds the one for a key.

    Args:
        child: the specification of the child; its id is replaced, and it has no name.
        partitions: how many copies, at least 1.
        with_arguments: gives each copy its own arguments; all have those of the specification if None.
        strategy: as for `Supervisor`.
        max_restarts: as for `Supervisor`.
        max_seconds: as for `Supervisor`.

    Raises:
        BadChildSpec, BadOption, BadStrategy, BadBudget: an argument is wrong; nothing was started.
    """

    def __init__(
        self,
        child: ChildLike,
        *,
        partitions: int,
        with_arguments: WithArguments | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> None:
        if not is_whole(partitions, 1):
            raise BadOption("partitions", partitions, "give a whole number, 1 or more")
        spec = ChildSpec.of(child)
        if spec.name is not None:
            raise BadChildSpec(f"child {spec.id!r}: name", spec.name, "copies cannot share a name; find them by a key")
        if with_arguments is not None and not callable(with_arguments):
            raise BadOption("with_arguments", with_arguments, "give a function of the arguments and the partition")
        copies = [_copy(spec, number, with_arguments) for number in range(partitions)]
        super().__init__(copies, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds)
        self._copies = list(self._children.values())
        #: How many partitions keys are spread over.
        self.partitions = partitions

    @handle
    async def resize(self, request: Resize) -> int:
        """Stop the surplus after it is no longer found; start what is missing before it is found."""
        before, wanted = self.partitions, request.partitions
        if not is_whole(wanted, 0) or wanted > len(self._copies):
            remedy = f"give a whole number from 0 to {len(self._copies)}, the number it began with"
            raise Refuse(BadOption("partitions", wanted, remedy))
        self.partitions = min(before, wanted)
        await self._stop_many(self._copies[wanted:])
        for child in self._copies[before:wanted]:
            await self._start_copy(child)
        self.partitions = wanted
        return before

    async def _start_copy(self, child: Child) -> None:
        if child.ref is not None:
            return
        self._children.setdefault(child.spec.id, child)
        try:
            await self._start(child)
        except Exception as error:
            raise self.start_refused(child.spec, error) from None

    def route(self, key: Any) -> Ref | None:
        """Return the copy for a key, or the one that is about to be replaced; None if it is not there yet."""
        child = self._copies[number_of(key) % self.partitions]
        return child.ref or child.last


def _copy(spec: ChildSpec, number: int, with_arguments: WithArguments | None) -> ChildSpec:
    if with_arguments is None:
        return msgspec.structs.replace(spec, id=number)
    try:
        args = with_arguments(spec.args, number)
    except TypeError as error:
        remedy = f"it is called with the arguments and the number of the partition ({error})"
        raise BadOption("with_arguments", with_arguments, remedy) from error
    if not isinstance(args, (tuple, list)):
        raise BadOption("with_arguments", args, "return a tuple of arguments")
    return msgspec.structs.replace(spec, id=number, args=tuple(args))


def number_of(key: Any) -> int:
    """Return the number by which a key is spread over partitions; the same in every process for numbers and strings.

    Equal keys have the same number, whatever their types.

    >>> [number_of(key) % 3 for key in (0, 1, 2, 3, -1, -1.0)]
    [0, 1, 2, 0, 1, 1]
    """
    if isinstance(key, int):
        return abs(key)
    if isinstance(key, str):
        return crc32(key.encode(errors="surrogatepass"))
    if isinstance(key, Number):
        with suppress(TypeError, ValueError, OverflowError):
            number: Any = key
            whole = int(number.real)
            if whole == number:
                return abs(whole)
    return abs(hash(key))


def partition(supervisor: Ref | Name, key: Any) -> Ref:
    """Return the child for a key, without waiting.

    A whole number leads to its absolute value modulo the number of partitions, anything else to a hash modulo that.

    Raises:
        NoProcess: there is no such `PartitionSupervisor`.
        NoPartitions: it has been resized to 0.
    """
    actor = _supervisor_behind(supervisor, key)
    if actor.partitions == 0:
        raise NoPartitions(supervisor)
    ref = actor.route(key)
    if ref is None:
        raise NoProcess(supervisor, key, "this partition ignored its start")
    return ref


def partitions(supervisor: Ref | Name) -> int:
    """Return how many partitions there are, without waiting.

    Raises:
        NoProcess: there is no such `PartitionSupervisor`.
    """
    return _supervisor_behind(supervisor, "partitions").partitions


def _supervisor_behind(supervisor: Ref | Name, what: Any) -> PartitionSupervisor:
    ref = supervisor.resolve() if isinstance(supervisor, Name) else as_address("supervisor", supervisor)
    if isinstance(ref, Cell) and ref.alive and isinstance(ref.actor, PartitionSupervisor):
        return ref.actor
    raise NoProcess(supervisor, what, "there is no partition supervisor")


async def resize(supervisor: Address, partitions: int) -> int:
    """Change the number of partitions, and return the number before.

    Args:
        supervisor: a `PartitionSupervisor`.
        partitions: from 0 to the number it began with. Specifications are kept.

    Raises:
        BadOption: there cannot be so many.
        StartError: a copy did not start; the number is unchanged.
    """
    return await as_address("supervisor", supervisor).call(Resize(partitions), timeout=None)
