"""Pickles values for the worker; what stays with the caller travels as a reference.

They are pickled: they are the parent's own, code and all. Nothing is pickled on the way back: see
`dspex.agents.process.encoding`.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import pickle
import sys
import typing
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pydantic

from dspex._compat import DSPY_CLASSES, declared_by, is_part, is_shared
from dspex.agents.dispatcher import AgentDown, ProgramTimeout
from dspex.parsing.errors import AnswerRefused, PromptTooLong, UnparsedAnswer


class Serializer:
    """Writes values as bytes, and reads them again in the program's process. What stays travels as a reference.

    Args:
        refer: returns the reference that stands for an object; None for an object that travels itself.
        resolve: returns what a reference stands for there.
    """

    def __init__(self, refer: Callable[[Any], Any], resolve: Callable[[Any], Any]) -> None:
        self._refer = refer
        self._resolve = resolve

    def pack(self, what: str, value: Any) -> bytes:
        """Return a value as bytes.

        Raises:
            NotSendable: it is, or holds, something that has no copy, such as a lock or a connection.
        """
        packing = Packing(self._refer, lambda _: None)
        packing.add(what, value)
        return packing.packed()

    def unpack(self, data: bytes) -> Any:
        """Return the value."""
        return next(self.unpack_all(data))

    def unpack_all(self, data: bytes) -> Iterator[Any]:
        """Return the values, one after the other, as they are asked for."""
        unpickler = _Unpickler(data, self._resolve)
        while True:
            yield unpickler.load()


class Packing:
    """Writes one value after the other; what is in several of them is one thing there, too.

    Args:
        refer: returns the reference that stands for an object; None for an object that travels itself.
        notice: called with each object and class that is sent.
    """

    def __init__(self, refer: Callable[[Any], Any], notice: Callable[[Any], object]) -> None:
        self._buffer = io.BytesIO()
        self._pickler = _Pickler(self._buffer, refer, notice)

    def add(self, what: str, value: Any) -> None:
        """Write a value.

        Args:
            what: it is, for the error.
            value: the value.

        Raises:
            NotSendable: it is, or holds, something that has no copy.
        """
        try:
            self._pickler.dump(value)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise NotSendable(what, str(error)) from error

    def packed(self) -> bytes:
        """Return what was written since this was last asked."""
        found = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return found


def pack_definition(kind: type) -> bytes | None:
    """Return a class as bytes; None if any process can import it, or if others would have to be sent with it."""
    buffer = io.BytesIO()
    pickler = _DefinitionPickler(buffer, kind)
    pickler.dump(kind)
    return None if pickler.more else buffer.getvalue()


class Declarations:
    """Collects classes whose instances may come back, and objects that may be named.

    Attributes:
        items: what there is, in an order that both processes have.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._seen = {id(kind) for kind in DSPY_CLASSES.values()}

    def notice(self, value: Any) -> None:
        """Note something that is sent."""
        if isinstance(value, type):
            self._note_class(value)
            return
        if is_shared(value):
            self._note(value)
        self._note_class(type(value))

    def _note(self, value: Any) -> bool:
        new = id(value) not in self._seen
        if new:
            self._seen.add(id(value))
            self.items.append(value)
        return new

    def _note_class(self, kind: Any) -> None:
        kind = getattr(kind, "dspex_bare", kind)
        if _has_data(kind) and self._note(kind):
            for annotation in declared_by(kind):
                self._note_annotation(annotation)

    def _note_annotation(self, annotation: Any) -> None:
        if isinstance(annotation, type):
            self._note_class(annotation)
        for inner in typing.get_args(annotation):
            self._note_annotation(inner)


def _has_data(kind: type) -> bool:
    if kind.__module__ == "builtins":
        return False
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    own = issubclass(kind, (pydantic.BaseModel, enum.Enum, Exception)) or is_part(kind)
    return named or own or dataclasses.is_dataclass(kind)


class NotSendable(ValueError):
    """A value cannot get to the other process, or back. ``what`` says which."""

    def __init__(self, what: str, why: str) -> None:
        self.what = what
        super().__init__(f"{what} cannot be sent to another process: {why}")


#: Errors of this package that come back as what they are.
OWN: tuple[type[Exception], ...] = (
    NotSendable,
    AgentDown,
    ProgramTimeout,
    UnparsedAnswer,
    PromptTooLong,
    AnswerRefused,
)


def send_by_value(kind: type) -> None:
    """Have a class that no other process could import, as its module was made here, sent as a whole.

    Those of ``__main__``, such as a notebook's, always are.
    """
    module = sys.modules.get(kind.__module__)
    if module is not None and module.__spec__ is None and kind.__module__ != "__main__":
        cloudpickle.register_pickle_by_value(module)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Takes errors as they are: many cannot be made again from what their classes are called with."""

    def __init__(self, buffer: io.BytesIO, refer: Callable[[Any], Any], notice: Callable[[Any], object]) -> None:
        super().__init__(buffer)
        self._refer = refer
        self._notice = notice

    def reducer_override(self, obj: Any) -> Any:
        reference = self._refer(obj)
        if reference is not None:
            return stands_for, reference
        self._notice(obj)
        if isinstance(obj, BaseException):
            return _raised, (type(obj), obj.args, obj.__dict__, obj.__cause__)
        return super().reducer_override(obj)


#: Modules whose classes and functions are the same in each process, even if they cannot be found by their names.
_PROVIDED = ("builtins", "pydantic.main")


class _DefinitionPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles a class, and sees whether others, or functions, would have to be sent for it."""

    def __init__(self, buffer: io.BytesIO, kind: type) -> None:
        super().__init__(buffer)
        self._kind = kind
        self.more = False

    def reducer_override(self, obj: Any) -> Any:
        found = super().reducer_override(obj)
        if obj is self._kind:
            self.more |= found is NotImplemented
        elif found is not NotImplemented and isinstance(obj, (type, FunctionType)):
            self.more |= obj.__module__ not in _PROVIDED
        return found


def stands_for(kind: str, key: Any) -> Any:
    """Stand, in what is sent, for what a reference means there: each reader calls its own instead."""
    raise NotImplementedError(f"{kind} {key}: only a Serializer reads this")


def _raised(kind: type[BaseException], args: Any, attributes: dict[str, Any], cause: BaseException | None) -> Any:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    error.__cause__ = cause
    return error


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, resolve: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._resolve = resolve

    def find_class(self, module: str, name: str) -> Any:
        if name == stands_for.__name__ and module == __name__:
            return lambda *reference: self._resolve(reference)
        return super().find_class(module, name)
