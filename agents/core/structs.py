"""Values of declared types: checked, and changed field by field."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import chain, compress, islice, repeat
from operator import is_not
from typing import Any, TypeVar, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)
K = TypeVar("K")
T = TypeVar("T")
_MISSING: Any = object()


def fields_of(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct, but for those that are unset."""
    items = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: value for name, value in items.items() if value is not msgspec.UNSET}


def encoded_names(kind: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by the names under which a type of structs encodes them; names that it does not know stay."""
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    return {names.get(name, name): value for name, value in fields.items()}


def made(kind: type[S], fields: Mapping[str, Any]) -> S:
    """Return a struct with these fields, each checked against its declared type.

    Raises:
        msgspec.ValidationError: one does not fit.
    """
    return msgspec.convert(encoded_names(kind, fields), kind)


def checked(kind: Any, value: Any, known: Any = None) -> Any:
    """Return a value of the declared type ``kind``, its fields checked too if it is a struct.

    Args:
        kind: its type.
        value: the value.
        known: a struct that was checked before: what the value has from it is not checked again.

    Raises:
        msgspec.ValidationError: it does not fit.
    """
    if isinstance(value, msgspec.Struct):
        value = rechecked(value, known) if type(value) is type(known) else made(type(value), fields_of(value))
    return msgspec.convert(value, kind)


def rechecked(value: S, known: S) -> S:
    """Return a struct, checked but for what it has from another one of its type.

    Raises:
        msgspec.ValidationError: it does not fit.
    """
    changed = {}
    try:
        for name, kind in field_types[type(value)].items():
            new, old = getattr(value, name), getattr(known, name)
            if new is not old and new is not msgspec.UNSET:
                changed[name] = _rechecked_field(kind, new, old)
    except msgspec.ValidationError:
        # This error says where.
        return made(type(value), fields_of(value))
    return msgspec.structs.replace(value, **changed) if changed else value


def changed_items(old: Mapping[K, T], new: Mapping[K, T]) -> dict[K, T]:
    """Return the items of a mapping that are not the very same objects in another one, without a step of Python each.

    >>> same = [1]
    >>> changed_items({"a": same, "b": 1}, {"a": same, "b": [1], "c": None})
    {'b': [1], 'c': None}
    >>> changed_items({"a": same, "b": 1}, {"c": None, "a": same})
    {'c': None}
    """
    for known in _found.copy():
        if known[0] is old and known[1] is new:
            _found.clear()
            return known[2]
    if len(old) <= len(new) and list(old) == list(islice(new, len(old))):
        # The same keys in the same order, and perhaps more behind them: as ``{**old, key: value}`` makes it.
        others = compress(new, chain(map(is_not, old.values(), new.values()), repeat(True)))
    else:
        others = compress(new, map(is_not, map(old.get, new, repeat(_MISSING)), new.values()))
    return {key: new[key] for key in others}


#: What was found last in a large mapping: the old one, the new one, and what has changed. Who has checked a state knows
#: what a commit asks for next.
_found: deque[tuple[Any, Any, dict[Any, Any]]] = deque(maxlen=1)
#: From so many items on a mapping is large.
_LARGE = 1000


def _rechecked_field(kind: Any, new: Any, old: Any) -> Any:
    """Return a checked field; of a large mapping, what is in the old one is not checked again."""
    if type(new) is dict and type(old) is dict and get_origin(kind) is dict:
        given = changed_items(old, new)
        others = msgspec.convert(given, kind)
        if [(type(key), key) for key in given] == [(type(key), key) for key in others]:
            made = {**new, **others}
            if len(made) >= _LARGE:
                _found.append((old, made, others))
            return made
    return msgspec.convert(new, kind)


class _Kinds(dict[Any, dict[str, Any]]):
    """The mapping `field_types`; an item is made when it is first asked for."""

    def __missing__(self, kind: Any) -> dict[str, Any]:
        self[kind] = kinds = {field.name: field.type for field in msgspec.structs.fields(kind)}
        return kinds


#: For each type of structs its fields with their types. To find them takes msgspec more time than a turn.
field_types = _Kinds()


def refuse_unknown(kind: Any, fields: Mapping[str, Any]) -> None:
    """Check that a type of structs has all these fields.

    Raises:
        msgspec.ValidationError: it has not.
    """
    known = kind.__struct_encode_fields__
    for name in fields:
        if name not in known:
            raise msgspec.ValidationError(f"there is no field {name!r}; there are {', '.join(known)}")


def patched(state: S, patch: Mapping[str, Any], *, merge: bool) -> S:
    """Return a state with some fields changed.

    Args:
        state: the state.
        patch: new values by the name of the field.
        merge: whether mappings are merged, at any depth, with what is there.

    Raises:
        msgspec.ValidationError: the state has no such field, or the value does not fit it.
    """
    changed = {}
    for name, value in patch.items():
        if name not in type(state).__struct_fields__:
            raise msgspec.ValidationError(f"the state has no field {name!r}")
        changed[name] = _merged(getattr(state, name), value) if merge else value
    return rechecked(msgspec.structs.replace(state, **changed), state)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def differences(before: Any, after: Any) -> dict[str, Any]:
    """Return the fields of a struct that differ from those of another one of its type."""
    return {
        name: value
        for name in after.__struct_fields__
        if (value := getattr(after, name)) is not getattr(before, name) and value != getattr(before, name)
    }
