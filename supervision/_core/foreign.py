"""Foreign actors: the address of one that lives elsewhere, which a cluster hooks into a runtime.

The kernel knows nothing of the way there. It sees to what every address promises here: deadlines, the fence of killed
actors, monitors; and asks a subclass to take messages away.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from supervision import events
from supervision._core.phases import RUNNING, current
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.errors import Fenced
from supervision.messages import Down, describe
from supervision.reasons import KILL, ExitReason, as_reason
from supervision.ref import Monitor, Name, Ref

if TYPE_CHECKING:
    from supervision._core.links import Linked
    from supervision.messages import Request
    from supervision.runtime import Runtime

R = TypeVar("R")


class ForeignRef(Ref):
    """The address of an actor that lives elsewhere.

    Args:
        runtime: from which it is reached.
    """

    __slots__ = ("__weakref__", "monitors", "runtime")

    #: What the search for cycles of calls looks at. Nobody here knows for whom it waits.
    phase: ClassVar[int] = RUNNING
    deferred: ClassVar[None] = None
    awaiting: ClassVar[None] = None

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.monitors: dict[Monitor, None] = {}

    # -- what the way there does --------------------------------------------------------------------------------

    @abstractmethod
    def take_cast(self, message: Any) -> None:
        """Take a message away."""

    @abstractmethod
    async def take_send(self, message: Any) -> None:
        """Take a message away, when there is room for it."""

    @abstractmethod
    def take_call(self, call: Call[Any]) -> None:
        """Take a request away, whose deadline is set."""

    @abstractmethod
    def take_signal(self, reason: ExitReason) -> None:
        """Take an exit signal away."""

    @abstractmethod
    async def take_stop(self, reason: object, timeout: float | None) -> None:
        """Take the order to stop away, and wait for the end."""

    @abstractmethod
    def watch(self) -> ExitReason | None:
        """See to it that `tell_end` is called; return the reason instead if its end is known."""

    # -- what the kernel does -----------------------------------------------------------------------------------

    def _fenced(self) -> bool:
        sched = self.runtime.scheduler
        return sched.fenced > 0 and sched.is_fenced()

    def cast(self, message: Any) -> None:
        """Send a message and forget it."""
        if self._fenced():
            self.dead_letter(message, "fenced")
        else:
            self.take_cast(message)

    async def send(self, message: Any) -> None:
        """Send a message, and wait for room."""
        if self._fenced():
            self.dead_letter(message, "fenced")
        else:
            await self.take_send(message)

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request; await what this returns for the answer."""
        sched = self.runtime.scheduler
        call: Call[R] = Call(loop=sched.loop)
        call.message = request
        call.target = self  # type: ignore[assignment]
        if sched.prepare_call(call, timeout, current.get()):
            self.take_call(call)
        return call

    def exit(self, reason: object) -> None:
        """Send an exit signal."""
        if not self._fenced():
            self.take_signal(as_reason(reason))

    def kill(self) -> None:
        """End it as soon as this gets there."""
        self.exit(KILL)

    async def stop(self, reason: object = None, timeout: float | None = None) -> None:
        """Ask it to end in order and wait until it has."""
        if self._fenced():
            raise Fenced(self, "stop")
        await self.take_stop(reason, timeout)

    @staticmethod
    def sent_away(call: Call[Any]) -> None:
        """A request is on its way: from now on nobody here can exclude that a handler has begun it."""
        call._begun = True

    def dead_letter(self, message: Any, why: str) -> None:
        """Count a message that no handler gets."""
        sched = self.runtime.scheduler
        sched.count_dead_letter(why)
        if sched.events.wanted[events.MessageDropped]:
            sched.events.emit(
                events.MessageDropped,
                ref=self,
                path=self.path,
                kind=self.kind.__name__,
                message=describe(message),
                why=why,
            )

    def monitor_for(self, watcher: Linked, target: Ref | Name) -> Monitor:
        """Have a local actor monitor this one, under the address that it was given."""
        monitor = Monitor(watcher, target, self)
        reason = self.watch()
        if reason is None:
            self.monitors[monitor] = None
            watcher.note_monitor(monitor)
        else:
            monitor.cell = None
            watcher.deliver(Down(monitor, target, reason))
        return monitor

    def tell_end(self, reason: ExitReason) -> None:
        """Tell whoever monitors it that it has ended, or cannot be reached any more."""
        monitors, self.monitors = self.monitors, {}
        for monitor in monitors:
            monitor.cell = None
            monitor.watcher.forget_monitor(monitor)
            monitor.watcher.deliver(Down(monitor, monitor.target, reason))
