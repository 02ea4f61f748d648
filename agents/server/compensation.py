"""Compensations of a durable agent: what an earlier incarnation has begun is undone beside the agent's server.

Each is tried in an actor of its own, for as long as its action says (`Attempts.undo_timeout`). One that never ends is
killed there, and holds up nothing of the agent.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.action import Action, Context
from agents.core.failures import awaited, raise_end
from agents.server.sagas import CutShort, KeptStep, told
from supervision import Actor, CallTimeout, Message, Ref, Request, handle, resume_context

if TYPE_CHECKING:
    from agents.server.server import AgentServer


class _Undo(Request["str | None"], frozen=True):
    """Undo it; the answer is what went wrong, or None."""


class CompensationTask(Actor):
    """Undoes one step, and ends; or ends with its owner.

    Args:
        owner: the agent's server.
        work: what undoes it.
    """

    def __init__(self, owner: Ref, work: Callable[[], Awaitable[None]]) -> None:
        self._owner = owner
        self._work = work

    def init(self) -> None:
        """End with the owner."""
        self.link(self._owner)

    @handle
    async def undo(self, request: _Undo) -> str | None:
        """Undo it, and end."""
        why = None
        try:
            await self._work()
        except BaseException as error:
            raise_end(error, self.ref)
            why = told(error)
        self.unlink(self._owner)
        self.stop()
        return why


class Undoing:
    """One try to undo a step.

    Args:
        server: of the agent.
        step: what is to be undone.

    Attributes:
        over: the answer to it.

    Raises:
        Exception: its action cannot be found or made any more.
    """

    def __init__(self, server: AgentServer, step: KeptStep) -> None:
        kind: type[Action[Any]] = resolve_name(step.path)
        action = msgspec.convert(step.params, kind)
        self._server = server
        self._limit = kind.attempts.undo_timeout
        self._task = server.runtime.spawn_nowait(CompensationTask, server.ref, _compensation(server, step, action))
        server.tasks.add(self._task)
        self.over = self._task.call(_Undo(), self._limit)

    def end(self) -> str | None:
        """Return why it was not undone, when that is known; None if it was. What takes too long is killed."""
        error = self.over.exception()
        if error is None:
            return self.over.result()
        self._server.unlink(self._task)
        self._task.kill()
        return f"it takes longer than {self._limit:g} s" if isinstance(error, CallTimeout) else told(error)


class UndoingOver(Message, frozen=True):
    """A try to undo a step beside the turns is over.

    Attributes:
        id: as which the step is kept.
        undoing: the try.
    """

    id: str
    undoing: Undoing


def _compensation(server: AgentServer, step: KeptStep, action: Action[Any]) -> Callable[[], Awaitable[None]]:
    kind = type(action)
    try:
        value = msgspec.convert(step.value, kind.result_type)
    except msgspec.ValidationError:
        value = None
    agent = server.agent
    context: Context[Any] = Context(
        agent.state,
        agent.id,
        agent.type,
        step.signal,
        server.ref,
        agent.slices,
        agent.parent,
        partition=agent.partition,
        generation=server.kept_origin("", "").generation if step.generation is None else step.generation,
        run=step.run,
        place=step.place,
        undoing=True,
    )

    async def compensate() -> None:
        with resume_context(server.runtime, step.trace, server.ref, action):
            pending = action.compensate(context, value, CutShort("its server has died in the middle of the turn"))
            if inspect.isawaitable(pending):
                await awaited(pending)

    return compensate
