"""Snapshots of a store: all its tables at one moment, as one immutable value.

What is read from a table belongs to its reader, so that nobody else's copy can be changed with it.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from foundation.store.errors import BadKey, NoTable
from foundation.store.trie import Trie

#: What cannot be changed.
_PLAIN = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        str,
        bytes,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }
)


class Row(msgspec.Struct, frozen=True):
    """A value, and the transaction that wrote it.

    Attributes:
        kept: the value, if nobody can change it; otherwise its encoded form.
        version: the number of the transaction.
        decoder: what decodes it at each read, or None if it is not encoded.
    """

    kept: Any
    version: int
    decoder: msgspec.msgpack.Decoder[Any] | None = None

    @property
    def value(self) -> Any:
        """The value. If it can be changed, it is the reader's own."""
        return self.kept if self.decoder is None else self.decoder.decode(self.kept)


def row_of(body: bytes, decoder: msgspec.msgpack.Decoder[Any], version: int) -> Row:
    """Return a row.

    Args:
        body: its value, encoded.
        decoder: for the type of the table.
        version: the number of the transaction that wrote it.

    Raises:
        msgspec.ValidationError: the value is not of the type.
    """
    try:
        value = decoder.decode(body)
        if unchangeable(value):
            return Row(value, version)
    except RecursionError:
        pass  # it was written where the stack was less deep; the reader may have more room, too
    return Row(body, version, decoder)


def unchangeable(value: Any) -> bool:
    """Return whether nobody can change a value: plain ones, and tuples, frozen sets and frozen structs of such.

    >>> unchangeable(("a", 1, None)), unchangeable(("a", []))
    (True, False)
    """
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(unchangeable, value))
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen:
        return all(unchangeable(getattr(value, name)) for name in kind.__struct_fields__)
    return issubclass(kind, enum.Enum)


class Table(msgspec.Struct, frozen=True):
    """A table at one moment.

    Attributes:
        name: of the table.
        rows: by key.
        version: the last transaction that changed anything in it.
    """

    name: str
    rows: Trie[Any, Row] = Trie()
    version: int = 0

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key. If it can be changed, it is the caller's own copy.

        Raises:
            BadKey: this can be no key of any dictionary.
        """
        try:
            row = self.rows.get(key)
        except Exception:
            raise BadKey(self.name, key) from None
        return default if row is None else row.kept if row.decoder is None else row.value

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Return all keys with their values, in no order."""
        return ((key, row.value) for key, row in self.rows.pairs())

    def __len__(self) -> int:
        return len(self.rows)


class StoreSnapshot(msgspec.Struct, frozen=True):
    """All tables of a store at one moment.

    Attributes:
        version: how many transactions were committed so far.
        tables: by name.
    """

    version: int = 0
    tables: Mapping[str, Table] = MappingProxyType({})

    def table(self, name: str) -> Table:
        """Return a table.

        Raises:
            NoTable: there is none of this name.
        """
        try:
            return self.tables[name]
        except Exception:
            raise NoTable(name, sorted(self.tables)) from None
