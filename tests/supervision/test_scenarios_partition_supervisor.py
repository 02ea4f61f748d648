"""Partition supervisors: scenarios S147 to S152 of the reference."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import (
    IGNORE,
    Actor,
    BadChildSpec,
    BadOption,
    ChildCounts,
    ChildSpec,
    NoProcess,
    PartitionSupervisor,
    Refuse,
    Runtime,
    StartError,
    Supervisor,
    count_children,
    partition,
    terminate_child,
    which_children,
)
from supervision.errors import NoPartitions
from supervision.events import Started
from supervision.supervisors.partition_supervisor import partitions, resize
from supervision.testing import barrier
from tests.supervision.probes import DoAndReply, Probe, error_of


class Numbered(Probe):
    """Knows its number."""

    def __init__(self, *number: Any) -> None:
        super().__init__()
        self.number = number


def with_number(args: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return (*args, number)


async def test_S147_keys_lead_to_partitions_and_each_copy_has_its_own_arguments(runtime: Runtime) -> None:
    spec = ChildSpec("worker", Numbered, args=("n",))
    top = await runtime.spawn(PartitionSupervisor, spec, partitions=3, with_arguments=with_number, name="top")
    numbers = [await partition(top, key).call(DoAndReply(lambda actor: actor.number)) for key in (0, 1, 2, 3, -1)]
    assert numbers == [("n", 0), ("n", 1), ("n", 2), ("n", 0), ("n", 1)]
    assert partition(runtime.name("top"), "some key") is partition(top, "some key")
    assert partition(top, ("any", "thing")).alive


async def test_S149_it_is_resized_within_what_it_began_with(runtime: Runtime) -> None:
    top = await runtime.spawn(PartitionSupervisor, Actor, partitions=8)
    before = 8
    for size in (*range(8, -1, -1), *range(9), 3, 7, 1, 8, 0, 5):
        assert await resize(top, size) == before
        assert partitions(top) == size
        assert await count_children(top) == ChildCounts(specs=8, active=size, supervisors=0, workers=8)
        assert len({partition(top, key) for key in range(8) if size}) == size
        before = size


async def test_S150_with_no_partitions_a_lookup_raises_and_more_than_at_first_are_refused(runtime: Runtime) -> None:
    top = await runtime.spawn(PartitionSupervisor, Actor, partitions=2)
    assert await resize(top, 0) == 2
    with pytest.raises(NoPartitions):
        partition(top, 1)
    for wrong in (3, -1, 1.0, True, "2"):
        error = await error_of(resize(top, wrong))  # type: ignore[arg-type]
        assert isinstance(error, BadOption)
        assert repr(wrong) in str(error)
    assert await resize(top, 2) == 0


async def test_S152_children_are_listed_by_the_number_that_leads_to_them(runtime: Runtime) -> None:
    workers = await runtime.spawn(PartitionSupervisor, Actor, partitions=4)
    children = {child.id: child.ref for child in await which_children(workers)}
    assert children == {key: partition(workers, key) for key in range(4)}
    assert await count_children(workers) == ChildCounts(4, 4, 0, 4)
    supervisors = await runtime.spawn(PartitionSupervisor, Supervisor, partitions=4)
    assert await count_children(supervisors) == ChildCounts(4, 4, 4, 0)


async def test_a_partition_that_crashes_is_replaced_under_the_same_key(runtime: Runtime) -> None:
    top = await runtime.spawn(PartitionSupervisor, Actor, partitions=2)
    old = partition(top, 1)
    old.kill()
    assert partition(top, 1) is old
    await barrier(top)
    assert partition(top, 1) is not old
    assert partition(top, 1).alive


async def test_a_partition_that_was_stopped_by_hand_is_started_when_it_is_resized(runtime: Runtime) -> None:
    top = await runtime.spawn(PartitionSupervisor, ChildSpec("a", Actor, restart="temporary"), partitions=3)
    await resize(top, 1)
    await resize(top, 3)
    assert await count_children(top) == ChildCounts(3, 3, 0, 3)
    partition(top, 2).kill()
    await barrier(top)
    assert not partition(top, 2).alive
    permanent = await runtime.spawn(PartitionSupervisor, Actor, partitions=2)
    await resize(permanent, 1)
    await terminate_child(permanent, 0)
    assert await resize(permanent, 2) == 1


class Choosy(Actor):
    """Starts only while its list is empty."""

    def __init__(self, refusals: list[str]) -> None:
        self.refusals = refusals

    def init(self) -> None:
        if self.refusals:
            raise Refuse(RuntimeError(self.refusals.pop()))


async def test_growing_that_fails_leaves_the_number_as_it_was(runtime: Runtime) -> None:
    refusals: list[str] = []
    top = await runtime.spawn(PartitionSupervisor, ChildSpec("a", Choosy, args=(refusals,)), partitions=3)
    await resize(top, 1)
    refusals.append("no")
    assert isinstance(await error_of(resize(top, 3)), StartError)
    assert partitions(top) == 1
    assert await resize(top, 3) == 1


async def test_growing_again_after_a_failure_keeps_the_copies_that_were_started(runtime: Runtime) -> None:
    refusals: list[str] = []
    top = await runtime.spawn(PartitionSupervisor, ChildSpec("a", Choosy, args=(refusals,)), partitions=3)
    await resize(top, 0)

    def one_has_started(event: Started) -> None:
        refusals.append("no")
        subscription.close()

    subscription = runtime.subscribe(one_has_started, Started)
    assert isinstance(await error_of(resize(top, 3)), StartError)
    assert await count_children(top) == ChildCounts(3, 1, 0, 3)
    first = (await which_children(top))[-1].ref
    assert await resize(top, 3) == 0
    assert partition(top, 0) is first
    assert await count_children(top) == ChildCounts(3, 3, 0, 3)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None])
async def test_the_number_of_partitions_is_checked(runtime: Runtime, wrong: Any) -> None:
    error = await error_of(runtime.spawn(PartitionSupervisor, Actor, partitions=wrong))
    assert isinstance(error, BadOption)
    assert list(runtime.actors()) == []


async def test_copies_cannot_share_a_name(runtime: Runtime) -> None:
    spec = ChildSpec("a", Actor, name="a")
    error = await error_of(runtime.spawn(PartitionSupervisor, spec, partitions=2))
    assert isinstance(error, BadChildSpec)
    assert "'a'" in str(error)


async def test_there_is_no_partition_of_what_is_not_a_partition_supervisor(runtime: Runtime) -> None:
    other = await runtime.spawn(Actor)
    top = await runtime.spawn(PartitionSupervisor, Actor, partitions=1)
    await top.stop()
    for nobody in (other, top, runtime.name("nobody")):
        with pytest.raises(NoProcess):
            partition(nobody, 1)


class Unwilling(Actor):
    """Does not want to run."""

    def init(self) -> Any:
        return IGNORE


async def test_a_key_whose_copy_ignored_its_start_leads_nowhere(runtime: Runtime) -> None:
    top = await runtime.spawn(PartitionSupervisor, Unwilling, partitions=1)
    with pytest.raises(NoProcess, match="ignored"):
        partition(top, 1)
