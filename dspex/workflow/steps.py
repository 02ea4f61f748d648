"""TODO dspex.workflow.steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, NamedTuple, TypeVar

import msgspec

from agents.durability import StorageError
from dspex.workflow.encoding import decoded, encoded
from dspex.workflow.errors import (
    StepCancelled,
    StepFailed,
    StepTrimmed,
    WorkflowError,
)
from dspex.workflow.metrics import WorkflowCounts
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.state import UNDO, RunState, StepRecord
from supervision import Runtime


class CurrentStep(msgspec.Struct, frozen=True):
    """The step in which code runs.

    Attributes:
        key: of the step.
        token: stays the same however often the step is tried: give it to whoever is asked for an effect, so that it
            has that effect once.
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
        self.cancelled = why
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """Cut it off: nothing is recorded, and the next incarnation begins it again."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        if self.cancelled is not None:
            raise StepCancelled(self.path, self.cancelled)
        if self._stopped:
            raise asyncio.CancelledError

    async def inside(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something in a task of its own, so that it can be cancelled without whoever waits for it."""
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
        retry: how often it is tried.
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
        began: float,
    ) -> None:
        super().__init__(kind, path)
        self.record = msgspec.structs.replace(record, undo=undo is not None)
        self.work, self.type, self.undo, self.retry, self.began = work, type, undo, retry, began
        self.failed = 0
        self.failing_since = began


class RunContext:
    """What all scopes of a run share."""

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


async def run_in_step(step: CurrentStep, work: Callable[[], Any]) -> Any:
    """Do the work of a step, in a task of its own: `current_step` is the step in all of it."""
    _current.set(step)
    found = work()
    return await found if isawaitable(found) else found


def error_message(error: BaseException) -> str:
    """Return the text of an error, whatever it does when it is asked."""
    try:
        return str(error).encode(errors="replace").decode()
    except Exception as again:
        return f"its text cannot be had ({type(again).__name__})"


def used_key(kind: str, path: str) -> str:
    """Return what stands for a step among those that were used. No step of somebody's has a quote after its name."""
    return f'undo "{path}"' if kind == UNDO else path


def _replayed(path: str, record: StepRecord, type: Any) -> Any:
    if record.state == "failed":
        raise StepFailed(path, *record.value)
    if record.state == "cancelled":
        raise StepCancelled(path, record.value)
    if record.state == "trimmed":
        raise StepTrimmed(path)
    return decoded(path, encoded(path, "its value", record.value), type)


class StepCompensation(NamedTuple):
    work: Callable[[Any], Any]
    value: Any

    def call(self) -> Any:
        return self.work(self.value)


#: Kinds of the entries that a run writes about itself.
CANCEL, RESULT, ID = "cancel", "result", "id"

T = TypeVar("T")
