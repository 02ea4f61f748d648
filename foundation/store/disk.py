"""The disk, as a store sees it: the one place through which all of its writing goes, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")

#: What is done: ``open`` and read the file, ``append`` records (not yet written), ``commit`` them (written, with the
#: fsync if ``sync`` asks for one), move the ``mark``, ``fold`` the journal, ``checkpoint`` SQLite's log, ``back_up``,
#: ``close``.
DiskStep: TypeAlias = Literal["open", "append", "commit", "mark", "fold", "checkpoint", "back_up", "close"]


class Disk:
    """Does what a store asks of the disk. Give a `Store` one of your own to have it fail or wait at any step.

    `step` is called in the store's thread, so it may block. What it raises is taken for what the disk says: an
    `sqlite3.Error` or an `OSError`. Raise before ``do()``, and nothing has reached the disk; raise after it, and all
    has, though the store is told otherwise: both happen.

    >>> import sqlite3
    >>> class Full(Disk):
    ...     def step(self, what, path, do):
    ...         if what == "commit":
    ...             raise sqlite3.OperationalError("database or disk is full")
    ...         return do()
    """

    def step(self, what: DiskStep, path: Path, do: Callable[[], T]) -> T:
        """Do one step.

        Args:
            what: which.
            path: of the store's file.
            do: does it.
        """
        return do()


#: The disk as it is.
DISK = Disk()
