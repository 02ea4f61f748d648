"""The bus: who is subscribed to it, and what else it is asked."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from agents.core.router import Router, matches
from agents.core.traces import trace_of
from agents.durability.storage import Storage
from agents.events import DeadLettersForgotten, SignalsRedriven
from agents.signals.delivering import DeliveringBus
from agents.signals.gauges import BusGauges
from agents.signals.messages import (
    DeadLetter,
    GetDeadLetters,
    GetSubscriptions,
    Redrive,
    Replay,
    SignalRecord,
    Subscribe,
    SubscriptionStatus,
    Unsubscribe,
)
from agents.signals.publishing import WhenFull
from agents.signals.rows import SubscriptionChange
from agents.signals.subscription import UNKNOWN_CREDIT, BusSubscription
from supervision import Actor, Address, Down, Exit, Message, Monitor, Name, NotRunning, Ref, handle, resume_context
from supervision.clock import YEAR


class _NameTaken(Message, frozen=True):
    """The name of a member has a holder."""

    subscription: str
    member: str


class _Wait(Message, frozen=True):
    """Wait for a name."""

    name: Name
    told: _NameTaken


class _NameWait(Actor):
    """Waits for the next holder of the name of a member; nothing is polled. It ends with the bus.

    Args:
        bus: whom to tell.
    """

    def __init__(self, bus: Ref) -> None:
        self._bus = bus

    def init(self) -> None:
        """End with the bus."""
        self.link(self._bus)

    @handle
    async def wait(self, message: _Wait) -> None:
        """Wait, tell, and end."""
        while message.name.resolve() is None:
            await self.runtime.wait_for_name(message.name.key, until=self.runtime.clock.time() + YEAR)
        self._bus.cast(message.told)
        self.unlink(self._bus)
        self.stop()


class _Listener:
    """A subscription without a name."""

    __slots__ = ("monitor", "name", "pattern", "to")

    def __init__(self, name: str, pattern: str, to: Address) -> None:
        self.name = name
        self.pattern = pattern
        self.to = to
        self.monitor: Monitor | None = None


class Bus(DeliveringBus):
    """A bus: signals are published to it, and it delivers them to its subscribers, in the order of publication.

    It keeps a log of the last signals, for `read_log` and for subscribers that do not run. With a storage, the log and
    the subscriptions with names survive the process. What was published is delivered to each of those at least once:
    over the death of receivers, of the bus, and of the program.

    No signal, and no write that fails, ends it: what cannot be kept is refused to its publisher, and what has become of
    deliveries is written later. If another bus has taken over its place in the storage, it ends.

    Args:
        storage: where to keep the log; None for memory alone.
        key: under which.
        keep: how many signals the log has at most.
        ack_every: seconds between two writes of acknowledgements. What was acknowledged since then is delivered again
            after a crash.
        full: what happens when the log is full of signals that were not acknowledged: ``refuse`` the publisher (with a
            storage), or make the oldest ``dead_letters`` (without one); None for that.
        max_size: bytes that a signal may have in a storage.

    Raises:
        BadOption: an option is wrong.
        BadCheckpoint: what was saved cannot be read.
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
        super().__init__(storage, key=key, keep=keep, ack_every=ack_every, full=full, max_size=max_size)
        self._listeners: dict[str, _Listener] = {}
        self._router: Router[BusSubscription | _Listener] = Router()
        self._watched: dict[Monitor, tuple[str, str] | _Listener] = {}
        self._gone: list[SubscriptionChange] = []
        self._numbers_used = 0

    async def init(self) -> None:
        """Read what was saved."""
        BusGauges.of(self.runtime).add(self.ref, self._statuses)
        if self._file is None:
            return
        self.trap_exit = True
        loaded = await self._file.load()
        now = self.runtime.clock.time()
        for record in loaded.log:
            self._note(record)
        for name, kept in loaded.subscriptions.items():
            found = kept.restored(loaded.log, self._sequence, clean=loaded.clean, now=now)
            self._subscriptions[name] = found
            self._told_dead(found)
        self._reroute()
        await self._opened()
        for found in self._subscriptions.values():
            for member, address in found.addresses.items():
                self._attach(found, member, self.runtime.name(address))

    # -- the log -----------------------------------------------------------------------------------------------------

    def _is_open(self, sequence: int) -> bool:
        rows = (one.rows.get(sequence) for one in self._subscriptions.values())
        return any(row is not None and not row.extra for row in rows)

    def _deliver(self, records: Iterable[SignalRecord]) -> None:
        touched: dict[str, BusSubscription] = {}
        for record in records:
            self._note(record)
            signal = record.signal
            for one in self._router.route(signal.type, signal):
                if isinstance(one, BusSubscription):
                    one.add(record)
                    touched[one.name] = one
                else:
                    with resume_context(self.runtime, trace_of(signal)):
                        one.to.cast(signal)
        while len(self._log) > self._keep:
            self._drop(self._log.popleft())
        for one in touched.values():
            self._pump(one)

    def _drop(self, record: SignalRecord) -> None:
        signal = record.signal
        self._causes.discard(signal)
        del self._ids[signal.source, signal.id]
        for one in self._subscriptions.values():
            row = one.rows.get(record.sequence)
            if row is not None and not row.extra:
                one.drop(record.sequence, self.runtime.clock.time())
                self._told_dead(one)
        self._save_soon()

    def _changes(self) -> list[SubscriptionChange]:
        """Return what has changed in the subscriptions since the last time."""
        wall = self.runtime.clock.wall_time()
        found, self._gone = self._gone, []
        for one in self._subscriptions.values():
            one.skip(self._sequence)
            old = one.expired(wall)
            if old:
                self._forgotten(one, old)
            change = one.change()
            if change is not None:
                found.append(change)
        return found

    def _whole(self) -> list[SubscriptionChange]:
        return [one.whole() for one in self._subscriptions.values()]

    # -- subscriptions -----------------------------------------------------------------------------------------------

    @handle
    def subscribe(self, request: Subscribe) -> Any:
        """Add a subscription, or a member, or let one come back."""
        if request.name is None:
            return self._listen(request)
        name, member, to = request.name, request.member or "", self._to(request)
        known = self._subscriptions.get(name)
        if known is None:
            begin = self._sequence if request.since is None else min(request.since, self._sequence)
            known = self._subscriptions[name] = BusSubscription(name, request.options, begin)
            for record in self._log:
                if record.sequence > begin and matches(request.options.pattern, record.signal.type):
                    known.add(record)
        else:
            known.redefine(request.options, self._sequence)
        if request.member is None:
            for other in [one for one in known.members if one != member]:
                self._detach(known, other)
        elif "" in known.members:
            self._detach(known, "")
        if member in known.members:
            self._detach(known, member)
        if isinstance(to, Name):
            known.addresses[member] = to.key
        known.undefined()
        self._reroute()
        self._attach(known, member, to)
        if self._file is None:
            return name
        reply = self.defer_reply()
        self._save(lambda: reply.reply(name))
        return None

    def _to(self, request: Subscribe) -> Address:
        to = request.to
        return self.runtime.name(to) if isinstance(to, str) else to

    def _listen(self, request: Subscribe) -> str:
        self._numbers_used += 1
        pattern, to = request.options.pattern, self._to(request)
        one = self._listeners[f"#{self._numbers_used}"] = _Listener(f"#{self._numbers_used}", pattern, to)
        if isinstance(to, Ref):
            one.monitor = self.monitor(to)
            self._watched[one.monitor] = one
        begin = self._sequence if request.since is None else request.since
        for record in self._log:
            if record.sequence > begin and matches(pattern, record.signal.type):
                with resume_context(self.runtime, trace_of(record.signal)):
                    one.to.cast(record.signal)
        self._reroute()
        return one.name

    def _reroute(self) -> None:
        routes: list[tuple[str, BusSubscription | _Listener]] = []
        routes += [(one.options.pattern, one) for one in self._subscriptions.values()]
        routes += [(one.pattern, one) for one in self._listeners.values()]
        self._router = Router(routes)

    def _attach(self, subscription: BusSubscription, name: str, to: Address) -> None:
        """Let a member have what waits, if its actor is there; or wait for that."""
        ref = to.resolve() if isinstance(to, Name) else to
        if not isinstance(ref, Ref):
            assert isinstance(to, Name)
            subscription.join(name, 0, tells=True)
            told = _NameTaken(subscription.name, name)
            with suppress(NotRunning):  # the runtime ends: nobody comes any more
                self.runtime.spawn_nowait(_NameWait, self.ref).cast(_Wait(to, told))
            return
        says = getattr(ref.kind, "delivery_credit", None)
        credit = subscription.options.in_flight or says or UNKNOWN_CREDIT
        subscription.join(name, credit, tells=says is not None)
        member = subscription.members[name]
        member.to, member.monitor = ref, self.monitor(ref)
        self._watched[member.monitor] = (subscription.name, name)
        self._pump(subscription)

    def _detach(self, subscription: BusSubscription, name: str) -> None:
        """Remove a member: what it has goes to others, or waits."""
        monitor = subscription.members[name].monitor
        if monitor is not None:
            self._watched.pop(monitor, None)
            self.demonitor(monitor, flush=True)
        subscription.leave(name, self.runtime.clock.time())

    @handle
    def name_taken(self, message: _NameTaken) -> None:
        """A member has come back."""
        subscription = self._subscriptions.get(message.subscription)
        address = None if subscription is None else subscription.addresses.get(message.member)
        if subscription is not None and address is not None and not subscription.members[message.member].credit:
            self._attach(subscription, message.member, self.runtime.name(address))

    @handle
    def ended(self, message: Down) -> None:
        """A subscriber has ended: what it has waits for its next incarnation, or goes to others."""
        watched = self._watched.pop(message.monitor)
        if isinstance(watched, _Listener):
            del self._listeners[watched.name]
            self._reroute()
            return
        name, member = watched
        subscription = self._subscriptions.get(name)
        known = None if subscription is None else subscription.members.get(member)
        if subscription is not None and known is not None and known.monitor is message.monitor:
            now, chance = self.runtime.clock.time(), self.runtime.random.random()
            subscription.away(member, None if message.reason.clean else str(message.reason), now, chance)
            address = subscription.addresses.get(member)
            if address is None:
                subscription.leave(member, now)
            else:
                known.monitor = None
                self._attach(subscription, member, self.runtime.name(address))
            self._changed(subscription)

    @handle
    def linked_ended(self, message: Exit) -> None:
        """Somebody has ended who works for the bus. Without its writer it goes on with another one."""
        if message.sender is self._writer:
            with suppress(NotRunning):  # the runtime ends
                self._begin_writer()

    @handle
    def unsubscribe(self, request: Unsubscribe) -> Any:
        """Remove a subscription, or one of its members."""
        listener = self._listeners.pop(request.name, None)
        if listener is not None:
            if listener.monitor is not None:
                self._watched.pop(listener.monitor, None)
                self.demonitor(listener.monitor, flush=True)
            self._reroute()
            return True
        known = self._subscriptions.get(request.name)
        if known is None:
            return False
        if request.member is not None:
            member = known.members.get(request.member)
            if member is None or member.leaving:
                return False
        if request.member is None:
            for name in list(known.members):
                self._detach(known, name)
            del self._subscriptions[request.name]
            self._gone.append(SubscriptionChange(name=request.name, gone=True))
            self._reroute()
        else:
            known.retire(request.member, self.runtime.clock.time())
            known.undefined()
            self._pump(known)
        if self._file is None:
            return True
        reply = self.defer_reply()
        self._save(lambda: reply.reply(True))
        return None

    # -- requests ----------------------------------------------------------------------------------------------------

    @handle
    def dead_letters(self, request: GetDeadLetters) -> tuple[DeadLetter, ...]:
        """Return the signals that were never acknowledged."""
        names = self._subscriptions if request.subscription is None else (request.subscription,)
        known = (self._subscriptions.get(name) for name in names)
        return tuple(letter for one in known if one is not None for letter in one.dead.values())

    @handle
    def get_subscriptions(self, request: GetSubscriptions) -> dict[str, SubscriptionStatus]:
        """Return how the subscriptions are."""
        return self._statuses()

    def _statuses(self) -> dict[str, SubscriptionStatus]:
        return {name: one.status() for name, one in self._subscriptions.items()}

    @handle
    def redrive(self, request: Redrive) -> Any:
        """Deliver the dead letters of a subscription again, or forget them."""
        known = self._subscriptions.get(request.subscription)
        if known is None:
            return 0
        ids = request.ids
        letters = [one for one in known.dead.values() if ids is None or one.recorded.signal.id in ids][: request.limit]
        if request.forget:
            self._forgotten(known, letters)
            sequences: list[int] = []
        else:
            sequences = known.revive(letters)
        return self._delivered_again(known, sequences, letters, len(letters))

    @handle
    def replay(self, request: Replay) -> Any:
        """Deliver signals of the log again."""
        known = self._subscriptions.get(request.subscription)
        if known is None:
            return 0
        found = self._logged(request.since, request.until, None, known.options.pattern)
        closed = [one for one in found if one.sequence not in known.rows and one.sequence not in known.dead]
        closed = closed[: request.limit]
        return self._delivered_again(known, known.again(closed), closed, len(closed))

    def _delivered_again(self, known: BusSubscription, sequences: list[int], what: list[Any], number: int) -> Any:
        if sequences:
            records = [one.recorded if isinstance(one, DeadLetter) else one for one in what]
            ids = tuple(record.signal.id for record in records)
            self.runtime.events.emit(SignalsRedriven, ref=self.ref, subscription=known.name, ids=ids)

        def release() -> None:
            known.release(sequences)
            self._pump(known)

        if self._file is None:
            release()
            return number
        reply = self.defer_reply()

        def told() -> None:
            release()
            reply.reply(number)

        self._save(told)
        return None

    def _forgotten(self, known: BusSubscription, letters: list[DeadLetter]) -> None:
        known.forget(letters)
        ids = tuple(one.recorded.signal.id for one in letters)
        self.runtime.events.emit(DeadLettersForgotten, ref=self.ref, subscription=known.name, ids=ids)

    def summary(self) -> dict[str, object]:
        """Return the length of the log, and how many signals are open, in flight and dead; how old the oldest is."""
        known = self._statuses().values()
        now = self.runtime.clock.wall_time()
        return {
            "log": len(self._log),
            "sequence": self._sequence,
            "open": sum(one.waiting + one.backing_off + one.sent + one.taken for one in known),
            "in_flight": sum(one.sent + one.taken for one in known),
            "dead": sum(one.dead for one in known),
            "oldest_s": max((round(now - one.oldest, 1) for one in known if one.oldest is not None), default=None),
        }

    def format_status(self) -> Any:
        """Return the length of the log, and how each subscription is."""
        return {**self.summary(), "subscriptions": self._statuses()}
