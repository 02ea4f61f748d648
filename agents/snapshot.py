"""Snapshots: how far an agent is, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from agents.agent import Agent

#: ``idle``: nothing has been asked of it, or it is ready for more. ``running`` and ``waiting``: it is not done.
Status = Literal["idle", "running", "waiting", "completed", "failed"]


class Completion(msgspec.Struct, frozen=True):
    """Where an agent's state says that it is done: a convention, to which all have to keep who want to be awaited.

    Attributes:
        status: the field that is ``"completed"`` or ``"failed"`` then.
        result: the field with the result.
        error: the field with what went wrong.
    """

    status: str = "status"
    result: str = "result"
    error: str = "error"


class Snapshot(msgspec.Struct, frozen=True):
    """How far an agent is.

    Attributes:
        status: in one word.
        done: whether it is ``completed`` or ``failed``.
        result: what came of it, or what went wrong.
        details: more, from its strategy.
    """

    status: str = "idle"
    done: bool = False
    result: Any = None
    details: Mapping[str, Any] = {}


def snapshot_of(agent: Agent[Any], completion: Completion = Completion()) -> Snapshot:  # noqa: B008 - frozen
    """Return how far an agent is, by the fields of its state, or else by what its strategy says.

    >>> from agents import Agent
    >>> class Job(msgspec.Struct, frozen=True):
    ...     status: str = "running"
    ...     result: str | None = None
    >>> snapshot_of(Agent(id="a", type="job", state=Job("completed", "done!")))
    Snapshot(status='completed', done=True, result='done!', details={})
    """
    state, machine = agent.state, agent.slices.get("steps") or agent.slices.get("strategy")
    status = getattr(state, completion.status, None)
    details = {} if machine is None else machine.details()
    if status in ("completed", "failed"):
        field = completion.result if status == "completed" else completion.error
        return Snapshot(status, True, getattr(state, field, None), details)
    if isinstance(status, str):
        return Snapshot(status, False, None, details)
    return Snapshot("idle" if machine is None else machine.word(), False, None, details)
