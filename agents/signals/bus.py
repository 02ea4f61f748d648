"""The bus: it delivers signals to subscribers, keeps a log of them, and knows what caused what."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

import msgspec

from agents.core.router import Route, Router, matches
from agents.core.signal import Signal
from agents.durability.checkpoint import decoded, encoded
from agents.durability.storage import Storage, StorageError
from agents.signals.messages import (
    Acknowledgement,
    DeadLetter,
    Delivery,
    GetCausalChain,
    GetDeadLetters,
    Publish,
    ReadLog,
    RedeliveryDue,
    Redrive,
    SignalRecord,
    Subscribe,
    Unsubscribe,
)
from agents.signals.subscription import BusSubscription
from supervision import Actor, Down, Message, Refuse, handle
from supervision.clock import seconds
from supervision.errors import BadOption


class _BusCheckpoint(msgspec.Struct, frozen=True):
    """What is saved of a bus besides its log.

    Attributes:
        subscriptions: by the name of a durable subscription, its pattern and the highest acknowledged sequence.
        dead: the dead letters.
    """

    subscriptions: Mapping[str, tuple[str, int]]
    dead: tuple[DeadLetter, ...]


class _Save(Message, frozen=True):
    """Timer message: save what was acknowledged."""


class Bus(Actor):
    """A bus: signals are published to it, and it delivers them to its subscribers, in the order of publication.

    It keeps a log of the last signals, for `read_log` and for subscribers that do not run. With a storage, the log
    and the subscriptions with names survive the process: what was published is delivered, at least once.

    Args:
        storage: where to keep the log; None for memory alone.
        key: under which.
        keep: how many signals the log has at most. What a subscription has not acknowledged by then is a
            dead letter.
        ack_every: seconds between two writes of acknowledgements. What was acknowledged since then is delivered again
            after a crash.

    Raises:
        BadOption: a number is out of range.
        BadCheckpoint: what was saved cannot be read.
    """

    def __init__(
        self, storage: Storage | None = None, *, key: str = "bus", keep: int = 100_000, ack_every: float = 1.0
    ) -> None:
        if not isinstance(keep, int) or keep < 1:
            raise BadOption("Bus: keep", keep, "give a whole number from 1")
        self._storage = storage
        self._key = key
        self._keep = keep
        self._ack_every = seconds("ack_every", ack_every, zero=False)
        self._log: deque[SignalRecord] = deque()
        self._sequence = 0
        self._written: int | None = None
        self._saving = False
        self._causes = Causes()
        self._subscriptions: dict[str, BusSubscription] = {}
        self._router: Router[BusSubscription] = Router()
        self._dead: dict[str, list[DeadLetter]] = {}
        self._numbers = 0

    async def init(self) -> None:
        """Read what was saved."""
        if self._storage is None:
            return
        self.trap_exit = True
        stored = await self._storage.read(self._key)
        if stored is None:
            return
        self._written = stored.version
        saved = _BusCheckpoint({}, ())
        if stored.checkpoint is not None:
            saved = decoded(self._key, stored.checkpoint, _BusCheckpoint)
        for _, data in await self._storage.entries(self._key, -1):
            self._note(decoded(self._key, data, SignalRecord))
        for letter in saved.dead:
            self._dead.setdefault(letter.subscription, []).append(letter)
        for name, (pattern, acked) in saved.subscriptions.items():
            request = Subscribe(pattern, self.ref, name, None, 1, 1, 0.0, 1.0)
            self._add(BusSubscription(name, True, request, acked))

    def terminate(self, reason: Any) -> Awaitable[None] | None:
        """Save what was acknowledged."""
        return self.save(_Save()) if self._saving else None

    # -- publishing --------------------------------------------------------------------------------------------------

    @handle
    def published(self, signal: Signal) -> Any:
        """Publish a signal that was cast."""
        return self._publish((signal,), answer=False)

    @handle
    def publish(self, request: Publish) -> Any:
        """Publish signals."""
        return self._publish(request.signals, answer=True)

    def _publish(self, signals: tuple[Signal, ...], *, answer: bool) -> Any:
        now = self.runtime.clock.wall_time()
        records = tuple(SignalRecord(self._sequence + n, now, signal) for n, signal in enumerate(signals, 1))
        if self._storage is not None and records:
            return self._write_and_deliver(records, answer)
        self._deliver(records)
        return records if answer else None

    async def _write_and_deliver(self, records: tuple[SignalRecord, ...], answer: bool) -> Any:
        assert self._storage is not None
        entries = [(one.sequence, encoded(one, "Signal", self._key)) for one in records]
        last = records[-1].sequence
        try:
            await self._storage.write(self._key, last, expected=self._written, entries=entries)
        except StorageError as error:
            raise Refuse(error) from error
        self._written = last
        self._deliver(records)
        return records if answer else None

    def _note(self, record: SignalRecord) -> None:
        self._sequence = record.sequence
        self._log.append(record)
        self._causes.add(record.signal)

    def _deliver(self, records: tuple[SignalRecord, ...]) -> None:
        for record in records:
            self._note(record)
            signal = record.signal
            for subscription in self._router.route(signal.type, signal):
                if subscription.durable:
                    subscription.enqueue(record.sequence)
                    self._pump(subscription)
                else:
                    subscription.request.to.cast(signal)
        while len(self._log) > self._keep:
            self._drop(self._log.popleft())

    def _drop(self, record: SignalRecord) -> None:
        self._causes.discard(record.signal)
        for subscription in self._subscriptions.values():
            if subscription.is_pending(record.sequence):
                tried = subscription.in_flight.get(record.sequence, subscription.tried.get(record.sequence, 0))
                self._add_dead_letter(subscription, record, tried, "it was not acknowledged before the log was full")
        if self._storage is not None:
            self._save_soon()

    # -- subscriptions -----------------------------------------------------------------------------------------------

    @handle
    def subscribe(self, request: Subscribe) -> str:
        """Add a subscription, or resume an existing one."""
        if request.name is None:
            self._numbers += 1
        name = request.name or f"#{self._numbers}"
        known = self._subscriptions.get(name)
        if known is None or known.pattern != request.pattern:
            begin = self._sequence if request.since is None else request.since
            known = BusSubscription(name, request.name is not None, request, begin if known is None else known.acked)
            self._add(known)
        elif known.monitor is not None:
            self.demonitor(known.monitor, flush=True)
            known.detach()
        known.request = request
        known.to = request.to
        known.monitor = self.monitor(request.to)  # type: ignore[arg-type]
        self._pump(known)
        return name

    def _add(self, subscription: BusSubscription) -> None:
        """Add a subscription, and enqueue all unacknowledged signals of the log."""
        self._subscriptions[subscription.name] = subscription
        self._reroute()
        for record in self._log:
            if record.sequence > subscription.acked and matches(subscription.pattern, record.signal.type):
                if subscription.durable:
                    subscription.enqueue(record.sequence)
                else:
                    subscription.request.to.cast(record.signal)
        if subscription.durable:
            self._save_soon()

    def _reroute(self) -> None:
        self._router = Router([Route(one.pattern, one) for one in self._subscriptions.values()])

    @handle
    def unsubscribe(self, request: Unsubscribe) -> bool:
        """Remove a subscription."""
        known = self._subscriptions.pop(request.name, None)
        if known is None:
            return False
        if known.monitor is not None:
            self.demonitor(known.monitor, flush=True)
        self._reroute()
        self._save_soon()
        return True

    @handle
    def ended(self, message: Down) -> None:
        """A subscriber has ended: what it has not acknowledged waits for the next one."""
        for known in list(self._subscriptions.values()):
            if known.monitor is message.monitor:
                if known.durable:
                    known.detach()
                else:
                    del self._subscriptions[known.name]
                    self._reroute()

    # -- deliveries --------------------------------------------------------------------------------------------------

    def _record(self, subscription: BusSubscription, sequence: int) -> SignalRecord:
        return subscription.redriven.get(sequence) or self._log[sequence - self._log[0].sequence]

    def _pump(self, subscription: BusSubscription) -> None:
        """Deliver what is due, as far as there is room."""
        while (sequence := subscription.next_due()) is not None:
            attempt = subscription.in_flight[sequence]
            to = subscription.to
            assert to is not None
            signal = self._record(subscription, sequence).signal
            to.cast(Delivery(signal, sequence, attempt, subscription.name, self.ref))
            self.send_after(
                subscription.request.ack_within, RedeliveryDue(subscription.name, sequence, attempt, late=True)
            )

    @handle
    def acknowledged(self, message: Acknowledgement) -> None:
        """Remove a signal that was acknowledged, or have it delivered again."""
        subscription = self._subscriptions.get(message.subscription)
        if subscription is None or message.sequence not in subscription.in_flight:
            return
        if message.why is None:
            subscription.settle(message.sequence)
            self._save_soon()
        else:
            self._failed(subscription, message.sequence, message.why)
        self._pump(subscription)

    @handle
    def redelivery_due(self, message: RedeliveryDue) -> None:
        """Deliver a signal again."""
        subscription = self._subscriptions.get(message.subscription)
        if subscription is None:
            return
        if not message.late:
            if message.sequence in subscription.tried:
                subscription.requeue(message.sequence)
        elif subscription.in_flight.get(message.sequence) == message.attempt:
            self._failed(subscription, message.sequence, "it was not acknowledged in time")
        self._pump(subscription)

    def _failed(self, subscription: BusSubscription, sequence: int, why: str) -> None:
        attempt = subscription.in_flight.pop(sequence)
        request = subscription.request
        if attempt >= request.attempts:
            self._add_dead_letter(subscription, self._record(subscription, sequence), attempt, why)
        else:
            subscription.tried[sequence] = attempt
            pause = request.retry * 2 ** min(attempt - 1, 32)
            self.send_after(pause, RedeliveryDue(subscription.name, sequence, attempt, late=False))

    def _add_dead_letter(self, subscription: BusSubscription, record: SignalRecord, attempts: int, why: str) -> None:
        letters = self._dead.setdefault(subscription.name, [])
        letters.append(DeadLetter(subscription.name, record, attempts, why))
        subscription.settle(record.sequence)
        self._save_soon()

    # -- requests ----------------------------------------------------------------------------------------------------

    @handle
    def read_log(self, request: ReadLog) -> tuple[SignalRecord, ...]:
        """Return the signals of the log that match a pattern."""
        return tuple(
            one for one in self._log if one.sequence > request.since and matches(request.pattern, one.signal.type)
        )

    @handle
    def dead_letters(self, request: GetDeadLetters) -> tuple[DeadLetter, ...]:
        """Return the signals that were never acknowledged."""
        names = self._dead if request.subscription is None else (request.subscription,)
        return tuple(letter for name in names for letter in self._dead.get(name, ()))

    @handle
    def redrive(self, request: Redrive) -> int:
        """Deliver the dead letters of a subscription again, or forget them."""
        subscription = self._subscriptions.get(request.subscription)
        if subscription is None and not request.forget:
            return 0
        letters = self._dead.pop(request.subscription, [])
        if subscription is not None and not request.forget:
            for letter in letters:
                subscription.requeue(letter.recorded.sequence)
                subscription.redriven[letter.recorded.sequence] = letter.recorded
            self._pump(subscription)
        self._save_soon()
        return len(letters)

    @handle
    def causal_chain(self, request: GetCausalChain) -> tuple[Signal, ...]:
        """Return what has led to a signal, or what it has led to."""
        causes = self._causes
        return causes.causes(request.id) if request.direction == "causes" else causes.effects(request.id)

    def format_status(self) -> Any:
        """Return the length of the log, and what waits for whom."""
        waiting = {name: one.pending() for name, one in self._subscriptions.items()}
        return {"log": len(self._log), "sequence": self._sequence, "waiting": waiting}

    # -- writing -----------------------------------------------------------------------------------------------------

    def _save_soon(self) -> None:
        if self._storage is not None and not self._saving:
            self._saving = True
            self.send_after(self._ack_every, _Save())

    @handle
    async def save(self, message: _Save) -> None:
        """Save what was acknowledged, and trim the log."""
        self._saving = False
        assert self._storage is not None
        durable = {name: (one.pattern, one.acked) for name, one in self._subscriptions.items() if one.durable}
        dead = tuple(letter for letters in self._dead.values() for letter in letters)
        body = encoded(_BusCheckpoint(durable, dead), "subscriptions", self._key)
        await self._storage.write(self._key, self._sequence, expected=self._written, checkpoint=body)
        self._written = self._sequence
        if self._log:
            await self._storage.trim(self._key, self._log[0].sequence - 1)


class Causes:
    """Signals by their causes, as their extension ``causationid`` names them.

    >>> from agents import Signal
    >>> causes = Causes()
    >>> for id, cause in (("1", None), ("2", "1"), ("3", "2"), ("4", "1")):
    ...     extensions = {} if cause is None else {"causationid": cause}
    ...     causes.add(Signal(type="t", source="/", id=id, extensions=extensions))
    >>> [signal.id for signal in causes.causes("3")], [signal.id for signal in causes.effects("1")]
    (['1', '2'], ['2', '4', '3'])
    """

    def __init__(self) -> None:
        self._signals: dict[str, Signal] = {}
        self._effects: dict[str, list[str]] = {}

    def add(self, signal: Signal) -> None:
        """Add a signal."""
        self._signals[signal.id] = signal
        cause = signal.extensions.get("causationid")
        if cause is not None:
            self._effects.setdefault(cause, []).append(signal.id)

    def discard(self, signal: Signal) -> None:
        """Remove a signal, and what it has caused."""
        self._signals.pop(signal.id, None)
        self._effects.pop(signal.id, None)

    def causes(self, id: str) -> tuple[Signal, ...]:
        """Return what has led to a signal, the first cause first."""
        found: dict[str, Signal] = {}
        signal = self._signals.get(id)
        while signal is not None:
            signal = self._signals.get(signal.extensions.get("causationid", ""))
            if signal is None or signal.id in found or signal.id == id:
                break
            found[signal.id] = signal
        return tuple(reversed(found.values()))

    def effects(self, id: str) -> tuple[Signal, ...]:
        """Return what a signal has led to, the nearest first."""
        return tuple(self._signals[one] for one in self._following(id) if one in self._signals)

    def _following(self, id: str) -> Iterator[str]:
        seen, wave = {id}, [id]
        while wave:
            wave = [effect for one in wave for effect in self._effects.get(one, ()) if effect not in seen]
            seen.update(wave)
            yield from wave
