"""Decoding: frames of an isolated actor's process are data, decoded in the parent by types that the parent declares.

Nothing is imported, called or looked up because the process named it. A class that it names counts only if the parent
has declared it itself: in the messages that the actor handles, in their answers, in ``raises``.
"""

from __future__ import annotations

import builtins
import enum
import typing
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import msgspec

from supervision import errors
from supervision.errors import SupervisionError, UnhandledMessage
from supervision.isolation.frames import (
    FailedFrame,
    NotTransferable,
    Packed,
    RemoteError,
    decoded,
    import_path,
    reply_annotation,
    reply_type,
)
from supervision.messages import describe
from supervision.reasons import REASONS, ExitReason

#: From how many bytes on a value is inspected before it is decoded.
_LARGE = 1 << 15
#: How many lists, dicts and the like may be in one value.
CONTAINERS = 200_000

_Scalar = None | bool | int | float | str

#: Exceptions of Python's own that can be made of any plain arguments without effect. Left out are those that mean
#: something to the interpreter or to asyncio when they are raised (StopIteration, SystemExit, GeneratorExit, groups),
#: and those whose text is made from what they hold with a look into files or memory (SyntaxError, UnicodeDecodeError).
_PLAIN = (
    "ArithmeticError AssertionError AttributeError BlockingIOError BrokenPipeError BufferError ChildProcessError "
    "ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError EOFError Exception "
    "FileExistsError FileNotFoundError FloatingPointError ImportError IndexError InterruptedError IsADirectoryError "
    "KeyError LookupError MemoryError ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError "
    "OverflowError PermissionError ProcessLookupError RecursionError ReferenceError RuntimeError TimeoutError "
    "TypeError UnboundLocalError UnicodeError ValueError ZeroDivisionError"
)
BUILTIN_ERRORS: tuple[type[Exception], ...] = tuple(getattr(builtins, name) for name in _PLAIN.split())

#: The kernel's errors that an actor can answer with. What the kernel itself says about a call (that its receiver has
#: ended, say) is not among them: a process does not say it in the kernel's place. Each with the attributes it has.
KERNEL_ERRORS: dict[type[Exception], tuple[str, ...]] = {
    SupervisionError: (),
    NotTransferable: (),
    errors.NotRunning: (),
    **dict.fromkeys(
        (errors.ChildNotFound, errors.ChildRunning, errors.ChildRestarting, errors.AlreadyPresent), ("id",)
    ),
    **{
        kind: ("field", "value", "remedy")
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.SpecError)
    },
}


def _path(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


_BUILTIN = {_path(kind): kind for kind in BUILTIN_ERRORS}
_KERNEL = {_path(kind): kind for kind in KERNEL_ERRORS}
_REASONS = {import_path(kind): kind for kind in REASONS}
_TAGS = {kind.__struct_config__.tag: kind for kind in REASONS}
_ANY_REASON = {"reason": ExitReason.__struct_config__.tag}
_UNHANDLED = _path(UnhandledMessage)


# -- values ------------------------------------------------------------------------------------------------------------


def read_answer(value: Packed, request: type, handled: Iterable[type]) -> Any:
    """Return the value of an answer.

    Args:
        value: as it came.
        request: the class of the request that it answers.
        handled: the classes of messages that the actor handles.

    Raises:
        NotTransferable: it is not of the type that the request promises, or of a class that nobody here declares.
    """
    expected = reply_type(request)
    kind = expected if value.kind is None else _declared_as(value.kind, expected, (request, *handled))
    try:
        check(value.data)
        return decoded(value.data, kind)
    except Exception as error:
        raise NotTransferable.of(value, describe(error, form=str)) from None


def _declared_as(name: str, expected: Any, declaring: tuple[type, ...]) -> Any:
    """Return the class with a name, if it is declared, and may stand where a type is expected."""
    kind = declared(declaring).get(name)
    base = expected if expected is not Any and isinstance(expected, type) else object
    if kind is None or not issubclass(kind, base):
        wanted = "" if expected is Any else f" of the answer {describe(expected)}"
        remedy = "declare it here: Request[TheClass], or a handler for it"
        raise NotTransferable(f"an instance of {describe(name)} is not among the types{wanted}; {remedy}")
    return kind


@cache
def declared(kinds: tuple[type, ...]) -> dict[str, type]:
    """Return all classes that can be reached from the fields and the answers of some classes, by their import paths."""
    found: set[type] = set()
    left: list[Any] = list(kinds)
    while left:
        kind = left.pop()
        if isinstance(kind, type) and kind not in found and _has_own_form(kind):
            found.add(kind)
            left += [*_fields(kind), reply_annotation(kind)]
        left += typing.get_args(kind)
    return {_path(kind): kind for kind in found}


def _has_own_form(kind: type) -> bool:
    return issubclass(kind, (msgspec.Struct, enum.Enum)) or is_dataclass(kind)


def _fields(kind: type) -> Iterator[Any]:
    try:
        yield from typing.get_type_hints(kind).values()
    except Exception:  # an annotation that leads nowhere: msgspec could not decode it either
        return


def check(data: msgspec.Raw) -> None:
    """Make sure that a large value takes no more time and memory to decode than one of its size should.

    Raises:
        ValueError: it has more containers than `CONTAINERS`, or keys that are containers, whose hashes can be chosen.
    """
    if memoryview(data).nbytes <= _LARGE:
        return
    left = [data] if _is_container(data) else []
    budget = CONTAINERS
    while left:
        inside = _inside(left.pop(), budget)
        budget -= len(inside)
        left += inside


def _is_container(data: msgspec.Raw) -> bool:
    first = memoryview(data)[0]
    return 0x80 <= first <= 0x9F or 0xDC <= first <= 0xDF


def _inside(data: msgspec.Raw, budget: int) -> list[msgspec.Raw]:
    """Return the containers in a container."""
    view = memoryview(data)
    first = view[0]
    size = first & 0x0F if first <= 0x9F else int.from_bytes(view[1 : 3 if first in (0xDC, 0xDE) else 5])
    items = _keyed(data) if first in (0xDE, 0xDF) or first <= 0x8F else _listed(data, size, budget)
    return [item for item in items if _is_container(item)]


def _listed(data: msgspec.Raw, size: int, budget: int) -> list[msgspec.Raw]:
    try:
        msgspec.msgpack.decode(data, type=list[_Scalar])
    except msgspec.ValidationError:
        if size > budget:
            raise ValueError(f"there are more than {CONTAINERS:,} lists, dicts and objects in it") from None
        return msgspec.msgpack.decode(data, type=list[msgspec.Raw])
    return []


def _keyed(data: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return list(msgspec.msgpack.decode(data, type=dict[_Scalar, msgspec.Raw]).values())
    except msgspec.ValidationError:
        return list(msgspec.msgpack.decode(data, type=dict[bytes, msgspec.Raw]).values())


# -- reasons -----------------------------------------------------------------------------------------------------------


def read_reason(packed: Packed) -> ExitReason:
    """Return an exit reason: one of the kernel's.

    Raises:
        ValueError: it is none.
    """
    if packed.kind not in _REASONS:
        raise ValueError(f"no exit reason: {describe(packed.kind)}")
    check(packed.data)
    return _reason(decoded(packed.data, Any))


def _reason(value: Any) -> ExitReason:
    if not isinstance(value, dict) or value.get("reason") not in _TAGS:
        raise ValueError(f"no exit reason: {describe(value)}")
    kind = _TAGS[value["reason"]]
    if "cause" not in value:
        return msgspec.convert(value, kind)
    cause = _reason(value["cause"])
    return msgspec.structs.replace(msgspec.convert({**value, "cause": _ANY_REASON}, kind), cause=cause)


# -- errors ------------------------------------------------------------------------------------------------------------


def read_error(failed: FailedFrame, allowed: Iterable[type[Exception]]) -> Exception:
    """Return the error that a request is answered with: rebuilt, if it is of a class that this process allows.

    Args:
        failed: as it came.
        allowed: classes that are allowed, besides those of `BUILTIN_ERRORS` and `KERNEL_ERRORS`.
    """
    own = {**_KERNEL, **{_path(kind): kind for kind in allowed}}
    error: Exception | None = None
    with suppress(Exception):  # it is not made of what it says
        if failed.kind in _BUILTIN:
            error = _BUILTIN[failed.kind](*_plain(failed.args, list))
        elif failed.kind in own:
            error = rebuilt(own[failed.kind], _plain(failed.args, list), _plain(failed.fields, dict[str, Any]))
        if error is not None and str(error) == failed.text:
            return error
    return RemoteError(failed.kind.replace(":", ".").removeprefix("builtins."), failed.text, failed.traceback)


def _plain(data: msgspec.Raw, kind: Any) -> Any:
    check(data)
    return msgspec.msgpack.decode(data, type=kind)


def rebuilt(kind: type[Exception], args: list[Any], fields: dict[str, Any]) -> Exception:
    """Return an error with its arguments and attributes; its ``__init__``, which may do anything, is not called."""
    error = kind.__new__(kind, *args)
    error.args = tuple(args)
    if not fields.keys() >= {*KERNEL_ERRORS.get(kind, ())}:
        raise ValueError(f"{kind.__name__} has more attributes")
    for name, value in fields.items():
        if name.startswith("__") or callable(getattr(kind, name, None)):
            raise ValueError(f"{name} is no attribute of an error")
        error.__dict__[name] = value
    return error


def unhandled(failed: FailedFrame) -> bool:
    """Tell whether the actor had no handler for the request."""
    return failed.kind == _UNHANDLED
