"""The end of SQLite's write-ahead log: what was begun and not finished when a process or a machine died.

SQLite leaves out silently what does not check; here it is said. The format is that of https://www.sqlite.org/fileformat.html
(section 4, "The Write-Ahead Log").
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}


class Tail(msgspec.Struct, frozen=True):
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


def tail_of(database: Path) -> Tail:
    """Look at the end of the write-ahead log of a database that nobody has open.

    Args:
        database: the path of the database itself; its log lies beside it.
    """
    log = database.with_name(f"{database.name}-wal")
    content = log.read_bytes() if log.exists() else b""
    if len(content) < _HEADER.size:
        return Tail(0, 0, len(content))
    magic, _, page, _, salt1, salt2, *checksum = _HEADER.unpack_from(content)
    order = _MAGIC.get(magic)
    if order is None or _checksum((0, 0), content[:24], order) != tuple(checksum):
        return Tail(0, 0, len(content))
    frame, sum_, at = _FRAME.size + page, tuple(checksum), _HEADER.size
    valid = committed = 0
    while len(content) - at >= frame:
        _, size, *salts, one, two = _FRAME.unpack_from(content, at)
        sum_ = _checksum(sum_, content[at : at + 8] + content[at + _FRAME.size : at + frame], order)
        ours, checks = salts == [salt1, salt2], sum_ == (one, two)
        if not ours and not checks:
            return Tail(committed, valid - committed, 0)  # what is left of an earlier, longer log
        if not ours or not checks:
            break
        at += frame
        valid += 1
        committed = valid if size else committed
    return Tail(committed, valid - committed, len(content) - at)


def _checksum(before: tuple[int, ...], data: bytes, order: str) -> tuple[int, int]:
    one, two = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
