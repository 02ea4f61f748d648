"""What an agent's server has scheduled: signals that come once, and cron jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agents.directives import Cron, Schedule, Unschedule
from agents.server.executing import executes
from agents.server.messages import CronDue, Due
from agents.timetable import Timetable

if TYPE_CHECKING:
    from agents.server.server import AgentServer
    from agents.signal import Signal
    from supervision import Timer

#: Timers are set for so many seconds at most, and then looked at again: clocks are put right meanwhile.
_FAR = 3600.0


class CronJob:
    """A cron job of a server.

    Attributes:
        cron: what was asked for.
        due: when its next tick is, in seconds since the epoch.
    """

    __slots__ = ("_table", "_timer", "cron", "due")

    def __init__(self, cron: Cron) -> None:
        self.cron = cron
        self.due = 0.0
        self._table = Timetable(cron.expression, cron.timezone)
        self._timer: Timer | None = None

    def arm(self, server: AgentServer) -> None:
        """Set the timer for the next tick; the first one, or the one behind a tick whose turn is over.

        A tick that was due during that turn is left out (``skip``), comes now (``queue``, once), or comes as all others
        that were due do (``allow``).
        """
        now = server.runtime.clock.wall_time()
        if self.due == 0.0 or self.cron.overlap == "skip":
            self.due = self._table.next_after(now)
        else:
            missed = self._table.next_after(self.due)
            self.due = missed if missed > now or self.cron.overlap == "allow" else now
        self.wait(server)

    def wait(self, server: AgentServer) -> None:
        """Set the timer, for a part of the way if it is long."""
        left = max(0.0, self.due - server.runtime.clock.wall_time())
        self._timer = server.send_after(min(left, _FAR), CronDue(self))

    def is_due(self, server: AgentServer) -> bool:
        """Return whether the tick is due, or the timer was for a part of the way."""
        return server.runtime.clock.wall_time() >= self.due - 0.001

    def cancel(self) -> None:
        """Forget it."""
        assert self._timer is not None
        self._timer.cancel()


class Timers:
    """What a server has scheduled, by id."""

    __slots__ = ("_jobs", "_once")

    def __init__(self) -> None:
        self._once: dict[str, Timer] = {}
        self._jobs: dict[str, CronJob] = {}

    def once(self, id: str, timer: Timer) -> None:
        """Note a timer; one with the same id is cancelled."""
        self.forget(id)
        self._once[id] = timer

    def fired(self, id: str) -> None:
        """Note that a timer has fired."""
        self._once.pop(id, None)

    def repeat(self, server: AgentServer, cron: Cron) -> None:
        """Start a cron job; one with the same id is replaced, unless it is the same."""
        job = self._jobs.get(cron.id)
        if job is None or job.cron != cron:
            fresh = CronJob(cron)
            fresh.arm(server)
            self.forget(cron.id)
            self._jobs[cron.id] = fresh

    def runs(self, job: CronJob) -> bool:
        """Return whether a job has not been forgotten or replaced."""
        return self._jobs.get(job.cron.id) is job

    def forget(self, id: str) -> None:
        """Forget what is scheduled under an id."""
        for known in (self._once, self._jobs):
            timer = known.pop(id, None)
            if timer is not None:
                timer.cancel()

    def crons(self) -> tuple[Cron, ...]:
        """Return the cron jobs, in the order in which they were begun."""
        return tuple(job.cron for job in self._jobs.values())


def begin_all(server: AgentServer, kept: Iterable[Cron]) -> None:
    """Begin the jobs that were kept, and those that the agent's type declares, which come first."""
    declared: Mapping[str, Cron] = {
        cron.id: cron for cron in (*(c for one in server.kind.mounted for c in one.schedules), *server.kind.schedules)
    }
    for cron in (*declared.values(), *(cron for cron in kept if cron.id not in declared)):
        server.timers.repeat(server, cron)


@executes(Schedule)
def schedule(server: AgentServer, directive: Schedule, signal: Signal) -> None:
    """Send the agent itself a signal later."""
    due = Due(directive.type, directive.data, signal.id, directive.id)
    timer = server.send_after(directive.after, due)
    if directive.id is not None:
        server.timers.once(directive.id, timer)


@executes(Unschedule)
def unschedule(server: AgentServer, directive: Unschedule, signal: Signal) -> Any:  # noqa: ARG001 - its shape
    """Forget what was scheduled."""
    server.timers.forget(directive.id)
    return server.crons_changed()


@executes(Cron)
def cron(server: AgentServer, directive: Cron, signal: Signal) -> Any:  # noqa: ARG001 - an executor's shape
    """Begin a cron job."""
    server.timers.repeat(server, directive)
    return server.crons_changed()
