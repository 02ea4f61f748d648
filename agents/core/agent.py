"""Agents as values: state and slices, the parent, and how far an agent is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

import msgspec

from agents.core.structs import checked, encoded_names, patched, refuse_unknown
from agents.errors import BadState
from supervision import Ref
from supervision.messages import FrozenMeta

S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)


class Agent(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True, kw_only=True):
    """An agent: an immutable value. It has no task and no mailbox; `AgentServer` gives it one.

    Attributes:
        id: distinguishes it from other agents.
        type: the name of its type.
        state: what it knows.
        version: how many commands have changed it.
        slices: what plugins and its strategy know about it, by key, beside the state.
        partition: keeps the agents of tenants apart; the empty one is a partition too.
        parent: whose child it is; never saved in a checkpoint.
    """

    id: str
    type: str
    state: S_co
    version: int = 0
    slices: Mapping[str, Any] = {}
    partition: str = ""
    parent: Parent | None = None

    def set(self, patch: Mapping[str, Any]) -> Agent[S_co]:
        """Return the agent with a part of its state changed: mappings are merged at any depth, the rest is replaced.

        Args:
            patch: new values by the name of the field.

        Raises:
            BadState: the state has no such field, or the value does not fit it.
        """
        try:
            return msgspec.structs.replace(self, state=patched(self.state, patch, merge=True))
        except msgspec.ValidationError as error:
            raise BadState(type(self.state).__name__, str(error)) from None

    def with_slice(self, key: str, value: Any) -> Agent[S_co]:
        """Return the agent with another slice under a key."""
        return msgspec.structs.replace(self, slices={**self.slices, key: value})

    def with_version_after(self, before: Agent[Any]) -> Agent[S_co]:
        """Return the agent with the next version number, if it has changed since before a command.

        Hooks and strategies do not count versions: what they have changed is a commit like any other.
        """
        if self.version != before.version or self == before:
            return self
        return msgspec.structs.replace(self, version=before.version + 1)

    def progress(self) -> AgentProgress:
        """Return the agent's progress, as its state or its strategy says."""
        return progress_of(self)


class Parent(msgspec.Struct, frozen=True):
    """The agent whose child an agent is.

    Attributes:
        ref: its server.
        id: of the parent.
        tag: under which it knows the child.
        meta: what was noted when the child was started or adopted.
    """

    ref: Ref
    id: str
    tag: str
    meta: Any = None


def first_state(kind: type[Any], state: Any, *, strict: bool = True) -> Any:
    """Return a checked state of a type.

    Args:
        kind: of the state.
        state: one, or some of its fields, the others have their defaults.
        strict: whether fields that it does not have are an error; else they are dropped.

    Raises:
        BadState: it does not fit.
    """
    try:
        if isinstance(state, Mapping):
            state = encoded_names(kind, state)
            if strict:
                refuse_unknown(kind, state)
        return checked(kind, {} if state is None else state)
    except msgspec.ValidationError as error:
        raise BadState(kind.__name__, str(error)) from None


#: ``idle``: nothing was asked of the agent, or it is ready for more. ``running`` and ``waiting``: it is not done.
ProgressStatus = Literal["idle", "running", "waiting", "completed", "failed"]


class Completion(msgspec.Struct, frozen=True):
    """Where an agent's state says that it is done: agents that are awaited must follow this convention.

    Attributes:
        status: the field that is ``"completed"`` or ``"failed"`` then.
        result: the field with the result.
        error: the field with what went wrong.
    """

    status: str = "status"
    result: str = "result"
    error: str = "error"


class AgentProgress(msgspec.Struct, frozen=True):
    """How far an agent is.

    Attributes:
        status: in one word.
        done: whether it is ``completed`` or ``failed``.
        result: its result, or what went wrong.
        details: more, from its strategy.
    """

    status: str = "idle"
    done: bool = False
    result: Any = None
    details: Mapping[str, Any] = {}


def progress_of(agent: Agent[Any], completion: Completion = Completion()) -> AgentProgress:  # noqa: B008 - frozen
    """Return how far an agent is, by the fields of its state, or else by what its strategy says.

    >>> from agents import Agent
    >>> class Job(msgspec.Struct, frozen=True):
    ...     status: str = "running"
    ...     result: str | None = None
    >>> progress_of(Agent(id="a", type="job", state=Job("completed", "done!")))
    AgentProgress(status='completed', done=True, result='done!', details={})
    """
    state, machine = agent.state, agent.slices.get("steps") or agent.slices.get("strategy")
    status = getattr(state, completion.status, None)
    details = {} if machine is None else machine.details()
    if status in ("completed", "failed"):
        field = completion.result if status == "completed" else completion.error
        return AgentProgress(status, True, getattr(state, field, None), details)
    if isinstance(status, str):
        return AgentProgress(status, False, None, details)
    return AgentProgress("idle" if machine is None else machine.status(), False, None, details)
