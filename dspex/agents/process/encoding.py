"""Encodes what a program's process sends, as plain data."""

from __future__ import annotations

import dataclasses
import enum
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pydantic

from dspex._compat import DSPY_CLASSES, annotation_parts, is_part, is_signature, signature_parts
from dspex.agents.process.protocol import LONGEST, LONGEST_TEXT, TEXTS, ValueTag
from dspex.agents.process.serialization import OWN, NotSendable
from supervision.isolation.decoding import BUILTIN_ERRORS, check
from supervision.messages import describe

_DSPY = {id(kind): name for name, kind in DSPY_CLASSES.items()}
_ERRORS = {id(kind): kind.__name__ for kind in (*BUILTIN_ERRORS, *OWN)}
_TEXTS = {kind: (name, write) for name, (kind, write, _) in TEXTS.items()}
_CONTAINERS: Mapping[type, ValueTag] = {
    list: ValueTag.LIST,
    tuple: ValueTag.TUPLE,
    set: ValueTag.SET,
    frozenset: ValueTag.FROZENSET,
}


class _NoData(TypeError):
    """It is, or holds, something that is no data."""


class Encoding:
    """Writes values for the parent, in any thread.

    Args:
        refer: returns the kind and the key of what has stayed with the parent; None for everything else.
        known: what the parent knows itself, and has sent along.
    """

    def __init__(self, refer: Callable[[Any], Any], known: Sequence[Any]) -> None:
        self._refer = refer
        self._known = {id(each): number for number, each in enumerate(known)}

    def write(self, what: str, value: Any, *, lenient: bool = False) -> bytes:
        """Return a value as bytes.

        Args:
            what: it is, for the error.
            value: the value.
            lenient: whether what is no data is replaced by its name and text (`Unsent`).

        Raises:
            NotSendable: it is, or holds, something that is no data, or of a class that the parent does not know.
        """
        try:
            data = msgspec.msgpack.encode(_Writing(self._refer, self._known, lenient)(value))
            check(msgspec.Raw(data))
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise NotSendable(what, str(error)) from error
        if len(data) > LONGEST:
            raise NotSendable(what, f"it has {len(data):,} bytes, and may have {LONGEST:,}")
        return data


class _Writing:
    """Writes one value."""

    def __init__(self, refer: Callable[[Any], Any], known: Mapping[int, int], lenient: bool) -> None:
        self._refer = refer
        self._known = known
        self._lenient = lenient

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float, bytes):
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**64 else [ValueTag.INT, _bytes_of(value)]
        if kind is str:
            return _text(value)
        if kind is dict:
            return [ValueTag.DICT, *map(self, chain.from_iterable(value.items()))]
        if kind is list or kind is tuple:
            return [_CONTAINERS[kind], *map(self, value)]
        reference = self._refer(value)
        if reference is not None:
            return [ValueTag.KEPT if reference[0] == "kept" else ValueTag.MODULE, reference[1]]
        if id(value) in self._known:
            return [ValueTag.KNOWN, self._known[id(value)]]
        return self._other(value)

    def _other(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return [ValueTag.MEMBER, self._class(type(value)), value.name]
        if isinstance(value, type):
            return self._type(value)
        if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
            return [ValueTag.ARRAY, value.dtype.str, list(value.shape), value.tobytes()]
        if type(value) in _TEXTS:
            name, write = _TEXTS[type(value)]
            return [ValueTag.TEXT, name, write(value)]
        if isinstance(value, BaseException):
            return self._error(value)
        plain = self._plain(value)
        return self._object(value) if plain is None else plain

    def _plain(self, value: Any) -> Any:
        if id(type(value)) in _DSPY and isinstance(value, dict):
            return [ValueTag.OBJECT, _DSPY[id(type(value))], "", self._plain({**value})]
        if isinstance(value, (dict, types.MappingProxyType)):
            return [ValueTag.DICT, *map(self, chain.from_iterable(value.items()))]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return None
        for kind, mark in _CONTAINERS.items():
            if isinstance(value, kind):
                items: Any = value
                return [mark, *map(self, items)]
        bases: tuple[Any, ...] = (str, int, float, bytes)
        for base in bases:
            if isinstance(value, base):
                return self(base(value))
        return None

    # -- classes ---------------------------------------------------------------------------------------------------

    def _class(self, kind: type) -> int | str:
        number = self._known.get(id(kind))
        found = _DSPY.get(id(kind)) if number is None else number
        if found is None:
            raise _NoData(_why(kind))
        return found

    def _type(self, kind: type) -> Any:
        if id(kind) in _DSPY:
            return [ValueTag.CLASS, _DSPY[id(kind)]]
        if is_signature(kind):
            name, instructions, fields = signature_parts(kind)
            written = [[_text(part) for part in field[:3]] + [self._annotation(field[3])] for field in fields]
            return [ValueTag.SIGNATURE, _text(name), _text(instructions), written]
        basic = annotation_parts(kind)[0] != "any"
        return self._annotation(kind) if basic else self._unsent(kind)

    def _annotation(self, annotation: Any) -> list[Any]:
        if id(annotation) in self._known:
            return [ValueTag.KNOWN, self._known[id(annotation)]]
        if id(annotation) in _DSPY:
            return [ValueTag.CLASS, _DSPY[id(annotation)]]
        kind, arguments = annotation_parts(annotation)
        write = self if kind == "literal" else self._annotation
        return [ValueTag.ANNOTATION, kind, [write(each) for each in arguments]]

    # -- objects ---------------------------------------------------------------------------------------------------

    def _object(self, value: Any) -> Any:
        kind = type(value)
        try:
            state = self._state(kind, value)
            return [ValueTag.OBJECT, self._class(kind), *(part for pair in state for part in pair)]
        except _NoData:
            if not self._lenient:
                raise
        return self._unsent(value)

    def _unsent(self, value: Any) -> Any:
        if not self._lenient:
            raise _NoData(_why(value))
        return [ValueTag.UNSENT, _name(type(value)), _text(describe(value, 1000))]

    def _state(self, kind: type, value: Any) -> Iterable[tuple[str, Any]]:
        if isinstance(value, pydantic.BaseModel):
            inner = (
                value.__dict__,
                value.__pydantic_extra__,
                value.__pydantic_private__,
                value.__pydantic_fields_set__,
            )
            return [("", [self(part) for part in inner])]
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
            return [(name, self(getattr(value, name))) for name in names]
        if isinstance(value, tuple):
            return [("", [self(part) for part in value])]
        if is_part(kind):
            return [(_text(name), self(part)) for name, part in vars(value).items()]
        raise _NoData(_why(value))

    def _error(self, error: BaseException) -> Any:
        kind = type(error)
        name = f"{_name(kind)}" if kind.__module__ != "builtins" else kind.__name__
        said = [_text(name), _text(describe(error, LONGEST_TEXT, str)), _text(traceback_of(error))]
        number = self._known.get(id(kind), _DSPY.get(id(kind), _ERRORS.get(id(kind))))
        if number is None:
            return [ValueTag.ERROR, None, *said]
        whole = [list(error.args), {**error.__dict__}, error.__cause__]
        return [ValueTag.ERROR, number, *said, *map(self, whole)]


def _bytes_of(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return [ValueTag.STR, value.encode("utf-8", "surrogatepass")]
    return value


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _why(value: Any) -> str:
    """Return why something is no data for the parent."""
    if not isinstance(value, type):
        try:
            value.__reduce_ex__(4)
        except Exception as error:
            return str(error)
    kind = value if isinstance(value, type) else type(value)
    return f"the caller does not know its class {_name(kind)}: name it in a signature, or as what forward returns"


def traceback_of(error: BaseException) -> str:
    """Return where an error was raised, as Python prints it."""
    return describe(error, LONGEST_TEXT, lambda error: "".join(traceback.format_exception(error))[-LONGEST_TEXT:])
