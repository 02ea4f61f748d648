"""A subscription of a bus as it was kept, put together from its changes, and restored."""

from __future__ import annotations

from agents.core.router import matches
from agents.signals.messages import DeadLetter, SignalRecord
from agents.signals.rows import DeliveryRow, ExtraRow, SubscriptionChange, key_of
from agents.signals.subscription import BusSubscription


class KeptSubscription:
    """A subscription as it was kept, put together from its changes."""

    def __init__(self, first: SubscriptionChange) -> None:
        self.first = first
        self.settled: set[int] = set()
        self.tried: dict[int, tuple[int, int]] = {}
        self.extra: dict[int, ExtraRow] = {}
        self.dead: dict[int, DeadLetter] = {}
        self.floor = 0
        self.out: int | None = None
        self.add(first)

    def add(self, change: SubscriptionChange) -> None:
        """Add a change."""
        if change.options is not None:
            self.first = change
        for sequence in change.revived:
            self.dead.pop(sequence, None)
        for sequence in change.settled:
            self.extra.pop(sequence, None)
        self.settled.update(change.settled)
        self.tried.update(change.tried)
        self.extra.update({one.recorded.sequence: one for one in change.extra})
        self.dead.update({one.recorded.sequence: one for one in change.dead})
        self.floor, self.out = change.floor, change.out
        self.settled = {one for one in self.settled if one > self.floor} if len(self.settled) > 1000 else self.settled

    def restored(self, log: list[SignalRecord], last: int, *, clean: bool, now: float) -> BusSubscription:
        """Return the subscription as it was; after an unclean end, with suspects.

        Args:
            log: the signals of the log.
            last: the place of the last signal.
            clean: whether the bus was closed in order.
            now: the time.
        """
        first = self.first
        assert first.options is not None
        made = BusSubscription(first.name, first.options, self.floor)
        made.patterns, made.addresses = list(first.patterns), dict(first.members)
        made.dead = self.dead
        for record in log:
            if record.sequence > self.floor:
                if record.sequence not in self.settled and matches(self._pattern(record), record.signal.type):
                    made.add(record)
                else:
                    made.skip(record.sequence)
        made.skip(last)
        for one in self.extra.values():
            row = DeliveryRow(one.recorded, key_of(one.recorded, first.options.key))
            row.extra = one.redriven
            made._enter(row)
        for sequence, (attempt, deaths) in self.tried.items():
            known = made.rows.get(sequence)
            if known is not None:
                known.attempt, known.deaths = attempt, deaths
        made._done = {one for one in self.settled if one > self.floor}
        made._defined = True
        made.suspect(self.out, clean=clean, now=now)
        return made

    def _pattern(self, record: SignalRecord) -> str:
        fitting = [pattern for begin, pattern in self.first.patterns if begin < record.sequence]
        return fitting[-1] if fitting else self.first.patterns[0][1]
