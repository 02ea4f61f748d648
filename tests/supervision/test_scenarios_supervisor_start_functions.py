"""Scenarios of the reference, section 4.1: the names of children, and the functions that start them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervision import (
    KILLED,
    SHUTDOWN,
    Actor,
    ActorExited,
    AlreadyStarted,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Ref,
    Runtime,
    StartError,
    Supervisor,
    handle,
    restart_child,
    spawn_link,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.testing import barrier, settled
from tests.supervision.probes import Probe, Recorder, die, error_of, rec, refs

# -- names -------------------------------------------------------------------------------------------------------------


async def started_by_function() -> Ref:
    """Start a child that takes the name n."""
    return await spawn_link(Probe, name="n")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_S024_a_name_that_is_taken_by_somebody_else(runtime: Runtime, kind: type[Actor]) -> None:
    """`start_child` tells who holds the name; neither the holder nor the supervisor is touched, nothing else runs."""
    foreign = await runtime.spawn(Probe, name="n")
    sup = await runtime.spawn(kind)
    before = list(runtime.actors())

    async def named_afterwards() -> Ref:
        return await spawn_link(Probe)

    for spec in (
        ChildSpec("c", Probe, name="n"),
        ChildSpec("c", started_by_function),
        ChildSpec("c", named_afterwards, name="n"),
    ):
        error = await error_of(start_child(sup, spec))
        assert type(error) is AlreadyStarted
        assert (error.id, error.ref) == ("c", foreign)
        await settled(runtime)
        assert await which_children(sup) == []
        assert list(runtime.actors()) == before
    assert runtime.whereis("n") is foreign


async def test_a_named_child_has_its_name_again_after_a_restart(runtime: Runtime) -> None:
    """A class or a function starts it: the name leads to the new incarnation, and to no other."""

    async def unnamed() -> Ref:
        return await spawn_link(Probe)

    sup = await runtime.spawn(Supervisor, [ChildSpec("a", Probe, name="a"), ChildSpec("b", unnamed, name="b")])
    for name in ("a", "b"):
        old = runtime.whereis(name)
        assert (await refs(sup))[name] is old
        await die(old, "x")
        new = runtime.whereis(name)
        assert new is not None
        assert new is not old
        assert (await refs(sup))[name] is new


# -- start functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
async def test_S025_what_a_start_function_tells_besides_is_kept(runtime: Runtime, slow: bool) -> None:
    """A pair of an address and a value: the value stands in the child's entry, and is renewed at each start."""
    count = iter(range(1, 9))

    def plain(*args: Any, **kwargs: Any) -> Any:
        return runtime.spawn_nowait(Probe), ("port", next(count), args, kwargs)

    async def later(*args: Any, **kwargs: Any) -> Any:
        return await spawn_link(Probe), ("port", next(count), args, kwargs)

    sup = await runtime.spawn(Supervisor)
    seen = []
    spec = ChildSpec("c", later if slow else plain, (7,), {"k": 8})
    first = await start_child(sup, spec)
    assert first is not None
    seen.append((await which_child(sup, "c")).info)
    await die_and_settle(sup, first)
    second = (await which_child(sup, "c")).ref
    assert second not in (None, first)
    seen.append((await which_child(sup, "c")).info)
    await terminate_child(sup, "c")
    third = await restart_child(sup, "c")
    assert third not in (None, first, second)
    entry = await which_child(sup, "c")
    assert entry.ref is third
    seen.append(entry.info)
    assert seen == [("port", n, (7,), {"k": 8}) for n in (1, 2, 3)]


async def die_and_settle(sup: Ref, ref: Ref) -> None:
    """Let a child that may have no parent crash, and wait for its supervisor."""
    ref.exit("abnormal")
    await ref.join()
    await barrier(sup)


async def test_a_start_function_need_not_link(runtime: Runtime, events: Recorder) -> None:
    """The supervisor links what it is given, calls it by its id, and stops it as any child."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", lambda: runtime.spawn_nowait(Probe))], name="sup")
    child = (await refs(sup))["c"]
    assert child is not None
    assert child.path == "/c"
    await runtime.shut_down(sup, 1.0)
    assert child.reason == SHUTDOWN


async def test_a_start_function_that_gives_an_ended_actor(runtime: Runtime, events: Recorder) -> None:
    """Its end is seen as any end: a permanent child is started again, until the budget is used up."""
    dead = await runtime.spawn(Probe)
    await dead.stop()
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", lambda: dead)], max_restarts=2)
    assert await sup.join() == SHUTDOWN
    assert len(events.of(ev.GaveUp)) == 1
    assert len(events.of(ev.Restarted)) == 2


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_start_function_that_awaits_something_cancelled(
    runtime: Runtime, events: Recorder, kind: type[Actor]
) -> None:
    """It is the start that fails, not the supervisor; if the supervisor is killed, that is no failed start."""
    future: asyncio.Future[Ref] = asyncio.get_running_loop().create_future()

    async def wait() -> Ref:
        return await future

    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a")])
    starting = asyncio.ensure_future(start_child(sup, ChildSpec("c", wait)))
    await settled(runtime)
    future.cancel()
    error = await error_of(starting)
    assert isinstance(error, StartError)
    assert "CancelledError" in str(error)
    assert list(await refs(sup)) == ["a"]

    future = asyncio.get_running_loop().create_future()
    starting = asyncio.ensure_future(start_child(sup, ChildSpec("c", wait)))
    await settled(runtime)
    sup.kill()
    error = await error_of(starting)
    assert isinstance(error, ActorExited)
    assert error.reason == KILLED
    await settled(runtime)
    assert future.cancelled()
    assert list(runtime.actors()) == []
    assert len(events.of(ev.ChildStartFailed)) == 1


async def test_a_start_function_runs_in_the_supervisor(runtime: Runtime) -> None:
    """So it can spawn children of the supervisor with any class, such as a state machine of one's own."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", started_by_function)], name="sup")
    child = (await refs(sup))["c"]
    assert child is not None
    info = runtime.info(child)
    assert info is not None
    assert info.parent is sup
    assert info.name == "n"
    await runtime.shut_down(sup, 1.0)
    assert child.reason == SHUTDOWN


async def test_a_child_knows_its_address_in_its_constructor(runtime: Runtime) -> None:
    """A child may use its own address, its name and its runtime before `init`."""
    seen: list[Any] = []

    class Curious(Actor):
        def __init__(self) -> None:
            seen.append((self.ref, self.ref.path, self.runtime.whereis("c")))

        @handle
        def exited(self, message: Exit) -> None:
            """Never called."""

    sup = await runtime.spawn(Supervisor, [ChildSpec("c", Curious, name="c")], name="sup")
    child = (await refs(sup))["c"]
    assert seen == [(child, "/sup/c", child)]
