"""Import paths: from ``package.module:attribute`` to the thing itself, or to one line that says why not."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from foundation.tree.errors import did_you_mean
from foundation.tree.optional import MissingDependency, missing_dependency


class BadImport(ValueError):
    """An import path leads nowhere, or to the wrong kind of thing. The message is the remedy."""


def resolve(path: str) -> Any:
    """Return what an import path names.

    Args:
        path: ``package.module:attribute``; the attribute may have dots.

    Raises:
        BadImport: the path is malformed, importing the module fails, or it has no such attribute.
        MissingDependency: the module, or one that it imports, is not installed.
    """
    module, colon, attribute = path.partition(":")
    if not (colon and module and attribute):
        raise BadImport("write package.module:attribute")
    found = _import(module)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise BadImport(f"{module} has no {attribute}{did_you_mean(name, dir(found))}")
        found = getattr(found, name)
    return found


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        part = missing_dependency(error)
        if part is not None:
            raise part from error
        raise BadImport(f"{module} cannot be imported: {type(error).__name__}: {error}") from error


def call(path: str) -> Any:
    """Call the function that an import path names, without arguments, and return what it returns.

    Raises:
        BadImport: it is no function, or it raised.
        MissingDependency: it said that something is missing.
    """
    function = resolve(path)
    if not callable(function):
        raise BadImport(f"this is no function but {function!r}")
    try:
        return function()
    except Exception as error:
        part = missing_dependency(error)
        if part is not None:
            raise part from error
        raise BadImport(f"it raised {type(error).__name__}: {error}") from error


def check_arguments(start: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Make sure that something can be called with these arguments.

    A class that knows more of them than how many there are has a class method ``check_arguments``, which takes the same
    ones, and raises what is wrong. A class derived from it that takes others is asked if it has a method of its own.

    Raises:
        BadImport: it cannot.
    """
    try:
        signature = inspect.signature(start)
    except (TypeError, ValueError):  # some functions written in C do not say what they take
        return
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise BadImport(f"it takes {signature}: {error}") from None
    check = _class_method(start, "check_arguments")
    if check is not None:
        try:
            check(*bound.args, **bound.kwargs)
        except MissingDependency:
            raise
        except Exception as error:  # also of code that the arguments name
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise BadImport(f"{kind}{error}") from error


def argument_warnings(start: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """Return what may keep something from its work later on, although it can be started with these arguments.

    A class that knows of such things has a class method ``argument_warnings``, which takes the same ones.
    """
    known = _class_method(start, "argument_warnings")
    if known is None:
        return []
    bound = inspect.signature(start).bind(*args, **kwargs)
    return list(known(*bound.args, **bound.kwargs))


def _class_method(start: Any, name: str) -> Any:
    """Return a method of a class that takes the arguments with which instances are made; None if it has none."""
    for kind in getattr(start, "__mro__", ()):
        if name in vars(kind):
            return getattr(start, name)
        if "__init__" in vars(kind):
            return None
    return None
