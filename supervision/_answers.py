"""Whether what a handler says that it returns can be the answer that its request promises.

Only what cannot be right is refused. What cannot be known (a type variable, a protocol, a name that only type checkers
see) may be right; so may None, as a handler may answer later, and anything that is awaited first.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Iterator
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

from supervision.messages import Request

#: What may stand for what, though neither is a subclass of the other (PEP 484).
_PROMOTED: dict[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}


def promise(kind: type) -> Any:
    """Return what a type of request promises: the ``int`` of ``Request[int]``; `Any` if that is not said.

    >>> from supervision.messages import Request
    >>> class Get(Request[int]): ...
    >>> class GetAgain(Get): ...
    >>> promise(Get), promise(GetAgain), promise(Request)
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


def can_be(returned: Any, promised: Any) -> bool:
    """Whether something of a type may be of another one, as far as can be known.

    >>> [can_be(int, int), can_be(bool, int), can_be(int, float), can_be(None, int), can_be(object, int)]
    [True, True, True, True, True]
    >>> [can_be(str, int), can_be(list[str], list[int]), can_be(str | None, int | None)]
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
        return not get_args(returned) or can_be(get_args(returned)[-1], promised)
    if not (_related(kind, wanted) or kind in _PROMOTED.get(wanted, ())):
        return False
    if kind is not wanted or len(get_args(returned)) != len(get_args(promised)):
        return True
    return all(can_be(*pair) for pair in zip(get_args(returned), get_args(promised), strict=True))


def _related(kind: type, wanted: type) -> bool:
    try:
        return issubclass(kind, wanted) or issubclass(wanted, kind)
    except TypeError:  # a protocol that cannot be looked for
        return True
