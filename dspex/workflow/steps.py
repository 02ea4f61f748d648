"""Steps under way: done, tried again, cancelled, recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, NamedTuple, TypeVar

import msgspec

from agents.durability import StorageError
from dspex.workflow.encoding import decoded, digest, encoded
from dspex.workflow.errors import (
    StepCancelled,
    StepChanged,
    StepFailed,
    StepTrimmed,
    WorkflowError,
    WorkflowSuspended,
)
from dspex.workflow.events import StepEnded, StepRetried
from dspex.workflow.metrics import WorkflowCounts
from dspex.workflow.retry import Failures, RetryPolicy
from dspex.workflow.state import CANCEL, ID, UNDO, VALUE, RunState, StepRecord, StepState
from supervision import Runtime

T = TypeVar("T")


class CurrentStep(msgspec.Struct, frozen=True):
    """The step in which code runs.

    Attributes:
        key: of the step.
        token: stays the same however often the step is tried: give it to a service that is asked for an effect, so
            that the effect is had once.
        attempt: how often the step was begun, over all restarts.
    """

    key: str
    token: str
    attempt: int


def current_step() -> CurrentStep:
    """Return the step in which this code runs.

    Raises:
        WorkflowError: it runs in none.
    """
    found = _current.get()
    if found is None:
        raise WorkflowError("this code runs in no step of a workflow; call it from the work of a step")
    return found


_current: ContextVar[CurrentStep | None] = ContextVar("dspex.workflow.step", default=None)


async def run_in_step(step: CurrentStep, work: Callable[[], Any]) -> Any:
    """Do the work of a step, in a task of its own: `current_step` is the step in all of it."""
    _current.set(step)
    found = work()
    return await found if isawaitable(found) else found


def refuse_inside_of_step(method: str) -> None:
    """Make sure that a method is not called from inside of a step, which would have to wait for itself.

    Raises:
        WorkflowError: it is.
    """
    if _current.get() is not None:
        raise WorkflowError(f"{method}() was called inside of a step, and would wait for it; raise an error instead")


class StepCompensation(NamedTuple):
    """What undoes a step, and the value that the step has returned."""

    work: Callable[[Any], Any]
    value: Any

    def undo(self) -> Any:
        """Undo the step."""
        return self.work(self.value)


class RunContext:
    """What all scopes of a run share, and how its steps are done.

    Attributes:
        running: the steps that are under way, by their `used_key`.
        undo: the compensations of the steps that were done, by the keys of these.
        closed: whether this incarnation begins no more steps.
        broken: why the journal cannot be written; None if it can.
    """

    def __init__(
        self, runtime: Runtime, name: str, state: RunState, retry: RetryPolicy, counts: WorkflowCounts
    ) -> None:
        self.runtime, self.name, self.state, self.retry, self.counts = runtime, name, state, retry, counts
        self.running: dict[str, Cancellable] = {}
        self.undo: dict[str, StepCompensation] = {}
        self.closed = False
        self.broken: StorageError | None = None

    @property
    def id(self) -> str:
        """What no other run has."""
        return self.state.journal.find(ID, "")  # type: ignore[no-any-return]

    def token(self, key: str) -> str:
        """Return what stays the same for a key however often this run is repeated, and no other run has."""
        return f"{self.id}:{key}"

    async def do(
        self,
        kind: str,
        path: str,
        work: Callable[..., Any],
        args: tuple[Any, ...],
        type: Any,
        retry: RetryPolicy | None = None,
        undo: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Do a step, or return what it has returned before; see `Workflow.step`."""
        print_ = digest(encoded(path, "its arguments", args, typed=True))
        known = self.state.record(kind, path)
        if known is not None and known.print != print_:
            raise StepChanged(path, known.print, print_)
        if known is not None and known.state != "running":
            self.state.use(used_key(kind, path))
            self.counts.replayed += 1
            found = _replayed(path, known, type)
            if undo is not None:
                self.undo[path] = StepCompensation(undo, found)
            return found
        self.check(kind)
        self.state.use(used_key(kind, path))
        record, began = known or StepRecord("running", print_), self.runtime.clock.time()
        policy = retry or self.retry
        failures = Failures(policy, self.runtime)
        step = RunningStep(kind, path, record, lambda: work(*args), type, undo, policy, failures, began)
        with self.under_way(step):
            return await self._perform(step)

    def check(self, kind: str) -> None:
        """Make sure that something new may be begun."""
        if self.broken is not None:
            raise self.broken
        if self.closed and kind != UNDO:
            raise WorkflowError("this run of the workflow has ended; open it again")
        self.state.check_room()

    @property
    def cancelled(self) -> str | None:
        """Why the run was cancelled; None if it was not."""
        return self.state.journal.find(CANCEL, "")  # type: ignore[no-any-return]

    @contextmanager
    def under_way(self, step: Cancellable) -> Generator[None]:
        """Have a step among those that are under way, and can be cancelled. Compensations cannot."""
        key = used_key(step.kind, step.path)
        if step.kind != UNDO:
            step.cancelled = self.cancelled
        self.running[key] = step
        try:
            yield
        finally:
            del self.running[key]
            step.ended.set_result(None)

    async def _perform(self, step: RunningStep) -> Any:
        """Do a step. How it has ended is written before anybody knows."""
        try:
            found, plain = await self._tried(step)
        except StepCancelled as error:
            await self._end(step, "cancelled", error.why)
            raise
        await self._end(step, "done", plain)
        if step.undo is not None:
            self.undo[step.path] = StepCompensation(step.undo, found)
        return found

    async def _tried(self, step: RunningStep) -> tuple[Any, Any]:
        """Do the work of a step as often as it takes; return what came of it, and that as plain values."""
        while True:
            try:
                return await self._once(step)
            except Exception as error:
                # Another workflow, inside of this step, may have been cancelled.
                final = isinstance(error, StepFailed) or (isinstance(error, StepCancelled) and not self.cancelled)
                if isinstance(error, (WorkflowError, StorageError)) and not final:
                    raise
                if final or not step.retry.on(error):
                    known = [type(error).__name__, error_message(error)]
                    await self._end(step, "failed", known)
                    raise StepFailed(step.path, *known) from error
                await self._pause(step, error)

    async def _once(self, step: RunningStep) -> tuple[Any, Any]:
        step.check()
        step.record = msgspec.structs.replace(step.record, attempt=step.record.attempt + 1)
        await self.write(self.state.keep(step.kind, step.path, step.record))
        current = CurrentStep(step.path, self.token(used_key(step.kind, step.path)), step.record.attempt)
        value = await step.inside(lambda: run_in_step(current, step.work))
        data = encoded(step.path, "what it returned", value, typed=step.type is not None)
        return decoded(step.path, data, step.type), decoded(step.path, data, None)

    async def _pause(self, step: RunningStep, error: Exception) -> None:
        """Wait until the next attempt is due.

        Raises:
            WorkflowSuspended: there is none.
        """
        pause = step.failures.next_pause(error)
        if pause is None:
            raise WorkflowSuspended(step.path, step.failures.count, step.failures.seconds, error) from error
        self.counts.retried += 1
        why, attempt = f"{type(error).__name__}: {error_message(error)}", step.record.attempt
        self.runtime.events.emit(StepRetried, workflow=self.name, step=step.path, attempt=attempt, why=why, next=pause)
        await step.inside(lambda: self.runtime.sleep(pause))

    async def _end(self, step: RunningStep, state: StepState, value: Any) -> None:
        await self.write(self.state.end(step.kind, step.path, step.record, state, value))
        self.counts.ended[state] += 1
        seconds, attempt = self.runtime.clock.time() - step.began, step.record.attempt
        self.runtime.events.emit(
            StepEnded, workflow=self.name, step=step.path, state=state, attempt=attempt, seconds=seconds
        )

    async def write(self, written: Awaitable[object]) -> None:
        """Wait until something is written. If it cannot be, the run ends: nothing goes on without a journal."""
        try:
            await written
        except StorageError as error:
            self.broken = error
            raise

    async def recorded(self, path: str, make: Callable[[], T]) -> T:
        """Return what was recorded at the first use of a key."""
        known = self.state.value(path)
        if known is not None:
            self.state.use(path)
            return known["value"]  # type: ignore[no-any-return]
        self.check(VALUE)
        self.state.use(path)
        value = make()
        await self.write(self.state.record_value(path, value))
        return value


class Cancellable:
    """Something that is under way, and can be cancelled.

    Args:
        kind: a step, a compensation, or a recorded value that is waited for.
        path: its key.
    """

    def __init__(self, kind: str, path: str) -> None:
        self.kind, self.path = kind, path
        self.cancelled: str | None = None
        self._stopped = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Future[Any] | None = None

    def cancel(self, why: str) -> None:
        """Cancel it for good."""
        self.cancelled = why
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """Cut it off: nothing is recorded, and the next incarnation begins it again."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        """Raise if it was cancelled, or cut off."""
        if self.cancelled is not None:
            raise StepCancelled(self.path, self.cancelled)
        if self._stopped:
            raise asyncio.CancelledError

    async def inside(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something in a task of its own, so that it can be cancelled without its caller."""
        self.check()
        task = asyncio.get_running_loop().create_task(work())
        self._task = task
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and not current.cancelling():
                self.check()
            raise
        finally:
            self._task = None


class RunningStep(Cancellable):
    """A step that is under way.

    Args:
        kind: a step, or a compensation.
        path: its key.
        record: what is known of it.
        work: does it.
        type: of what it returns.
        undo: undoes it.
        retry: which failures are tried again.
        failures: counts them.
        began: when.
    """

    def __init__(
        self,
        kind: str,
        path: str,
        record: StepRecord,
        work: Callable[[], Any],
        type: Any,
        undo: Callable[[Any], Any] | None,
        retry: RetryPolicy,
        failures: Failures,
        began: float,
    ) -> None:
        super().__init__(kind, path)
        self.record = msgspec.structs.replace(record, undo=undo is not None)
        self.work, self.type, self.undo, self.retry, self.began = work, type, undo, retry, began
        self.failures = failures


def error_message(error: BaseException) -> str:
    """Return the text of an error, whatever it does when it is asked."""
    try:
        return str(error).encode(errors="replace").decode()
    except Exception as again:
        return f"its text cannot be had ({type(again).__name__})"


def used_key(kind: str, path: str) -> str:
    """Return the key under which a step is used. No key of a user's step has a quote after its name."""
    return f'undo "{path}"' if kind == UNDO else path


def _replayed(path: str, record: StepRecord, type: Any) -> Any:
    if record.state == "failed":
        raise StepFailed(path, *record.value)
    if record.state == "cancelled":
        raise StepCancelled(path, record.value)
    if record.state == "trimmed":
        raise StepTrimmed(path)
    return decoded(path, encoded(path, "its value", record.value), type)
