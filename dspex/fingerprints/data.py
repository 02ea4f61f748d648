"""Data, told apart by its content."""

from __future__ import annotations

import enum
import functools
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import dspy
import pydantic

#: Longer whole numbers are written in hexadecimal: Python takes long to write them otherwise, or refuses to.
_BITS = 1024


class NoFingerprint(TypeError):
    """A value has no content that could be told from another's: ``why`` says what stands against it."""

    def __init__(self, value: object, why: str) -> None:
        self.value, self.why = value, why
        super().__init__(
            f"a value of the class {class_name(type(value))} cannot be told from others by its content: {why}; "
            "give data instead, or give the class a __getstate__ that returns what matters"
        )


def canonical(plain: Any) -> bytes:
    r"""Return JSON's plain values as text: keys sorted, no blanks, UTF-8, floats as ``repr`` has them.

    >>> canonical({"b": [1.0, "é"], "a": None})
    b'{"a":null,"b":[1.0,"\xc3\xa9"]}'
    """
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def content_digest(value: Any) -> str:
    """Return the SHA-256 of a value's `content`, in hexadecimal digits.

    >>> content_digest(dspy.Example(text="hello", label="yes").with_inputs("text"))[:16]
    '49d553192201e8a4'

    Raises:
        NoFingerprint: there is something in it that has no content, such as a lock.
    """
    return digest_of(value, _code)


def content(value: Any) -> Any:
    """Return a value as JSON's plain values: equal for equal contents, and different for different ones.

    An example is its ``inputs`` and its ``labels``. What JSON does not have is a mapping with a key that begins with
    ``$``: bytes and files are their digests, and objects are their class and state.

    >>> content([float("nan"), {"a"}])
    [{'$float': 'nan'}, {'$set': ['a']}]

    Raises:
        NoFingerprint: there is something in it that has no content, such as a lock.
    """
    try:
        return _Reader(_code).read(value)
    except RecursionError:
        raise NoFingerprint(value, "it is too deep") from None


def digest_of(value: Any, code: Callable[[Any], Any]) -> str:
    """Return a value's `content_digest`; ``code`` reads the functions and classes in it."""
    try:
        return sha256(canonical(_Reader(code).read(value)))
    except RecursionError:
        raise NoFingerprint(value, "it is too deep") from None


def _code(value: Any) -> Any:
    from dspex.fingerprints.code import code_content

    return code_content(value)


class _Reader:
    """Reads one value; it may contain itself."""

    def __init__(self, code: Callable[[Any], Any]) -> None:
        self._code = code
        self._inside: list[int] = []

    def read(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return {"$enum": [class_name(type(value)), value.name]}
        if isinstance(value, (str, int, float)):
            return _scalar(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"$bytes": sha256(bytes(value))}
        if isinstance(value, (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)):
            return {"$code": self._code(value)}
        if id(value) in self._inside:
            return {"$inside": len(self._inside) - self._inside.index(id(value))}
        self._inside.append(id(value))
        try:
            return self._compound(value)
        finally:
            self._inside.pop()

    def _compound(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)):
            return [self.read(one) for one in value]
        if isinstance(value, (set, frozenset)):
            return {"$set": sorted((self.read(one) for one in value), key=canonical)}
        if isinstance(value, dspy.Example):
            return self._example(value)
        if isinstance(value, pydantic.BaseModel):
            fields = {**value.__dict__, **(value.model_extra or {})}
            return {"$model": [class_name(type(value)), self._mapping(fields)]}
        if isinstance(value, Path):
            return {"$file": sha256(value.read_bytes())} if value.is_file() else {"$path": str(value)}
        if isinstance(value, io.IOBase):
            return {"$file": _file(value)}
        return self._object(value)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.read(one) for key, one in value.items()}
        pairs = [[self.read(key), self.read(one)] for key, one in value.items()]
        return {"$mapping": sorted(pairs, key=canonical)}

    def _example(self, example: Any) -> Any:
        fields = dict(example.items())
        inputs = getattr(example, "_input_keys", None)  # a Prediction has none
        if inputs is None:
            return {"$example": self._mapping(fields)}
        given = [key for key in fields if key in inputs]
        return {
            "inputs": self._mapping({key: fields.pop(key) for key in given}),
            "labels": self._mapping(fields),
        }

    def _object(self, value: Any) -> Any:
        """Return an object as pickle would take it apart: how it is made, its state, and its items."""
        try:
            parts: Any = value.__reduce_ex__(4)
        except Exception as error:
            raise NoFingerprint(value, f"{type(error).__name__}: {error}") from error
        if isinstance(parts, str):
            return {"$object": [class_name(type(value)), parts]}
        made = [one for one in parts[1] if one is not type(value)]
        state = parts[2] if len(parts) > 2 else None
        found = [None if one is None else list(one) for one in parts[3:5]]
        return {"$object": [class_name(type(value)), self.read(made), self.read(_kept(value, state)), self.read(found)]}


def _scalar(value: Any) -> Any:
    """Return a text or a number of any class as that of JSON."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else {"$float": float.__repr__(value)}
    plain = int.__int__(value)
    return plain if plain.bit_length() <= _BITS else {"$int": hex(plain)}


def _kept(value: Any, state: Any) -> Any:
    """Return a state without what was only computed of it."""
    if not isinstance(state, dict):
        return state
    computed = {name for name in state if isinstance(getattr(type(value), name, None), functools.cached_property)}
    return {name: one for name, one in state.items() if name not in computed}


def _file(opened: Any) -> str:
    try:
        place = opened.tell()
        opened.seek(0)
        data = opened.read()
        opened.seek(place)
    except (OSError, ValueError) as error:
        raise NoFingerprint(opened, f"it cannot be read twice ({error})") from error
    return sha256(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))


def sha256(data: bytes) -> str:
    """Return the SHA-256 of data, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def class_name(kind: Any) -> str:
    """Return what a class or a function is called; in the script that is run, without ``__main__``."""
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}".removeprefix("__main__.")
