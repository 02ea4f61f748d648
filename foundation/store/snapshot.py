"""Snapshots of a store: all its tables at one moment, as one immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from foundation.store.errors import BadKey, NoTable
from foundation.store.trie import Trie
from foundation.store.values import Row


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
