"""Process groups: scenarios S299 to S307 of the reference."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import Actor, BadOption, ChildSpec, NoProcess, NotRunning, Ref, Runtime, Supervisor, groups, handle
from supervision.errors import NotOwner
from supervision.groups import GroupJoined, GroupLeft, Groups, Join
from supervision.testing import barrier, settled
from tests.supervision.probes import Note, Probe, do, error_of


class Watcher(Probe):
    """Writes down what it hears of groups."""

    @handle
    def changed(self, message: GroupJoined | GroupLeft) -> None:
        """Write it down."""
        verb = "joined" if isinstance(message, GroupJoined) else "left"
        self.log.append((verb, message.group, message.members))


@pytest.fixture
async def scope(runtime: Runtime) -> Ref:
    return await runtime.spawn(Groups, name="groups")


async def heard(watcher: Ref, scope: Ref) -> list[Any]:
    await barrier(scope)
    await barrier(watcher)
    log: list[Any] = await do(watcher, lambda actor: list(actor.log))
    return log


async def test_S299_whoever_joins_several_times_is_a_member_several_times_and_must_leave_as_often(
    runtime: Runtime, scope: Ref
) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await groups.join(scope, "g", a)
    await groups.join(scope, "g", a, a)
    assert groups.members(scope, "g") == (a, a, a)
    assert await groups.leave(scope, "g", a, a)
    assert groups.members(scope, "g") == (a,)
    assert not await groups.leave(scope, "g", b)
    assert not await groups.leave(scope, "h", a)
    assert await groups.leave(scope, "g", a)
    assert groups.members(scope, "g") == ()
    assert groups.which_groups(scope) == ()
    assert not await groups.leave(scope, "g", a)
    for _ in range(16):
        await groups.join(scope, "g", a)
    for _ in range(4):
        await groups.leave(scope, "g", a)
    assert groups.members(scope, "g") == (a,) * 12


async def test_S299_leaving_more_often_than_joined_leaves_what_there_is(runtime: Runtime, scope: Ref) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await groups.join(scope, "g", a, b)
    assert await groups.leave(scope, "g", a, a, a)
    assert groups.members(scope, "g") == (b,)


async def test_an_actor_joins_and_leaves_itself_if_nobody_is_named(runtime: Runtime, scope: Ref) -> None:
    a = await runtime.spawn(Probe)
    await do(a, lambda actor: groups.join(scope, "g"))
    assert groups.members(runtime.name("groups"), "g") == (a,)
    assert await do(a, lambda actor: groups.leave(scope, "g"))
    assert isinstance(await error_of(groups.join(scope, "g")), NotRunning)
    assert isinstance(await error_of(groups.join(scope, "g", "a")), BadOption)  # type: ignore[arg-type]
    await scope.call(Join("g", ()))
    assert groups.which_groups(scope) == ()


async def test_S300_who_ends_has_left_all_groups(runtime: Runtime, scope: Ref) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await groups.join(scope, "g", a, b, a)
    await groups.join(scope, "only", a)
    await groups.join(scope, "left", a)
    await groups.leave(scope, "left", a)
    a.kill()
    await barrier(scope)
    assert groups.members(scope, "g") == (b,)
    assert groups.which_groups(scope) == ("g",)


async def test_S300_a_dead_actor_may_join_and_is_gone_at_once(runtime: Runtime, scope: Ref) -> None:
    a = await runtime.spawn(Probe)
    a.kill()
    await groups.join(scope, "g", a)
    await barrier(scope)
    assert groups.which_groups(scope) == ()


async def test_S302_who_watches_a_group_learns_what_is_there_and_then_each_change_once(
    runtime: Runtime, scope: Ref
) -> None:
    a = await runtime.spawn(Probe)
    watcher = await runtime.spawn(Watcher)
    await groups.join(scope, "g", a)
    watch, there = await do(watcher, lambda actor: groups.monitor(scope, "g"))
    assert there == (a,)
    await groups.join(scope, "g", a, a)
    await groups.join(scope, "other", a)
    await groups.leave(scope, "g", a)
    await groups.leave(scope, "g", watcher)
    a.kill()
    assert await heard(watcher, scope) == [("joined", "g", (a, a)), ("left", "g", (a,)), ("left", "g", (a, a))]
    assert await do(watcher, lambda actor: groups.demonitor(scope, watch)) is True
    assert await do(watcher, lambda actor: groups.demonitor(scope, watch)) is False
    await groups.join(scope, "g", watcher)
    assert len(await heard(watcher, scope)) == 3
    assert "'g'" in repr(watch)


async def test_S302_who_watches_a_scope_learns_of_all_groups(runtime: Runtime, scope: Ref) -> None:
    a = await runtime.spawn(Probe)
    watcher = await runtime.spawn(Watcher)
    await groups.join(scope, "g", a)
    watch, there = await do(watcher, lambda actor: groups.monitor_scope(scope))
    assert there == {"g": (a,)}
    await groups.join(scope, "h", watcher)
    assert await heard(watcher, scope) == [("joined", "h", (watcher,))]
    assert "scope" in repr(watch)


async def test_S302_messages_that_wait_are_dropped_when_the_watch_ends(runtime: Runtime, scope: Ref) -> None:
    watcher = await runtime.spawn(Watcher)

    async def watch_and_forget(actor: Watcher) -> bool:
        watch, _ = await groups.monitor(scope, "g")
        actor.ref.cast(Note("kept"))
        await groups.join(scope, "g")
        return await groups.demonitor(scope, watch)

    assert await do(watcher, watch_and_forget) is True
    assert await heard(watcher, scope) == ["kept"]


async def test_S302_only_who_watches_may_end_the_watch(runtime: Runtime, scope: Ref) -> None:
    watcher, other = await runtime.spawn(Watcher), await runtime.spawn(Watcher)
    watch, _ = await do(watcher, lambda actor: groups.monitor(scope, "g"))
    assert isinstance(await do(other, lambda actor: error_of(groups.demonitor(scope, watch))), NotOwner)


async def test_S302_a_watcher_that_is_a_member_ends_and_leaves_nothing_behind(runtime: Runtime, scope: Ref) -> None:
    watcher, other = await runtime.spawn(Watcher), await runtime.spawn(Watcher)
    await do(watcher, lambda actor: groups.monitor(scope, "g"))
    await do(watcher, lambda actor: groups.monitor_scope(scope))
    await do(other, lambda actor: groups.monitor(scope, "g"))
    await groups.join(scope, "g", watcher)
    await settled(runtime)
    watcher.kill()
    assert await heard(other, scope) == [("joined", "g", (watcher,)), ("left", "g", (watcher,))]
    assert runtime.statistics().dead_letters == {}


async def test_S304_when_the_scope_is_restarted_its_groups_are_gone_and_the_members_live(runtime: Runtime) -> None:
    top = await runtime.spawn(Supervisor, [ChildSpec("groups", Groups, name="groups")])
    scope = runtime.name("groups")
    a = await runtime.spawn(Probe)
    await groups.join(scope, "g", a)
    old = runtime.whereis("groups")
    assert old is not None
    old.kill()
    await barrier(top)
    new = runtime.whereis("groups")
    assert new is not None
    assert new is not old
    assert groups.members(scope, "g") == ()
    assert groups.members(old, "g") == ()
    assert a.alive


async def test_S305_without_a_scope_there_is_nobody_to_join(runtime: Runtime) -> None:
    a = await runtime.spawn(Probe)
    scope = runtime.name("groups")
    assert isinstance(await error_of(groups.join(scope, "g", a)), NoProcess)
    assert isinstance(await error_of(groups.leave(scope, "g", a)), NoProcess)
    assert groups.members(scope, "g") == ()
    assert groups.members(a, "g") == ()


async def test_S307_scopes_know_nothing_of_each_other(runtime: Runtime) -> None:
    one, two = await runtime.spawn(Groups), await runtime.spawn(Groups)
    p, q = await runtime.spawn(Probe), await runtime.spawn(Probe)
    watcher = await runtime.spawn(Watcher)
    await do(watcher, lambda actor: groups.monitor(one, "g"))
    await groups.join(one, "g", p)
    await groups.join(two, "g", q)
    assert (groups.members(one, "g"), groups.members(two, "g")) == ((p,), (q,))
    assert await heard(watcher, one) == [("joined", "g", (p,))]
    one.kill()
    assert (groups.members(one, "g"), groups.members(two, "g")) == ((), (q,))
    assert p.alive


async def test_what_is_published_reaches_each_member_as_often_as_it_has_joined_in_order(
    runtime: Runtime, scope: Ref
) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await groups.join(scope, "g", a, b, a)
    assert groups.publish(scope, "g", Note(1)) == 3
    assert groups.publish(scope, "g", Note(2)) == 3
    assert groups.publish(scope, "nobody", Note(3)) == 0
    assert await do(a, lambda actor: actor.log) == [1, 1, 2, 2]
    assert await do(b, lambda actor: actor.log) == [1, 2]


async def test_a_member_that_is_in_two_groups_leaves_one(runtime: Runtime, scope: Ref) -> None:
    a = await runtime.spawn(Actor)
    await groups.join(scope, "g", a)
    await groups.join(scope, "h", a)
    await groups.leave(scope, "g", a)
    assert groups.which_groups(scope) == ("h",)
    a.kill()
    await barrier(scope)
    assert groups.which_groups(scope) == ()
