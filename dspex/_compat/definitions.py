"""What a signature that was made at run time consists of, so that a change of it is seen without pickling all of it.

A plain one has nothing but fields and instructions: DSPy makes these of strings, and optimisers of others. It consists
of objects that do not change, and so is what it was as long as they are the same objects.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterable, Mapping
from operator import attrgetter, is_
from typing import Any

import dspy
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

State = list[Any]

_META = type(dspy.Signature)
#: Attributes of a field that are looked into, and those that are taken as they are.
_INNER = ("json_schema_extra", "metadata", "_attributes_set")
_attributes = attrgetter(*(name for name in FieldInfo.__slots__ if name not in _INNER))
#: What Python and Pydantic put into such a class; one with more in it is not plain.
_KEYS = frozenset(vars(dspy.make_signature("a -> b"))) | {
    *(
        "__qualname__",
        "__parameters__",
        "__firstlineno__",
        "__static_attributes__",
        "__annotate__",
        "__annotate_func__",
    ),
    *("__annotations_cache__", "__pydantic_parent_namespace__"),
}
#: Those of them in which Pydantic and Python keep what they have found out.
_LAZY = ("__pydantic_setattr_handlers__", "__signature__", "_abc_impl")
_UNCHANGING = (
    *(str, int, float, bool, bytes, complex, type(None), type, enum.Enum, type(PydanticUndefined)),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID),
)
_PLAIN = {str, bool, int, float, type(None), type(PydanticUndefined)}


def signature_state(kind: type) -> State | None:
    """Return what a signature consists of; None if it is not plain, or none.

    Args:
        kind: any class.
    """
    if type(kind) is not _META or kind.__bases__ != (dspy.Signature,):
        return None
    found = dict(vars(kind))
    if not found.keys() <= _KEYS:
        return None
    for key in _LAZY:
        found.pop(key, None)
    fields: Mapping[str, FieldInfo] = found["__pydantic_fields__"]
    state = [kind.__name__, kind.__qualname__, *found, *found.values(), *found["__annotations__"].values(), *fields]
    looked_into: list[Any] = [found["__doc__"], *found["model_config"].values()]
    for field in fields.values():
        extra: Any = field.json_schema_extra
        if type(extra) is not dict:
            return None
        state += _attributes(field)
        state += extra
        looked_into += (field.default, *extra.values(), *field.metadata)
    return [*state, *looked_into] if _unchanging(looked_into) else None


def same_state(before: State | None, now: State | None) -> bool:
    """Return whether a signature is what it was."""
    return before is not None and now is not None and len(before) == len(now) and all(map(is_, before, now))


def _unchanging(values: Iterable[Any]) -> bool:
    kinds = set(map(type, values))
    return kinds <= _PLAIN or all(issubclass(kind, _UNCHANGING) or _frozen(kind) for kind in kinds)


def _frozen(kind: type) -> bool:
    params = getattr(kind, "__dataclass_params__", None)
    return params is not None and params.frozen is True
