"""Functions and classes, told apart by their source, and by what they use of the user's own modules."""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from dis import get_instructions
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import dspy
import pydantic

from dspex._compat import signature_parts
from dspex.fingerprints.data import NoFingerprint, canonical, class_name, content, digest_of
from foundation.installation import PACKAGES

_LIBRARIES = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF")
_WRAPPERS = (MethodType, functools.partial, property, staticmethod, classmethod)
_CONSTANT = (str, bytes, int, float, FunctionType, *_WRAPPERS, BuiltinFunctionType, type)
#: Of a module, what says nothing of what it does: notes of its runs, and what is looked at elsewhere.
_NOTES = frozenset({"history", "callbacks", "stage", "traces", "train", "lm", "_compiled"})

#: What was in an object when a function that uses it was first looked at: a cache that fills, a counter that counts, is
#: no other code.
_first_seen: WeakKeyDictionary[Any, dict[str, tuple[Any, Any]]] = WeakKeyDictionary()


def code_content(value: Any) -> Any:
    """Return a function, a class or something that is called as plain values, with what it uses of the user's own code.

    Installed packages count by their name: their versions tell the rest. So do a model, and what is not plain data.
    A constant that the code itself assigns to (``global``, ``nonlocal``) is none, and does not count.
    """
    return _CodeReader().read(value)


def program_content(program: Any) -> Any:
    """Return a program's predictors (instructions, demonstrations, configuration) and code, as plain values."""
    return _CodeReader().program(program)


class _CodeReader:
    """Reads code, and what it uses; each piece once."""

    def __init__(self) -> None:
        self._met: set[int] = set()

    def read(self, value: Any) -> Any:
        if isinstance(value, dspy.Module):
            return self._held(value)
        if id(value) in self._met:
            return class_name(value)
        self._met.add(id(value))
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return [self._held(value.__func__), self._held(value.__self__)]
        if isinstance(value, functools.partial):
            return [self._held(part) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, property):
            return [self._held(part) for part in (value.fget, value.fset, value.fdel)]
        if _is_wrapper(value):
            return self._held(value.__wrapped__)
        if isinstance(value, type):
            return self._class(value) if _is_read(value) else class_name(value)
        if isinstance(value, (BuiltinFunctionType, ModuleType)):
            return class_name(value)
        return self._instance(value) if callable(value) else self._held(value)

    def _function(self, function: FunctionType) -> Any:
        names, written = _names(function.__code__)
        uses = {name: one for name, one in _used(function, names) if name not in written}
        return {
            "source": _source(function.__code__),
            "defaults": self._held([function.__defaults__, function.__kwdefaults__]),
            "uses": {name: self._used(function, name, uses[name], names) for name in sorted(uses)},
        }

    def _used(self, function: FunctionType, name: str, value: Any, names: frozenset[str]) -> Any:
        if isinstance(value, ModuleType):
            found = {each: getattr(value, each, None) for each in sorted(names & vars(value).keys())}
            return [class_name(value), {each: self._held(one) for each, one in found.items()} if _is_own(value) else {}]
        if isinstance(value, _CONSTANT) or value is None:
            return self._held(value)
        seen = _first_seen.setdefault(function, {})
        if name not in seen or seen[name][0] is not value:
            seen[name] = value, self._held(value)
        return seen[name][1]

    def _class(self, kind: Any) -> Any:
        if issubclass(kind, dspy.Signature):
            return self._signature(kind)
        bases = [self._held(base) for base in kind.__bases__]
        members = {name: self._held(one) for name, one in vars(kind).items() if _says_something(name)}
        fields = {name: self._annotation(one) for name, one in vars(kind).get("__annotations__", {}).items()}
        found = [class_name(kind), bases, members, fields]
        if issubclass(kind, pydantic.BaseModel):
            described = {name: field.description for name, field in kind.model_fields.items()}
            return [*found, described, {name: self._held(field.default) for name, field in kind.model_fields.items()}]
        return found

    def _signature(self, kind: Any) -> Any:
        _, instructions, fields = signature_parts(kind)
        return [instructions, [[*field[:3], self._annotation(field[3])] for field in fields]]

    def _annotation(self, annotation: Any) -> Any:
        if isinstance(annotation, type) and _is_own(annotation):
            return self._held(annotation)
        return [str(annotation), [self._annotation(part) for part in getattr(annotation, "__args__", ())]]

    def _instance(self, value: Any) -> Any:
        """Return what is known of an object that is called, such as a metric with a threshold."""
        return [self._held(type(value)), self._attributes(value)]

    def _held(self, value: Any) -> Any:
        """Return what is known of something that code, or a program, holds on to."""
        if isinstance(value, dspy.Module):
            return class_name(type(value)) if id(value) in self._met else self.program(value)
        if isinstance(value, dspy.Tool):
            return [value.name, value.desc, self._held(value.func)]
        if isinstance(value, _WRAPPERS) or _is_wrapper(value):
            return self.read(value)
        if isinstance(value, (FunctionType, type)):
            return self.read(value) if _is_read(value) else class_name(value)
        if isinstance(value, (list, tuple)):
            return [self._held(one) for one in value]
        if isinstance(value, (set, frozenset, Mapping)):
            pairs = value.items() if isinstance(value, Mapping) else ((one, None) for one in sorted(value, key=_order))
            return sorted(([self._held(key), self._held(one)] for key, one in pairs), key=canonical)
        return self._data(value)

    def _data(self, value: Any) -> Any:
        """Return data as its digest. What lives, such as a client or a lock, is known by its class alone."""
        if value is None or isinstance(value, (str, int, float)):
            return content(value)
        if isinstance(value, dspy.BaseLM):
            return [class_name(type(value)), str(value.model)]
        try:
            digest = digest_of(value, self.read)
        except NoFingerprint:
            digest = ""
        return [self._held(type(value)), digest]

    def program(self, program: Any) -> Any:
        """Return what is known of a program and of the modules in it."""
        modules = dict(program.named_sub_modules())
        self._met.update(id(module) for module in modules.values())
        return {path: [self._held(type(module)), self._attributes(module)] for path, module in modules.items()}

    def _attributes(self, value: Any) -> Any:
        kept = {name: one for name, one in getattr(value, "__dict__", {}).items() if name not in _NOTES}
        return {name: self._held(one) for name, one in kept.items()}


def _is_read(code: Any) -> bool:
    """Return whether code is looked into."""
    return _is_own(code) or (isinstance(code, type) and issubclass(code, dspy.Signature))


def _is_own(value: Any) -> bool:
    """Return whether code is the user's own, and not of an installed package, nor of this distribution in a clone."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if str(name).partition(".")[0] in PACKAGES:
        return False
    file = getattr(sys.modules.get(str(name)), "__file__", None)
    return name == "__main__" or (file is not None and not file.startswith(_LIBRARIES))


def _order(value: Any) -> tuple[str, str]:
    """Return by what the elements of a set are ordered before they are read: what was met before is not read again."""
    plain = repr(value) if isinstance(value, (str, bytes, int, float)) else ""
    return class_name(value if isinstance(value, (type, FunctionType)) else type(value)), plain


def _is_wrapper(value: Any) -> bool:
    """Return whether something stands for a function, as what functools.cache and staticmethod return."""
    return inspect.getattr_static(value, "__wrapped__", None) is not None


def _says_something(name: str) -> bool:
    return not (name.startswith("__") and name.endswith("__")) or name in ("__init__", "__call__")


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _names(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that code looks up outside of itself, and those that it assigns to there."""
    names = {name for one in _codes(code) for name in (*one.co_names, *one.co_freevars)}
    written = {str(step.argval) for one in _codes(code) for step in get_instructions(one) if step.opname in _WRITES}
    return frozenset(names), frozenset(written)


def _used(function: FunctionType, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for name in names & function.__globals__.keys():
        yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned to yet
            continue


def _source(code: CodeType) -> Any:
    """Return the text of a function, without lines of comment; where there is none, what it was compiled to."""
    try:
        lines = inspect.getsourcelines(code)[0]
    except (OSError, TypeError):
        return _compiled(code)
    if code.co_name == "<lambda>":  # its line may have others
        return _compiled(code)
    kept = [line.rstrip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return textwrap.dedent("\n".join(kept))


def _compiled(code: CodeType) -> Any:
    constants = [_compiled(one) if isinstance(one, CodeType) else content(one) for one in code.co_consts]
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return [content(code.co_code), constants, list(code.co_names), list(code.co_varnames), list(shape)]
