"""Identifiers that sort by the time they were made: UUIDs of version 7 (RFC 9562, section 5.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


def uuid7(chance: Random, seconds: float) -> str:
    """Return a UUID of version 7.

    Args:
        chance: where its 74 random bits come from, such as ``runtime.random``.
        seconds: since the epoch, such as ``runtime.clock.wall_time()``.

    >>> from random import Random
    >>> uuid7(Random(1), 1_700_000_000.5)
    '018bcfe5-69f4-7226-b63c-5ab791b7584a'
    """
    milliseconds = int(seconds * 1000) & (1 << 48) - 1
    bits = milliseconds << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
