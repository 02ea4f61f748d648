"""What can be awaited of the platform's services, and what can be sent to them: found by looking at the modules."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from foundation import cache, coordination, dead_letters, protection, registry, resources, store
from supervision import Actor, Message, Request, Supervisor

MODULES: tuple[ModuleType, ...] = (store, registry, coordination, protection, resources, cache, dead_letters)
#: What an annotation begins with if what is returned can be awaited.
AWAITABLE = ("Call[", "Awaitable[", "Coroutine[", "asyncio.Future[")


def public(module: ModuleType) -> Iterator[Any]:
    """Return the classes and functions that a module offers."""
    for name, found in vars(module).items():
        if not name.startswith("_") and getattr(found, "__module__", "").startswith(module.__name__):
            yield found


def is_awaitable(function: Any) -> bool:
    """Tell whether calling a function leads to an await."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    if getattr(function, "__isabstractmethod__", False):
        return False
    returned = str(getattr(function, "__annotations__", {}).get("return", ""))
    return (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) or returned.startswith(AWAITABLE)
    )


def awaitables() -> set[str]:
    """Return the names of all that can be awaited: ``Class.method`` by the class that defines it, or ``function``."""
    found = set()
    for module in MODULES:
        for one in public(module):
            if inspect.isclass(one) and not issubclass(one, (Actor, BaseException)):
                found |= {
                    f"{owner.__name__}.{name}"
                    for owner in one.__mro__
                    if owner.__module__.startswith("foundation.")
                    for name, method in vars(owner).items()
                    if (not name.startswith("_") or name in ("__aenter__", "__aexit__", "__anext__", "__await__"))
                    and is_awaitable(method)
                }
            elif inspect.isfunction(one) and is_awaitable(one):
                found.add(one.__name__)
    return found


def services() -> set[type[Actor]]:
    """Return the actors of the platform."""
    return {
        one
        for module in MODULES
        for one in public(module)
        if inspect.isclass(one) and issubclass(one, Actor) and not issubclass(one, Supervisor)
    }


def messages(service: type[Actor]) -> set[type]:
    """Return what can be sent to an actor by anybody: not what it tells itself, or its own parts tell it."""
    return {
        kind
        for table in service.__behaviour__.tables.values()
        for kind in table
        if issubclass(kind, (Message, Request))
        and kind.__module__.startswith("foundation.")
        and not (kind.__doc__ or "").startswith("To ")
    }
