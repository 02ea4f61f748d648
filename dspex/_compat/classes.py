"""DSPy's classes whose instances cross a process, and the parts of signatures and annotations."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union

import dspy
import pydantic
from dspy import lm15
from dspy._vendor.lm15 import types as lm15_types
from dspy._vendor.lm15.serde import request_from_dict, request_to_dict
from dspy.adapters import types as dspy_types
from dspy.adapters.types import citation
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.clients.call_result import AttributeDict
from dspy.clients.engines.streaming import EngineChunk
from dspy.streaming.messages import StatusMessage, StreamResponse
from dspy.utils.callback import BaseCallback

_PARTS = (dspy.Module, dspy.Adapter, dspy.Example, dspy.Completions)
_BASIC = {kind.__name__: kind for kind in (str, int, float, bool, bytes, list, dict, tuple, set, object)}


def _data_classes() -> Iterable[type]:
    for module in (dspy, dspy_types, lm15):
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, (*_PARTS, Exception, pydantic.BaseModel)):
                yield found
    yield from (
        found for found in vars(lm15_types).values() if isinstance(found, type) and dataclasses.is_dataclass(found)
    )
    yield from (lm15.Adaptation, StatusMessage, StreamResponse, AttributeDict, EngineChunk)
    citations: Any = citation.Citations
    yield from (citations, citations.Citation)


#: DSPy's own classes of data, errors, modules and adapters, by their names.
DSPY_CLASSES: Mapping[str, type] = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in _data_classes() if kind.__module__.startswith("dspy")
}


def is_part(kind: type) -> bool:
    """Return whether instances of a class are DSPy's own objects, which consist of their attributes."""
    return issubclass(kind, _PARTS)


def is_module(value: Any) -> bool:
    """Return whether something is a program, or a part of one."""
    return isinstance(value, dspy.Module)


def is_shared(value: Any) -> bool:
    """Return whether something that a program has has to be the same object for observers of its calls, not a copy."""
    return isinstance(value, (dspy.Adapter, dspy.Tool))


def is_signature(value: Any) -> bool:
    """Return whether something is a signature."""
    return isinstance(value, type) and issubclass(value, dspy.Signature)


def declared_by(kind: type) -> Iterable[Any]:
    """Return the annotations that a class consists of: the fields of a signature or model, what ``forward`` returns."""
    if issubclass(kind, pydantic.BaseModel):
        return [field.annotation for field in kind.model_fields.values()]
    if issubclass(kind, dspy.Module):
        return [*getattr(kind, "raises", ()), *(_returned(kind, name) for name in ("forward", "aforward"))]
    return hints_of(kind).values() if dataclasses.is_dataclass(kind) else ()


def _returned(kind: type, name: str) -> Any:
    return hints_of(getattr(kind, name, None)).get("return")


def hints_of(of: Any) -> dict[str, Any]:
    """Return the annotations of a class or function; none if one cannot be resolved."""
    try:
        return typing.get_type_hints(of)
    except Exception:  # none, or one that cannot be resolved
        return {}


# -- signatures ------------------------------------------------------------------------------------------------------


def signature_parts(signature: Any) -> tuple[str, str, list[tuple[str, str, str, Any]]]:
    """Return the name of a signature, its instructions, and of each field the name, kind, description and type."""
    fields = [
        (
            name,
            field.json_schema_extra["__dspy_field_type"],
            str(field.json_schema_extra.get("desc", "")),
            field.annotation,
        )
        for name, field in signature.fields.items()
    ]
    return signature.__name__, signature.instructions, fields


def made_signature(name: str, instructions: str, fields: Iterable[tuple[str, str, str, Any]]) -> Any:
    """Return a signature of its parts."""
    made: dict[str, Any] = {}
    for field, kind, description, annotation in fields:
        place = dspy.InputField if kind == "input" else dspy.OutputField
        made[field] = (annotation, place(desc=description))
    make: Any = dspy.Signature
    return make(made, instructions, signature_name=name)


def annotation_parts(annotation: Any) -> tuple[str, list[Any]]:
    """Return what an annotation is, and of what it consists."""
    origin, arguments = typing.get_origin(annotation), list(typing.get_args(annotation))
    if origin is Literal:
        return "literal", arguments
    if origin in (Union, types.UnionType):
        return "union", arguments
    if origin in _BASIC.values() and arguments:
        return origin.__name__, arguments
    if annotation is None or annotation is types.NoneType:
        return "none", []
    return next((name for name, kind in _BASIC.items() if kind is annotation), "any"), []


def made_annotation(kind: str, arguments: list[Any]) -> Any:
    """Return an annotation of its parts; Any for what is none of Python's own."""
    if kind == "literal":
        return Literal[tuple(arguments)]
    if kind == "union":
        return Union[tuple(arguments)]  # noqa: UP007  # of as many as there are
    if kind == "none":
        return None
    found: Any = _BASIC.get(kind, Any)
    return found[tuple(arguments)] if arguments else found


# -- language models ---------------------------------------------------------------------------------------------------


def checked_request(request: Any, lm: Any) -> Any:
    """Return a request to a language model of this process, that another process has made.

    Raises:
        TypeError, ValueError: it is none, or asks for more than an answer to its messages: for another model, for a
            file of this process, or for another address or key.
    """
    if not isinstance(request, lm15.Request):
        raise TypeError("no request")
    plain = request_to_dict(request)
    made = request_from_dict(plain)
    if made.model != lm.model:
        raise ValueError(f"it asks for the model {made.model!r} and not for {lm.model!r}")
    _refuse_files(plain)
    taken = {key for key in _keys(plain.get("config", {}).get("extensions")) if key.lower() in CLIENT_KEYS}
    if taken:
        raise ValueError(f"it sets {', '.join(sorted(taken))}: addresses and keys are those of the caller's model")
    return made


def _refuse_files(plain: Any) -> None:
    parts = [part for message in plain["messages"] for part in message["parts"]]
    parts += plain.get("system") if isinstance(plain.get("system"), list) else []
    while parts:
        part = parts.pop()
        if "path" in part:
            raise ValueError(f"it names a file, {part['path']!r}: send what is in it")
        parts += part.get("content") or ()


def _keys(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _keys(inner)


#: What a callback may be told, and with what.
HANDLERS: Mapping[str, frozenset[str]] = {
    name: frozenset(
        BaseCallback.__dict__[name].__code__.co_varnames[1 : BaseCallback.__dict__[name].__code__.co_argcount]
    )
    for name in vars(BaseCallback)
    if name.startswith("on_")
}
