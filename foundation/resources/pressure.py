"""Pressure: how near to its limit a resource is, as one of three levels that do not flutter."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from foundation.options import above_zero, finite
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
