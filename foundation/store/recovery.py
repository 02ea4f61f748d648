"""What a crash has cost: the end of SQLite's write-ahead log, and the number of the last acknowledged transaction.

SQLite leaves out silently what does not check; `log_tail` says what was begun and not finished when a process or a
machine died. A lost end of the file is noticed by the `CommitMark`, a number that is noted beside the file. The format
of the log is that of https://www.sqlite.org/fileformat.html (section 4, "The Write-Ahead Log").
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import crc32

import msgspec

_HEADER = struct.Struct(">8I")

_FRAME = struct.Struct(">6I")

_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}

_SLOT = struct.Struct(">8sQI")

_STEP = 512


class LogTail(msgspec.Struct, frozen=True):
    """The end of a log.

    Attributes:
        committed: how many frames (pages) belong to finished transactions.
        unfinished: how many whole frames follow that no commit ends.
        torn_bytes: how many bytes follow that are no whole frame, or whose checksum is wrong.
    """

    committed: int
    unfinished: int
    torn_bytes: int

    @property
    def clean(self) -> bool:
        """Whether nothing follows the last commit."""
        return not self.unfinished and not self.torn_bytes


def log_tail(database: Path) -> LogTail:
    """Look at the end of the write-ahead log of a database that nobody has open.

    Args:
        database: the path of the database itself; its log lies beside it.
    """
    log = database.with_name(f"{database.name}-wal")
    content = log.read_bytes() if log.exists() else b""
    if len(content) < _HEADER.size:
        return LogTail(0, 0, len(content))
    magic, _, page, _, salt1, salt2, *checksum = _HEADER.unpack_from(content)
    order = _MAGIC.get(magic)
    if order is None or _checksum((0, 0), content[:24], order) != tuple(checksum):
        return LogTail(0, 0, len(content))
    frame, sum_, at = _FRAME.size + page, tuple(checksum), _HEADER.size
    valid = committed = 0
    while len(content) - at >= frame:
        _, size, *salts, one, two = _FRAME.unpack_from(content, at)
        sum_ = _checksum(sum_, content[at : at + 8] + content[at + _FRAME.size : at + frame], order)
        ours, checks = salts == [salt1, salt2], sum_ == (one, two)
        if not ours and not checks:
            return LogTail(committed, valid - committed, 0)  # what is left of an earlier, longer log
        if not ours or not checks:
            break
        at += frame
        valid += 1
        committed = valid if size else committed
    return LogTail(committed, valid - committed, len(content) - at)


def _checksum(before: tuple[int, ...], data: bytes, order: str) -> tuple[int, int]:
    one, two = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


class CommitMark:
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
