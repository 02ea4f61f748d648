"""What a bus does with signals when they are published: it sends them to members, and hears what becomes of them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from agents.core.traces import trace_of
from agents.events import SignalUndelivered
from agents.signals.messages import Acknowledgement, Delivery, GrantCredit, StillWorking, TakenUp
from agents.signals.publishing import PublishingBus
from agents.signals.rows import DeliveryRow, SubscriptionMember
from agents.signals.subscription import BusSubscription
from supervision import Address, Message, handle, resume_context
from supervision.logs import get_logger
from supervision.options import is_whole

_log: Any = get_logger("agents.signals")


class _Tick(Message, frozen=True):
    """Timer message: a lease or a pause of a subscription is over."""

    subscription: str
    due: float


class DeliveringBus(PublishingBus):
    """The part of a `Bus` that sends deliveries, and takes the answers.

    Attributes:
        _subscriptions: those with names, by them.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._subscriptions: dict[str, BusSubscription] = {}
        self._ticks: dict[str, float] = {}
        #: The subscriptions of which is being written that nobody is suspected any more.
        self._acquitting: set[str] = set()

    def _pump(self, subscription: BusSubscription) -> None:
        """Send what is due, as far as there is room."""
        if subscription.wrongly_suspected and self._file is not None:
            self._write_innocent(subscription)
            return
        now = self.runtime.clock.time()
        for member, row in subscription.sendable():
            if row.deaths and self._file is not None:
                self._send_alone(subscription, member, row)
                break
            self._send(subscription, member, row, now)
        self._arm(subscription)

    def _send(self, subscription: BusSubscription, member: SubscriptionMember, row: DeliveryRow, now: float) -> None:
        subscription.send(member, row, now)
        attempt = row.attempt + (row.state == "sent")
        bus = self._address
        within = subscription.options.ack_within
        signal, sequence = row.record.signal, row.record.sequence
        assert member.to is not None
        with resume_context(self.runtime, trace_of(signal)):
            member.to.cast(Delivery(signal, sequence, attempt, subscription.name, bus, member.name, within))

    @cached_property
    def _address(self) -> Address:
        """What is answered to: its name, if it has one, so that the next incarnation gets the answer, too."""
        info = self.runtime.info(self.ref)
        assert info is not None
        return self.ref if info.name is None else self.runtime.name(info.name)

    def _send_alone(self, subscription: BusSubscription, member: SubscriptionMember, row: DeliveryRow) -> None:
        """Send a suspect, when it is written that it is out: if the program dies now, it was this one."""
        sequence = subscription.out = row.record.sequence

        def send() -> None:
            if subscription.rows.get(sequence) is not row or subscription.out != sequence:
                return  # who had it before has answered meanwhile, and something else may be out alone
            here = subscription.members.get(member.name) is member and member.free > 0
            if here and row.state == "waiting":
                self._send(subscription, member, row, self.runtime.clock.time())
                self._arm(subscription)
            else:
                subscription.out = None
                self._pump(subscription)

        self._save(send)

    def _write_innocent(self, subscription: BusSubscription) -> None:
        """Write that there are no suspects any more, and then go on: if the program dies now, it may be any one."""
        if subscription.name in self._acquitting:
            return
        self._acquitting.add(subscription.name)

        def acquitted() -> None:
            self._acquitting.discard(subscription.name)
            subscription.wrongly_suspected = False
            self._pump(subscription)

        self._save(acquitted)

    def _arm(self, subscription: BusSubscription) -> None:
        due = subscription.due()
        set_for = self._ticks.get(subscription.name)
        if due is not None and (set_for is None or due < set_for):
            self._ticks[subscription.name] = due
            pause = max(0.0, due - self.runtime.clock.time())
            self.send_after(pause, _Tick(subscription.name, due))

    @handle
    def tick(self, message: _Tick) -> None:
        """A lease or a pause is over."""
        if self._ticks.get(message.subscription) == message.due:
            del self._ticks[message.subscription]
        subscription = self._subscriptions.get(message.subscription)
        if subscription is not None:
            subscription.tick(self.runtime.clock.time(), self.runtime.random.random())
            self._changed(subscription)

    @handle
    def taken(self, message: TakenUp) -> None:
        """A signal is taken up."""
        subscription = self._subscriptions.get(message.subscription)
        if subscription is not None:
            subscription.take(message.sequence, message.attempt, self.runtime.clock.time())
            self._arm(subscription)

    @handle
    def working(self, message: StillWorking) -> None:
        """A signal is still being worked at."""
        subscription = self._subscriptions.get(message.subscription)
        if subscription is not None:
            subscription.work(message.sequence, message.attempt, self.runtime.clock.time())
            self._arm(subscription)

    @handle
    def granted(self, message: GrantCredit) -> None:
        """A member wants more, or fewer, at a time."""
        subscription = self._subscriptions.get(message.subscription)
        member = None if subscription is None else subscription.members.get(message.member)
        if subscription is None or member is None or not member.credit or subscription.options.in_flight is not None:
            return
        if is_whole(message.credit, 1):
            member.credit = message.credit
            self._pump(subscription)

    @handle
    def acknowledged(self, message: Acknowledgement) -> None:
        """A signal is done, or was refused."""
        subscription = self._subscriptions.get(message.subscription)
        if subscription is None:
            return
        now = self.runtime.clock.time()
        if message.why is None:
            counts = subscription.ack(message.sequence, message.attempt, now)
        else:
            chance = self.runtime.random.random()
            how = {"final": message.final, "delay": message.delay}
            counts = subscription.nack(message.sequence, message.attempt, message.why, now, chance, **how)
        if counts:
            self._changed(subscription)

    def _changed(self, subscription: BusSubscription) -> None:
        """Something has become of a signal: tell of those that are dead, send what is due, write it later."""
        self._told_dead(subscription)
        self._save_soon()
        self._pump(subscription)

    def _told_dead(self, subscription: BusSubscription) -> None:
        for letter in subscription.newly_dead(self.runtime.clock.wall_time()):
            signal = letter.recorded.signal
            about = {"signal_type": signal.type, "signal_id": signal.id, "attempts": letter.attempts}
            cause = signal.extensions.get("causationid")
            self.runtime.events.emit(
                SignalUndelivered,
                ref=self.ref,
                destination=subscription.name,
                error=letter.why,
                cause_id=cause,
                **about,
            )
            _log.warning("signal_dead", subscription=subscription.name, why=letter.why, **about)
