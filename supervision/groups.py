"""Process groups: actors that can be found, and reached, under a shared topic (OTP's ``pg``).

A *scope* is a `Groups` actor with groups of its own. A group is there while it has members. Reading never waits, as it
looks at the scope's state; an actor that ends has left all its groups. A member is not linked to its scope: it survives
the scope, which has no groups after a restart.

>>> import asyncio
>>> from supervision import Actor, Message, Runtime, groups, handle
>>> class Ring(Message):
...     at: str
>>> class Bell(Actor):
...     async def init(self) -> None:
...         await groups.join(self.runtime.name("groups"), "bells")
...
...     @handle
...     def ring(self, message: Ring) -> None:
...         print("ding at", message.at)
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         scope = await runtime.spawn(groups.Groups, name="groups")
...         bells = [await runtime.spawn(Bell) for _ in range(2)]
...         groups.publish(scope, "bells", Ring("noon"))
...         for bell in bells:
...             await bell.stop()
...         assert groups.which_groups(scope) == ()
>>> asyncio.run(main())
ding at noon
ding at noon
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision.actor import Actor, current_actor
from supervision.errors import BadOption, NotOwner, Refuse, SpecError
from supervision.messages import Down, Message, Request
from supervision.ref import Address, Monitor, Name, Ref, as_address, as_ref
from supervision.supervisors.childspec import hashable


class GroupMonitor:
    """One monitor of a group, or of a scope (``group`` is None then), by an actor."""

    __slots__ = ("group", "watcher", "whole_scope")

    def __init__(self, watcher: Ref, group: Any, whole_scope: bool) -> None:
        self.watcher = watcher
        self.group = group
        self.whole_scope = whole_scope

    def __repr__(self) -> str:
        return "<GroupMonitor of the scope>" if self.whole_scope else f"<GroupMonitor of {self.group!r}>"


class GroupJoined(Message, frozen=True):
    """Members have joined a monitored group: as many times as ``members`` lists them."""

    monitor: GroupMonitor
    group: Any
    members: tuple[Ref, ...]


class GroupLeft(Message, frozen=True):
    """Members have left a monitored group, or have ended: as many times as ``members`` lists them."""

    monitor: GroupMonitor
    group: Any
    members: tuple[Ref, ...]


class Join(Request[None], frozen=True):
    """Let actors join a group, once for each time they are listed."""

    group: Any
    members: tuple[Ref, ...]


class Leave(Request[bool], frozen=True):
    """Let actors leave a group, once for each time they are listed."""

    group: Any
    members: tuple[Ref, ...]


class MonitorGroup(Request[dict[Any, tuple[Ref, ...]]], frozen=True):
    """Begin to monitor; the answer is the members at this moment, by group."""

    monitor: GroupMonitor


class DemonitorGroup(Request[bool], frozen=True):
    """End a monitor; the answer tells whether there was one."""

    monitor: GroupMonitor


class Groups(Actor):
    """A scope: groups of actors, apart from those of any other scope."""

    infrastructure = True

    def __init__(self) -> None:
        #: Replaced group by group, never changed in place, as readers use it without a message.
        self.groups: dict[Any, tuple[Ref, ...]] = {}
        self._joined: dict[Ref, Counter[Any]] = {}
        self._monitors: dict[Ref, Monitor] = {}
        self._watches: dict[GroupMonitor, Monitor] = {}

    # -- members ---------------------------------------------------------------------------------------------

    @handle
    def join(self, request: Join) -> None:
        """Add members."""
        self._check(request.group, request.members)
        for member in request.members:
            self._joined.setdefault(member, Counter())[request.group] += 1
            if member not in self._monitors:
                self._monitors[member] = self.monitor(member)
        if request.members:
            self.groups[request.group] = self.groups.get(request.group, ()) + request.members
            self._tell(GroupJoined, request.group, request.members)

    @handle
    def leave(self, request: Leave) -> bool:
        """Remove members."""
        self._check(request.group, request.members)
        gone = []
        for member in request.members:
            joined = self._joined.get(member)
            if joined is not None and joined[request.group] > 0:
                joined[request.group] -= 1
                gone.append(member)
                self._forget_if_nowhere(member, joined)
        if gone:
            self._remove(request.group, gone)
        return bool(gone)

    def _check(self, group: Any, members: tuple[Ref, ...]) -> None:
        """Refuse a wrong group or member before anything has changed."""
        try:
            if not hashable(group):
                raise BadOption("group", group, "give something that can be a dictionary key")
            for member in members:
                if not isinstance(member, Ref):
                    raise BadOption("member", member, "give the Ref of an actor of this runtime")
                self.runtime.own_cell("member", member)
        except SpecError as error:
            raise Refuse(error) from None

    def _forget_if_nowhere(self, member: Ref, joined: Counter[Any]) -> None:
        if not joined.total():
            del self._joined[member]
            self.demonitor(self._monitors.pop(member), flush=True)

    def _remove(self, group: Any, gone: list[Ref]) -> None:
        left = list(self.groups[group])
        for member in gone:
            left.remove(member)
        if left:
            self.groups[group] = tuple(left)
        else:
            del self.groups[group]
        self._tell(GroupLeft, group, tuple(gone))

    @handle
    def ended(self, message: Down) -> None:
        """Forget a member, or a watcher, that has ended."""
        for watch in [watch for watch, monitor in self._watches.items() if monitor is message.monitor]:
            del self._watches[watch]
        member = message.target
        if not isinstance(member, Cell) or self._monitors.get(member) is not message.monitor:
            return
        del self._monitors[member]
        for group, times in self._joined.pop(member).items():
            if times:
                self._remove(group, [member] * times)

    # -- monitors --------------------------------------------------------------------------------------------

    def _tell(self, what: type[GroupJoined | GroupLeft], group: Any, members: tuple[Ref, ...]) -> None:
        for watch in self._watches:
            if watch.whole_scope or watch.group == group:
                watch.watcher.cast(what(watch, group, members))

    @handle
    def watch(self, request: MonitorGroup) -> dict[Any, tuple[Ref, ...]]:
        """Begin to monitor, and return the members at this moment, by group."""
        watch = request.monitor
        self._check(watch.group, (watch.watcher,))
        self._watches[watch] = self.monitor(watch.watcher)
        if watch.whole_scope:
            return dict(self.groups)
        return {watch.group: self.groups.get(watch.group, ())}

    @handle
    def unwatch(self, request: DemonitorGroup) -> bool:
        """End a monitor."""
        monitor = self._watches.pop(request.monitor, None)
        if monitor is None:
            return False
        self.demonitor(monitor, flush=True)
        return True


def _refs(members: Iterable[Address]) -> tuple[Ref, ...]:
    return tuple(as_ref("member", member) for member in members)


async def join(scope: Address, group: Any, *members: Address) -> None:
    """Join a group: the actors given, or else the one in which this code runs. One that joins twice must leave twice.

    A `Name` stands for whoever holds it now: members are incarnations, and end.

    Raises:
        NoProcess: there is no such scope, or nobody holds the name of a member.
        BadOption: a member is no actor of the scope's runtime, or the group cannot be a dictionary key.
        NotRunning: no member is given, and this code does not run in an actor.
    """
    await as_address("scope", scope).call(Join(group, _refs(members or (current_actor(),))), timeout=None)


async def leave(scope: Address, group: Any, *members: Address) -> bool:
    """Leave a group: the actors given, or else the one in which this code runs.

    Returns:
        False if none of them was a member (OTP's ``not_joined``).

    Raises:
        The same as `join`.
    """
    return await as_address("scope", scope).call(Leave(group, _refs(members or (current_actor(),))), timeout=None)


def _read(scope: Address) -> dict[Any, tuple[Ref, ...]]:
    ref = scope.resolve() if isinstance(scope, Name) else as_address("scope", scope)
    if isinstance(ref, Cell) and ref.alive and isinstance(ref.actor, Groups):
        return ref.actor.groups
    return {}


def members(scope: Address, group: Any) -> tuple[Ref, ...]:
    """Return the members of a group, each as many times as it has joined, without waiting. Empty if there is none."""
    return _read(scope).get(group, ())


def which_groups(scope: Address) -> tuple[Any, ...]:
    """Return the groups that have members, without waiting."""
    return tuple(_read(scope))


def publish(scope: Address, group: Any, message: Any) -> int:
    """Send a message to the members of a group, to each as many times as it has joined. Return how many were sent."""
    there = members(scope, group)
    for member in there:
        member.cast(message)
    return len(there)


async def monitor(scope: Address, group: Any) -> tuple[GroupMonitor, tuple[Ref, ...]]:
    """Monitor a group: this actor gets a `GroupJoined` or `GroupLeft` message for each change from now on.

    Returns:
        The watch, and the members at this moment.
    """
    watch = GroupMonitor(current_actor(), group, whole_scope=False)
    return watch, (await as_address("scope", scope).call(MonitorGroup(watch), timeout=None))[group]


async def monitor_scope(scope: Address) -> tuple[GroupMonitor, dict[Any, tuple[Ref, ...]]]:
    """Monitor all groups of a scope. Returns the monitor, and the groups at this moment."""
    watch = GroupMonitor(current_actor(), None, whole_scope=True)
    return watch, await as_address("scope", scope).call(MonitorGroup(watch), timeout=None)


async def demonitor(scope: Address, watch: GroupMonitor) -> bool:
    """End a monitor, and drop its messages that wait already. Returns whether it was still set.

    Raises:
        NotOwner: another actor made it.
    """
    me = current_actor()
    if watch.watcher is not me:
        raise NotOwner(watch, watch.watcher)
    ended = await as_address("scope", scope).call(DemonitorGroup(watch), timeout=None)
    assert isinstance(me, Cell)
    me.flush(lambda message: isinstance(message, (GroupJoined, GroupLeft)) and message.monitor is watch)
    return ended
