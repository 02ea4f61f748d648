"""How values get from one process to the other, and what stays where it is."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle  # type: ignore[import-untyped]


class NotTransferable(ValueError):
    """A value cannot get to the other process, or back. ``what`` says which."""

    def __init__(self, what: str, why: str) -> None:
        self.what = what
        super().__init__(f"{what} cannot be sent to another process: {why}")


def _raised(kind: type[BaseException], args: Any, attributes: dict[str, Any], cause: BaseException | None) -> Any:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    error.__cause__ = cause
    return error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Takes errors as they are: many cannot be made again from what their classes are called with."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, BaseException):
            return _raised, (type(obj), obj.args, obj.__dict__, obj.__cause__)
        return super().reducer_override(obj)


def send_by_value(kind: type) -> None:
    """Have a class that no other process could import, as its module was made here, sent as a whole.

    Those of ``__main__``, such as a notebook's, always are.
    """
    module = sys.modules.get(kind.__module__)
    if module is not None and module.__spec__ is None and kind.__module__ != "__main__":
        cloudpickle.register_pickle_by_value(module)


class Passage:
    """Writes values as bytes and reads them again. What stays where it is travels as a reference.

    Args:
        refer: returns the reference that stands for an object; None for an object that travels itself.
        resolve: returns what a reference stands for here.
    """

    def __init__(self, refer: Callable[[Any], Any], resolve: Callable[[Any], Any]) -> None:
        self._refer = refer
        self._resolve = resolve

    def pack(self, what: str, value: Any) -> bytes:
        """Return a value as bytes.

        Raises:
            NotTransferable: it is, or holds, something that has no copy, such as a lock or a connection.
        """
        buffer = io.BytesIO()
        pickler = _Pickler(buffer)
        pickler.persistent_id = self._refer
        try:
            pickler.dump(value)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise NotTransferable(what, str(error)) from error
        return buffer.getvalue()

    def unpack(self, data: bytes) -> Any:
        """Return the value."""
        unpickler = pickle.Unpickler(io.BytesIO(data))  # noqa: S301  # of our own process
        unpickler.persistent_load = self._resolve  # type: ignore[method-assign]
        return unpickler.load()
