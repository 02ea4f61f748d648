"""Import paths: from ``package.module:attribute`` to the thing itself, or to one line that says why not."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from foundation.tree.errors import did_you_mean
from foundation.tree.optional import missing_dependency


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

    Raises:
        BadImport: it cannot.
    """
    try:
        signature = inspect.signature(start)
    except (TypeError, ValueError):  # some functions written in C do not say what they take
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise BadImport(f"it takes {signature}: {error}") from None
