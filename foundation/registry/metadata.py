"""What is known of a registered actor: a typed struct or a mapping, checked and frozen when it comes in.

Everybody reads the same object, so nothing in it may change afterwards. In what is kept, lists have become tuples, sets
frozen sets and mappings read-only views, at any depth.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from foundation.registry.errors import BadMetadata

Metadata: TypeAlias = msgspec.Struct | Mapping[str, Any]

_ABSENT = object()


def checked(metadata: object) -> Any:
    """Return metadata as it is kept.

    Raises:
        BadMetadata: it is neither a mapping with text keys nor a frozen struct, or a field is not of its declared type.
    """
    if isinstance(metadata, Mapping):
        if not all(isinstance(name, str) for name in metadata):
            raise BadMetadata("metadata", metadata, "the keys of a mapping are strings")
        return frozen("metadata", metadata)
    if not isinstance(metadata, msgspec.Struct):
        raise BadMetadata("metadata", metadata, "give a frozen msgspec.Struct or a mapping")
    frozen("metadata", metadata)
    return frozen("metadata", _converted(_fields(metadata), type(metadata)))


def changed(metadata: Any, changes: Mapping[str, Any]) -> Any:
    """Return metadata with some fields changed, as it is kept.

    Raises:
        BadMetadata: a field is not declared, or not of its declared type.
    """
    if not isinstance(metadata, msgspec.Struct):
        return checked({**metadata, **changes})
    fields = _fields(metadata)
    for name, value in changes.items():
        if name not in fields:
            raise BadMetadata(f"metadata.{name}", value, f"{type(metadata).__name__} has no such field")
        fields[name] = value
    return frozen("metadata", _converted(fields, type(metadata)))


def values_at(metadata: Any, path: str) -> tuple[Hashable, ...]:
    """Return what an index notes of metadata: the members of a collection, or the value itself; nothing if it has none.

    Args:
        metadata: as it is kept.
        path: the name of a field; dots lead into nested structs and mappings.

    Raises:
        BadMetadata: a value cannot be in an index.
    """
    for name in path.split("."):
        metadata = metadata.get(name, _ABSENT) if isinstance(metadata, Mapping) else getattr(metadata, name, _ABSENT)
        if metadata is _ABSENT or metadata is None:
            return ()
    values = metadata if isinstance(metadata, (tuple, frozenset)) else (metadata,)
    try:
        return tuple(dict.fromkeys(values))
    except TypeError:
        raise BadMetadata(f"metadata.{path}", metadata, "the values of an indexed field must be hashable") from None


def frozen(where: str, value: Any) -> Any:
    """Return ``value`` with nothing in it that could be changed.

    Raises:
        BadMetadata: there is a struct in it that is not frozen.
    """
    if isinstance(value, Mapping):
        return MappingProxyType({name: frozen(f"{where}.{name}", item) for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(frozen(where, item) for item in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    if isinstance(value, msgspec.Struct):
        return _frozen_struct(where, value)
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
