"""The writer: the actor that has the file of a store, and waits for the disk in a thread."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

from foundation.store.disk import Disk
from foundation.store.errors import NotWritten, StoreError
from foundation.store.file import Content, StoreFile, Sync
from foundation.store.messages import Append, BackUp, Maintain, OpenFile
from supervision import Actor, ExitReason, Refuse, handle
from supervision.errors import BadOption


class Writer(Actor):
    """Has the file of a store. Its handlers run in a thread, so that the loop does not wait for the disk.

    Args:
        opened: the file, as long as it is open: it outlives the actor, if that is killed.
        path: of the file.
        sync: when a commit is safe.
        fold_after: so many records in the journal are folded into rows.
        damaged: what to do with a journal that is damaged.
        disk: through which it writes.
    """

    isolation = "thread"
    infrastructure = True
    trap_exit = True

    def __init__(
        self,
        opened: list[StoreFile],
        path: Path,
        sync: Sync,
        fold_after: int,
        damaged: Literal["refuse", "cut"],
        disk: Disk,
    ) -> None:
        self._opened = opened
        self._path = path
        self._sync: Sync = sync
        self._fold_after = fold_after
        self._damaged: Literal["refuse", "cut"] = damaged
        self._disk = disk
        self._file: StoreFile | None = None

    @handle
    def open(self, request: OpenFile) -> Content:
        """Open the file, and close it where an incarnation that was killed has left it open."""
        while self._opened:
            self._opened.pop().close()
        try:
            self._file = StoreFile(self._path, self._sync, None, self._damaged, disk=self._disk)
        except StoreError as error:
            raise Refuse(error) from error
        self._opened.append(self._file)
        return self._file.content

    @handle
    def append(self, request: Append) -> bool:
        """Write transactions. Whoever does not know whether they were written ends, and the next incarnation looks."""
        assert self._file is not None
        try:
            self._file.append(request.transactions)
        except NotWritten as error:
            raise Refuse(error) from error
        return self._file.is_due(self._fold_after)

    @handle
    def maintain(self, request: Maintain) -> None:
        """Do what keeps the file short."""
        assert self._file is not None
        try:
            self._file.maintain(self._fold_after)
        except (sqlite3.Error, OSError, StoreError) as error:
            raise Refuse(NotWritten(f"{self._path}: {error}")) from error

    @handle
    def back_up(self, request: BackUp) -> None:
        """Write a copy of the file."""
        assert self._file is not None
        try:
            self._file.back_up(request.path)
        except (BadOption, StoreError) as error:
            raise Refuse(error) from error
        except (sqlite3.Error, OSError, ValueError) as error:
            raise Refuse(NotWritten(f"{request.path}: {error}; {NotWritten.remedy}")) from error

    def terminate(self, reason: ExitReason) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
