"""Work: what an agent can be told to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

from agents.action import Action
from agents.errors import BadPlan

if TYPE_CHECKING:
    from agents.execution import Run


class Composite(ABC):
    """The base of what is made of actions. To a command it is one action: only its result changes the agent.

    Between its parts flow data: each part gets, as its parameters, the fields that it knows of what came before.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def parts(self) -> tuple[ActionLike, ...]:
        """What it is made of."""

    @abstractmethod
    async def perform(self, run: Run, data: Any) -> Any:
        """Run the parts, and return the result."""

    def __repr__(self) -> str:
        """Show the parts."""
        return f"{type(self).__name__}({', '.join(_shown(part) for part in self.parts)})"


#: An action with its parameters; or its class, with their defaults; or a chain, branch, parallel or plan; or a pair of
#: a class or one of those, and the parameters as data.
ActionLike: TypeAlias = Action[Any] | type[Action[Any]] | Composite | tuple[type[Action[Any]] | Composite, Any]


def waits(item: ActionLike) -> bool:
    """Return whether this may have to wait for something, so that it needs a loop."""
    what = item[0] if isinstance(item, tuple) else item
    if isinstance(what, Composite):
        return any(waits(part) for part in what.parts)
    return not what.is_plain


def is_work(item: object) -> bool:
    """Return whether this is something that an agent can be told to do."""
    what = item[0] if isinstance(item, tuple) and len(item) == 2 else item
    return isinstance(what, (Action, Composite)) or (isinstance(what, type) and issubclass(what, Action))


def check_work(where: str, *items: object) -> None:
    """Check that these are parts, at least one.

    Raises:
        BadPlan: one is not, or there is none.
    """
    for item in items or (None,):
        if not is_work(item):
            raise BadPlan(where, item, "give an action, its class, a composition, or a pair of one and parameters")


def _shown(item: ActionLike) -> str:
    if isinstance(item, tuple):
        return f"({_shown(item[0])}, {item[1]!r})"
    return item.__name__ if isinstance(item, type) else repr(item)
