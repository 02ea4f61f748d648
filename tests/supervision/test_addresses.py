"""A name stands for its holder wherever an actor is meant; what is no actor is refused with a remedy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from supervision import (
    Actor,
    Applications,
    BadOption,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    NoProcess,
    PartitionSupervisor,
    Runtime,
    Supervisor,
    applications,
    call_when_ready,
    count_children,
    current_actor,
    delete_child,
    get_child_spec,
    groups,
    partition,
    pending_children,
    restart_child,
    start_child,
    supervisor_info,
    system,
    tasks,
    terminate_child,
    which_child,
    which_children,
)
from supervision.errors import UnknownApplication
from supervision.supervisors.administration import statistics
from supervision.supervisors.partition_supervisor import partitions, resize
from supervision.testing import DoAndReply, Note, Probe, Victims, barrier, do, error_of, settled

Use = Callable[[Runtime, Any], Any]


def inside(what: Callable[[Probe, Any], Any]) -> Use:
    """Use an address in an actor."""

    async def use(runtime: Runtime, address: Any) -> Any:
        probe = await runtime.spawn(Probe)

        async def tried(me: Probe) -> Any:
            try:
                result = what(me, address)
                return await result if isinstance(result, Awaitable) else result
            except Exception as error:
                return error

        result = await do(probe, tried)
        if isinstance(result, Exception):
            raise result
        return result

    return use


async def work() -> int:
    """Something to do."""
    return 1


#: What takes an actor, by what kind of actor it has to be. What is done to it must leave it there, or be the last.
USES: dict[str, dict[str, Use]] = {
    "probe": {
        "Actor.link": inside(lambda me, it: me.link(it)),
        "Actor.unlink": inside(lambda me, it: me.unlink(it)),
        "Actor.monitor": inside(lambda me, it: me.demonitor(me.monitor(it))),
        "Actor.send_after": inside(lambda me, it: me.send_after(1.0, Note(1), it).cancel()),
        "Actor.send_interval": inside(lambda me, it: me.send_interval(1.0, Note(1), it).cancel()),
        "Runtime.send_after": lambda rt, it: rt.send_after(1.0, Note(1), it).cancel(),
        "Runtime.send_interval": lambda rt, it: rt.send_interval(1.0, Note(1), it).cancel(),
        "Runtime.info": lambda rt, it: rt.info(it),
        "Runtime.parent": lambda rt, it: rt.parent(it),
        "look": lambda rt, it: supervisor_info(it),
        "coming": lambda rt, it: pending_children(it),
        "call_when_ready": lambda rt, it: call_when_ready(it, DoAndReply(None)),
        "system.get_state": lambda rt, it: system.get_state(it),
        "system.replace_state": lambda rt, it: system.replace_state(it, lambda state: state),
        "system.get_status": lambda rt, it: system.get_status(it),
        "system.suspend": lambda rt, it: system.suspend(it),
        "system.resume": lambda rt, it: system.resume(it),
        "system.install": lambda rt, it: system.install(it, lambda event: None, id=1),
        "system.remove": lambda rt, it: system.remove(it, 1),
        "system.trace": lambda rt, it: system.trace(it, lambda line: None),
        "system.log": lambda rt, it: system.log(it),
        "system.get_log": lambda rt, it: system.get_log(it),
        "system.start_statistics": lambda rt, it: system.start_statistics(it),
        "system.get_statistics": lambda rt, it: system.get_statistics(it),
        "system.no_debug": lambda rt, it: system.no_debug(it),
        "barrier": lambda rt, it: barrier(it),
        "settled": settled,
        "do": lambda rt, it: do(it, None),
        "Victims.includes": lambda rt, it: Victims().includes(it),
        "Runtime.shut_down": lambda rt, it: rt.shut_down(it, 1.0),
    },
    "supervisor": {
        "start_child": lambda rt, it: start_child(it, ChildSpec("b", Probe)),
        "which_children": lambda rt, it: which_children(it),
        "which_child": lambda rt, it: which_child(it, "b"),
        "count_children": lambda rt, it: count_children(it),
        "get_child_spec": lambda rt, it: get_child_spec(it, "b"),
        "statistics": lambda rt, it: statistics(it),
        "terminate_child": lambda rt, it: terminate_child(it, "b"),
        "restart_child": lambda rt, it: restart_child(it, "b"),
        "delete_child": lambda rt, it: _delete(it),
        "look": lambda rt, it: supervisor_info(it).children,  # type: ignore[union-attr]
        "coming": lambda rt, it: pending_children(it),
    },
    "dynamic": {
        "start_child": lambda rt, it: start_child(it, ChildSpec("b", Probe)),
        "tasks.start_child": lambda rt, it: tasks.start_child(it, work),
        "tasks.async_": inside(lambda me, it: _awaited(tasks.async_(it, work))),
        "tasks.async_nolink": inside(lambda me, it: _awaited(tasks.async_nolink(it, work))),
        "tasks.stream": lambda rt, it: _read(tasks.stream(it, _one, [1])),
    },
    "partitions": {
        "partition": lambda rt, it: partition(it, 1),
        "partitions": lambda rt, it: partitions(it),
        "resize": lambda rt, it: resize(it, 1),
    },
    "groups": {
        "groups.join": inside(lambda me, it: groups.join(it, "g")),
        "groups.leave": inside(lambda me, it: groups.leave(it, "g")),
        "groups.monitor": inside(lambda me, it: groups.monitor(it, "g")),
        "groups.monitor_scope": inside(lambda me, it: groups.monitor_scope(it)),
        "groups.demonitor": inside(
            lambda me, it: groups.demonitor(it, groups.GroupMonitor(current_actor(), "g", whole_scope=False))
        ),
        "groups.members": lambda rt, it: groups.members(it, "g"),
        "groups.which_groups": lambda rt, it: groups.which_groups(it),
        "groups.publish": lambda rt, it: groups.publish(it, "g", Note(1)),
    },
    "applications": {
        "applications.start": lambda rt, it: applications.ensure_all_started(it, "none"),
        "applications.which": lambda rt, it: applications.which_applications(it),
    },
}


async def _delete(supervisor: Any) -> None:
    await terminate_child(supervisor, "b")
    await delete_child(supervisor, "b")


async def _awaited(task: Any) -> Any:
    return await (await task)


async def _one(item: int) -> int:
    return item


async def _read(stream: Any) -> list[Any]:
    return [outcome async for outcome in stream]


async def spawned(runtime: Runtime, kind: str) -> Any:
    """Start an actor of a kind, and give it that name."""
    started: dict[str, tuple[type[Actor], tuple[Any, ...], dict[str, Any]]] = {
        "probe": (Probe, (), {}),
        "supervisor": (Supervisor, (), {}),
        "dynamic": (DynamicSupervisor, (), {}),
        "partitions": (PartitionSupervisor, (Probe,), {"partitions": 2}),
        "groups": (groups.Groups, (), {}),
        "applications": (Applications, ([],), {}),
    }
    actor, args, kwargs = started[kind]
    runtime.begin(actor, args, kwargs, name=kind)
    await settled(runtime)
    return runtime.whereis(kind)


async def done(use: Use, runtime: Runtime, address: Any) -> Any:
    """Use an address, and wait if there is something to wait for."""
    result = use(runtime, address)
    return await result if isinstance(result, Awaitable) else result


@pytest.mark.parametrize("kind", USES)
async def test_a_name_stands_for_its_holder(runtime: Runtime, kind: str) -> None:
    assert await spawned(runtime, kind) is not None
    for what, use in USES[kind].items():
        try:
            await done(use, runtime, runtime.name(kind))
        except UnknownApplication:
            assert what == "applications.start"


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind, uses in USES.items() for what in uses])
async def test_a_name_that_nobody_holds_is_told_as_such(runtime: Runtime, kind: str, what: str) -> None:
    free = runtime.name("free")
    silent = {"Actor.monitor", "groups.members", "groups.which_groups", "groups.publish"}
    late = {"Actor.send_after", "Actor.send_interval", "Runtime.send_after", "Runtime.send_interval"}
    if what in silent | late:  # a `Down` with `NOPROC`; empty; looked up when it is due
        await done(USES[kind][what], runtime, free)
    else:
        error = await error_of(done(USES[kind][what], runtime, free))
        assert isinstance(error, NoProcess), what
        assert "free" in str(error)


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind, uses in USES.items() for what in uses])
async def test_what_is_no_address_is_refused_with_the_remedy(runtime: Runtime, kind: str, what: str) -> None:
    await spawned(runtime, kind)
    for wrong in (kind, 7, Actor, *([] if what.startswith("Actor.send") else [None])):  # None is the actor itself
        error = await error_of(done(USES[kind][what], runtime, wrong))
        assert isinstance(error, BadOption), (what, wrong)
        assert "Name" in error.remedy


async def test_a_name_joins_and_leaves_a_group_for_its_holder(runtime: Runtime) -> None:
    scope = await runtime.spawn(groups.Groups)
    member = await runtime.spawn(Probe, name="member")
    await groups.join(scope, "g", runtime.name("member"))
    assert groups.members(scope, "g") == (member,)
    assert await groups.leave(scope, "g", runtime.name("member")) is True
    assert isinstance(await error_of(groups.join(scope, "g", runtime.name("free"))), NoProcess)
    assert isinstance(await error_of(groups.leave(scope, "g", "member")), BadOption)  # type: ignore[arg-type]
    names: Any = (runtime.name("member"),)  # in a message there are incarnations
    assert isinstance(await error_of(scope.call(groups.Join("g", names))), BadOption)
    assert groups.members(scope, "g") == ()


async def test_a_dynamic_supervisor_knows_its_children_by_their_names(runtime: Runtime) -> None:
    pool = await runtime.spawn(DynamicSupervisor)
    child = await start_child(pool, ChildSpec("a", Probe, name="child"))
    name, free = runtime.name("child"), runtime.name("free")
    assert (await which_child(pool, name)).ref is child
    assert (await get_child_spec(pool, name)).id == "a"
    await terminate_child(pool, name)
    assert child is not None
    assert not child.alive
    for ask in (which_child, get_child_spec, terminate_child):
        assert isinstance(await error_of(ask(pool, free)), ChildNotFound)  # type: ignore[operator]


async def test_an_actor_of_another_runtime_is_refused(runtime: Runtime) -> None:
    async with Runtime(watchdog=None, reports=False) as elsewhere:
        await elsewhere.spawn(Probe, name="there")
        for there in (elsewhere.whereis("there"), elsewhere.name("there")):
            for what in ("Actor.link", "Actor.unlink", "Actor.monitor", "Runtime.info", "Runtime.parent", "settled"):
                assert isinstance(await error_of(done(USES["probe"][what], runtime, there)), BadOption), what
