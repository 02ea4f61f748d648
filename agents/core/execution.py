"""Execution: running actions and compositions, with retries, time limits and compensation.

>>> from agents import Action, Context, Attempts
>>> class Double(Action[dict[str, int]]):
...     n: int
...
...     def run(self, context: Context[Any]) -> dict[str, int]:
...         return {"n": self.n * 2}
>>> execute(Double, {"n": 4})
{'n': 8}
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from agents.core.action import Action, ActionLike, CompositeAction, Context, Result, is_compensable
from agents.core.directives import Directive
from agents.core.failures import awaited, is_closing, raise_interrupt
from agents.core.operations import Operation
from agents.core.structs import checked, fields_of
from agents.errors import AgentError, BadParams, BadResult, CompensationFailed, NeedsLoop
from supervision.clock import clock_of

T = TypeVar("T")
_NOWHERE: Context[Any] = Context(state=None)
#: The attribute of an error that says in which step it was raised.
_STEP = "_agents_step"


def execute(work: ActionLike, data: Any = None, *, context: Context[Any] = _NOWHERE) -> Any:
    """Run an action, or what is made of actions, without an agent and without a loop.

    Args:
        work: what to run.
        data: its parameters, if it is a class or a composition.
        context: what actions see.

    Returns:
        The result. Effects are dropped, as there is no agent to apply them to.

    Raises:
        NeedsLoop: one of the actions is ``async``; await `aexecute` instead.
        CompensationFailed: it failed, and what was done could not be undone.
        Exception: raised by the action in its last try. What was done is undone.
    """
    return driven(_executed(work, data, context, has_loop=False))


async def aexecute(work: ActionLike, data: Any = None, *, context: Context[Any] = _NOWHERE) -> Any:
    """Do what `execute` does; actions may be ``async``, and retries wait."""
    return await _executed(work, data, context, has_loop=True)


async def _executed(work: ActionLike, data: Any, context: Context[Any], has_loop: bool) -> Any:
    run = Execution(context, has_loop)
    try:
        return await run.step(work, {} if data is None else data)
    except BaseException as error:
        if not (has_loop and is_closing(error, context.ref)):
            await undo(run.completed, error, has_loop)
        raise


def driven(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, and return its result."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    work.close()
    raise NeedsLoop("it")


class CompletedAction(msgspec.Struct):
    """An action that was run, and can be compensated.

    Attributes:
        action: it.
        context: which it got.
        value: what it returned; None if it failed.
        row: under which it is written down; None if it is not.
    """

    action: Action[Any]
    context: Context[Any]
    value: Any
    row: str | None = None


class Saga:
    """What a turn has done outside that can be undone. Nothing of it is written down.

    Attributes:
        completed: what is to be undone if the turn is not committed.
    """

    def __init__(self) -> None:
        self.completed: list[CompletedAction] = []

    async def begin(self, action: Action[Any], context: Context[Any]) -> str | None:
        """Take note that an action is about to run; return under which name."""
        return None

    def done(self, one: CompletedAction) -> None:
        """Take note that an action was run."""

    async def undone(self, one: CompletedAction) -> None:
        """Take note that an action was undone."""

    def not_undone(self, one: CompletedAction, error: BaseException) -> None:
        """Take note that an action could not be undone."""


class Execution:
    """One execution: its context, the effects so far, and the completed actions that can be compensated.

    Args:
        context: what the actions see.
        has_loop: whether there is a loop to wait on.
        completed: where actions are noted that can be compensated; None for a new list.
        place: of the work among that of its turn.
        within: whether it is a part of a composition.
        saga: what takes note of what can be undone, if there is a turn.
    """

    __slots__ = ("_count", "_within", "completed", "context", "effects", "has_loop", "place", "saga")

    def __init__(
        self,
        context: Context[Any],
        has_loop: bool,
        completed: list[CompletedAction] | None = None,
        place: str = "",
        within: bool = False,
        saga: Saga | None = None,
    ) -> None:
        self.context = context
        self.saga = saga
        self.place = place
        #: How many parts were begun in the composition at hand, if it is one.
        self._count = 0
        self._within = within
        self.has_loop = has_loop
        self.effects: list[Operation | Directive] = []
        self.completed: list[CompletedAction] = [] if completed is None else completed

    async def step(self, item: Any, data: Any) -> Any:
        """Run a part, with the data there are, and return its result."""
        what, fixed = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if fixed is not None:
            data = merged_data(data, fixed) if isinstance(fixed, Mapping) and isinstance(data, Mapping) else fixed
        place = self._next_place(name_of(item))
        if isinstance(what, CompositeAction):
            outer = (self.place, self._count, self._within)
            self.place, self._count, self._within = place, 0, True
            try:
                return await what.perform(self, data)
            finally:
                self.place, self._count, self._within = outer
        return await self._action(_action_of(item, what, data), place)

    def _next_place(self, name: str) -> str:
        """Return the place of the next part: its number and its name, so that another way has other places."""
        number, self._count = self._count, self._count + 1
        return f"{self.place}/{number}/{name}" if self._within else self.place

    async def together(self, parts: Sequence[tuple[Any, Any]], limit: int | None) -> list[Any]:
        """Run parts side by side, each with its data; without a loop, one after the other.

        The first failure cancels the others, and is raised when they have ended.
        """
        begin, self._count = self._count, self._count + len(parts)
        runs = [
            Execution(
                self.context, self.has_loop, self.completed, f"{self.place}/{begin + n}", within=True, saga=self.saga
            )
            for n in range(len(parts))
        ]
        work = [run.step(*part) for run, part in zip(runs, parts, strict=True)]
        results = await (_gathered(work, limit) if self.has_loop else _one_by_one(work))
        for run in runs:
            self.effects += run.effects
        return results

    async def _action(self, action: Action[Any], place: str) -> Any:
        kind, failures = type(action), 0
        context = msgspec.structs.replace(self.context, place=place) if self._within else self.context
        row = None if self.saga is None or not is_compensable(kind) else await self.saga.begin(action, context)
        while True:
            try:
                result = await self._tried(action, context)
                value = checked_result(action, result, self.context.state)
            except NeedsLoop:
                raise
            except Exception as error:
                failures += 1
                if not kind.attempts.should_retry(failures, error):
                    self._note(action, context, None, row)
                    raise
                if self.has_loop:
                    await sleep(kind.attempts.delay(failures))
            except BaseException:
                self._note(action, context, None, row)
                raise
            else:
                self._note(action, context, value, row)
                self.effects += result.effects
                return value

    async def _tried(self, action: Action[Any], context: Context[Any]) -> Result[Any]:
        outcome = action.run(context)
        if inspect.isawaitable(outcome):
            if not self.has_loop:
                _dispose(outcome)
                raise NeedsLoop(type(action).__name__)
            async with asyncio.timeout(action.attempts.timeout):
                outcome = await awaited(outcome)
        return as_result(outcome)

    def _note(self, action: Action[Any], context: Context[Any], value: Any, row: str | None) -> None:
        if is_compensable(type(action)):
            one = CompletedAction(action, context, value, row)
            self.completed.append(one)
            if self.saga is not None:
                self.saga.done(one)


async def _one_by_one(work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    try:
        return [await part for part in work]
    finally:
        for part in work:
            part.close()


class _Carried(Exception):
    """Carries out of a task what would end the loop if it were raised there."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


async def _gathered(work: Sequence[Coroutine[Any, Any, Any]], limit: int | None) -> list[Any]:
    slots = asyncio.Semaphore(limit or len(work))
    failed = False

    async def one(part: Coroutine[Any, Any, Any]) -> Any:
        nonlocal failed
        async with slots:
            if failed:
                return None
            try:
                return await part
            except (KeyboardInterrupt, SystemExit) as error:
                failed = True
                raise _Carried(error) from error
            except BaseException:
                failed = True
                raise

    tasks: list[asyncio.Task[Any]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(one(part)) for part in work]
    except BaseExceptionGroup as group_of:
        first = group_of.exceptions[0]
        raise (first.error if isinstance(first, _Carried) else first) from None
    finally:
        for part in work:
            part.close()
    return [task.result() for task in tasks]


async def undo(
    completed: list[CompletedAction], error: BaseException, has_loop: bool, saga: Saga | None = None
) -> None:
    """Compensate completed actions, the last first, and have a saga take note of it.

    Raises:
        CompensationFailed: an action could not be compensated; the others were.
    """
    failed: CompensationFailed | None = None
    why = error if isinstance(error, Exception) else AgentError(f"it was cut short: {error!r}")
    while completed:
        one = completed.pop()
        try:
            pending = one.action.compensate(msgspec.structs.replace(one.context, undoing=True), one.value, why)
            if inspect.isawaitable(pending):
                if not has_loop:
                    _dispose(pending)
                    raise NeedsLoop(f"{type(one.action).__name__}.compensate")
                await _in_time(pending, one.action.attempts.undo_timeout)
            if saga is not None:
                await saga.undone(one)
        except BaseException as wrong:
            if has_loop and is_closing(wrong, one.context.ref):
                raise
            raise_interrupt(wrong)
            failed = failed or CompensationFailed(type(one.action).__name__, wrong, why)
            if saga is not None:
                saga.not_undone(one, wrong)
    if failed is None:
        return
    if error is why:
        raise failed from error
    error.add_note(str(failed))  # who is cancelled has to end, whatever was not undone


async def _in_time(pending: Awaitable[None], limit: float) -> None:
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            await awaited(pending)
    except TimeoutError:
        if scope.expired():
            raise TimeoutError(f"it takes longer than {limit:g} s") from None
        raise


def _dispose(pending: Any) -> None:
    """Close an unawaited coroutine, so that Python does not warn: an error says it already."""
    if inspect.iscoroutine(pending):
        pending.close()


def _action_of(item: Any, what: Any, data: Any) -> Action[Any]:
    """Return the action of an item of work: checked, or made of its class and parameters."""
    try:
        if isinstance(what, Action):
            return checked(type(what), what)  # type: ignore[no-any-return]
        if isinstance(what, type) and issubclass(what, Action):
            return msgspec.convert(data, what, from_attributes=True)
    except msgspec.ValidationError as error:
        raise BadParams(name_of(item), str(error)) from None
    raise BadParams(name_of(item), "give an action, its class, a composition, or a pair of one and its parameters")


def note_step(error: BaseException, step: str) -> None:
    """Note at an error in which step of a chain it was raised; steps inside of steps are noted first."""
    known = getattr(error, _STEP, None)
    with suppress(AttributeError, TypeError):  # an error may let nothing be noted
        setattr(error, _STEP, step if known is None else f"{step}: {known}")


def where_failed(item: Any, error: BaseException) -> str:
    """Return the name of an item of work, with the step of it that has failed, for people."""
    step = step_of(error)
    return name_of(item) if step is None else f"{name_of(item)}: {step}"


def step_of(error: BaseException) -> str | None:
    """Return the step that was noted at an error; None if none was."""
    step: str | None = getattr(error, _STEP, None)
    return step


def name_of(item: Any) -> str:
    """Return the name of an item of work, for people."""
    what = item[0] if isinstance(item, tuple) and item else item
    return what.__name__ if isinstance(what, type) else type(what).__name__


def as_result(outcome: Any) -> Result[Any]:
    """Return what an action has returned, as a `Result`."""
    return outcome if isinstance(outcome, Result) else Result(outcome)


def checked_result(action: Action[Any], result: Result[Any], state: Any = None) -> Any:
    """Return the value of a result. If it is another state, what it has from ``state`` is not checked again.

    Raises:
        BadResult: it is not as declared, or an effect is neither an operation nor a directive.
    """
    name = type(action).__name__
    for effect in result.effects:
        if not isinstance(effect, (Operation, Directive)):
            raise BadResult(name, f"{effect!r} is neither an operation nor a directive")
    try:
        return checked(action.result_type, result.value, state)
    except msgspec.ValidationError as error:
        raise BadResult(name, str(error)) from None


def merged_data(data: Any, result: Any) -> Any:
    """Return the data for the next part: its result merged over its input."""
    if result is None:
        return data
    return {**_items(data), **_items(result)}


def _items(data: Any) -> Mapping[str, Any]:
    if isinstance(data, msgspec.Struct):
        return fields_of(data)
    if isinstance(data, Mapping):
        return data
    raise BadParams("data", f"{data!r} cannot flow from part to part; give a struct or a mapping")


async def sleep(delay: float) -> None:
    """Wait for some seconds of the loop's clock."""
    clock = clock_of(asyncio.get_running_loop())
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_at(clock.time() + delay, lambda: None if over.done() else over.set_result(None))
    try:
        await over
    finally:
        timer.cancel()
