"""The runtime: actors, names, timers and events of one event loop, isolated from every other runtime."""

from __future__ import annotations

import asyncio
import contextvars
import random as _random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from supervision._core.cell import Cell
from supervision._core.cell_variants import PROPAGATING
from supervision._core.death import start_error
from supervision._core.info import PHASES, ActorInfo, RuntimeStatistics, ZombieInfo, info_of, zombie_info
from supervision._core.names import Vacancies
from supervision._core.phases import DEAD, current
from supervision._core.scheduler import RunQueue, Scheduler
from supervision._core.start import spawning, start
from supervision._core.threads import Isolation, ThreadPool, isolated
from supervision._core.timers import Timer
from supervision._core.watchdog import Watchdog
from supervision.actor import Actor, StopLimit
from supervision.call import Call
from supervision.clock import Clock, clock_of, seconds
from supervision.errors import (
    AlreadyRegistered,
    BadName,
    BadOption,
    CallCycle,
    Fenced,
    NoProcess,
    NotRunning,
    SupervisionError,
)
from supervision.events import Event, EventStream, Listener, Registered, Subscription, Unregistered
from supervision.options import is_whole
from supervision.propagation import Propagator
from supervision.reasons import KILLED, SHUTDOWN, ExitReason, crashed
from supervision.ref import Address, Name, Ref
from supervision.reports import REPORTS, Reports

if TYPE_CHECKING:
    from supervision.isolation.process import ChildProcess

_log: Any = structlog.get_logger("supervision")


class Runtime:
    """A world of actors on the running event loop.

    ``async with Runtime() as runtime`` works inside any running loop: it makes none and closes none, installs no signal
    handlers and configures no logging. When the block is left, the actors that were started from outside are stopped in
    reverse order of their start.

    Args:
        node: the name of this node, in addresses.
        clock: where time comes from; the loop's own if None.
        seed: for the random numbers of the runtime (jitter); None for a different sequence each time.
        reports: whether crashes and supervisor reports are logged, through structlog.
        watchdog: after how many seconds a blocked event loop is reported; None for no watchdog thread.
        kill_grace: seconds between two attempts to end the code of a killed actor.
        exit_grace: seconds that code has to end after an exit signal before its actor is declared dead.
        close_timeout: seconds that all actors have to stop in order when the runtime is left; what has not ended by
            then is named in the log, and killed. None for any time.
        run_queue: the order of turns; first in, first out if None. With a queue of your own, be it ``deque()``, there
            are neither direct turns nor turns in place: each call waits in it.
        threads: in how many threads at once handlers of actors with ``isolation = "thread"`` run.
        propagator: decides what of a sender's context goes along with its messages; None for nothing.

    Attributes:
        shared: what higher layers store for this runtime, each under its own key. It outlives every actor.
        seed: what it was given; None if its random numbers differ each time.

    Raises:
        BadTime, BadOption: an argument is wrong.
    """

    def __init__(
        self,
        *,
        node: str = "local",
        clock: Clock | None = None,
        seed: int | None = None,
        reports: bool = True,
        watchdog: float | None = 0.5,
        kill_grace: float = 0.1,
        exit_grace: float = 5.0,
        close_timeout: float | None = 30.0,
        run_queue: RunQueue | None = None,
        threads: int = 40,
        propagator: Propagator | None = None,
    ) -> None:
        if not is_whole(threads, 1):
            raise BadOption("threads", threads, "give a whole number from 1")
        if not isinstance(node, str) or not node:
            raise BadOption("node", node, "give the node a name")
        self.node = node
        self.label = node
        self.propagator = propagator
        self.seed = seed
        self.random = _random.Random(seed)
        self.shared: dict[Any, Any] = {}
        self.kill_grace = seconds("kill_grace", kill_grace)
        self.exit_grace = seconds("exit_grace", exit_grace)
        self.close_timeout = None if close_timeout is None else seconds("close_timeout", close_timeout)
        self._watchdog_limit = None if watchdog is None else seconds("watchdog", watchdog, zero=False)
        self._clock = clock
        self._reports = reports
        self._queue = run_queue
        self._scheduler: Scheduler | None = None
        self._watchdog: Watchdog | None = None
        self._log: Reports | None = None
        self._cells: dict[int, Cell] = {}
        self._names: dict[str, Cell] = {}
        #: Names whose holder has ended and whose supervisor may still restart it.
        self.vacancies = Vacancies()
        self._ids = 0
        #: Finds holders of names that nobody has here; a cluster sets it.
        self.elsewhere: Callable[[str], Ref | None] | None = None
        self._closing = False
        self.threads = ThreadPool(threads)
        #: The processes of isolated actors.
        self.processes: dict[Cell, ChildProcess] = {}
        self._reaping: set[ChildProcess] = set()
        #: The application master of each actor; children inherit it.
        self.master_of: dict[Cell | None, Cell] = {}

    # -- life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start the runtime on the running loop.

        Raises:
            NotRunning: it has been started before.
        """
        if self._scheduler is not None:
            raise NotRunning("a runtime is started once; make a new one")
        loop = asyncio.get_running_loop()
        clock = self._clock or clock_of(loop)
        stream = EventStream(loop, clock)
        queue: RunQueue = deque() if self._queue is None else self._queue
        base = contextvars.copy_context()
        base.run(current.set, None)
        # No shorter ways in an order that a test decides, as it is to see all turns; and no direct turns with a
        # propagator, which attaches the context to a call that is on its way already.
        in_place = self._queue is None
        direct = in_place and self.propagator is None
        self._scheduler = Scheduler(self, loop, clock, base, stream, queue, direct=direct, in_place=in_place)
        hosted = getattr(loop, "runtimes", None)  # a test loop lists the runtimes that run on it
        if hosted is not None:
            hosted.add(self)
        if self._reports:
            self._log = Reports(after=self._scheduler.timers.after)
            stream.subscribe(self._log, *REPORTS)
        if self._watchdog_limit is not None:
            self._watchdog = Watchdog(self, loop, self._watchdog_limit)
            self._watchdog.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop all actors, last started first, and wait for them."""
        await self.close()

    async def close(self) -> None:
        """Stop all actors, last started first, each within its own limit; what does not end is killed."""
        if self._closing:
            return
        self._closing = True
        scheduler = self.scheduler
        stopping = asyncio.ensure_future(self._stop_in_order())
        try:
            if self.close_timeout is None or await scheduler.wait(stopping, self.close_timeout):
                await stopping
            else:
                self._tell_unstopped(self.close_timeout)
        finally:
            stopping.cancel()
            for cell in reversed(list(self._cells.values())):
                cell.end_by_force(cell.exit_reason or SHUTDOWN)
            await self._climb_ladders()
            self.threads.close()
            if self._reaping:
                await asyncio.wait([process.exited for process in self._reaping])
            if self._watchdog is not None:
                self._watchdog.stop()
            if self._log is not None:
                self._log.flush()
            await scheduler.close()

    async def _stop_in_order(self) -> None:
        for cell in reversed([cell for cell in self._cells.values() if cell.parent is None]):
            await self.shut_down(cell, cell.kind.shutdown)
        for cell in reversed(list(self._cells.values())):  # children of actors that are no supervisors
            await self.shut_down(cell, cell.kind.shutdown)

    def _tell_unstopped(self, limit: float) -> None:
        """Log the actors that have not ended in time, those that wait for others last."""
        unstopped = [f"{cell.path} ({PHASES[cell.phase]})" for cell in reversed(list(self._cells.values()))]
        _log.error("close_timed_out", seconds=limit, killed=unstopped)

    async def _climb_ladders(self) -> None:
        """Wait until the cancellation ladder has been climbed for all killed actors."""
        ladders = self.scheduler.ladders
        while not all(ladder.given_up for ladder in ladders.values()):
            await self.sleep(self.kill_grace)

    async def shut_down(self, ref: Ref, limit: StopLimit) -> ExitReason:
        """Order an actor to end, as its parent, and wait; kill it when ``limit`` is over. Return why it ended."""
        cell = self.own_cell("shut_down", ref)
        if limit == "brutal_kill":
            cell.end_by_force(KILLED)
        else:
            cell.signal(cell.parent, SHUTDOWN, parent=True, patient=True)
        end = cell.end_future()
        if isinstance(limit, (int, float)) and not await self.scheduler.wait(end, limit):
            cell.end_by_force(KILLED)
        return await end

    # -- parts -----------------------------------------------------------------------------------------------

    @property
    def scheduler(self) -> Scheduler:
        """The run queue.

        Raises:
            NotRunning: the runtime has not been started.
        """
        if self._scheduler is None:
            raise NotRunning("the runtime is not running; use it as: async with Runtime() as runtime")
        return self._scheduler

    @property
    def clock(self) -> Clock:
        """The time of this runtime."""
        return (self._scheduler or self.scheduler).clock

    @property
    def events(self) -> EventStream:
        """Everything that happens, in order."""
        return (self._scheduler or self.scheduler).events

    def subscribe(self, listener: Listener, *kinds: type[Event]) -> Subscription:
        """Call ``listener`` with each `Event` from now on. The same as ``runtime.events.subscribe``."""
        return self.events.subscribe(listener, *kinds)

    async def sleep(self, delay: float) -> None:
        """Wait for ``delay`` seconds of the runtime's time."""
        future: asyncio.Future[None] = self.scheduler.loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        timer = self.scheduler.timers.after(seconds("delay", delay), wake)
        try:
            await future
        finally:
            timer.cancel()

    # -- starting actors -------------------------------------------------------------------------------------

    @spawning
    async def spawn(
        self,
        kind: type[Actor],
        *args: Any,
        name: str | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Ref:
        """Start an actor that is linked to nobody, and wait until its ``init`` is done.

        Args:
            kind: the class.
            args: passed to it; a class whose own arguments are called ``name`` or ``timeout`` gets them by position.
            name: under which it can be found, from before ``init``.
            timeout: seconds that ``init`` may take; None for any time.
            kwargs: passed to it.

        Raises:
            StartError: it did not start; the reason says why, and the original exception is the cause.
            StartIgnored: its ``init`` answered IGNORE.
            AlreadyRegistered: the name is taken; nothing was started.
            BadName, BadOption, BadTime: an argument is wrong; nothing was started.
        """
        cell = self.begin(kind, args, kwargs, name=name)
        return cell if cell.starting is None else await self.complete(cell, timeout)

    @spawning
    def spawn_nowait(self, kind: type[Actor], *args: Any, name: str | None = None, **kwargs: Any) -> Ref:
        """Start an actor from code that cannot wait, such as a plain handler. An ``async`` init goes on by itself.

        Raises:
            The same as `spawn`, as far as it is known when ``init`` first waits.
        """
        return self.begin(kind, args, kwargs, name=name)

    async def spawn_child(
        self,
        kind: type[Actor],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        label: str | None = None,
    ) -> Ref:
        """Start an actor as a child of the actor in which this code runs: linked, and ended by its parent's signals."""
        parent = current.get()
        if parent is None:
            raise NotRunning("only an actor can have children; from outside, use spawn")
        return await self.complete(self.begin(kind, args, kwargs or {}, name=name, parent=parent, label=label), None)

    def begin(
        self,
        kind: type[Actor],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        name: str | None = None,
        parent: Cell | None = None,
        label: Any = None,
        isolation: Isolation | None = None,
        made: Callable[[Cell], object] | None = None,
    ) -> Cell:
        """Start an actor as far as possible without waiting; ``starting`` is the call that completes its start, if any.

        ``made`` gets its address before its ``init`` runs.
        """
        scheduler = self._scheduler
        if scheduler is None or (self._closing and parent is None) or (scheduler.fenced and scheduler.is_fenced()):
            raise NotRunning(f"{kind!r} not started: the runtime, or the actor that starts it, is not running")
        if not isinstance(kind, type) or not issubclass(kind, Actor):
            raise BadOption("spawn", kind, "give a subclass of Actor, and its arguments: not an instance")
        behaviour = kind.__behaviour__
        if behaviour.isolation != "none" or isolation is not None:
            kind, args, kwargs = isolated(kind, isolation or behaviour.isolation, args, kwargs)
            behaviour = kind.__behaviour__
        if name is not None:
            self._check_free(name)
        self._ids = number = self._ids + 1
        place = behaviour.cell if self.propagator is None else PROPAGATING[behaviour.cell]
        cell = place(scheduler, kind, number, parent, label, name)
        self._cells[number] = cell
        if name is not None:
            self._take_name(name, cell)
        if parent is not None:
            parent.tie(cell)
            cell.tied = True
            if parent.parent is not None:
                parent.release_ended_parent()
        if self.master_of:
            owner = self.master_of.get(parent or current.get())
            if owner is not None:
                self.master_of[cell] = owner
        if made is not None:
            made(cell)
        error = start(cell, args, kwargs)
        if cell.phase == DEAD:
            raise self._failure(cell, error)
        return cell

    def _failure(self, cell: Cell, error: BaseException | None) -> SupervisionError:
        reason = cell.exit_reason
        assert reason is not None
        return start_error(cell, reason, cell.ignored, error)

    async def complete(self, cell: Cell, timeout: float | None, starting: Call[None] | None = None) -> Cell:
        """Wait until a start that `begin` began is done, for ``timeout`` seconds at the most.

        ``starting`` is that of the cell when it was begun, for callers that did not come here at once.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        starting = starting or cell.starting
        if starting is None:
            return cell
        timer = self.scheduler.timers.after(limit, lambda: cell.start_timed_out(limit)) if limit is not None else None
        try:
            await starting
        except asyncio.CancelledError:
            cell.end_by_force(SHUTDOWN)
            raise
        except CallCycle as ring:  # its init has called the actor that waits for it here
            cell.end_by_force(crashed(ring))
            raise self._failure(cell, ring) from ring
        finally:
            if timer is not None:
                timer.cancel()
        return cell

    def own_cell(self, where: str, ref: object) -> Cell:
        """Return the cell of an address, and refuse one of another runtime.

        Args:
            where: what it is for, in the error.
            ref: a `Ref`; or a `Name`, which stands for its holder.

        Raises:
            BadOption: it is no address of an actor, or is another runtime's.
            NoProcess: nobody holds the name.
        """
        found = ref
        if isinstance(ref, Name) and ref.runtime is self:
            found = ref.resolve()
            if found is None:
                raise NoProcess(ref, where, "nobody holds this name")
        if not isinstance(found, Cell) or found.sched is not self._scheduler:
            raise BadOption(where, ref, "give the Ref, or the Name, of an actor of this runtime")
        return found

    # -- names -----------------------------------------------------------------------------------------------

    def whereis(self, name: str) -> Ref | None:
        """Return the actor that holds a name, or None."""
        holder: Ref | None = self._names.get(name)
        if holder is None and self.elsewhere is not None:
            holder = self.elsewhere(name)
        return holder

    def name(self, name: str) -> Name:
        """Return a stable address: whoever holds the name when it is used."""
        if not isinstance(name, str) or not name:
            raise BadName("name", name, "a name is a string that is not empty")
        return Name(self, name)

    def expected(self, name: str) -> bool:
        """Return whether a name has no holder, but a supervisor may still restart the last one."""
        return name in self.vacancies

    async def wait_for_name(self, *names: str, until: float) -> bool:
        """Wait until one of these names has a holder, or the supervisor of its last holder will start no other.

        Args:
            names: the names.
            until: the runtime's time at which to stop waiting.

        Returns:
            False if the time was up first.
        """
        return await self.vacancies.wait(names, self.scheduler, until)

    def names(self) -> dict[str, Ref]:
        """Return all names and their holders."""
        return dict(self._names)

    def register(self, name: str, ref: Ref) -> None:
        """Give an actor a name.

        Raises:
            AlreadyRegistered: the name is taken, or the actor has one already.
            BadName: this cannot be a name.
            NoProcess: the actor has ended.
        """
        self._check_free(name)
        ref = self.own_cell("register", ref)
        if not ref.alive:
            raise NoProcess(ref, f"register {name}")
        if ref.name is not None:
            raise AlreadyRegistered(ref.name, ref, "is already the name of")
        if self.scheduler.fenced and self.scheduler.is_fenced():
            raise Fenced(ref, f"register {name}")
        self._take_name(name, ref)

    def unregister(self, name: str) -> None:
        """Take a name away. It is fine if nobody holds it."""
        cell = self._names.get(name)
        if cell is not None and not (self.scheduler.fenced and self.scheduler.is_fenced()):
            self.release_name(cell)

    def _check_free(self, name: object) -> None:
        if not isinstance(name, str) or not name:
            raise BadName("name", name, "a name is a string that is not empty")
        holder = self._names.get(name)
        if holder is not None:
            raise AlreadyRegistered(name, holder)

    def _take_name(self, name: str, cell: Cell) -> None:
        cell.name = name
        self._names[name] = cell
        self.vacancies.taken(name, cell)
        cell.emit(Registered, name=name)

    def adopt(self, cell: Cell, process: ChildProcess) -> None:
        """Note the process of an isolated actor; it ends with the actor."""
        self.processes[cell] = process

    def release_name(self, cell: Cell) -> None:
        """Make the name of an actor free."""
        name = cell.name
        if name is not None and self._names.get(name) is cell:
            del self._names[name]
            cell.emit(Unregistered, name=name)
            if cell.alive:
                cell.name = None
            else:
                self.vacancies.open(name, cell)

    def forget(self, cell: Cell) -> None:
        """Release what an ended actor held."""
        self._cells.pop(cell.id, None)
        if self.master_of:
            self.master_of.pop(cell, None)
        if self.processes:
            process = self.processes.pop(cell, None)
            if process is not None:
                process.close()
                self._reaping = {process, *(each for each in self._reaping if not each.exited.done())}
        if self.vacancies.supervisors:
            self.vacancies.close_all(cell)
        if cell.name is not None:
            self.release_name(cell)

    # -- timers ----------------------------------------------------------------------------------------------

    def send_after(self, delay: float, message: Any, to: Address) -> Timer:
        """Send a message in ``delay`` seconds. Aimed at a `Ref`, the timer ends with the actor.

        Raises:
            BadTime: the delay is no length of time.
            BadOption: ``to`` is no address in this runtime.
        """
        return self._timer(to, seconds("delay", delay), None, message)

    def send_interval(self, period: float, message: Any, to: Address) -> Timer:
        """Send a message every ``period`` seconds."""
        period = seconds("period", period, zero=False)
        return self._timer(to, period, period, message)

    def _timer(self, to: Address, delay: float, period: float | None, message: Any) -> Timer:
        if not isinstance(to, Address) or to.runtime is not self:
            raise BadOption("to", to, "give the Ref, or the Name, of an actor of this runtime")
        own = isinstance(to, Cell) and current.get() is to
        timer = self.scheduler.timers.after(delay, lambda: _remind(to, message) if own else to.cast(message), period)
        if self.scheduler.fenced and self.scheduler.is_fenced():
            timer.cancel()
        elif isinstance(to, Cell):
            if to.alive:
                to.own_timer(timer)
            else:
                timer.cancel()
        return timer

    # -- introspection ---------------------------------------------------------------------------------------

    def actors(self) -> Iterator[Ref]:
        """Return all live actors, in order of their start."""
        return iter([cell for cell in self._cells.values() if cell.alive])

    def actor(self, id: int) -> Ref | None:
        """Return the live actor with a number, the ``id`` of its `Ref`; None if there is none."""
        cell = self._cells.get(id)
        return cell if cell is not None and cell.alive else None

    def find(self, path: str) -> Ref | None:
        """Return the live actor at a path, or None. It searches all actors: for people, not for programs."""
        return next((cell for cell in self._cells.values() if cell.alive and cell.path == path), None)

    def info(self, ref: Ref) -> ActorInfo | None:
        """Return what is known of a live actor, None for one that has ended."""
        ref = self.own_cell("info", ref)
        return info_of(ref) if ref.alive else None

    def parent(self, ref: Ref) -> Ref | None:
        """Return the live actor whose child another one is; None if it has none, or has ended itself.

        Raises:
            BadOption, NoProcess: ``ref`` is no `Ref` of this runtime, and no `Name` that somebody holds.
        """
        cell = self.own_cell("parent", ref)
        above = cell.parent if cell.alive else None
        return above if above is not None and above.alive else None

    def zombies(self) -> list[ZombieInfo]:
        """Return the killed actors whose code still runs."""
        return [zombie_info(cell, ladder) for cell, ladder in self.scheduler.ladders.items()]

    def statistics(self) -> RuntimeStatistics:
        """Return the runtime's numbers."""
        scheduler = self.scheduler
        return RuntimeStatistics(
            actors=len(self._cells),
            names=len(self._names),
            runnable=len(scheduler.ready),
            timers=len(scheduler.timers) - scheduler.watching,  # that for the deadlines of calls is the kernel's own
            zombies=len(scheduler.ladders),
            dead_letters=dict(scheduler.dead_letters),
            processes=len(self.processes),
            leaked_threads=self.threads.leaked,
        )


def _remind(cell: Address, message: Any) -> None:
    """Send an actor the message of its own timer, in its name, wherever timers run."""
    token = current.set(cell)  # type: ignore[arg-type]
    try:
        cell.cast(message)
    finally:
        current.reset(token)
