"""Agents as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from agents.errors import BadState
from agents.parent import Parent
from agents.snapshot import Snapshot, snapshot_of
from agents.typed import checked, patched, refuse_unknown
from supervision.messages import FrozenMeta

S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)


class Agent(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True, kw_only=True):
    """An agent: an immutable value. It has no task and no mailbox; `AgentServer` gives it one.

    Attributes:
        id: tells it from other agents.
        type: the name of its type.
        state: what it knows.
        version: how many commands have changed it.
        slices: what plugins and its strategy know about it, by key, beside the state.
        partition: keeps the agents of tenants apart; the empty one is a partition too.
        parent: whose child it is; never kept in a checkpoint.
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
            BadState: the state has no such field, or not with such a value.
        """
        try:
            return msgspec.structs.replace(self, state=patched(self.state, patch, merge=True))
        except msgspec.ValidationError as error:
            raise BadState(type(self.state).__name__, str(error)) from None

    def with_slice(self, key: str, value: Any) -> Agent[S_co]:
        """Return the agent with another slice under a key."""
        return msgspec.structs.replace(self, slices={**self.slices, key: value})

    def counted_from(self, before: Agent[Any]) -> Agent[S_co]:
        """Return the agent with a version of its own, if it differs from what it was before a command.

        Hooks and strategies need not count: what they have changed is a commit as any other.
        """
        if self.version != before.version or self == before:
            return self
        return msgspec.structs.replace(self, version=before.version + 1)

    def snapshot(self) -> Snapshot:
        """Tell how far it is, by what its state says; see `Snapshot`."""
        return snapshot_of(self)


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
            names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
            state = {names.get(name, name): value for name, value in state.items()}
            if strict:
                refuse_unknown(kind, state)
        return checked(kind, {} if state is None else state)
    except msgspec.ValidationError as error:
        raise BadState(kind.__name__, str(error)) from None
