"""How much memory entries take: an estimate, made when they come in."""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from foundation.registry.tables import Entry


#: What the tables of a registry need for an entry beside its key and metadata.
OVERHEAD = 300


def size_of(entry: Entry) -> int:
    """Return about how many bytes an entry takes: its key, its metadata, and its place in the tables."""
    return OVERHEAD + _deep(entry.key) + _deep(entry.metadata)


def _own(value: Any) -> int:
    """Return what it takes itself, as far as it says so."""
    try:
        return getsizeof(value)
    except Exception:
        return OVERHEAD


def _deep(value: Any) -> int:
    if isinstance(value, msgspec.Struct):
        return _own(value) + sum(_deep(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, Mapping):
        return _own(value) + sum(_deep(name) + _deep(item) for name, item in value.items())
    if isinstance(value, (tuple, frozenset)):
        return _own(value) + sum(map(_deep, value))
    return _own(value)
