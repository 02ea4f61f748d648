"""A subscription of a bus: which signals are due, delivered, and acknowledged."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.signals.messages import SignalRecord, Subscribe
    from supervision import Address, Monitor


class BusSubscription:
    """Somebody who wants signals; with a name, somebody who acknowledges them.

    Attributes:
        name: of the subscription.
        lasting: whether it has a name of its own, so that it stays when the subscriber ends.
        pattern: of the types of signals.
        to: the subscriber; None while there is none.
        wanted: what was asked for.
        monitor: of the subscriber.
        acked: everything up to this place in the log is dealt with.
        flying: what is with the subscriber, and how often it was there.
    """

    __slots__ = (
        "_behind",
        "_due",
        "_open",
        "acked",
        "durable",
        "in_flight",
        "monitor",
        "name",
        "pattern",
        "redriven",
        "request",
        "to",
        "tried",
    )

    def __init__(self, name: str, lasting: bool, wanted: Subscribe, begin: int) -> None:
        self.name = name
        self.durable = lasting
        self.pattern = wanted.pattern
        self.request = wanted
        self.to: Address | None = None
        self.monitor: Monitor | None = None
        self.acked = begin
        self.in_flight: dict[int, int] = {}
        #: How often what waits to come again was delivered.
        self.tried: dict[int, int] = {}
        self._due: list[int] = []
        #: What is not dealt with.
        self._open: set[int] = set()
        self._behind: deque[int] = deque()
        #: Dead letters that are delivered again: the log may have forgotten them.
        self.redriven: dict[int, SignalRecord] = {}

    def enqueue(self, sequence: int) -> None:
        """Note a signal that is to be delivered."""
        self._behind.append(sequence)
        self.requeue(sequence)

    def requeue(self, sequence: int) -> None:
        """Note a signal that is to be delivered again."""
        self._open.add(sequence)
        heappush(self._due, sequence)

    def is_pending(self, sequence: int) -> bool:
        """Return whether a signal is not dealt with."""
        return sequence in self._open

    def next_due(self) -> int | None:
        """Return the oldest signal that is to be delivered now, if there is one and room for it."""
        while self.to is not None and self._due and len(self.in_flight) < self.request.in_flight:
            sequence = heappop(self._due)
            if sequence in self._open:
                self.in_flight[sequence] = self.tried.pop(sequence, 0) + 1
                return sequence
        return None

    def settle(self, sequence: int) -> None:
        """Note that a signal is dealt with."""
        self.in_flight.pop(sequence, None)
        self.tried.pop(sequence, None)
        self.redriven.pop(sequence, None)
        self._open.discard(sequence)
        while self._behind and self._behind[0] not in self._open:
            self.acked = self._behind.popleft()

    def detach(self) -> None:
        """Note that the subscriber is gone: what was with it is to be delivered again."""
        self.to = self.monitor = None
        for sequence, times in self.in_flight.items():
            self.tried[sequence] = times - 1
            heappush(self._due, sequence)
        self.in_flight.clear()

    def pending(self) -> int:
        """Return how many signals are not dealt with."""
        return len(self._open)
