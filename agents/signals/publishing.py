"""What a bus does with signals before they are delivered: it checks, numbers and writes them, many at a time."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

from agents.core.router import matches
from agents.core.signal import Signal
from agents.core.traces import in_trace
from agents.durability.storage import Storage, StorageConflict
from agents.errors import PublishRefused
from agents.events import BusNotSaved, PublishFailed
from agents.signals.bus_file import BusChange, BusFile, BusWriter, BusWritten, WriteBus, entry, packed, written
from agents.signals.causes import Causes
from agents.signals.checks import about_signal, check_signal
from agents.signals.messages import GetCausalChain, Publish, ReadLog, SignalRecord
from agents.signals.rows import SubscriptionChange
from supervision import Abnormal, Actor, Message, ReplyTo, handle
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.logs import get_logger
from supervision.messages import describe
from supervision.options import is_whole

_log: Any = get_logger("agents.signals")

#: What happens when the log is full of signals that were not acknowledged: the publisher is refused, or the oldest
#: becomes a dead letter.
WhenFull = Literal["refuse", "dead_letters"]
#: The longest pause before a write that has failed is tried again, in seconds.
_LONGEST_PAUSE = 30.0


#: What is called when what has become of the subscriptions is written.
_Told: TypeAlias = list[Callable[[], None]]


class _WriteDue(Message, frozen=True):
    """Message of a bus to itself: write what waits."""


class _SaveDue(Message, frozen=True):
    """Timer message: write what has become of the subscriptions."""


class _Written(Message, frozen=True):
    """A write is over."""

    outcome: BusWritten


class _Publishing:
    """Signals that wait for the next write: as bytes, if they are to be kept, and who waits for the answer."""

    __slots__ = ("packed", "records", "reply", "signals")

    def __init__(self, signals: tuple[Signal, ...], reply: ReplyTo[Any] | None) -> None:
        self.signals = signals
        self.packed: tuple[bytes, ...] = (b"",) * len(signals)
        self.reply = reply
        self.records: tuple[SignalRecord, ...] = ()


class PublishingBus(Actor):
    """The part of a `Bus` that takes signals, keeps the log, and writes. What is published meanwhile goes together.

    Attributes:
        _file: what is kept, if anything is.
        _log: the last signals.
        _sequence: the place of the last one.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        key: str = "bus",
        keep: int = 100_000,
        ack_every: float = 1.0,
        full: WhenFull | None = None,
        max_size: int = 1 << 20,
    ) -> None:
        for option, number in (("keep", keep), ("max_size", max_size)):
            if not is_whole(number, 1):
                raise BadOption(f"Bus: {option}", number, "give a whole number from 1")
        if full not in (None, *get_args(WhenFull)):
            raise BadOption("Bus: full", full, "give refuse, dead_letters, or None")
        self._file = None if storage is None else BusFile(storage, key)
        self._keep = keep
        self._max_size = max_size
        self._full = full or ("dead_letters" if storage is None else "refuse")
        self._ack_every = seconds("ack_every", ack_every, zero=False)
        self._log: deque[SignalRecord] = deque()
        self._ids: dict[tuple[str, str], SignalRecord] = {}
        self._sequence = 0
        self._causes = Causes()
        # What waits for the next write, and what is being written.
        self._publishing: list[_Publishing] = []
        self._in_write: tuple[
            list[_Publishing], list[SignalRecord], list[SubscriptionChange] | None, list[Callable[[], None]]
        ]
        self._write_due = self._writing = False
        self._save_set = self._save_now = False
        self._unsaved: list[SubscriptionChange] = []
        self._saved: _Told = []
        self._failures = 0
        self._trimmed = 0

    # -- what the bus does with them ------------------------------------------------------------------------------

    @abstractmethod
    def _deliver(self, records: Iterable[SignalRecord]) -> None: ...

    @abstractmethod
    def _is_open(self, sequence: int) -> bool:
        """Return whether a signal is neither done nor dead in all subscriptions."""

    @abstractmethod
    def _changes(self) -> list[SubscriptionChange]:
        """Return what has changed in the subscriptions since the last time."""

    @abstractmethod
    def _whole(self) -> list[SubscriptionChange]:
        """Return the subscriptions, seen from nothing."""

    async def _opened(self) -> None:
        """Write that the bus runs: from here on the end is unclean until `terminate` says otherwise."""
        assert self._file is not None
        outcome = await written(self._file, self._job((), self._changes(), closed=False))
        if outcome.state is not None:
            raise outcome.state
        self._begin_writer()

    def _begin_writer(self) -> None:
        assert self._file is not None
        self._writer = self.runtime.spawn_nowait(BusWriter, self.ref, self._file)

    async def terminate(self, reason: Any) -> None:
        """Write what has become of the subscriptions, and that the end was in order."""
        if self._file is None:
            return
        if self._writing:
            await asyncio.wait([self._write_call])
            self._unsaved = [*(self._in_write[2] or ()), *self._unsaved]
        outcome = await written(self._file, self._job((), [*self._unsaved, *self._changes()], closed=True))
        if outcome.state is not None:
            _log.warning("bus_not_saved", bus=self.ref.path, error=str(outcome.state))

    # -- publishing --------------------------------------------------------------------------------------------------

    @handle
    def published(self, signal: Signal) -> None:
        """Publish a signal that was cast."""
        self._publish((signal,), None)

    @handle
    def publish(self, request: Publish) -> None:
        """Publish signals."""
        self._publish(request.signals, self.defer_reply())

    def _publish(self, signals: tuple[Signal, ...], reply: ReplyTo[Any] | None) -> None:
        one = _Publishing(signals, reply)
        try:
            for signal in signals:
                check_signal(signal)
            one.signals = tuple(in_trace(self.runtime, signal) for signal in signals)
            if self._file is not None:
                one.packed = tuple(map(self._packed, one.signals))
                self._publishing.append(one)
                self._write_soon()
            else:
                fresh = self._numbered(one, {}, self._sequence)
                self._room_for(len(fresh), signals)
                self._deliver([record for record, _ in fresh])
                self._answer([one])
        except PublishRefused as refused:
            self._refused(one, refused)

    def _packed(self, signal: Signal) -> bytes:
        try:
            data = packed(signal)
        except Exception as error:  # also what the data themselves raise, and what is nested too deep
            raise PublishRefused(signal.type, signal.id, f"it cannot be kept: {describe(error, form=str)}") from None
        if len(data) > self._max_size:
            why = f"it has {len(data)} bytes, and may have {self._max_size}"
            raise PublishRefused(signal.type, signal.id, why)
        return data

    def _refused(self, one: _Publishing, error: Exception) -> None:
        """Tell the publisher, and the event stream, that signals are not published."""
        for signal in one.signals:
            self.runtime.events.emit(PublishFailed, ref=self.ref, error=str(error), **about_signal(signal))
        if one.reply is not None:
            one.reply.fail(error)

    def _numbered(
        self, waiting: _Publishing, batch: dict[tuple[str, str], SignalRecord], sequence: int
    ) -> list[tuple[SignalRecord, bytes]]:
        """Give numbers to signals that the log has not; return these."""
        now = self.runtime.clock.wall_time()
        fresh: list[tuple[SignalRecord, bytes]] = []
        records: list[SignalRecord] = []
        for signal, data in zip(waiting.signals, waiting.packed, strict=True):
            id = (signal.source, signal.id)
            known = self._ids.get(id) or batch.get(id)
            if known is None:
                sequence += 1
                known = batch[id] = SignalRecord(sequence, now, signal)
                fresh.append((known, data))
            records.append(known)
        waiting.records = tuple(records)
        return fresh

    def _room_for(self, number: int, signals: tuple[Signal, ...], more: int = 0) -> None:
        """Check that signals have room in the log, besides some that are being written; else refuse them."""
        over = len(self._log) + more + number - self._keep
        if over <= 0 or self._full == "dead_letters":
            return
        oldest = islice(self._log, over)
        if over <= len(self._log) and not any(self._is_open(record.sequence) for record in oldest):
            return
        full = (
            "the log is full: its oldest signals are not acknowledged" if number <= self._keep else "they are too many"
        )
        why = f"{full}; it has room for {self._keep}"
        raise PublishRefused(signals[0].type, signals[0].id, why)

    def _note(self, record: SignalRecord) -> None:
        self._sequence = record.sequence
        self._log.append(record)
        self._ids[record.signal.source, record.signal.id] = record
        self._causes.add(record.signal)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if not self._write_due and not self._writing:
            self._write_due = True
            self.ref.cast(_WriteDue())

    @handle
    def write(self, message: _WriteDue) -> None:
        """Write what waits: signals that came during the last write, and what has become of the subscriptions."""
        self._write_due = False
        taken, records, entries = self._numbers()
        changes: list[SubscriptionChange] | None = None
        told: _Told = []
        if self._save_now:
            self._save_now = False
            changes, self._unsaved = [*self._unsaved, *self._changes()], []
            told, self._saved = self._saved, []
        if not entries and changes is None:
            self._answer(taken)
            return
        self._in_write = (taken, records, changes, told)
        self._writing = True
        call = self._write_call = self._writer.call(self._job(tuple(entries), changes, closed=False), None)
        call.add_done_callback(lambda done: self.ref.cast(_written(done)))

    def _numbers(self) -> tuple[list[_Publishing], list[SignalRecord], list[tuple[int, bytes]]]:
        """Give numbers to what waits to be published, as far as there is room."""
        publishing, self._publishing = self._publishing, []
        batch: dict[tuple[str, str], SignalRecord] = {}
        taken: list[_Publishing] = []
        records: list[SignalRecord] = []
        entries: list[tuple[int, bytes]] = []
        for one in publishing:
            fresh = self._numbered(one, batch, self._sequence + len(records))
            try:
                self._room_for(len(fresh), one.signals, len(records))
            except PublishRefused as refused:
                for record, _ in fresh:
                    del batch[record.signal.source, record.signal.id]
                self._refused(one, refused)
                continue
            taken.append(one)
            records += [record for record, _ in fresh]
            entries += [(record.sequence, entry(record.sequence, record.time, data)) for record, data in fresh]
        return taken, records, entries

    def _job(
        self, entries: tuple[tuple[int, bytes], ...], changes: list[SubscriptionChange] | None, *, closed: bool
    ) -> WriteBus:
        assert self._file is not None
        if changes is None:
            return WriteBus(entries, None, snapshot=False, trim=None)
        snapshot = self._file.wants_snapshot
        change = BusChange(tuple(self._whole() if snapshot else changes), closed)
        trim = self._log[0].sequence - 1 if self._log and self._log[0].sequence > self._trimmed + 1 else None
        self._trimmed = self._trimmed if trim is None else trim
        return WriteBus(entries, self._file.encoded(change), snapshot=snapshot, trim=trim)

    @handle
    def write_is_over(self, message: _Written) -> None:
        """A write is over: deliver and answer, or say what went wrong; and write what waits meanwhile."""
        self._writing = False
        outcome = message.outcome
        publishing, records, changes, told = self._in_write
        if outcome.signals is None:
            self._deliver(records)
            self._answer(publishing)
        else:
            for one in publishing:
                self._refused(one, outcome.signals)
            self._taken_over(outcome.signals)
        if outcome.state is not None:
            self._not_saved(changes or [], told, outcome.state)
        elif changes is not None:
            self._failures = 0
            for tell in told:
                tell()
        if self._publishing or self._save_now:
            self._write_soon()

    def _not_saved(self, changes: list[SubscriptionChange], told: _Told, error: Exception) -> None:
        """Try again later."""
        self._taken_over(error)
        self._unsaved = changes + self._unsaved
        self._saved = told + self._saved
        self._failures += 1
        pause = min(0.25 * 2 ** min(self._failures - 1, 32), _LONGEST_PAUSE)
        self.runtime.events.emit(BusNotSaved, ref=self.ref, error=str(error), retry_in=pause)
        self._save_set, self._save_now = True, False
        self.send_after(pause, _SaveDue())

    def _taken_over(self, error: Exception) -> None:
        """End, if another bus has written: this one no longer knows what there is."""
        if isinstance(error, StorageConflict):
            self.stop(Abnormal(f"another bus has taken over its place in the storage: {error}"))

    @staticmethod
    def _answer(publishing: Iterable[_Publishing]) -> None:
        for one in publishing:
            if one.reply is not None:
                one.reply.reply(one.records)

    def _save_soon(self) -> None:
        if not self._save_set:
            self._save_set = True
            self.send_after(self._ack_every, _SaveDue())

    def _save(self, told: Callable[[], None]) -> None:
        """Write what has become of the subscriptions with the next write, and then call a function."""
        self._saved.append(told)
        if not self._failures:
            self._save_now = True
            self._write_soon()

    @handle
    def save_due(self, message: _SaveDue) -> None:
        """Write what has become of the subscriptions."""
        self._save_set = False
        if self._file is None:
            self._changes()
        else:
            self._save_now = True
            self._write_soon()

    # -- the log -----------------------------------------------------------------------------------------------------

    @handle
    def read_log(self, request: ReadLog) -> tuple[SignalRecord, ...]:
        """Return the signals of the log that match a pattern."""
        return tuple(self._logged(request.since, None, request.limit, request.pattern))

    def _logged(self, since: int, until: int | None, limit: int | None, pattern: str) -> list[SignalRecord]:
        found = [
            one
            for one in self._log
            if since < one.sequence and (until is None or one.sequence <= until) and matches(pattern, one.signal.type)
        ]
        return found if limit is None else found[:limit]

    @handle
    def causal_chain(self, request: GetCausalChain) -> tuple[Signal, ...]:
        """Return what has led to a signal, or what it has led to."""
        causes = self._causes
        return causes.causes(request.id) if request.direction == "causes" else causes.effects(request.id)


def _written(call: Any) -> _Written:
    error = call.exception()
    return _Written(BusWritten(error, error) if error is not None else call.result())
