"""What an agent's server has scheduled: signals that come once, and cron jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agents.core.cron import CronSchedule
from agents.core.directives import Cron, Schedule, Unschedule
from agents.server.executors import executes
from agents.server.messages import CronDue, ScheduleDue
from supervision import inject_context
from supervision.clock import ClockStepDetector

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType
    from agents.core.signal import Signal
    from agents.server.server import AgentServer
    from supervision import Runtime, Timer

#: The longest time, in seconds, for which a timer is set; then the clock is read again, as it may have been adjusted.
_LONGEST_TIMER = 3600.0
#: Seconds between two checks whether the clock was adjusted.
CLOCK_CHECK_SECONDS = 30.0
#: The smallest clock correction, in seconds, that is passed on to the jobs.
_SMALLEST_CORRECTION = 1.0


class CronJob:
    """A cron job of a server.

    When the wall clock is set by more than a few minutes, forwards or backwards, the job goes on from the new time:
    a tick that was due in between neither comes late nor twice.

    Args:
        cron: what was asked for.
        server: whose job it is.

    Attributes:
        due: when its next tick is, in seconds since the epoch.
    """

    __slots__ = ("_corrections", "_schedule", "_timer", "cron", "due", "server")

    def __init__(self, cron: Cron, server: AgentServer) -> None:
        self.cron = cron
        self.server = server
        self.due = 0.0
        self._schedule = CronSchedule(cron.expression, cron.timezone)
        self._corrections = ClockStepDetector(server.runtime.clock)
        self._timer: Timer | None = None

    def arm(self) -> None:
        """Set the timer for the next tick; the first one, or the one behind a tick whose turn is over.

        A tick that was due during that turn is left out (``skip``), comes now (``queue``, once), or comes as all others
        that were due do (``allow``).
        """
        now = self._now()
        if self._corrections.step() or self.due == 0.0:
            self.due = self._schedule.next_after(now)
        elif self.cron.overlap == "skip":
            self.due = self._schedule.next_after(max(now, self.due))
        else:
            missed = self._schedule.next_after(self.due)
            self.due = missed if missed > now or self.cron.overlap == "allow" else now
        self._wait()

    def _now(self) -> float:
        return self.server.runtime.clock.wall_time()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = max(0.0, self.due - self._now())
        self._timer = self.server.send_after(min(left, _LONGEST_TIMER), CronDue(self))

    def is_due(self) -> bool:
        """Return whether the tick is due; if not, as the clock was adjusted meanwhile, set the timer again."""
        now = self._now()
        if self._corrections.step():
            self.due = self._schedule.next_after(now)
        elif now >= self.due - 0.001:
            return True
        self._wait()
        return False

    def clock_was_set(self) -> None:
        """Compute its next tick anew."""
        self.server.ref.cast(CronDue(self))

    def cancel(self) -> None:
        """Cancel its timer."""
        assert self._timer is not None
        self._timer.cancel()


class WatchesClock(Protocol):
    """Something of a server that depends on the wall clock."""

    server: AgentServer

    def clock_was_set(self) -> None:
        """Take note that it was adjusted."""
        ...


class ClockWatch:
    """Checks the wall clock of a runtime, and recomputes all cron jobs when it was adjusted."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._corrections = ClockStepDetector(runtime.clock)
        self._jobs: dict[WatchesClock, None] = {}
        self._timer: Timer | None = None

    @classmethod
    def of(cls, runtime: Runtime) -> ClockWatch:
        """Return the one of a runtime."""
        found = runtime.shared.get(cls)
        if found is None:
            found = runtime.shared[cls] = cls(runtime)
        watch: ClockWatch = found
        return watch

    def add(self, job: WatchesClock) -> None:
        """Watch for a job, until it is removed or its server ends."""
        self._jobs[job] = None
        if self._timer is None:
            self._corrections.step()
            self._timer = self._runtime.scheduler.timers.after(CLOCK_CHECK_SECONDS, self._check, CLOCK_CHECK_SECONDS)

    def remove(self, job: WatchesClock) -> None:
        """Watch no longer for a job."""
        self._jobs.pop(job, None)

    def _check(self) -> None:
        self._jobs = {job: None for job in self._jobs if job.server.ref.reason is None}
        if self._corrections.step(_SMALLEST_CORRECTION):
            for job in self._jobs:
                job.clock_was_set()
        if not self._jobs and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Timers:
    """What a server has scheduled, by id."""

    __slots__ = ("_jobs", "_once")

    def __init__(self) -> None:
        self._once: dict[str, Timer] = {}
        self._jobs: dict[str, CronJob] = {}

    def once(self, id: str, timer: Timer) -> None:
        """Add a timer; one with the same id is cancelled."""
        self.cancel(id)
        self._once[id] = timer

    def fired(self, id: str) -> None:
        """Remove a timer that has fired."""
        self._once.pop(id, None)

    def repeat(self, server: AgentServer, cron: Cron) -> None:
        """Start a cron job; one with the same id is replaced, unless it is the same."""
        job = self._jobs.get(cron.id)
        if job is None or job.cron != cron:
            fresh = CronJob(cron, server)
            fresh.arm()
            self.cancel(cron.id)
            self._jobs[cron.id] = fresh
            ClockWatch.of(server.runtime).add(fresh)

    def runs(self, job: CronJob) -> bool:
        """Return whether a job has not been cancelled or replaced."""
        return self._jobs.get(job.cron.id) is job

    def cancel(self, id: str) -> None:
        """Cancel what is scheduled under an id."""
        timer = self._once.pop(id, None)
        if timer is not None:
            timer.cancel()
        job = self._jobs.pop(id, None)
        if job is not None:
            job.cancel()
            ClockWatch.of(job.server.runtime).remove(job)


def declared_crons(kind: type[AgentType[Any]]) -> tuple[Cron, ...]:
    """Return the jobs that a type of agents and its plugins declare."""
    return (*(cron for one in kind.mounted for cron in one.schedules), *kind.schedules)


@executes(Schedule)
def schedule(server: AgentServer, directive: Schedule, signal: Signal) -> None:
    """Send the agent itself a signal later."""
    trace = inject_context(server.runtime)
    due = ScheduleDue(directive.type, directive.data, signal.id, directive.id, trace)
    timer = server.send_after(directive.after, due)
    if directive.id is not None:
        server.timers.once(directive.id, timer)


@executes(Unschedule)
def unschedule(server: AgentServer, directive: Unschedule, signal: Signal) -> None:  # noqa: ARG001 - its shape
    """Cancel what was scheduled."""
    server.timers.cancel(directive.id)


@executes(Cron)
def cron(server: AgentServer, directive: Cron, signal: Signal) -> None:  # noqa: ARG001 - an executor's shape
    """Start a cron job."""
    server.timers.repeat(server, directive)
