"""Links and monitors: which actors are notified of an end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from supervision import errors
from supervision._core.foreign import ForeignRef
from supervision._core.phases import DEAD
from supervision.mailbox import BoundedBox
from supervision.messages import Down, Exit
from supervision.propagation import unwrap
from supervision.reasons import NOPROC, ExitReason
from supervision.ref import Monitor, Name, Ref


class Linked(Ref):
    """The relations of one incarnation. The link to its parent is a flag, as most actors have no other.

    Links are kept in the order they were made, so that the signals of a death go out in the same order in every run.
    """

    __slots__ = ("joiners", "links", "monitors", "parent", "tied", "watching")

    parent: Linked | None
    tied: bool
    links: dict[Linked, None] | None
    monitors: dict[Monitor, None] | None
    watching: set[Monitor] | None
    joiners: list[asyncio.Future[ExitReason]] | None

    box: Any
    phase: int
    trap_exit: bool
    exit_reason: ExitReason | None

    @abstractmethod
    def signal(
        self,
        sender: Linked | None,
        reason: ExitReason,
        *,
        linked: bool = False,
        parent: bool = False,
        patient: bool = False,
    ) -> None:
        """Receive an exit signal."""

    @abstractmethod
    def deliver(self, message: Any) -> None:
        """Put a message of the kernel into the mailbox."""

    @abstractmethod
    def describe_exit(self) -> str:
        """Describe how it ended."""

    def notify_end(self) -> None:
        """Notify links, monitors and waiters that this actor has ended."""
        reason = self.exit_reason
        assert reason is not None
        for peer in list(self.peers()):
            self.unlink(peer)
            peer.signal(self, reason, linked=True, parent=self is peer.parent)
        for monitor in self.monitors or ():
            monitor.cell = None
            monitor.watcher.forget_monitor(monitor)
            monitor.watcher.deliver(Down(monitor, monitor.target, reason))
        self.monitors = None
        for monitor in list(self.watching or ()):
            self._unset(monitor)
        self.watching = None
        joiners, self.joiners = self.joiners, None
        for joiner in joiners or ():
            if not joiner.done():
                joiner.set_result(reason)

    def peers(self) -> Iterator[Linked]:
        """All actors it is linked to."""
        if self.tied and self.parent is not None:
            yield self.parent
        yield from self.links or ()

    def linked_to(self, other: Linked) -> bool:
        """Whether it is linked to ``other``."""
        return (self.tied and other is self.parent) or other in (self.links or ())

    def link(self, other: Linked) -> None:
        """Link both ways. Linking twice is linking once."""
        self.tie(other)
        other.tie(self)

    def unlink(self, other: Linked) -> None:
        """Take the link away on both sides."""
        if other.parent is self:
            other.tied = False
            assert self.links is not None  # every child is among them from its start
            self.links.pop(other, None)
        else:
            self.untie(other)
            other.untie(self)

    def tie(self, other: Linked) -> None:
        """Note the link on this side."""
        if other is self.parent:
            self.tied = True
        elif self.links is None:
            self.links = {other: None}
        else:
            self.links[other] = None

    def untie(self, other: Linked) -> None:
        """Forget the link on this side."""
        if other is self.parent:
            self.tied = False
        elif self.links is not None:
            self.links.pop(other, None)

    def link_or_tell(self, other: Ref) -> None:
        """Link this actor to another one (OTP's ``link/1``).

        Raises:
            NoProcess: the other one has ended, and this one does not trap exits.
        """
        other = self.runtime.own_cell("link", other)
        if other is self or self.phase == DEAD:
            return
        if other.alive:
            self.link(other)
        elif self.trap_exit:
            self.deliver(Exit(other, NOPROC))
        else:
            raise errors.NoProcess(other, "link", other.describe_exit())

    def monitor(self, target: Ref | Name) -> Monitor:
        """Monitor another actor (OTP's ``monitor/2``); without one, `Down` comes at once, with `NOPROC`."""
        found: Ref | Name | None = target
        if isinstance(target, Name) and target.runtime is self.runtime:
            found = target.resolve()
        if isinstance(found, ForeignRef) and found.runtime is self.runtime:
            return found.monitor_for(self, target)
        nobody = found is None and isinstance(target, Name)
        ref = None if nobody else self.runtime.own_cell("monitor", target)
        monitor = Monitor(self, target, ref)
        if ref is None or ref.phase == DEAD:
            monitor.cell = None
            self.deliver(Down(monitor, target, NOPROC))
        elif self.phase != DEAD:
            if ref.monitors is None:
                ref.monitors = {}
            ref.monitors[monitor] = None
            self.note_monitor(monitor)
        return monitor

    def note_monitor(self, monitor: Monitor) -> None:
        """A monitor of this actor is set."""
        if self.watching is None:
            self.watching = set()
        self.watching.add(monitor)

    def forget_monitor(self, monitor: Monitor) -> None:
        """A monitor of this actor has fired, or was removed."""
        assert self.watching is not None
        self.watching.discard(monitor)

    def _unset(self, monitor: Monitor) -> None:
        """Take away a monitor of this actor that is set."""
        watched, monitor.cell = monitor.cell, None
        assert watched is not None
        assert watched.monitors is not None
        del watched.monitors[monitor]
        self.forget_monitor(monitor)

    def demonitor(self, monitor: Monitor, flush: bool) -> bool:
        """Stop watching; tell whether the monitor was still set. ``flush`` also removes a Down that waits."""
        if monitor.watcher is not self:
            raise errors.NotOwner(monitor, monitor.watcher)
        if monitor.cell is not None:
            self._unset(monitor)
            return True
        if flush:
            self.flush(lambda message: isinstance(message, Down) and message.monitor is monitor)
        return False

    def flush(self, unwanted: Callable[[Any], bool]) -> None:
        """Remove messages that wait in the mailbox."""
        self.take_out(lambda message: unwanted(unwrap(message)))

    def take_out(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """Take messages out of the mailbox, and return them. They are never compared: their classes may define that."""
        box = self.box.messages if isinstance(self.box, BoundedBox) else self.box
        taken: list[Any] = []
        for _ in range(len(box or ())):
            message = box.popleft()
            (taken if wanted(message) else box).append(message)
        return taken
