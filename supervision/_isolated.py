"""The choice of the class that is started for an isolated actor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from supervision.actor import Actor

#: Where the handlers of an actor run: in the loop; in threads, if they are plain; in a process of their own.
Isolation = Literal["none", "thread", "process"]


def isolated(
    kind: Any, isolation: Isolation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[type[Actor], tuple[Any, ...], Mapping[str, Any]]:
    """Return the class, and its arguments, with which an actor is started that is to be isolated in some way."""
    if isolation == "process":
        from supervision.isolation.process import stand_in

        return stand_in(kind), (args, kwargs), {}
    return (kind if kind.__behaviour__.isolation == isolation else _variant(kind, isolation)), args, kwargs


@cache
def _variant(kind: Any, isolation: Isolation) -> type[Actor]:
    """Return a class like another one, but isolated otherwise."""
    attributes = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__slots__": (),
        "isolation": isolation,
        "isolated_from": kind,
    }
    return type(kind.__name__, (kind,), attributes)
