"""Streams of tasks: scenarios S289 to S297 of the reference."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision import (
    KILL,
    KILLED,
    NORMAL,
    Abnormal,
    BadOption,
    BadTime,
    MaxChildren,
    Ref,
    Runtime,
    StartError,
    Stop,
    count_children,
    current_actor,
    start_child,
    tasks,
)
from supervision._core.cell import Cell
from supervision.errors import TaskExited, TaskTimeout
from supervision.tasks import Done, Exited, TaskSupervisor
from supervision.tasks.stream import ItemTask
from supervision.tasks.task import task_spec
from supervision.testing import advance, run, settled
from tests.supervision.probes import Do, Probe, do, error_of

TIMEOUT = Abnormal("timeout")


@pytest.fixture
async def supervisor(runtime: Runtime) -> Ref:
    return await runtime.spawn(TaskSupervisor, name="tasks")


async def nap(seconds: float) -> float:
    """Take so long, and say so; a negative time is a crash."""
    if seconds < 0:
        raise Stop("crash")
    await advance(seconds)
    return seconds


async def outcomes_of(stream: tasks.Stream[Any]) -> list[Any]:
    async with stream as results:
        return [outcome async for outcome in results]


async def test_outcomes_come_in_the_order_of_the_items(supervisor: Ref) -> None:
    results = await outcomes_of(tasks.stream(supervisor, nap, [3, 1, 2]))
    assert results == [Done(3), Done(1), Done(2)]
    assert [outcome.result() for outcome in results] == [3, 1, 2]
    assert await outcomes_of(tasks.stream(supervisor, nap, [])) == []
    assert (await count_children(supervisor)).specs == 0


async def test_outcomes_come_as_they_are_there_if_so_wished(supervisor: Ref) -> None:
    results = await outcomes_of(tasks.stream(supervisor, nap, [3, 1, 2], ordered=False))
    assert results == [Done(1), Done(2), Done(3)]


@given(delays=st.lists(st.integers(0, 20), max_size=12), places=st.integers(1, 4), ordered=st.booleans())
def test_S289_all_places_and_never_more_are_used_while_there_are_items(
    delays: list[int], places: int, ordered: bool
) -> None:
    """Against the times that a model of ``places`` workers gives, also when the first item is slow."""
    free_at = [0] * places
    expected = []
    for delay in delays:
        place = free_at.index(min(free_at))
        expected.append((free_at[place], free_at[place] + delay))
        free_at[place] += delay

    async def main() -> None:
        loop = asyncio.get_running_loop()
        times: dict[int, tuple[float, float]] = {}

        async def timed(item: tuple[int, int]) -> None:
            began = loop.time()
            await advance(item[1])
            times[item[0]] = (began, loop.time())

        async with Runtime(watchdog=None, reports=False) as runtime:
            supervisor = await runtime.spawn(TaskSupervisor)
            stream = tasks.stream(
                supervisor, timed, enumerate(delays), max_concurrency=places, ordered=ordered, timeout=None
            )
            assert len(await outcomes_of(stream)) == len(delays)
        assert [times[n] for n in range(len(delays))] == expected

    run(main())


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [
        (True, [Exited(TIMEOUT, 100), Done(1), Exited(TIMEOUT, 101), Done(1)]),
        (False, [Done(1), Done(1), Exited(TIMEOUT, 100), Exited(TIMEOUT, 101)]),
    ],
)
async def test_S290_items_that_take_too_long_are_killed_and_told_in_place(
    runtime: Runtime, supervisor: Ref, ordered: bool, expected: list[Any]
) -> None:
    owner = await runtime.spawn(Probe)

    async def consume(actor: Probe) -> list[Any]:
        return await outcomes_of(
            tasks.stream(supervisor, nap, [100, 1, 101, 1], timeout=50, on_timeout="kill_task", ordered=ordered)
        )

    assert await do(owner, consume) == expected
    assert owner.mailbox_statistics().length == 0
    assert (await count_children(supervisor)).active == 0


async def test_S290_by_default_an_item_that_takes_too_long_ends_the_stream(runtime: Runtime, supervisor: Ref) -> None:
    owner = await runtime.spawn(Probe)

    async def consume(actor: Probe) -> Any:
        return await error_of(outcomes_of(tasks.stream(supervisor, nap, [1, 100, 101], timeout=50)))

    error = await do(owner, consume)
    assert isinstance(error, TaskTimeout)
    assert "100" in str(error)
    assert (await count_children(supervisor)).active == 0
    assert owner.alive


async def test_S292_whoever_stops_early_leaves_nothing_behind(runtime: Runtime, supervisor: Ref) -> None:
    owner = await runtime.spawn(Probe)

    async def take_one(actor: Probe) -> Any:
        async with tasks.stream(supervisor, nap, [0, 1e6, 1e6, 1e6], timeout=None) as results:
            return await anext(aiter(results))

    assert await do(owner, take_one) == Done(0)
    assert asyncio.get_running_loop().time() == 0
    assert (await count_children(supervisor)).active == 0
    info = runtime.info(owner)
    assert info is not None
    assert (info.links, info.mailbox, info.monitors) == (0, 0, 0)


async def test_S292_a_linked_stream_in_full_leaves_no_link_and_no_message_either(
    runtime: Runtime, supervisor: Ref
) -> None:
    owner = await runtime.spawn(Probe, trap_exit=True)
    crashing = [1, -1, 2]
    results = await do(owner, lambda actor: outcomes_of(tasks.stream(supervisor, nap, crashing)))
    assert results == [Done(1), Exited(Abnormal("crash"), -1), Done(2)]
    with pytest.raises(TaskExited, match="crash"):
        results[1].result()
    assert await do(owner, lambda actor: actor.log) == []
    info = runtime.info(owner)
    assert info is not None
    assert info.links == 0


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
async def test_S294_the_number_of_places_is_checked(supervisor: Ref, wrong: Any) -> None:
    with pytest.raises(BadOption, match="max_concurrency"):
        tasks.stream(supervisor, nap, [1], max_concurrency=wrong)


async def test_S294_wrong_options_are_named_before_anything_runs(supervisor: Ref) -> None:
    with pytest.raises(BadOption, match="on_timeout"):
        tasks.stream(supervisor, nap, [1], on_timeout="wait")  # type: ignore[call-overload]
    with pytest.raises(BadTime, match="timeout"):
        tasks.stream(supervisor, nap, [1], timeout=-1)
    with pytest.raises(ValueError, match="shutdown"):
        tasks.stream(supervisor, nap, [1], shutdown="soon")  # type: ignore[call-overload]
    with pytest.raises(BadOption, match="inputs"):
        tasks.stream(supervisor, nap, 7)  # type: ignore[call-overload]
    with pytest.raises(BadOption, match="function"):
        tasks.stream(supervisor, 7, [7])  # type: ignore[call-overload]


async def test_S297_a_consumer_that_raises_stops_the_items_and_closes_the_input(
    runtime: Runtime, supervisor: Ref
) -> None:
    log: list[str] = []

    def inputs() -> Iterator[float]:
        try:
            yield 0
            yield from [1e6] * 10
        finally:
            log.append("closed")

    async def consume() -> None:
        async with tasks.stream(supervisor, nap, inputs(), max_concurrency=3, timeout=None) as results:
            async for _ in results:
                raise LookupError("consumer")

    assert isinstance(await error_of(consume()), LookupError)
    assert log == ["closed"]
    assert (await count_children(supervisor)).active == 0


async def test_S297_an_input_that_raises_stops_the_items(supervisor: Ref) -> None:
    def inputs() -> Iterator[float]:
        yield 1e6
        raise LookupError("input")

    error = await error_of(outcomes_of(tasks.stream(supervisor, nap, inputs(), timeout=None)))
    assert isinstance(error, LookupError)
    assert (await count_children(supervisor)).active == 0


async def test_an_item_that_crashes_ends_an_owner_that_does_not_trap_exits(runtime: Runtime, supervisor: Ref) -> None:
    owner = await runtime.spawn(Probe)

    async def consume(actor: Probe) -> None:
        await outcomes_of(tasks.stream(supervisor, nap, [1, -1, 1e6], timeout=None))

    owner.cast(Do(consume))
    assert await owner.join() == Abnormal("crash")
    await settled(runtime)
    assert (await count_children(supervisor)).active == 0


async def test_items_end_with_their_owner_unless_they_are_not_linked(runtime: Runtime, supervisor: Ref) -> None:
    for linked in (True, False):
        owner = await runtime.spawn(Probe)
        ends: list[str] = []

        async def item(_: int, ends: list[str] = ends) -> None:
            await advance(10)
            ends.append("end")

        async def consume(actor: Probe, linked: bool = linked, item: Any = item) -> None:
            await outcomes_of(tasks.stream(supervisor, item, [1, 2], timeout=None, linked=linked))

        owner.cast(Do(consume))
        await advance(1)
        owner.exit(Abnormal("x")) if linked else owner.kill()
        await settled(runtime)
        await advance(20)
        assert ends == ([] if linked else ["end", "end"])
        assert (await count_children(supervisor)).active == 0


async def test_an_unlinked_item_that_crashes_is_an_outcome_and_no_more(runtime: Runtime, supervisor: Ref) -> None:
    owner = await runtime.spawn(Probe)

    async def consume(actor: Probe) -> Any:
        return await outcomes_of(tasks.stream(supervisor, nap, [-1, 1], linked=False))

    assert await do(owner, consume) == [Exited(Abnormal("crash"), -1), Done(1)]


async def test_an_item_that_is_killed_by_somebody_is_an_outcome(runtime: Runtime, supervisor: Ref) -> None:
    async def suicide(_: int) -> None:
        current_actor().exit(KILL)
        await advance(1)

    assert await outcomes_of(tasks.stream(supervisor, suicide, [7])) == [Exited(KILLED, 7)]


async def test_a_full_supervisor_ends_the_stream_with_its_error(runtime: Runtime) -> None:
    small = await runtime.spawn(TaskSupervisor, max_children=2)
    error = await error_of(outcomes_of(tasks.stream(small, nap, [1e6, 1e6, 1], timeout=None)))
    assert isinstance(error, MaxChildren)
    assert (await count_children(small)).active == 0


async def test_a_task_that_stops_without_a_result_is_an_exit(supervisor: Ref) -> None:
    async def stop(_: int) -> None:
        raise Stop(NORMAL)

    assert await outcomes_of(tasks.stream(supervisor, stop, [1])) == [Exited(NORMAL, 1)]


async def test_a_slow_consumer_does_not_lose_outcomes(supervisor: Ref) -> None:
    got = []
    async with tasks.stream(supervisor, nap, range(5), max_concurrency=2, ordered=False) as results:
        async for outcome in results:
            await advance(7)
            got.append(outcome.result())
    assert got == [0, 1, 2, 3, 4]


async def test_an_item_does_not_start_when_its_consumer_has_ended_meanwhile(runtime: Runtime, supervisor: Ref) -> None:
    consumer = await runtime.spawn(Probe)
    assert isinstance(consumer, Cell)
    item = ItemTask(consumer)
    consumer.kill()
    assert isinstance(await error_of(start_child(supervisor, task_spec(item, nap, (1,), {}))), StartError)
    assert (await count_children(supervisor)).specs == 0
