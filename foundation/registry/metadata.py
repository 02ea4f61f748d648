"""What is known of a registered actor: a typed struct or a mapping, checked and frozen when it comes in.

Everybody reads the same object, so nothing in it may change afterwards. In what is kept, lists have become tuples, sets
frozen sets and mappings read-only views, at any depth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from operator import attrgetter
from types import MappingProxyType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from foundation.naming import key_trouble
from foundation.options import is_a
from foundation.registry.errors import BadMetadata
from supervision.messages import describe

Metadata: TypeAlias = msgspec.Struct | Mapping[str, Any]

#: What nothing can change, and holds nothing else.
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


def checked_metadata(metadata: Any) -> Any:
    """Return metadata as it is kept.

    Raises:
        BadMetadata: it is neither a mapping with text keys nor a frozen struct, or a field is not of its declared type;
            or there is something in it that nobody can rely on: that can be changed, or raises when it is looked at.
    """
    plain = _plain.get(type(metadata))
    if plain is not None and tuple(map(type, plain.values(metadata))) in plain.seen:
        return metadata
    try:
        return _checked(metadata, plain)
    except BadMetadata:
        raise
    except Exception as error:
        raise BadMetadata("metadata", metadata, f"looking at it raises {describe(error)}") from None


def _checked(metadata: Any, plain: _Plain | None = None) -> Any:
    kind = type(metadata)
    if plain is None:
        if isinstance(metadata, Mapping):
            if not all(isinstance(name, str) for name in metadata):
                raise BadMetadata("metadata", metadata, "the keys of a mapping are strings")
            return frozen("metadata", metadata)
        if not isinstance(metadata, msgspec.Struct):
            raise BadMetadata("metadata", metadata, "give a frozen msgspec.Struct or a mapping")
        plain = _plain[kind] = _Plain(kind)
    if not kind.__struct_config__.frozen:
        raise BadMetadata("metadata", metadata, f"readers share it: declare {kind.__name__} with frozen=True")
    frozen("metadata", metadata)
    kept = frozen("metadata", _converted(_fields(metadata), kind))
    plain.learn(metadata, kept)
    return kept


class _Plain:
    """With values of which types a struct has been seen to be as it should be, when nothing else is to be checked."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        fields = kind.__struct_fields__
        self.values: Callable[[Any], Any] = attrgetter(*fields) if len(fields) > 1 else lambda struct: fields
        self.seen: set[tuple[type, ...]] = set()
        hints = get_type_hints(kind, include_extras=True)
        self._simple = len(fields) > 1 and all(_simple(hints[name]) for name in fields)

    def learn(self, given: msgspec.Struct, kept: msgspec.Struct) -> None:
        """Remember the types of values, if a struct is kept as it was given whenever its values are of these types."""
        types = tuple(map(type, self.values(given)))
        if self._simple and _PLAIN.issuperset(types) and types == tuple(map(type, self.values(kept))):
            self.seen.add(types)


_plain: dict[type, _Plain] = {}


def _simple(hint: Any) -> bool:
    """Tell whether values of a field are right if they are of the right type: no limits, patterns or literals."""
    return hint in _PLAIN or (get_origin(hint) in (Union, UnionType) and all(map(_simple, get_args(hint))))


def changed_metadata(metadata: Any, changes: Any) -> Any:
    """Return metadata with some fields changed, as it is kept.

    Raises:
        BadMetadata: a field is not declared, or not of its declared type; or see `checked_metadata`.
    """
    if not is_a(changes, Mapping):
        raise BadMetadata("changes", changes, "give a mapping from the names of fields to new values")
    try:
        return _changed(metadata, changes)
    except BadMetadata:
        raise
    except Exception as error:
        raise BadMetadata("changes", changes, f"looking at them raises {describe(error)}") from None


def _changed(metadata: Any, changes: Mapping[str, Any]) -> Any:
    if not isinstance(metadata, msgspec.Struct):
        return _checked({**metadata, **changes})
    fields = _fields(metadata)
    for name, value in changes.items():
        if name not in fields:
            raise BadMetadata(f"metadata.{name}", value, f"{type(metadata).__name__} has no such field")
        fields[name] = value
    return frozen("metadata", _converted(fields, type(metadata)))


def values_at(metadata: Any, path: tuple[str, ...]) -> Collection[Any]:
    """Return what is at a path: the members of a collection, or the value itself; nothing if it is None or not there.

    Args:
        metadata: as it is kept.
        path: the names that lead there, through nested structs and mappings.
    """
    for name in path:
        if isinstance(metadata, msgspec.Struct):
            metadata = getattr(metadata, name, None)
        elif isinstance(metadata, Mapping):
            metadata = metadata.get(name)
        else:
            return ()
    if metadata is None:
        return ()
    return metadata if isinstance(metadata, (tuple, frozenset)) else (metadata,)


def indexed_values(metadata: Any, path: tuple[str, ...]) -> tuple[Hashable, ...]:
    """Return what an index notes of metadata: the values at a path, each once.

    Raises:
        BadMetadata: a value cannot be in an index.
    """
    if len(path) == 1 and isinstance(metadata, msgspec.Struct):
        value = getattr(metadata, path[0], None)
        if type(value) is str:  # which is what most are
            return (value,)
    values = values_at(metadata, path)
    try:
        hash(values)  # of a tuple: all its members'
        return tuple(dict.fromkeys(values)) if len(values) > 1 else tuple(values)
    except TypeError:
        where = f"metadata.{'.'.join(path)}"
        raise BadMetadata(where, values, "the values of an indexed field must be hashable") from None


def frozen(where: str, value: Any) -> Any:
    """Return ``value`` with nothing in it that could be changed.

    Raises:
        BadMetadata: there is something in it that can be changed, or cannot be compared and looked for.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        items = [(_usable(where, name), frozen(f"{where}.{name}", item)) for name, item in value.items()]
        return MappingProxyType(dict(items))
    if isinstance(value, (list, tuple)):
        return tuple(frozen(where, item) for item in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(_usable(where, member) for member in value)
    if isinstance(value, msgspec.Struct):
        return _frozen_struct(where, value)
    return _usable(where, value)


def _usable(where: str, value: Any) -> Any:
    """Return a value that readers can share: one that can be hashed will not change."""
    if type(value) not in _PLAIN:
        why = key_trouble(value)
        if why is not None:
            raise BadMetadata(where, value, f"readers share it, and compare it: {why}")
    return value


def _frozen_struct(where: str, value: msgspec.Struct) -> msgspec.Struct:
    if not value.__struct_config__.frozen:
        raise BadMetadata(where, value, f"readers share it: declare {type(value).__name__} with frozen=True")
    items = {name: getattr(value, name) for name in value.__struct_fields__}
    kept = {name: frozen(f"{where}.{name}", item) for name, item in items.items()}
    different = {name: item for name, item in kept.items() if item is not items[name]}
    return msgspec.structs.replace(value, **different) if different else value


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _converted(fields: dict[str, Any], kind: type[msgspec.Struct]) -> Any:
    encoded = dict(zip(kind.__struct_encode_fields__, (fields[name] for name in kind.__struct_fields__), strict=True))
    try:
        return msgspec.convert(encoded, kind)
    except msgspec.ValidationError as error:
        raise BadMetadata(kind.__name__, fields, str(error)) from None
