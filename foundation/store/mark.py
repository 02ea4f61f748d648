"""The mark: how far a store has acknowledged, noted beside its file, so that a lost end of the file is noticed."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import crc32

_SLOT = struct.Struct(">8sQI")
_STEP = 512


class Mark:
    """The highest number of a transaction that was acknowledged, in a small file of its own: ``NAME-mark``.

    It is written after each commit and not waited for: after the death of the machine it may be behind, never ahead.
    Two places are written in turn, so that one is whole whenever the process dies. It belongs to one file, by its
    identity: the mark of another one, or of the one that a back-up has replaced, says nothing.

    Args:
        database: the path of the store's file.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}-mark")
        self._file: int | None = None
        self._slot = 0

    def read(self, identity: bytes) -> int:
        """Return the number, or 0 if there is none for a file of this identity.

        Raises:
            OSError: it cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        slots = [content[at : at + _SLOT.size] for at in (0, _STEP)]
        found = [_SLOT.unpack(slot) for slot in slots if len(slot) == _SLOT.size]
        return max((number for of, number, sum_ in found if (of, sum_) == (identity, _sum(of, number))), default=0)

    def write(self, identity: bytes, number: int) -> None:
        """Note a number.

        Raises:
            OSError: it could not be written.
        """
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        os.lseek(self._file, self._slot * _STEP, os.SEEK_SET)
        os.write(self._file, _SLOT.pack(identity, number, _sum(identity, number)))
        self._slot = 1 - self._slot

    def close(self) -> None:
        """Bring it to the disk, and close it.

        Raises:
            OSError: the disk does not take it.
        """
        file, self._file = self._file, None
        if file is not None:
            try:
                os.fsync(file)
            finally:
                os.close(file)


def _sum(identity: bytes, number: int) -> int:
    return crc32(number.to_bytes(8, "big"), crc32(identity))
