"""Limits of resources: how much is used of each, and how near that is to its limit, as a level with hysteresis."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from foundation.options import above_zero, finite
from foundation.registry.directory import Directory
from supervision import Runtime
from supervision.errors import BadOption


class Level(IntEnum):
    """How much pressure there is."""

    NORMAL = 0
    MODERATE = 1
    SEVERE = 2


class Limit(msgspec.Struct, frozen=True):
    """How much there may be of a resource, and from which fraction of it on pressure is felt.

    Attributes:
        most: the limit.
        moderate: the fraction from which on pressure is moderate.
        severe: the fraction from which on it is severe.
        relief: so far has the fraction to fall below such a mark before the level goes down again.
    """

    most: float
    moderate: float = 0.8
    severe: float = 0.95
    relief: float = 0.05

    def checked(self, name: str) -> Limit:
        """Return this limit, with plain numbers.

        Raises:
            BadOption: its numbers make no sense.
        """
        most = above_zero(f"limit of {name}: most", self.most)
        marks = (self.moderate, self.severe, self.relief)
        moderate, severe, relief = (finite(mark) for mark in marks)
        if moderate is None or severe is None or relief is None or not 0 <= relief < moderate <= severe:
            raise BadOption(f"limit of {name}: marks", marks, "moderate is at most severe, and relief below both")
        return Limit(most, moderate, severe, relief)

    def level(self, used: float, before: Level) -> Level:
        """Return the level for a use, given what it was before.

        >>> limit = Limit(100, moderate=0.8, severe=0.95, relief=0.05)
        >>> [limit.level(used, Level.NORMAL).name for used in (79, 80, 95)]
        ['NORMAL', 'MODERATE', 'SEVERE']
        >>> [limit.level(used, Level.MODERATE).name for used in (76, 75, 74)]
        ['MODERATE', 'MODERATE', 'NORMAL']
        """
        fraction = used / self.most
        for level, mark in ((Level.SEVERE, self.severe), (Level.MODERATE, self.moderate)):
            if fraction >= (mark - self.relief if before >= level else mark):
                return level
        return Level.NORMAL


Measure: TypeAlias = Callable[[Runtime], float]

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory(_: Runtime) -> float:
    """Return the resident memory of the process, in bytes; 0 where the system does not tell."""
    return int(_STATM.read_text().split()[1]) * _PAGE if _STATM.exists() else 0.0


def actors(runtime: Runtime) -> float:
    """Return how many actors live."""
    return runtime.statistics().actors


def waiting_messages(runtime: Runtime) -> float:
    """Return how many messages wait in the mailboxes of all actors. It walks through them all: for small runtimes."""
    return sum(ref.mailbox_statistics().length for ref in runtime.actors())


def registry_entries(runtime: Runtime) -> float:
    """Return how many entries all registries have."""
    return sum(len(kept.root) for kept in list(runtime.shared.values()) if isinstance(kept, Directory))


#: What can be limited by its name; anything else is taken and given back as leases.
MEASURES: Mapping[str, Measure] = {
    "memory": memory,
    "actors": actors,
    "waiting_messages": waiting_messages,
    "registry_entries": registry_entries,
}
