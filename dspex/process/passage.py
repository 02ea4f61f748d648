"""How values get to the program's process, and what stays where it is.

They are pickled: they are the parent's own, code and all. Nothing is pickled on the way back: see
`dspex.process.encoding`.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from dspex.errors import AgentDown, AgentTimeout


class NotTransferable(ValueError):
    """A value cannot get to the other process, or back. ``what`` says which."""

    def __init__(self, what: str, why: str) -> None:
        self.what = what
        super().__init__(f"{what} cannot be sent to another process: {why}")


#: Errors of this package that come back as what they are.
OWN: tuple[type[Exception], ...] = (NotTransferable, AgentDown, AgentTimeout)


def _raised(kind: type[BaseException], args: Any, attributes: dict[str, Any], cause: BaseException | None) -> Any:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    error.__cause__ = cause
    return error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Takes errors as they are: many cannot be made again from what their classes are called with."""

    def __init__(self, buffer: io.BytesIO, refer: Callable[[Any], Any], notice: Callable[[Any], object]) -> None:
        super().__init__(buffer)
        self._refer = refer
        self._notice = notice

    def persistent_id(self, obj: Any) -> Any:
        return self._refer(obj)

    def reducer_override(self, obj: Any) -> Any:
        self._notice(obj)
        if isinstance(obj, BaseException):
            return _raised, (type(obj), obj.args, obj.__dict__, obj.__cause__)
        return super().reducer_override(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, resolve: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._resolve = resolve

    def persistent_load(self, reference: Any) -> Any:
        return self._resolve(reference)


def send_by_value(kind: type) -> None:
    """Have a class that no other process could import, as its module was made here, sent as a whole.

    Those of ``__main__``, such as a notebook's, always are.
    """
    module = sys.modules.get(kind.__module__)
    if module is not None and module.__spec__ is None and kind.__module__ != "__main__":
        cloudpickle.register_pickle_by_value(module)


class Passage:
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
            NotTransferable: it is, or holds, something that has no copy, such as a lock or a connection.
        """
        return self.pack_all([(what, value)], lambda _: None)

    def pack_all(self, values: Iterable[tuple[str, Any]], notice: Callable[[Any], object]) -> bytes:
        """Return values as bytes, each after what it is; what is in several of them is one thing there, too.

        Args:
            values: are asked for one after the other.
            notice: called with each object and class that is sent.

        Raises:
            NotTransferable: one is, or holds, something that has no copy.
        """
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, self._refer, notice)
        for what, value in values:
            try:
                pickler.dump(value)
            except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
                raise NotTransferable(what, str(error)) from error
        return buffer.getvalue()

    def unpack(self, data: bytes) -> Any:
        """Return the value."""
        return next(self.unpack_all(data))

    def unpack_all(self, data: bytes) -> Iterator[Any]:
        """Return the values, one after the other, as they are asked for."""
        unpickler = _Unpickler(data, self._resolve)
        while True:
            yield unpickler.load()
