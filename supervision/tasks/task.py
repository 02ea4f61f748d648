"""One task: how it is started, how it runs, and what its owner can do with it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar, cast, overload

import msgspec

from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision._core.phases import current
from supervision.actor import Actor, StopLimit
from supervision.clock import seconds
from supervision.errors import BadOption, NotOwner, TaskExited, TaskTimeout
from supervision.messages import Message
from supervision.reasons import KILLED, NORMAL, SHUTDOWN, ExitReason
from supervision.ref import Address, Monitor, Ref, as_address
from supervision.supervisors.administration import StartChild
from supervision.supervisors.childspec import ChildSpec, Restart
from supervision.supervisors.dynamic_supervisor import DynamicSupervisor

R = TypeVar("R")


class Done(msgspec.Struct, Generic[R], frozen=True):
    """A task ended with a result."""

    value: R

    def result(self) -> R:
        """Return the result."""
        return self.value


class Exited(msgspec.Struct, frozen=True):
    """A task ended without a result, for ``reason``. ``input`` is the item that it ran for, in a stream."""

    reason: ExitReason
    input: Any = None

    def result(self) -> Any:
        """Raise the reason, as there is no result.

        Raises:
            TaskExited: always.
        """
        raise TaskExited(self.reason)


class TaskReply(Message, frozen=True):
    """The result of a task, for the actor that started it and does not await it. A `Down` follows."""

    task: Task[Any]
    value: Any


class RunFunction(Message, frozen=True):
    """A task's message to itself."""


class TaskSupervisor(DynamicSupervisor):
    """A supervisor of tasks: a `DynamicSupervisor`, whose arguments it takes."""


class Task(Generic[R]):
    """A started task, for its owner: wait for it, end it, or let it go.

    Attributes:
        ref: the actor that runs it.
        owner: the actor that started it, and that alone may use this object; None if it was started outside of actors.
        linked: whether the two live and die together.
        monitor: the one whose `Down` the owner gets.
        outcome: how it ended, once it has.
    """

    __slots__ = ("_closed", "linked", "monitor", "outcome", "owner", "ref")

    ref: Cell

    def __init__(self, owner: Cell | None, linked: bool) -> None:
        self.owner = owner
        self.linked = linked
        self.monitor: Monitor | None = None
        self.outcome: asyncio.Future[Done[R] | Exited] = asyncio.get_running_loop().create_future()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Task {self.ref}>"

    # -- the side of the actor that runs it --------------------------------------------------------------------

    def begin(self, ref: Cell) -> None:
        """Link and monitor the actor that starts."""
        self.ref = ref
        if self.owner is not None:
            if self.linked:
                ref.link_or_tell(self.owner)
            self.monitor = self.owner.monitor(ref)
        ref.end_future().add_done_callback(lambda end: self._settle(Exited(end.result())))

    def reply(self, value: R) -> None:
        """Keep the result for the code that awaits it, and send it to the owner."""
        if self.ref.alive:
            self._settle(Done(value))
            if self.owner is not None and not self._closed:
                self.owner.cast(TaskReply(self, value))

    def _settle(self, outcome: Done[R] | Exited) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    # -- the side of the owner -----------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the result as long as it takes. See `wait`."""
        return self.wait(None).__await__()

    async def wait(self, timeout: float | None = 5.0) -> R:
        """Wait for the result (Elixir's ``Task.await``).

        Args:
            timeout: seconds; None waits as long as the task lives.

        Raises:
            TaskExited: the task ended without a result, whatever the reason.
            TaskTimeout: there is no result in time. The task goes on, and what becomes of it is not told any more.
            NotOwner: another actor started it.
        """
        outcome = await self.yield_(timeout)
        if outcome is None:
            self.close()
            raise TaskTimeout(str(self), timeout or 0.0)
        return cast("R", outcome.result())

    async def yield_(self, timeout: float | None = 5.0) -> Done[R] | Exited | None:
        """Wait for the end of the task, or for ``timeout`` seconds: then return None; it may be called again.

        Raises:
            NotOwner: another actor started it.
        """
        self.check_owner()
        limit = None if timeout is None else seconds("timeout", timeout)
        if limit is not None and not await self.ref.sched.wait(self.outcome, limit):
            return None
        outcome = await asyncio.shield(self.outcome)
        self.close()
        return outcome

    async def shutdown(self, timeout: StopLimit = 5.0) -> Done[R] | Exited | None:
        """Unlink the task and end it.

        Args:
            timeout: seconds that it has to end before it is killed, ``"infinity"``, or ``"brutal_kill"``.

        Returns:
            Its outcome, if it had ended otherwise in the meantime; None if it ended because of this.

        Raises:
            NotOwner: another actor started it.
            BadTime: the time-out is none of these.
        """
        limit = timeout if timeout in ("brutal_kill", "infinity") else seconds("timeout", timeout)
        self.check_owner()
        self._unlink()
        if not self.outcome.done():
            await self._end(limit)
        self.close()
        outcome = self.outcome.result()
        return None if outcome == Exited(KILLED if limit == "brutal_kill" else SHUTDOWN) else outcome

    async def _end(self, limit: StopLimit) -> None:
        if limit == "brutal_kill":
            self.ref.kill()
        else:
            self.ref.exit(SHUTDOWN)
        if isinstance(limit, float) and not await self.ref.sched.wait(self.outcome, limit):
            self.ref.end_by_force(KILLED)
        await asyncio.shield(self.outcome)

    def ignore(self) -> Done[R] | Exited | None:
        """Let the task go: unlink it, let it run on, and do not hear of it again.

        Returns:
            Its outcome, if it has ended already.

        Raises:
            NotOwner: another actor started it.
        """
        self.check_owner()
        self._unlink()
        self.close()
        return self.outcome.result() if self.outcome.done() else None

    def check_owner(self) -> None:
        """Make sure that this code belongs to the owner.

        Raises:
            NotOwner: it does not.
        """
        if current.get() is not self.owner:
            raise NotOwner(self, self.owner or "code outside of actors")

    def _unlink(self) -> None:
        if self.linked and self.owner is not None:
            self.owner.unlink(self.ref)

    def close(self) -> None:
        """Send no more messages about this task, and drop those that wait."""
        self._closed = True
        if self.owner is not None and self.monitor is not None:
            self.owner.demonitor(self.monitor, flush=True)
            self.owner.flush(lambda message: isinstance(message, TaskReply) and message.task is self)


class TaskRunner(Actor):
    """The actor that runs a task's function, once."""

    def __init__(
        self,
        task: Task[Any] | None,
        callers: tuple[Ref, ...],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._task = task
        self.callers = callers
        self._function = function
        self._args = args
        self._kwargs = kwargs

    def init(self) -> None:
        """Tell the owner's side, and begin."""
        if self._task is not None:
            self._task.begin(self._cell)
        self.continue_with(RunFunction())

    @handle
    async def run(self, message: RunFunction) -> None:
        """Run the function, and end."""
        result = self._function(*self._args, **self._kwargs)
        if inspect.isawaitable(result):
            result = await result
        if self._task is not None:
            self._task.reply(result)
        self.stop(NORMAL)


def callers() -> tuple[Ref, ...]:
    """Return the actors for which the task runs in which this code is: who started it, who started that one, ..."""
    cell = current.get()
    return cell.actor.callers if cell is not None and isinstance(cell.actor, TaskRunner) else ()


def task_spec(
    task: Task[Any] | None,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    restart: Restart = "temporary",
    shutdown: StopLimit = 5.0,
) -> ChildSpec:
    """Return the specification of the actor that runs a task.

    Raises:
        BadOption, BadChildSpec: an argument is wrong.
    """
    if not callable(function):
        raise BadOption("function", function, "give a function, plain or async")
    cell = current.get()
    chain = () if cell is None else (cell, *callers())
    name = getattr(function, "__name__", type(function).__name__)
    return ChildSpec(name, TaskRunner, (task, chain, function, args, kwargs), restart=restart, shutdown=shutdown)


async def start_child(
    supervisor: Address,
    function: Callable[..., Any],
    *args: Any,
    restart: Restart = "temporary",
    shutdown: StopLimit = 5.0,
    **kwargs: Any,
) -> Ref:
    """Start a task for its effect alone: nobody is linked to it, nobody can await it.

    Args:
        supervisor: a `TaskSupervisor`.
        function: plain or ``async``; called in an actor of its own.
        args: passed to it.
        restart: whether it runs again after its end, as for any child.
        shutdown: seconds it has to end when the supervisor stops.
        kwargs: passed to it.

    Raises:
        MaxChildren: the supervisor has as many tasks as it may.
        NoProcess: there is no such supervisor.
        BadOption, BadChildSpec: an argument is wrong.
    """
    spec = task_spec(None, function, args, kwargs, restart=restart, shutdown=shutdown)
    return cast("Ref", await as_address("supervisor", supervisor).call(StartChild(spec), timeout=None))


@overload
async def async_(
    supervisor: Address, function: Callable[..., Awaitable[R]], *args: Any, shutdown: StopLimit = 5.0, **kwargs: Any
) -> Task[R]: ...
@overload
async def async_(
    supervisor: Address, function: Callable[..., R], *args: Any, shutdown: StopLimit = 5.0, **kwargs: Any
) -> Task[R]: ...
async def async_(
    supervisor: Address, function: Callable[..., Any], *args: Any, shutdown: StopLimit = 5.0, **kwargs: Any
) -> Task[Any]:
    """Start a task whose result can be awaited, linked to the actor in which this code runs.

    If one of the two crashes the other does as well, unless it traps exits. Outside of actors there is nobody to link.
    The arguments and errors are those of `start_child`.
    """
    return await _started(supervisor, Task(current.get(), linked=True), function, args, kwargs, shutdown)


@overload
async def async_nolink(
    supervisor: Address, function: Callable[..., Awaitable[R]], *args: Any, shutdown: StopLimit = 5.0, **kwargs: Any
) -> Task[R]: ...
@overload
async def async_nolink(
    supervisor: Address, function: Callable[..., R], *args: Any, shutdown: StopLimit = 5.0, **kwargs: Any
) -> Task[R]: ...
async def async_nolink(
    supervisor: Address, function: Callable[..., Any], *args: Any, shutdown: StopLimit = 5.0, **kwargs: Any
) -> Task[Any]:
    """Start a task whose result can be awaited, and whose crash does not affect the actor that started it.

    The arguments and errors are those of `start_child`.
    """
    return await _started(supervisor, Task(current.get(), linked=False), function, args, kwargs, shutdown)


async def _started(
    supervisor: Address,
    task: Task[Any],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    shutdown: StopLimit,
) -> Task[Any]:
    await as_address("supervisor", supervisor).call(
        StartChild(task_spec(task, function, args, kwargs, shutdown=shutdown)), timeout=None
    )
    return task
