"""Whether arguments fit what they are for, known before it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Signature
from types import FunctionType
from typing import Any

from supervision.messages import describe


class Takes:
    """What a function can be called with; anything, if that cannot be known.

    Args:
        function: which one.
        bound: whether its first argument is given already, as that of a method is.
    """

    __slots__ = ("_called", "_least", "_most", "_signature", "function")

    def __init__(self, function: Callable[..., Any], *, bound: bool = False) -> None:
        self.function = function
        self._called = partial(function, None) if bound else function
        self._signature: Signature | None = None
        #: With so many arguments, and no keywords, it can be called for certain; with none if the most is less.
        self._least, self._most = 0, -1
        if isinstance(function, FunctionType) and not function.__code__.co_kwonlyargcount:
            self._most = function.__code__.co_argcount - bound
            self._least = self._most - len(function.__defaults__ or ())

    def misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], whole: bool) -> str | None:
        """Return why it cannot be called with these, or None. Unless they are the ``whole``, some may be missing."""
        if not kwargs and self._least <= len(args) <= self._most:
            return None
        try:
            # As it is, and not as what it wraps.
            signature = self._signature or inspect.signature(self._called, follow_wrapped=False)
        except (TypeError, ValueError):
            return None
        self._signature = signature
        try:
            (signature.bind if whole else signature.bind_partial)(*args, **kwargs)
        except TypeError as error:
            return f"it takes {describe(signature, form=str)}: {error}"
        return None


def _nothing() -> None:
    """Take nothing, as a class without ``__init__`` does."""


NOTHING = Takes(_nothing)


def takes(function: Callable[..., Any]) -> Takes:
    """Return what a function, or a class, takes; of an actor's class, it is remembered."""
    behaviour = getattr(function, "__behaviour__", None) if isinstance(function, type) else None
    if behaviour is None:
        return Takes(function)
    init: Any = function.__init__
    if init is object.__init__:
        return NOTHING
    known: Takes | None = behaviour.takes
    if known is None or known.function is not init:  # somebody may have put another one in its place
        known = behaviour.takes = Takes(init, bound=True)
    return known
