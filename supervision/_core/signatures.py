"""What signatures promise: which arguments fit, and which answers.

Arguments are checked without calling anything, so that a wrong specification is refused where it is made. Answers are
compared with the type that a request promises, when a class is defined.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from inspect import CO_COROUTINE, Signature, isfunction
from types import FunctionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

from supervision.messages import Request, describe


class AcceptedArguments:
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

    def argument_error(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], whole: bool) -> str | None:
        """Return why it cannot be called with these, or None. With whole=False, required arguments may be missing."""
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


def argument_error(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], whole: bool
) -> str | None:
    """Return why a class or a function cannot be called with these, or None. See `AcceptedArguments`."""
    behaviour = getattr(function, "__behaviour__", None) if isinstance(function, type) else None
    if behaviour is None:
        return AcceptedArguments(function).argument_error(args, kwargs, whole)
    known: AcceptedArguments | None = behaviour.takes
    if known is None or known.function is not function.__init__:  # as it is now
        known = behaviour.takes = _of_class(function)
    if not kwargs and known.least <= len(args) <= known.most:
        return None
    return known.argument_error(args, kwargs, whole)


def _of_class(kind: Any) -> AcceptedArguments:
    init = kind.__init__
    if init is not object.__init__:
        return AcceptedArguments(init, bound=True)
    takes = AcceptedArguments(_nothing)
    takes.function = init
    return takes


def _nothing() -> None:
    """Take nothing, as a class without ``__init__`` does."""


#: What may stand for what, though neither is a subclass of the other (PEP 484).
_PROMOTED: dict[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}


def reply_annotation(kind: type) -> Any:
    """Return what a type of request promises: the ``int`` of ``Request[int]``; `Any` if that is not said.

    >>> from supervision.messages import Request
    >>> class Get(Request[int]): ...
    >>> class GetAgain(Get): ...
    >>> reply_annotation(Get), reply_annotation(GetAgain), reply_annotation(Request)
    (<class 'int'>, <class 'int'>, typing.Any)
    """
    return _promised(kind, {})


def _promised(kind: type, known: dict[Any, Any]) -> Any:
    for base in getattr(kind, "__orig_bases__", ()) if "__orig_bases__" in vars(kind) else kind.__bases__:
        origin = get_origin(base) or base
        if not isinstance(origin, type) or not issubclass(origin, Request):
            continue
        args = tuple(_filled(arg, known) for arg in get_args(base))
        if origin is Request:
            return args[0] if args else Any
        return _promised(origin, dict(zip(getattr(origin, "__parameters__", ()), args, strict=False)))
    return Any


def _filled(annotation: Any, known: dict[Any, Any]) -> Any:
    """Return an annotation with what is known in the place of type variables."""
    if isinstance(annotation, TypeVar):
        return known.get(annotation, annotation)
    variables = getattr(annotation, "__parameters__", ())
    return annotation[tuple(known.get(each, each) for each in variables)] if variables else annotation


def is_compatible(returned: Any, promised: Any) -> bool:
    """Is a handler's return annotation compatible with its request's reply type, as far as can be known?

    >>> [
    ...     is_compatible(int, int),
    ...     is_compatible(bool, int),
    ...     is_compatible(int, float),
    ...     is_compatible(None, int),
    ...     is_compatible(object, int),
    ... ]
    [True, True, True, True, True]
    >>> [is_compatible(str, int), is_compatible(list[str], list[int]), is_compatible(str | None, int | None)]
    [False, False, False]
    """
    answers = [each for each in _members(returned) if each not in (None, types.NoneType)]
    return not answers or any(_one_can_be(each, wanted) for each in answers for wanted in _members(promised))


def _members(annotation: Any) -> Iterator[Any]:
    """Return the members of a union, without what only type checkers need."""
    origin = get_origin(annotation)
    if origin is Union or origin is types.UnionType:
        for member in get_args(annotation):
            yield from _members(member)
    elif origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin is Literal:
        yield from {type(value) for value in get_args(annotation)}
    elif is_typeddict(annotation):
        yield dict
    elif hasattr(annotation, "__value__"):  # a type alias
        yield from _members(annotation.__value__)
    elif hasattr(annotation, "__supertype__"):  # a NewType
        yield from _members(annotation.__supertype__)
    else:
        yield annotation


def _one_can_be(returned: Any, promised: Any) -> bool:
    kind, wanted = get_origin(returned) or returned, get_origin(promised) or promised
    if Any in (kind, wanted) or not isinstance(kind, type) or not isinstance(wanted, type):
        return True
    if issubclass(kind, Awaitable):
        return not get_args(returned) or is_compatible(get_args(returned)[-1], promised)
    if not (_related(kind, wanted) or kind in _PROMOTED.get(wanted, ())):
        return False
    if kind is not wanted or len(get_args(returned)) != len(get_args(promised)):
        return True
    return all(is_compatible(*pair) for pair in zip(get_args(returned), get_args(promised), strict=True))


def _related(kind: type, wanted: type) -> bool:
    try:
        return issubclass(kind, wanted) or issubclass(wanted, kind)
    except TypeError:  # a protocol that cannot be looked for
        return True


def returns_nothing(function: Any) -> bool:
    """Whether this is an ``async def`` whose every ``return`` returns None, as can be seen in its code.

    >>> async def silent() -> None: ...
    >>> async def loud() -> int:
    ...     return 7
    >>> returns_nothing(silent), returns_nothing(loud)
    (True, False)
    """
    if not isfunction(function) or not function.__code__.co_flags & CO_COROUTINE:
        return False
    before = None
    for step in dis.get_instructions(function):
        none = before is not None and before.opname == "LOAD_CONST" and before.argval is None
        loud = step.opname == "RETURN_VALUE" and (step.is_jump_target or not none)
        if loud or (step.opname == "RETURN_CONST" and step.argval is not None):
            return False
        before = step
    return True
