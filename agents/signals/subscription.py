"""A subscription of a bus: which signals are due, delivered, and acknowledged."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.signals.messages import SignalRecord, Subscribe
    from supervision import Address, Monitor


class BusSubscription:
    """The signals of one subscriber: which are due, which are delivered, and, with a name, which are acknowledged.

    Attributes:
        name: of the subscription.
        durable: whether it has a name of its own, so that it stays when the subscriber ends.
        pattern: of the types of signals.
        to: the subscriber; None while there is none.
        request: what was asked for.
        monitor: of the subscriber.
        acked: everything up to this place in the log is acknowledged.
        in_flight: delivered and not yet acknowledged, with the attempt.
        tried: due again, with the number of earlier deliveries.
        redriven: dead letters that are delivered again: the log may have dropped them.
    """

    __slots__ = (
        "_after_acked",
        "_due",
        "_pending",
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

    def __init__(self, name: str, durable: bool, request: Subscribe, begin: int) -> None:
        self.name = name
        self.durable = durable
        self.pattern = request.pattern
        self.request = request
        self.to: Address | None = None
        self.monitor: Monitor | None = None
        self.acked = begin
        self.in_flight: dict[int, int] = {}
        self.tried: dict[int, int] = {}
        self._due: list[int] = []
        #: What is not acknowledged.
        self._pending: set[int] = set()
        #: The signals behind `acked`, in order; `acked` moves on when those at the front are acknowledged.
        self._after_acked: deque[int] = deque()
        self.redriven: dict[int, SignalRecord] = {}

    def enqueue(self, sequence: int) -> None:
        """Add a signal that is to be delivered."""
        self._after_acked.append(sequence)
        self.requeue(sequence)

    def requeue(self, sequence: int) -> None:
        """Add a signal that is to be delivered again."""
        self._pending.add(sequence)
        heappush(self._due, sequence)

    def is_pending(self, sequence: int) -> bool:
        """Return whether a signal is not acknowledged."""
        return sequence in self._pending

    def next_due(self) -> int | None:
        """Return the oldest signal that is to be delivered now, if there is one and room for it."""
        while self.to is not None and self._due and len(self.in_flight) < self.request.in_flight:
            sequence = heappop(self._due)
            if sequence in self._pending:
                self.in_flight[sequence] = self.tried.pop(sequence, 0) + 1
                return sequence
        return None

    def settle(self, sequence: int) -> None:
        """Remove a signal that is acknowledged, or has become a dead letter."""
        self.in_flight.pop(sequence, None)
        self.tried.pop(sequence, None)
        self.redriven.pop(sequence, None)
        self._pending.discard(sequence)
        while self._after_acked and self._after_acked[0] not in self._pending:
            self.acked = self._after_acked.popleft()

    def detach(self) -> None:
        """Take the subscriber away: what it has not acknowledged is to be delivered again."""
        self.to = self.monitor = None
        for sequence, times in self.in_flight.items():
            self.tried[sequence] = times - 1
            heappush(self._due, sequence)
        self.in_flight.clear()

    def pending(self) -> int:
        """Return how many signals are not acknowledged."""
        return len(self._pending)
