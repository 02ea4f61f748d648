"""Peers: the other nodes, and what goes to and comes from each of them over the link."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from foundation.cluster.credit import AHEAD, Incoming, Outgoing
from foundation.cluster.errors import PayloadTooLarge
from foundation.cluster.link import BEAT, Hello, Link, LinkReport, Verdict
from foundation.cluster.port import Port
from foundation.cluster.refs import RemoteRef
from foundation.cluster.wire import (
    OVERHEAD,
    UNREADABLE,
    VERSION,
    Beat,
    CallFailure,
    Codec,
    Kind,
    NodeFrame,
    RefData,
    answer_name,
    packed_reason,
    reason_of,
    type_name,
)
from foundation.events import NodeDown, NodeUp
from supervision import Actor, Call, Ref, Runtime
from supervision.errors import ActorExited, MailboxFull
from supervision.isolation import NotTransferable, RemoteError
from supervision.messages import SystemRequest, describe
from supervision.propagation import inject_context, resume_context
from supervision.reasons import NOPROC, ExitReason, NoConnection

#: What `Bye` says of a node that leaves in order.
LEFT = 1


class Receipt(SystemRequest[None], frozen=True):
    """Behind messages of another node: they, and all before them, are handled."""

    def carry_out(self, actor: Actor) -> None:
        """Do nothing."""


class _Message(msgspec.Struct, frozen=True):
    """A message that waits for credit, or goes out at once."""

    kind: Kind
    value: Any
    payload: msgspec.Raw
    context: Any
    call: Call[Any] | None = None
    sent: asyncio.Future[None] | None = None

    @property
    def given_up(self) -> bool:
        """Whether its sender does not wait any more, neither for the answer nor for credit."""
        if self.call is not None:
            return self.call.done()
        return self.sent is not None and self.sent.cancelled()

    @property
    def size(self) -> int:
        """How many bytes are to be sent."""
        return 0 if self.given_up else memoryview(self.payload).nbytes


class _Target:
    """An actor of the peer to which something was sent in this session."""

    __slots__ = ("outgoing", "ref")

    def __init__(self, ref: RemoteRef) -> None:
        self.ref = ref
        self.outgoing: Outgoing[_Message] = Outgoing(lambda message: message.size)


class _Pending(msgspec.Struct, frozen=True):
    """What an answer of the peer is waited for."""

    ref: RemoteRef
    request: Any
    future: Call[Any]


class Peer:
    """Another node, in one epoch.

    Args:
        peers: all of them.
        node: its name.
        epoch: that of its process.
    """

    def __init__(self, peers: Peers, node: str, epoch: int) -> None:
        self.node = node
        self.epoch = epoch
        self.link = Link(peers.now())
        self._peers = peers
        self._subject = peers.subject(node, epoch)
        self._targets: dict[int, _Target] = {}
        self._pending: dict[int, _Pending] = {}
        self._serving: dict[int, asyncio.Future[Any]] = {}
        #: Actors of this node that the peer has sent something to, or watches.
        self._attended: dict[int, Incoming] = {}
        self._ids = 0

    # -- out ----------------------------------------------------------------------------------------------------

    def cast(self, ref: RemoteRef, message: Any) -> None:
        """Send a message; it is a dead letter if it cannot travel, or too many wait for credit."""
        try:
            out = self._message(Kind.CAST, message)
        except (NotTransferable, PayloadTooLarge):
            ref.dead_letter(message, "not_transferable")
            return
        target = self._target(ref)
        if target.outgoing.may_send(out):
            self._send(target, out)
        elif len(target.outgoing.waiting) < AHEAD:
            target.outgoing.waiting.append(out)
        else:
            ref.dead_letter(message, "no_credit")

    async def send(self, ref: RemoteRef, message: Any) -> None:
        """Send a message, and wait for credit."""
        out = self._message(Kind.CAST, message)
        target = self._target(ref)
        if target.outgoing.may_send(out):
            self._send(target, out)
        else:
            sent: asyncio.Future[None] = self._peers.loop.create_future()
            target.outgoing.waiting.append(msgspec.structs.replace(out, sent=sent))
            await sent

    def call(self, ref: RemoteRef, call: Call[Any]) -> None:
        """Send a request, as soon as there is credit."""
        try:
            out = self._message(Kind.CALL, call.message, call)
        except (NotTransferable, PayloadTooLarge) as error:
            self._peers.runtime.scheduler.fail(call, error)
            return
        target = self._target(ref)
        if target.outgoing.may_send(out):
            self._send(target, out)
        else:
            target.outgoing.waiting.append(out)

    def signal(self, ref: RemoteRef, reason: ExitReason) -> None:
        """Send an exit signal. It needs no credit."""
        self._emit(Kind.EXIT, actor=ref.id, payload=packed_reason(reason))

    def stop(self, ref: RemoteRef, reason: ExitReason) -> asyncio.Future[Any]:
        """Send the order to stop, and return a future of its being carried out."""
        future: Call[Any] = Call(loop=self._peers.loop)
        self._target(ref)
        id = self._expect(ref, "stop", future)
        self._emit(Kind.STOP, actor=ref.id, id=id, payload=packed_reason(reason))
        return future

    def watch(self, ref: RemoteRef) -> None:
        """Have the peer tell when an actor ends."""
        if ref.id not in self._targets:
            self._target(ref)
            self._emit(Kind.WATCH, actor=ref.id)

    def waiting_for(self, ref: RemoteRef) -> int:
        """Return how many messages for an actor wait for credit."""
        target = self._targets.get(ref.id)
        return 0 if target is None else len(target.outgoing.waiting)

    def _message(self, kind: Kind, value: Any, call: Call[Any] | None = None) -> _Message:
        payload = self._peers.codec.encode(value)
        size, limit = memoryview(payload).nbytes, self._peers.port.max_payload - OVERHEAD
        if size > limit:
            raise PayloadTooLarge(describe(value), size, limit)
        return _Message(kind, value, payload, inject_context(self._peers.runtime) or None, call)

    def _target(self, ref: RemoteRef) -> _Target:
        target = self._targets.get(ref.id)
        if target is None:
            target = self._targets[ref.id] = _Target(ref)
        return target

    def _send(self, target: _Target, out: _Message) -> None:
        """Send a message for which there is credit."""
        id, left, call = 0, None, out.call
        if out.given_up:  # the credit is taken all the same
            self._emit(Kind.CANCEL, actor=target.ref.id, count=1)
            return
        if call is not None:
            id = self._expect(target.ref, out.value, call)
            left = None if call.deadline is None else max(0.0, call.deadline - self._peers.now())
        self._emit(
            out.kind,
            actor=target.ref.id,
            id=id,
            left=left,
            type=type_name(type(out.value)),
            payload=out.payload,
            context=out.context,
        )
        if call is not None:
            target.ref.sent_away(call)
        if out.sent is not None:
            out.sent.set_result(None)

    def _expect(self, ref: RemoteRef, request: Any, future: Call[Any]) -> int:
        self._ids += 1
        id = self._ids
        self._pending[id] = _Pending(ref, request, future)
        future.add_done_callback(lambda _: self._given_up(id))
        return id

    def _given_up(self, id: int) -> None:
        """A call is done; if it is not the peer that has ended it, nobody waits for its answer any more."""
        if self._pending.pop(id, None) is not None and self.link.up:
            self._emit(Kind.CANCEL, id=id)

    def _emit(self, kind: Kind, **fields: Any) -> None:
        self._publish(kind, self.link.number(), **fields)

    def _publish(self, kind: Kind, number: int, **fields: Any) -> None:
        peers = self._peers
        frame = NodeFrame(VERSION, kind, peers.cluster, peers.node, peers.epoch, self.link.session, number, **fields)
        peers.port.publish(self._subject, msgspec.msgpack.encode(frame))

    # -- the link -----------------------------------------------------------------------------------------------

    def greet(self) -> None:
        """Say what opens the link."""
        self._publish(Kind.HELLO, 0, payload=msgspec.Raw(msgspec.msgpack.encode(self.link.hello())))

    def leave(self) -> None:
        """Say goodbye."""
        self._publish(Kind.BYE, 0, id=self.link.accepted, count=LEFT)
        self.break_off("this node leaves the cluster")

    def tick(self, now: float) -> None:
        """Look whether the link still holds."""
        why = self.link.why_broken(now)
        if why is not None:
            self.break_off(why)

    def on_beat(self, report: LinkReport | None, now: float) -> None:
        """Take a sign of life."""
        mine = report if report is not None and report.epoch == self._peers.epoch else None
        was_up = self.link.up
        self.link.on_beat(mine, now)
        if not self.link.up:
            self.greet()
        elif not was_up:
            self._tell_up()

    def receive(self, frame: NodeFrame) -> None:
        """Take a frame."""
        if frame.kind == Kind.HELLO:
            self._on_hello(msgspec.msgpack.decode(frame.payload, type=Hello))
        elif frame.kind == Kind.BYE:
            if self.link.on_bye(frame.id):
                self.break_off("left" if frame.count == LEFT else "it has given the link up")
        else:
            was_up = self.link.up
            verdict = self.link.arrived(frame.session, frame.number, self._peers.now())
            if self.link.up and not was_up:
                self._tell_up()
            if verdict is Verdict.DELIVER:
                self._deliver(frame)
            else:
                self._peers.counts[verdict.name.lower()] += 1
                if verdict is Verdict.GAP:
                    self.break_off("messages are lost")

    def _on_hello(self, hello: Hello) -> None:
        was_up = self.link.up
        broke, answer = self.link.on_hello(hello, self._peers.now())
        if broke:
            self._drop_all("it has begun anew")
        if answer:
            self.greet()
        if self.link.up and (broke or not was_up):
            self._tell_up()

    def _tell_up(self) -> None:
        self._peers.emit(NodeUp, node=self.node, epoch=self.epoch)
        self._peers.changed()

    def break_off(self, why: str) -> None:
        """Give the link up: whoever waits for the peer, or watches its actors, hears of it."""
        accepted = self.link.accepted
        self.link.broken()
        self._publish(Kind.BYE, 0, id=accepted)
        self._drop_all(why)

    def _drop_all(self, why: str) -> None:
        peers = self._peers
        targets, self._targets = self._targets, {}
        pending, self._pending = self._pending, {}
        self._serving = {}
        self._attended = {}
        for waiting in pending.values():
            if not waiting.future.done():
                lost = ActorExited(waiting.ref, waiting.request, NoConnection(self.node))
                peers.runtime.scheduler.fail(waiting.future, lost)
        for target in targets.values():
            self._drop(target, "noconnection")
            target.ref.tell_end(NoConnection(self.node))
        if not peers.closed:
            peers.emit(NodeDown, node=self.node, epoch=self.epoch, why=why)
        peers.changed()

    def _drop(self, target: _Target, why: str) -> None:
        """Give up what waits for credit."""
        waiting, target.outgoing.waiting = target.outgoing.waiting, deque()
        for out in waiting:
            if out.given_up:
                continue
            if out.call is not None:
                target.ref.fail_unsent(out.call)
                continue
            target.ref.dead_letter(out.value, why)
            if out.sent is not None:
                out.sent.set_result(None)

    # -- in -----------------------------------------------------------------------------------------------------

    def _deliver(self, frame: NodeFrame) -> None:
        match frame.kind:
            case Kind.CAST:
                self._on_cast(frame)
            case Kind.CALL:
                self._on_call(frame)
            case Kind.ANSWER | Kind.FAIL:
                self._on_end(frame)
            case Kind.CANCEL:
                self._on_cancel(frame)
            case Kind.WATCH:
                self._attend(frame.actor)
            case Kind.ENDED:
                self._on_ended(frame.actor, reason_of(frame.payload))
            case Kind.EXIT:
                self._on_exit(frame)
            case Kind.STOP:
                self._on_stop(frame)
            case Kind.CREDIT:
                self._on_credit(frame)
            case _:  # of a newer version
                pass

    def _attend(self, actor: int) -> tuple[Ref, Incoming] | None:
        """Return an actor of this node; from now on the peer hears of its end. None if there is no such actor."""
        ref = self._peers.runtime.actor(actor)
        if ref is None:
            self._emit(Kind.ENDED, actor=actor, payload=packed_reason(NOPROC))
            return None
        incoming = self._attended.get(actor)
        if incoming is None:
            incoming = self._attended[actor] = Incoming()
            self._peers.attend(ref)
        return ref, incoming

    def tell_end(self, actor: int, reason: ExitReason) -> None:
        """Tell the peer of the end of an actor, if it is to hear of it."""
        if self._attended.pop(actor, None) is not None:
            self._emit(Kind.ENDED, actor=actor, payload=packed_reason(reason))

    def _arrived(self, frame: NodeFrame, ref: Ref, incoming: Incoming) -> None:
        size = 0 if frame.kind == Kind.CANCEL else memoryview(frame.payload).nbytes
        if incoming.arrived(size):
            receipt = ref.call(Receipt(), timeout=None)
            noted = self.link.accepted, incoming.received, incoming.bytes
            receipt.add_done_callback(partial(self._handled, noted, frame.actor, incoming))

    def _handled(self, noted: tuple[int, int, int], actor: int, incoming: Incoming, receipt: Call[None]) -> None:
        session, count, size = noted
        failed = receipt.cancelled() or receipt.exception() is not None
        limit = None if failed or session != self.link.accepted else incoming.handled(count, size)
        if limit is not None:
            self._emit(Kind.CREDIT, actor=actor, count=limit)

    def _on_credit(self, frame: NodeFrame) -> None:
        target = self._targets.get(frame.actor)
        for out in () if target is None else target.outgoing.granted(frame.count):
            assert target is not None
            self._send(target, out)

    def _on_cast(self, frame: NodeFrame) -> None:
        found = self._attend(frame.actor)
        if found is None:
            self._peers.dead_letter("noproc")
            return
        ref, incoming = found
        try:
            message = self._peers.codec.read_message(frame, ref.kind)
        except LookupError:
            self._peers.dead_letter("unknown_type")
        except UNREADABLE:
            self._peers.dead_letter("bad_payload")
        else:
            with resume_context(self._peers.runtime, frame.context or {}):
                _begin(ref.send(message), self._peers.dead_letter)
        self._arrived(frame, ref, incoming)

    def _on_call(self, frame: NodeFrame) -> None:
        found = self._attend(frame.actor)
        if found is None:
            self._fail(frame.id, CallFailure("noproc"))
            return
        ref, incoming = found
        try:
            message = self._peers.codec.read_message(frame, ref.kind)
        except LookupError:
            self._fail(frame.id, CallFailure("unhandled"))
        except UNREADABLE as error:
            self._fail(
                frame.id, CallFailure("payload", text=f"{frame.type} could not be read: {describe(error, form=str)}")
            )
        else:
            with resume_context(self._peers.runtime, frame.context or {}):
                call = ref.call(message, timeout=frame.left)
            self._serve(frame.id, ref, call)
        self._arrived(frame, ref, incoming)

    def _serve(self, id: int, ref: Ref, future: asyncio.Future[Any]) -> None:
        self._serving[id] = future
        future.add_done_callback(partial(self._answer, self.link.accepted, id, ref))

    def _answer(self, session: int, id: int, ref: Ref, future: asyncio.Future[Any]) -> None:
        """Send what a call to an actor of this node has come to, if the peer still waits for it."""
        error = None if future.cancelled() else future.exception()
        if session != self.link.accepted or self._serving.pop(id, None) is None or future.cancelled():
            return
        if error is not None:
            self._fail(id, self._peers.codec.failure_of(error, ref))
            return
        value = future.result()
        try:
            out = self._message(Kind.ANSWER, value)
        except (NotTransferable, PayloadTooLarge) as unfit:
            self._fail(id, CallFailure("payload", text=str(unfit), begun=True))
        else:
            self._emit(Kind.ANSWER, id=id, type=answer_name(value), payload=out.payload)

    def _fail(self, id: int, failure: CallFailure) -> None:
        self._emit(Kind.FAIL, id=id, payload=msgspec.Raw(msgspec.msgpack.encode(failure)))

    def _on_end(self, frame: NodeFrame) -> None:
        """Take the answer to a call, or why there is none."""
        pending = self._pending.pop(frame.id, None)
        if pending is None or pending.future.done():
            return
        codec = self._peers.codec
        try:
            if frame.kind == Kind.ANSWER:
                kind = type(pending.request)
                outcome = codec.read_answer(frame, kind)
            else:
                failure = msgspec.msgpack.decode(frame.payload, type=CallFailure)
                outcome = codec.error_of(failure, pending.ref, pending.request)
        except UNREADABLE as error:
            text = f"the answer could not be read: {describe(error, form=str)}"
            outcome = RemoteError(frame.type or "a plain value", text)
        scheduler = self._peers.runtime.scheduler
        if isinstance(outcome, Exception):
            scheduler.fail(pending.future, outcome)
        else:
            scheduler.reply(pending.future, outcome)

    def _on_cancel(self, frame: NodeFrame) -> None:
        if frame.count:
            found = self._attend(frame.actor)
            if found is not None:
                self._arrived(frame, *found)
            return
        future = self._serving.pop(frame.id, None)
        if isinstance(future, Call):
            self._peers.runtime.scheduler.abandon(future)

    def _on_ended(self, actor: int, reason: ExitReason) -> None:
        target = self._targets.pop(actor, None)
        if target is not None:
            target.ref.ended = reason
            self._drop(target, "noproc")
            target.ref.tell_end(reason)

    def _on_exit(self, frame: NodeFrame) -> None:
        ref = self._peers.runtime.actor(frame.actor)
        if ref is not None:
            ref.exit(reason_of(frame.payload))

    def _on_stop(self, frame: NodeFrame) -> None:
        found = self._attend(frame.actor)
        if found is None:
            self._fail(frame.id, CallFailure("noproc"))
        else:
            ref, _ = found
            self._serve(frame.id, ref, asyncio.ensure_future(ref.stop(reason_of(frame.payload))))


def _begin(sending: Coroutine[Any, Any, None], dead_letter: Callable[[str], None]) -> None:
    """Send a message in this very step: it is in the mailbox then, or waits before it for room."""
    with suppress(StopIteration):
        try:
            sending.send(None)
        except MailboxFull:
            dead_letter("mailbox_full")
    sending.close()


class Peers:
    """All other nodes that this one has heard of.

    Args:
        runtime: of this node.
        port: what messages go through.
        node: the name of this node.
        epoch: of its process.
        cluster: the id of the cluster.
    """

    #: What is listened to: beats of all nodes.
    BEATS = "foundation.beat.*"

    def __init__(self, runtime: Runtime, port: Port, node: str, epoch: int, cluster: int) -> None:
        self.runtime = runtime
        self.port = port
        self.node = node
        self.epoch = epoch
        self.cluster = cluster
        self.loop = runtime.scheduler.loop
        self.now = runtime.scheduler.now
        self.codec = Codec(self._data_of, self.ref, runtime.name)
        #: Frames that were not delivered, by what was wrong with them.
        self.counts: Counter[str] = Counter()
        self._peers: dict[str, Peer] = {}
        self._refs: WeakValueDictionary[RefData, RemoteRef] = WeakValueDictionary()
        self._attended: set[int] = set()
        self._ticked = self.now()
        self.closed = False
        #: Called when a node can be reached, or cannot any more.
        self.changed: Callable[[], object] = lambda: None

    @staticmethod
    def subject(node: str, epoch: int) -> str:
        """Return the subject for what is sent to a node."""
        return f"foundation.node.{node}.{epoch}"

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def emit(self, event: type, **fields: Any) -> None:
        """Tell the event stream of the runtime."""
        self.runtime.scheduler.events.emit(event, **fields)

    def dead_letter(self, why: str) -> None:
        """Count a message from elsewhere that no handler gets."""
        self.runtime.scheduler.count_dead_letter(why)

    # -- addresses ----------------------------------------------------------------------------------------------

    def _data_of(self, ref: Ref) -> RefData:
        return RefData(ref.node, ref.epoch if isinstance(ref, RemoteRef) else self.epoch, ref.id)

    def ref(self, data: RefData) -> Ref:
        """Return the address of an actor, wherever it lives."""
        if data[:2] == (self.node, self.epoch):
            own = self.runtime.actor(data.actor)
            if own is not None:
                return own
        ref = self._refs.get(data)
        if ref is None:
            ref = self._refs[data] = RemoteRef(self, data)
        return ref

    def reachable(self, node: str, epoch: int) -> Peer | None:
        """Return a node that can be reached, if it is still in an epoch."""
        peer = self._peers.get(node)
        return peer if peer is not None and peer.epoch == epoch and peer.link.up else None

    def is_past(self, node: str, epoch: int) -> bool:
        """Whether the process that was a node in an epoch is not the node any more; or an own actor has ended."""
        peer = self._peers.get(node)
        return node == self.node or (peer is not None and peer.epoch > epoch)

    # -- what arrives -------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take a frame as it came."""
        self._take(data, NodeFrame, lambda frame, peer: peer.receive(frame))

    def beat(self, data: bytes) -> None:
        """Take a beat as it came."""
        self._take(data, Beat, lambda beat, peer: peer.on_beat(beat.links.get(self.node), self.now()))

    def _take(self, data: bytes, kind: Any, act: Callable[[Any, Peer], None]) -> None:
        if self.closed:
            return
        try:
            frame = msgspec.msgpack.decode(data, type=kind)
            if frame.version != VERSION or frame.cluster != self.cluster:
                self.counts["foreign"] += 1
            elif frame.node != self.node:
                peer = self._peer(frame.node, frame.epoch)
                if peer is not None:
                    act(frame, peer)
        except UNREADABLE:
            self.counts["bad_frame"] += 1

    def _peer(self, node: str, epoch: int) -> Peer | None:
        """Return who sends something; None if it is a process that is not this node any more."""
        peer = self._peers.get(node)
        if peer is not None and epoch < peer.epoch:
            self.counts["late"] += 1
            return None
        if peer is None or epoch > peer.epoch:
            self._peers[node] = newer = Peer(self, node, epoch)
            if peer is not None and peer.link.up:
                peer.break_off("another process has taken its place")
            return newer
        return peer

    def attend(self, ref: Ref) -> None:
        """Have the peers hear of the end of an actor of this node."""
        if ref.id not in self._attended:
            self._attended.add(ref.id)
            end = self.runtime.own_cell("attend", ref).end_future()
            end.add_done_callback(partial(self._ended, ref.id))

    def _ended(self, actor: int, end: asyncio.Future[ExitReason]) -> None:
        self._attended.discard(actor)
        for peer in self if not self.closed else ():
            peer.tell_end(actor, end.result())

    def tick(self) -> None:
        """Say that this node lives, and look after the links."""
        links = {peer.node: peer.link.report(peer.epoch) for peer in self}
        beat = Beat(VERSION, self.cluster, self.node, self.epoch, links)
        self.port.publish(f"foundation.beat.{self.node}", msgspec.msgpack.encode(beat))
        now, before = self.now(), self._ticked
        self._ticked = now
        pause = now - before - BEAT
        for peer in self:
            if pause >= BEAT:
                peer.link.paused(pause)
            peer.tick(now)

    def close(self) -> None:
        """Say goodbye to all, and take no part any more."""
        self.closed = True
        for peer in self:
            if peer.link.up:
                peer.leave()
