"""Snapshots of a store: all its tables at one moment, as one immutable value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from immutables import Map

from foundation.store.errors import NoTable


class Row(msgspec.Struct, frozen=True):
    """A value, and the transaction that wrote it."""

    value: Any
    version: int


class Table(msgspec.Struct, frozen=True):
    """A table at one moment.

    Attributes:
        rows: by key.
        version: the last transaction that changed anything in it.
    """

    rows: Map[Any, Row] = Map()
    version: int = 0

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key."""
        row = self.rows.get(key)
        return default if row is None else row.value

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Return all keys with their values, in no order."""
        return ((key, row.value) for key, row in self.rows.items())

    def __len__(self) -> int:
        return len(self.rows)


class StoreSnapshot(msgspec.Struct, frozen=True):
    """All tables of a store at one moment.

    Attributes:
        version: how many transactions were committed so far.
        tables: by name.
    """

    version: int = 0
    tables: Map[str, Table] = Map()

    def table(self, name: str) -> Table:
        """Return a table.

        Raises:
            NoTable: there is none of this name.
        """
        table: Table | None = self.tables.get(name)
        if table is None:
            raise NoTable(name, sorted(self.tables))
        return table
