"""What a durable agent has taken: a signal that comes again is acknowledged, and not done again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from agents.core.tokens import effect_token
from agents.durability.checkpoint import decoded, encoded
from agents.durability.storage import RowName, StoredRow

if TYPE_CHECKING:
    from agents.core.signal import Signal

#: So many ids of signals from outside are remembered for each agent; then the oldest one is forgotten.
REMEMBERED = 10_000
_KIND, _STREAM = "inbox", "stream"


class Taken(msgspec.Struct, frozen=True):
    """An id that was taken: in which turn, and when, in seconds since the epoch."""

    turn: int
    at: float


class TakenNumbers(msgspec.Struct, frozen=True):
    """Which numbers of a stream were taken: all below the floor, and those in the runs, first and last.

    >>> TakenNumbers().with_number(1, floor=1).with_number(2, floor=1).with_number(5, floor=1)
    TakenNumbers(floor=1, runs=((1, 2), (5, 5)))
    >>> TakenNumbers(1, ((1, 2), (5, 5))).with_number(6, floor=6)
    TakenNumbers(floor=6, runs=((6, 6),))
    """

    floor: int = 0
    runs: tuple[tuple[int, int], ...] = ()

    def knows(self, number: int) -> bool:
        """Return whether a number was taken, or can never come again."""
        return number < self.floor or any(first <= number <= last for first, last in self.runs)

    def with_number(self, number: int, floor: int) -> TakenNumbers:
        """Return it with a number more, and without those below the floor, which can never come again."""
        floor = max(floor, self.floor)
        points = sorted((*self.runs, (number, number)))
        runs: list[tuple[int, int]] = []
        for first, last in points:
            begin = max(first, floor)
            if last < begin:
                continue
            if runs and runs[-1][1] + 1 >= begin:
                runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
            else:
                runs.append((begin, last))
        return TakenNumbers(floor, tuple(runs))


class Inbox:
    """The ids that one agent has taken.

    Ids from outside are counted, not timed: however long the program is down, none is forgotten meanwhile. Those of the
    streams of other agents need no limit: each stream says below which number nothing comes again.

    Args:
        rows: what is kept of it.

    Attributes:
        duplicates: how many signals came again.
    """

    __slots__ = ("_ids", "_streams", "duplicates")

    def __init__(self, rows: Iterable[StoredRow] = ()) -> None:
        known = {row.id: decoded(row.id, row.body, Taken) for row in rows if row.kind == _KIND}
        self._ids = dict(sorted(known.items(), key=lambda item: item[1].turn))
        self._streams = {row.id: decoded(row.id, row.body, TakenNumbers) for row in rows if row.kind == _STREAM}
        self.duplicates = 0

    def remembers(self, signal: Signal) -> bool:
        """Return whether a signal was taken."""
        return known_as(signal) in self._ids

    def knows(self, signal: Signal) -> bool:
        """Return whether a signal was taken before; count it if it was."""
        known = self.remembers(signal)
        self.duplicates += known
        return known

    def knows_number(self, stream: str, number: int) -> bool:
        """Return whether something of a stream was taken before; count it if it was."""
        known = stream in self._streams and self._streams[stream].knows(number)
        self.duplicates += known
        return known

    def taking(self, signal: Signal, turn: int, at: float) -> tuple[StoredRow, list[RowName]]:
        """Return the row that a turn for a signal adds, and those that it takes the place of."""
        forgotten = [(_KIND, id) for id in list(self._ids)[: max(0, len(self._ids) + 1 - REMEMBERED)]]
        return StoredRow(_KIND, known_as(signal), encoded(Taken(turn, at), "Taken", signal.id)), forgotten

    def taking_number(self, stream: str, number: int, floor: int) -> StoredRow:
        """Return the row that a turn for something of a stream adds."""
        numbers = self._streams.get(stream, TakenNumbers()).with_number(number, floor)
        return StoredRow(_STREAM, stream, encoded(numbers, "TakenNumbers", stream))

    def commit(self, put: Iterable[StoredRow], drop: Iterable[RowName]) -> list[Taken]:
        """Take over what a turn has added; return what it has forgotten."""
        forgotten = [self._ids.pop(id) for kind, id in drop if kind == _KIND]
        for row in put:
            if row.kind == _KIND:
                self._ids[row.id] = decoded(row.id, row.body, Taken)
            elif row.kind == _STREAM:
                self._streams[row.id] = decoded(row.id, row.body, TakenNumbers)
        return forgotten

    def __len__(self) -> int:
        """Return how many ids are remembered."""
        return len(self._ids)


def known_as(signal: Signal) -> str:
    """Return the name under which a signal is remembered: two of one source and id are one."""
    return effect_token(signal.source, signal.id)
