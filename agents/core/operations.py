"""Operations: changes of an agent's state or slices that the result of an action cannot express.

An action's result changes the state first, then its operations do, in order. A state is a struct: a path leads through
its fields, and from a field that is a mapping on by keys.

>>> class Config(msgspec.Struct, frozen=True):
...     counter: int = 0
...     config: dict[str, Any] = {}
>>> state = SetPath("config.database.host", "localhost").applied(Config(counter=5))
>>> state
Config(counter=5, config={'database': {'host': 'localhost'}})
>>> DeletePath("config.database.host").applied(state)
Config(counter=5, config={'database': {}})
>>> DeleteKeys(("counter", "config")).applied(state)
Config(counter=0, config={})
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agents.core.structs import checked, fields_of, made, patched
from agents.errors import BadState
from supervision.messages import FrozenMeta

if TYPE_CHECKING:
    from agents.core.agent import Agent

A = TypeVar("A", bound="Agent[Any]")


class Operation(msgspec.Struct, metaclass=FrozenMeta, frozen=True, tag_field="kind"):
    """The base of all operations on an agent. They are applied by the command; they do not appear in its result."""

    @abstractmethod
    def applied_to(self, agent: A) -> A:
        """Return the changed agent.

        Raises:
            BadState: the result is not of the declared type. Nothing has changed.
        """


class StateOperation(Operation, frozen=True):
    """The base of all operations on a state."""

    def applied_to(self, agent: A) -> A:
        """Return the agent with its state changed."""
        return msgspec.structs.replace(agent, state=self.applied(agent.state))

    def applied(self, state: Any) -> Any:
        """Return the changed state.

        Raises:
            BadState: the result is not of the declared type. Nothing has changed.
        """
        try:
            return self._change(state)
        except msgspec.ValidationError as error:
            raise BadState(type(state).__name__, str(error)) from None

    @abstractmethod
    def _change(self, state: Any) -> Any: ...


class SetState(StateOperation, frozen=True, tag="set_state"):
    """Merge a patch into the state: mappings are merged at any depth, anything else is replaced."""

    patch: Mapping[str, Any]

    def _change(self, state: Any) -> Any:
        return patched(state, self.patch, merge=True)


class ReplaceState(StateOperation, frozen=True, tag="replace_state"):
    """Put another state in the place of this one; fields that are not given have their defaults."""

    state: Any

    def _change(self, state: Any) -> Any:
        return checked(type(state), self.state)


class DeleteKeys(StateOperation, frozen=True, tag="delete_keys"):
    """Give fields their defaults again. Fields that the state does not have are ignored."""

    keys: tuple[str, ...]

    def _change(self, state: Any) -> Any:
        return made(type(state), {name: value for name, value in fields_of(state).items() if name not in self.keys})


class SetSlice(Operation, frozen=True, tag="set_slice"):
    """Merge a patch into what a plugin or a strategy knows about the agent, beside its state.

    Attributes:
        key: of the plugin, or ``"strategy"``.
        patch: new values by the name of the field.
    """

    key: str
    patch: Mapping[str, Any]

    def applied_to(self, agent: A) -> A:
        """Return the agent with the slice changed.

        Raises:
            BadState: there is no such slice, or the patch does not fit it. Nothing has changed.
        """
        if self.key not in agent.slices:
            raise BadState(self.key, f"there is no such slice; there are {sorted(agent.slices)}")
        try:
            changed = patched(agent.slices[self.key], self.patch, merge=True)
        except msgspec.ValidationError as error:
            raise BadState(self.key, str(error)) from None
        return agent.with_slice(self.key, changed)  # type: ignore[return-value]


class SetPath(StateOperation, frozen=True, tag="set_path"):
    """Set one value. Mappings that are missing on the way are made; what is beside them stays."""

    path: str
    value: Any

    def _change(self, state: Any) -> Any:
        first, *rest = self.path.split(".")
        value = _with(fields_of(state).get(first), rest, self.value)
        return patched(state, {first: value}, merge=False)


class DeletePath(StateOperation, frozen=True, tag="delete_path"):
    """Remove one key of a mapping, or give a field its default. What is missing is ignored."""

    path: str

    def _change(self, state: Any) -> Any:
        first, *rest = self.path.split(".")
        if not rest:
            return DeleteKeys((first,)).applied(state)
        if first not in type(state).__struct_fields__:
            return state
        return patched(state, {first: _without(getattr(state, first), rest)}, merge=False)


def _with(old: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    known = old if isinstance(old, Mapping) else {}
    return {**known, path[0]: _with(known.get(path[0]), path[1:], value)}


def _without(old: Any, path: list[str]) -> Any:
    if not isinstance(old, Mapping) or path[0] not in old:
        return old
    if len(path) == 1:
        return {key: value for key, value in old.items() if key != path[0]}
    return {**old, path[0]: _without(old[path[0]], path[1:])}
