"""How a value is written by a program's process: plain ones as they are, others as lists that begin with a mark."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: The most bytes that the process may send at once.
LONGEST = 1 << 26
#: How much of a text about something else is sent, in characters.
LONGEST_TEXT = 100_000


class Mark(enum.IntEnum):
    """What a list stands for."""

    LIST = 0
    TUPLE = 1
    DICT = 2
    SET = 3
    FROZENSET = 4
    INT = 5
    STR = 6
    TEXT = 7
    ARRAY = 8
    KEPT = 9
    MODULE = 10
    KNOWN = 11
    CLASS = 12
    SIGNATURE = 13
    ANNOTATION = 14
    OBJECT = 15
    MEMBER = 16
    ERROR = 17
    UNSENT = 18


#: Kinds of values that are written as texts: how they are written, and read.
TEXTS: Mapping[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda value: f"{value.days} {value.seconds} {value.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split())),
    ),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "path": (type(pathlib.Path()), str, pathlib.Path),
    "complex": (complex, repr, complex),
}


@dataclass(frozen=True)
class Unsent:
    """Stands, where a program's calls are looked at, for something of its process that is no data.

    Attributes:
        kind: the name of its class.
        text: how it shows itself.
    """

    kind: str
    text: str
