"""Sagas of a durable agent: what can be undone is written down before it is done, and undone by whoever comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.action import Action, Context
from agents.core.execution import CompletedAction, Saga
from agents.core.signal import Signal
from agents.core.structs import fields_of
from agents.durability.checkpoint import decoded, encoded
from agents.durability.storage import StoredRow
from agents.errors import AgentError, NotSaved
from agents.server.effects import Effect, path_of
from agents.server.inbox import known_as
from supervision import inject_context

if TYPE_CHECKING:
    from agents.durability.checkpointer import Checkpointer
    from agents.server.server import AgentServer

#: The kinds of rows: a step that was begun, and how often what a signal had caused was undone.
STEP, RUN = "saga", "run"
#: What a compensation that was given up is called among the dead effects.
COMPENSATION = "Compensation"
#: For so many seconds a compensation is tried.
BUDGET = 3600.0
#: Of so many signals it is remembered how often what they had caused was undone.
RUNS = 1000


class KeptStep(msgspec.Struct, frozen=True):
    """An action that can be undone, and was begun.

    Attributes:
        path: where its class is imported from.
        params: its parameters.
        signal: of its turn.
        place: of it in its turn.
        run: how often what the turn did was undone before.
        value: what it returned; None if nobody knows.
        generation: of the agent then, if its records were copied since; None if they were not.
        trace: that its turn belongs to.
    """

    path: str
    params: Any
    signal: Signal
    place: str
    run: int
    value: Any = None
    generation: str | None = None
    trace: Mapping[str, str] = {}


class CutShort(AgentError):
    """A server has died in the middle of a turn, and what it had done is undone."""


class Sagas:
    """What one durable agent has begun and can undo.

    Args:
        key: of the agent.
        checkpointer: which writes it.

    Attributes:
        steps: what was begun and neither committed nor undone, by the ids of the rows, the oldest first.
    """

    def __init__(self, key: str, checkpointer: Checkpointer) -> None:
        rows = checkpointer.rows
        self._key = key
        self._checkpointer = checkpointer
        self.steps = {row.id: decoded(row.id, row.body, KeptStep) for row in rows if row.kind == STEP}
        self._runs = {row.id: decoded(row.id, row.body, int) for row in rows if row.kind == RUN}
        self._next = max(map(int, self.steps), default=0) + 1

    def run_of(self, signal: Signal) -> int:
        """Return how often what a signal had caused was undone."""
        return self._runs.get(known_as(signal), 0)

    async def begin(self, action: Action[Any], context: Context[Any]) -> str:
        """Write down that a step begins; return the id of its row.

        Raises:
            NotSaved: it cannot be written: then it must not be run.
        """
        where = f"{type(action).__name__}, which can be undone (or say saga = False in the agent's type),"
        path = path_of(type(action), where, self._key)
        assert context.signal is not None
        trace = {} if context.ref is None else inject_context(context.ref.runtime)
        of = (context.signal, context.place, context.run)
        step = KeptStep(path, fields_of(action), *of, trace=trace)
        id, self._next = f"{self._next:012d}", self._next + 1
        row = _row(id, step)
        self._checkpointer.mark([row])
        try:
            await self._checkpointer.flush()
        except BaseException:
            self._checkpointer.mark(drop=[(STEP, id)])
            raise
        self.steps[id] = step
        return id

    def done(self, id: str, value: Any) -> None:
        """Note what a step has returned; it is written with the next one."""
        step = msgspec.structs.replace(self.steps[id], value=value)
        try:
            row = _row(id, step)
        except NotSaved:
            return  # then nobody knows
        self.steps[id] = step
        self._checkpointer.mark([row])

    async def undone(self, id: str) -> None:
        """Write down that a step was undone."""
        self.over(id)
        await self._checkpointer.flush()

    def over(self, id: str) -> KeptStep:
        """Forget a step, and remember that what its signal had caused is not to be taken for what it causes next."""
        step = self.steps.pop(id)
        name, number = known_as(step.signal), step.run + 1
        self._runs.pop(name, None)
        self._runs[name] = number
        put = [StoredRow(RUN, name, encoded(number, "run", name))]
        drop = [(STEP, id), *((RUN, name) for name in list(self._runs)[: max(0, len(self._runs) - RUNS)])]
        for _, name in drop[1:]:
            del self._runs[name]
        self._checkpointer.mark(put, drop)
        return step

    def committed(self) -> None:
        """Forget what a turn has begun, as it is committed."""
        self.steps.clear()

    def names(self) -> list[tuple[str, str]]:
        """Return the rows of what was begun."""
        return [(STEP, id) for id in self.steps]


class KeptSaga(Saga):
    """What a turn of a durable agent has done that can be undone.

    Args:
        sagas: of the agent.
        park: has a step undone later, by the id of its row, as that has failed; and why it has.
    """

    def __init__(self, sagas: Sagas, park: Callable[[str, str], None]) -> None:
        super().__init__()
        self._sagas = sagas
        self._park = park

    async def begin(self, action: Action[Any], context: Context[Any]) -> str | None:
        """Write it down."""
        return await self._sagas.begin(action, context)

    def done(self, one: CompletedAction) -> None:
        """Note what it has returned."""
        assert one.row is not None
        self._sagas.done(one.row, one.value)

    async def undone(self, one: CompletedAction) -> None:
        """Write it down."""
        assert one.row is not None
        await self._sagas.undone(one.row)

    def not_undone(self, one: CompletedAction, error: BaseException) -> None:
        """Have it undone later, unless only that could not be written down."""
        assert one.row is not None
        if one.row in self._sagas.steps:
            self._park(one.row, told(error))


def buried(server: AgentServer, step: KeptStep) -> Effect:
    """Return a step that could not be undone as an effect: to be tried again, or given up."""
    source, cause = step.signal.source, step.signal.id
    origin = msgspec.structs.replace(server.kept_origin(source, cause), run=step.run)
    token = origin.token("c", step.place)
    data = msgspec.to_builtins(step, builtin_types=(bytes,))
    return Effect(token, COMPENSATION, server.runtime.clock.wall_time(), source, cause, data=data)


def told(error: BaseException) -> str:
    """Return an error as text."""
    return f"{type(error).__name__}: {error}"


def step_of(effect: Effect) -> KeptStep:
    """Return the step that could not be undone."""
    return msgspec.convert(effect.data, KeptStep)


def _row(id: str, step: KeptStep) -> StoredRow:
    return StoredRow(STEP, id, encoded(step, "step", id, KeptStep), 0)
