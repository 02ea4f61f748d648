"""What a turn has changed: found by identity, then by equality, so that a commit costs what was changed, not all.

>>> import msgspec
>>> class Cart(msgspec.Struct, frozen=True):
...     owner: str
...     items: dict[str, int] = {}
>>> before = Cart("joe", {"tea": 1, "milk": 2})
>>> after = Cart("joe", {"tea": 1, "milk": 3, "salt": 1})
>>> parts = changes(before, after)
>>> parts
[Part(path=('items', 'milk'), value=3, op='set'), Part(path=('items', 'salt'), value=1, op='set')]
>>> applied(msgspec.to_builtins(before), parts)
{'owner': 'joe', 'items': {'tea': 1, 'milk': 3, 'salt': 1}}
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress, count
from operator import is_not
from typing import Any, Literal, get_args, get_origin

import msgspec

from agents.core.structs import changed_items, encoded_names, field_types

_MISSING: Any = object()


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One change of a value.

    Attributes:
        path: to what has changed, from the outside in: fields as they are encoded, keys, and places in a sequence.
        value: what is there now.
        op: ``set`` it, ``delete`` it, or put ``value`` in the place of a sequence's ``tail``, which begins where the
            path ends.
    """

    path: tuple[Any, ...]
    value: Any = None
    op: Literal["set", "delete", "tail"] = "set"


def changes(before: Any, after: Any) -> list[Part]:
    """Return what makes one value of another."""
    return list(_changes(before, after, ()))


def _changes(before: Any, after: Any, path: tuple[Any, ...]) -> Iterator[Part]:
    if before is after:
        return
    kind = type(after)
    if kind is type(before):
        if kind is dict:
            yield from _of_mappings(before, after, path, _key)
            return
        if isinstance(after, msgspec.Struct) and not after.__struct_config__.array_like:
            fields = (_fields(before), _fields(after))
            yield from _of_mappings(*fields, path, str)
            return
        if kind in (tuple, list) and before and after:
            yield from _of_sequences(before, after, path)
            return
        if kind is not float and before == after:
            return
    yield Part(path, after)


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct that are set, by the names under which they are encoded."""
    fields = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: value for name, value in encoded_names(type(struct), fields).items() if value is not msgspec.UNSET}


def _of_mappings(before: Any, after: Any, path: tuple[Any, ...], key_of: Any) -> Iterator[Part]:
    others = changed_items(before, after)
    known = sum(key in before for key in others)
    if len(before) > len(after) - len(others) + known:
        for key in before.keys() - after.keys():
            yield Part((*path, key_of(key)), None, "delete")
    for key, value in others.items():
        old = before.get(key, _MISSING)
        if old is _MISSING:
            yield Part((*path, key_of(key)), value)
        else:
            yield from _changes(old, value, (*path, key_of(key)))


def _of_sequences(before: Any, after: Any, path: tuple[Any, ...]) -> Iterator[Part]:
    """Compare place by place if there are as many; or else find where they part."""
    others = compress(count(), map(is_not, before, after))
    if len(before) == len(after):
        for place in others:
            yield from _changes(before[place], after[place], (*path, place))
        return
    parted = (place for place in others if next(_changes(before[place], after[place], ()), None) is not None)
    common = next(parted, min(len(before), len(after)))
    yield Part((*path, common), list(after[common:]), "tail")


def _key(key: Any) -> Any:
    """Return the key of a mapping as it is when it is read again."""
    if type(key) in (str, int):
        return key
    return next(iter(msgspec.msgpack.decode(msgspec.msgpack.encode({key: None}))))


def applied(data: Any, parts: Iterable[Part]) -> Any:
    """Return what changes make of a value.

    Args:
        data: the value as builtins. It is changed.
        parts: the changes, with values as builtins.

    Raises:
        LookupError, TypeError: they do not fit.
    """
    for part in parts:
        if not part.path:
            data = part.value
            continue
        *way, last = (tuple(key) if isinstance(key, list) else key for key in part.path)
        at = data
        for key in way:
            at = at[key]
        if part.op == "set":
            at[last] = part.value
        elif part.op == "delete":
            del at[last]
        else:
            at[last:] = part.value
    return data


def type_at(kind: Any, path: Iterable[Any]) -> Any:
    """Return the declared type of what is at a path within a value; None if it depends on the value."""
    for step in path:
        kind = _inner(_plain(kind), step)
        if kind is None:
            return None
    return kind


def _plain(kind: Any) -> Any:
    """Return a type without its annotations, and without ``None`` beside it."""
    if get_origin(kind) is typing.Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (typing.Union, types.UnionType):
        options = [one for one in get_args(kind) if one is not type(None)]
        return _plain(options[0]) if len(options) == 1 else None
    return kind


def _inner(kind: Any, step: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(origin or kind, type) and issubclass(origin or kind, msgspec.Struct):
        return encoded_names(origin or kind, field_types[kind]).get(step)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[1]
    if origin is tuple and arguments[-1] is not ...:
        return arguments[step]
    if origin is None or not isinstance(origin, type):
        return None if kind is not Any else Any
    return arguments[0]


def says_any(kind: Any) -> bool:
    """Return whether a value of a type may hold something whose type is not declared, or is packed already."""
    return _says_any(msgspec.inspect.type_info(kind), set())


def _says_any(info: Any, seen: set[Any]) -> bool:
    if isinstance(info, (msgspec.inspect.AnyType, msgspec.inspect.CustomType, msgspec.inspect.RawType)):
        return True
    owner = getattr(info, "cls", None)
    if owner in seen:
        return False
    if owner is not None:
        seen.add(owner)
    inner: list[Any] = []
    for name in ("type", "item_type", "key_type", "value_type", "types", "item_types", "fields"):
        found = getattr(info, name, ())
        inner += found if isinstance(found, tuple) else [found]
    return any(_says_any(one, seen) for one in inner)


def lost(kept: Any, back: Any, path: str) -> str | None:
    """Return the path of the first part of a value that is another one when it is read again; None if all is the same.

    Args:
        kept: the value.
        back: what was read.
        path: of the value.
    """
    if type(kept) is not type(back) or isinstance(kept, msgspec.Raw):  # what is packed already is unpacked by then
        return path
    if isinstance(kept, dict):
        if kept.keys() != back.keys():
            return path
        return _first(lost(value, back[key], f"{path}[{key!r}]") for key, value in kept.items())
    if isinstance(kept, (list, tuple)):
        return _first(lost(one, two, f"{path}[{n}]") for n, (one, two) in enumerate(zip(kept, back, strict=True)))
    if isinstance(kept, msgspec.Struct):
        names = kept.__struct_fields__
        return _first(lost(getattr(kept, name), getattr(back, name), f"{path}.{name}") for name in names)
    same = kept == back or (kept != kept and back != back)  # not a number is not itself
    return None if same else path


def _first(found: Iterator[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)
