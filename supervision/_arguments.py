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

    __slots__ = ("_called", "_signature", "function", "least", "most")

    def __init__(self, function: Callable[..., Any], *, bound: bool = False) -> None:
        self.function = function
        self._called = partial(function, None) if bound else function
        self._signature: Signature | None = None
        #: With so many arguments, and no keywords, it can be called for certain; with none if the most is less.
        self.least, self.most = 0, -1
        if isinstance(function, FunctionType) and not function.__code__.co_kwonlyargcount:
            self.most = function.__code__.co_argcount - bound
            self.least = self.most - len(function.__defaults__ or ())

    def misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], whole: bool) -> str | None:
        """Return why it cannot be called with these, or None. Unless they are the ``whole``, some may be missing."""
        if not kwargs and self.least <= len(args) <= self.most:
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


def misfit(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], whole: bool) -> str | None:
    """Return why a class or a function cannot be called with these, or None. See `Takes.misfit`."""
    behaviour = getattr(function, "__behaviour__", None) if isinstance(function, type) else None
    if behaviour is None:
        return Takes(function).misfit(args, kwargs, whole)
    known: Takes | None = behaviour.takes
    if known is None or known.function is not function.__init__:  # as it is now
        known = behaviour.takes = _of_class(function)
    if not kwargs and known.least <= len(args) <= known.most:
        return None
    return known.misfit(args, kwargs, whole)


def _of_class(kind: Any) -> Takes:
    init = kind.__init__
    if init is not object.__init__:
        return Takes(init, bound=True)
    takes = Takes(_nothing)
    takes.function = init
    return takes


def _nothing() -> None:
    """Take nothing, as a class without ``__init__`` does."""
