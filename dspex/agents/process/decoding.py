"""Decodes what a program's process sends: data, of classes that its parent has declared.

These are Python's own plain ones; DSPy's; and those that the parent has sent itself, with the program and its
arguments, or that are named in its signatures. Nothing is imported, called or looked up because the process named it.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
import pydantic

from dspex._compat import DSPY_CLASSES, hints_of, is_part, made_annotation, made_signature
from dspex.agents.process.protocol import TEXTS, Unsent, ValueTag
from dspex.agents.process.serialization import OWN, NotSendable
from supervision.isolation import RemoteError
from supervision.isolation.decoding import BUILTIN_ERRORS, check, rebuilt
from supervision.messages import describe

_ERRORS: dict[Any, type[Exception]] = {kind.__name__: kind for kind in (*BUILTIN_ERRORS, *OWN)}
#: How many keys of a dict may be tuples, whose hashes can be chosen.
_TUPLE_KEYS = 1000


class Malformed(Exception):
    """The process has sent an invalid frame."""


class Decoding:
    """Reads what the process of a program says.

    Args:
        resolve: returns what a reference to something that has stayed here means.
        known: what was sent along as what is known here.
    """

    def __init__(self, resolve: Callable[[Any], Any], known: Sequence[Any]) -> None:
        self._resolve = resolve
        self._known = known
        self._readers: dict[Any, Callable[..., Any]] = {
            ValueTag.LIST: lambda *parts: [*map(self._value, parts)],
            ValueTag.TUPLE: lambda *parts: (*map(self._value, parts),),
            ValueTag.DICT: self._dict,
            ValueTag.SET: lambda *parts: {*self._few(parts)},
            ValueTag.FROZENSET: lambda *parts: frozenset(self._few(parts)),
            ValueTag.INT: lambda data: int.from_bytes(data, "big", signed=True),
            ValueTag.STR: lambda data: data.decode("utf-8", "surrogatepass"),
            ValueTag.TEXT: lambda name, text: TEXTS[name][2](text),
            ValueTag.ARRAY: _array,
            ValueTag.KEPT: lambda number: self._resolve(("kept", number)),
            ValueTag.MODULE: lambda path: self._resolve(("module", path)),
            ValueTag.KNOWN: self._of_known,
            ValueTag.CLASS: lambda name: DSPY_CLASSES[name],
            ValueTag.SIGNATURE: self._signature,
            ValueTag.ANNOTATION: self._annotation,
            ValueTag.OBJECT: self._object,
            ValueTag.MEMBER: self._member,
            ValueTag.ERROR: self._error,
            ValueTag.UNSENT: lambda kind, text: Unsent(*map(_checked_str, (kind, self._value(text)))),
        }

    def read(self, data: bytes) -> Any:
        """Return a value.

        Raises:
            NotSendable: it is not what its class says that it is.
            Malformed: it is no value.
        """
        try:
            check(msgspec.Raw(data))
            return self._value(msgspec.msgpack.decode(data))
        except NotSendable:
            raise
        except Exception as error:
            raise Malformed(describe(error, form=str)) from None

    def _value(self, written: Any) -> Any:
        if type(written) is not list:
            if type(written) in (dict, msgspec.msgpack.Ext):
                raise ValueError("no value")
            return written
        return self._readers[written[0]](*written[1:])

    def _dict(self, *parts: Any) -> dict[Any, Any]:
        keys = self._few(parts[::2])
        return dict(zip(keys, map(self._value, parts[1::2]), strict=True))

    def _few(self, parts: Sequence[Any]) -> list[Any]:
        found = [*map(self._value, parts)]
        if sum(not isinstance(each, (str, bytes, int, float, type(None))) for each in found) > _TUPLE_KEYS:
            raise NotSendable("a dict or set", f"more than {_TUPLE_KEYS} of its keys are no plain values")
        return found

    # -- classes -----------------------------------------------------------------------------------------------------

    def _of_known(self, number: int) -> Any:
        if type(number) is not int or number < 0:
            raise ValueError("no number")
        return self._known[number]

    def _class(self, written: int | str) -> type:
        found = DSPY_CLASSES[written] if isinstance(written, str) else self._of_known(written)
        if not isinstance(found, type):
            raise TypeError("no class")
        return found

    def _signature(self, name: str, instructions: str, fields: list[Any]) -> Any:
        said = _checked_str(self._value(name)), _checked_str(self._value(instructions))
        return made_signature(*said, [self._field(*field) for field in fields])

    def _field(self, name: Any, kind: Any, description: Any, annotation: Any) -> tuple[str, str, str, Any]:
        texts = [_checked_str(self._value(part)) for part in (name, kind, description)]
        return texts[0], texts[1], texts[2], self._value(annotation)

    def _annotation(self, kind: str, arguments: list[Any]) -> Any:
        return made_annotation(_checked_str(kind), [*map(self._value, arguments)])

    # -- objects -----------------------------------------------------------------------------------------------------

    def _member(self, kind: int | str, name: str) -> Any:
        found = self._class(kind)
        if not issubclass(found, enum.Enum):
            raise TypeError("no enum")
        return found[name] if "|" not in name else found(sum(found[part].value for part in name.split("|")))

    def _object(self, number: int | str, *parts: Any) -> Any:
        kind = self._class(number)
        if hasattr(kind, "__del__"):
            raise NotSendable(f"a {kind.__name__}", "it does something when it goes away")
        state = {_checked_str(self._value(name)): part for name, part in zip(parts[::2], parts[1::2], strict=True)}
        if issubclass(kind, pydantic.BaseModel):
            return self._model(kind, state)
        if dataclasses.is_dataclass(kind):
            return self._data(kind, {name: self._value(part) for name, part in state.items()})
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._named(kind, state)
        if issubclass(kind, dict):
            found: Any = dict.__new__(kind)
            found.update(self._value(state[""]))
            return found
        if is_part(kind):
            return _part(kind, {name: self._value(part) for name, part in state.items()})
        raise TypeError("no data")

    def _model(self, kind: type[pydantic.BaseModel], state: dict[str, Any]) -> Any:
        fields, extra, private, named = map(self._value, state[""])
        if not fields.keys() <= kind.model_fields.keys() | kind.__dict__.keys() or not named <= fields.keys():
            raise ValueError("no such fields")
        self._fit(kind, {name: value for name, value in fields.items() if name in kind.model_fields})
        made: Any = kind.__new__(kind)
        object.__setattr__(made, "__dict__", fields)
        object.__setattr__(made, "__pydantic_extra__", extra)
        object.__setattr__(made, "__pydantic_private__", private)
        object.__setattr__(made, "__pydantic_fields_set__", named)
        return made

    def _data(self, kind: type, fields: dict[str, Any]) -> Any:
        if not fields.keys() <= {field.name for field in dataclasses.fields(kind)}:
            raise ValueError("no such fields")
        self._fit(kind, fields)
        made: Any = object.__new__(kind)
        for name, value in fields.items():
            object.__setattr__(made, name, value)
        return made

    def _named(self, kind: Any, state: dict[str, Any]) -> Any:
        made = kind._make(map(self._value, state[""]))
        self._fit(kind, made._asdict())
        return made

    def _fit(self, kind: type, fields: dict[str, Any]) -> None:
        """Make sure that the fields of an object of the caller's are of the types that they are declared with."""
        if kind.__module__.startswith("dspy."):
            return
        for name, value in fields.items():
            adapter = _types(kind).get(name)
            try:
                if adapter is not None and value is not _default(kind, name):
                    adapter.validate_python(value, strict=True)
            except pydantic.ValidationError as error:
                why = error.errors(include_url=False, include_input=False)[0]["msg"]
                raise NotSendable(f"a {kind.__name__}", f"{name} = {describe(value)}: {why}") from None

    def _error(self, kind: Any, name: str, text: str, trace: str, *rest: Any) -> BaseException:
        said = [_checked_str(self._value(part)) for part in (name, text, trace)]
        if kind is None:
            return RemoteError(*said)
        found: Any = _ERRORS[kind] if kind in _ERRORS else self._class(kind)
        if not issubclass(found, Exception):
            return RemoteError(*said)
        args, fields, cause = map(self._value, rest)
        notes = [_checked_str(note) for note in fields.pop("__notes__", ())]
        error = rebuilt(found, args, fields)
        error.__cause__ = cause
        for note in notes:
            error.add_note(note)
        return error


def _checked_str(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    return value


def _array(dtype: str, shape: list[int], data: bytes) -> Any:
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError("no plain numbers")
    found = np.frombuffer(data, kind).reshape(shape)
    return found.copy() if shape else found[()]


def _part(kind: Any, state: dict[str, Any]) -> Any:
    """Return an object of DSPy's, which consists of its attributes."""
    for name in state:
        if name.startswith("__") or callable(getattr(kind, name, None)):
            raise ValueError(f"{name} is no attribute")
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


@cache
def _types(kind: type) -> dict[str, Any]:
    """Return what checks the type of each field of a class, without a call of the class's own code."""
    if issubclass(kind, pydantic.BaseModel):
        hints = {name: field.annotation for name, field in kind.model_fields.items()}
    else:
        hints = hints_of(kind)
    return {name: _adapter(hint) for name, hint in hints.items()}


def _adapter(hint: Any) -> Any:
    """Return what checks a type; None if it cannot be checked: a function with arguments, say."""
    try:
        found = _instances(hint)
        return pydantic.TypeAdapter(found, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except (TypeError, pydantic.PydanticUserError, UserWarning):  # where warnings are errors
        return None


def _instances(hint: Any) -> Any:
    """Return a type of which the classes with fields of their own are looked at as they are, and their code not run."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _instances(arguments[0])
    if origin is None or origin is typing.Literal:
        own = isinstance(hint, type) and (issubclass(hint, pydantic.BaseModel) or dataclasses.is_dataclass(hint))
        return _INSTANCE_OF[hint] if own else hint
    inner = tuple(map(_instances, arguments))
    return typing.Union[inner] if origin in _UNIONS else origin[inner]  # noqa: UP007  # of as many as there are


_INSTANCE_OF: Any = pydantic.InstanceOf
_UNIONS = (typing.Union, type(int | str))


def _default(kind: Any, name: str) -> Any:
    if issubclass(kind, pydantic.BaseModel):
        return kind.model_fields[name].default
    return getattr(kind, name, None)
