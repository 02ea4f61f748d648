"""What comes from another node is data: nothing that it says imports, calls or breaks anything."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from foundation.cluster.link import Hello
from foundation.cluster.peer import Peer, Receipt
from foundation.cluster.wire import VERSION, Beat, CallFailure, Codec, Kind, NodeFrame, RefData, handled, type_name
from supervision import Actor, Address, Down, Message, Name, Ref, Request, Runtime, handle
from supervision.errors import ActorExited, CallTimeout, MailboxFull, NoProcess, UnhandledMessage
from supervision.isolation import NotTransferable, RemoteError
from supervision.reasons import NOPROC
from supervision.system import Suspend
from tests.foundation.cluster.conftest import Nodes, remote
from tests.foundation.cluster.kinds import Clerk, Echo, Note, Notes, Watcher


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def peer_of(cluster: Any, node: str) -> Peer:
    """Return a node's end of its link to another one."""
    (peer,) = (peer for peer in cluster.peers if peer.node == node)
    assert isinstance(peer, Peer)
    return peer


async def test_messages_that_only_the_kernel_sends_cannot_be_sent_from_elsewhere(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    watcher = await remote(a, b, Watcher)
    own = b.runtime.own_cell("watcher", b.runtime.actor(watcher.id))
    peer = peer_of(a, "b")
    for kind in (Down, Receipt, Suspend):
        peer._emit(Kind.CAST, actor=watcher.id, type=type_name(kind), payload=raw([]))
    await a.runtime.sleep(0.1)
    assert b.runtime.statistics().dead_letters["unknown_type"] == 3
    assert isinstance(own.actor, Watcher)
    assert own.actor.notes == []
    assert not own.suspended
    assert set(handled(Watcher)) == {type_name(Note)}


async def test_types_that_a_class_has_only_met_are_not_among_those_it_declares(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    own = b.runtime.actor(clerk.id)
    assert own is not None

    class Unheard(Message):
        pass

    own.cast(Unheard())
    await clerk.call(Notes())
    assert type_name(Unheard) not in handled(Clerk)


async def test_of_an_actor_in_a_process_of_its_own_the_types_count_that_it_handles_there():
    from supervision._core.threads import isolated

    kind, _, _ = isolated(Clerk, "process", (), {})
    assert handled(kind) == handled(Clerk)


async def test_a_payload_that_is_not_of_its_type_is_refused_and_the_link_stays(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    peer = peer_of(a, "b")
    for payload in (raw(["x", 2]), raw({"text": 3}), raw({})):
        peer._emit(Kind.CAST, actor=clerk.id, type=type_name(Note), payload=payload)
    await a.runtime.sleep(0.1)
    assert b.runtime.statistics().dead_letters["bad_payload"] == 3
    assert await clerk.call(Notes()) == []


async def test_a_request_that_cannot_be_read_over_there_fails_here(nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    with monkeypatch.context() as patched:
        patched.setattr(a.peers.codec, "encode", lambda value: raw({"text": 3}))
        with pytest.raises(NotTransferable, match="could not be read"):
            await clerk.call(Echo("x"))
    with monkeypatch.context() as patched:
        patched.setattr(b.peers.codec, "encode", lambda value: raw(3))
        with pytest.raises(RemoteError, match="the answer could not be read"):
            await clerk.call(Echo("x"))
    assert await clerk.call(Echo("x")) == "x"


async def test_bytes_that_are_no_frame_are_counted_and_change_nothing(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    subject, cluster = b.peers.subject("b", 1), b.peers.cluster
    for data in (b"", b"\xc1", msgspec.msgpack.encode([1, 2]), b"\x91" * 5000):
        a._port.publish(subject, data)
        a._port.publish("foundation.beat.a", data)
    frames = [
        NodeFrame(VERSION + 1, Kind.CAST, cluster, "a", 1, 1, 1),
        NodeFrame(VERSION, Kind.CAST, cluster + 1, "a", 1, 1, 1),
        NodeFrame(VERSION, Kind.CAST, cluster, "b", 1, 1, 1),
        NodeFrame(VERSION, Kind.HELLO, cluster, "a", 1, 1, 0, payload=raw("x")),
        NodeFrame(VERSION, Kind.CAST, cluster, "a", 0, 1, 1),
    ]
    for frame in frames:
        a._port.publish(subject, msgspec.msgpack.encode(frame))
    a._port.publish(subject, msgspec.msgpack.encode([VERSION, 4, cluster, "a", 1, 1, 1, 1, 1, -5.0]))
    await a.runtime.sleep(0.1)
    assert b.statistics().frames == {"bad_frame": 10, "foreign": 2, "late": 1}
    assert await clerk.call(Notes()) == []


async def test_frames_of_kinds_that_nobody_knows_and_about_what_is_not_there_mean_nothing(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    peer = peer_of(a, "b")
    peer._emit(99)  # type: ignore[arg-type]
    peer._emit(Kind.ANSWER, id=77)
    peer._emit(Kind.CANCEL, id=77)
    peer._emit(Kind.CANCEL, actor=77, count=1)
    peer._emit(Kind.CREDIT, actor=77, count=1)
    peer._emit(Kind.ENDED, actor=77, payload=raw([raw({"reason": "noproc"}), "supervision.reasons:NoProc"]))
    peer._emit(Kind.EXIT, actor=77, payload=raw("what"))
    peer._emit(Kind.EXIT, actor=clerk.id, payload=raw("what"))
    await a.runtime.sleep(0.1)
    assert await clerk.call(Notes()) == []
    assert b.statistics().frames == {"bad_frame": 1}


async def test_fields_that_a_newer_version_appends_are_ignored(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    peer = peer_of(a, "b")
    frame = NodeFrame(
        VERSION,
        Kind.CAST,
        a.peers.cluster,
        "a",
        1,
        peer.link.session,
        peer.link.number(),
        actor=clerk.id,
        type=type_name(Note),
        payload=raw({"text": "new"}),
    )
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(frame))
    peer._target(clerk).outgoing.may_send(peer._message(Kind.CAST, Note("new")))  # type: ignore[arg-type]
    a._port.publish(a.peers.subject("b", 1), msgspec.msgpack.encode([*fields, "more", 3]))
    assert await clerk.call(Notes()) == ["new"]


async def test_a_hello_and_a_beat_of_an_older_process_are_late(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    hello = NodeFrame(VERSION, Kind.HELLO, a.peers.cluster, "a", 5, 1, 0, payload=raw(Hello(1, 0, 0)))
    a._port.publish(b.peers.subject("b", 1), msgspec.msgpack.encode(hello))
    await a.runtime.sleep(0.1)
    assert b.nodes() == {}
    a._port.publish("foundation.beat.a", msgspec.msgpack.encode(Beat(VERSION, a.peers.cluster, "a", 1, {})))
    await a.runtime.sleep(0.1)
    assert b.statistics().frames["late"] >= 1


# -- the codec ---------------------------------------------------------------------------------------------------------


class Own(Exception):
    """Nobody declares it."""


class Asks(Request[Any]):
    raises = (Own,)


class Holder(msgspec.Struct, frozen=True):
    ref: Ref | None = None
    name: Name | None = None
    any: Address | None = None


class Odd:
    pass


@pytest.fixture
async def ref() -> Any:
    async with Runtime(watchdog=None, reports=False) as runtime:
        yield await runtime.spawn(Clerk)


def codec_of(ref: Ref) -> Codec:
    return Codec(lambda _: RefData("a", 1, ref.id), lambda _: ref, ref.runtime.name)


def test_addresses_come_back_as_what_is_declared(ref: Ref):
    codec, name = codec_of(ref), ref.runtime.name("till")
    held = Holder(ref, name, ref)
    assert codec.decode(codec.encode(held), Holder) == held
    held = Holder(any=name)
    assert codec.decode(codec.encode(held), Holder) == held
    with pytest.raises(msgspec.ValidationError):
        codec.decode(raw({"name": 3}), Holder)
    with pytest.raises(msgspec.ValidationError):
        codec.decode(raw({"ref": "till"}), Holder)
    with pytest.raises((msgspec.ValidationError, TypeError)):
        codec.decode(raw({}), Odd)


def test_why_a_call_has_no_answer_comes_back_as_it_was(ref: Ref):
    codec = codec_of(ref)

    def again(error: Exception) -> Exception:
        return codec.error_of(codec.failure_of(error, ref), ref, Asks())

    assert isinstance(again(NoProcess(ref, "x")), NoProcess)
    assert isinstance(again(UnhandledMessage(ref, "x")), UnhandledMessage)
    assert isinstance(again(CallTimeout(ref, "x", 1.0)), RemoteError)
    full = again(MailboxFull(ref, "x", 7))
    assert isinstance(full, MailboxFull)
    assert full.capacity == 7
    ended = again(ActorExited(ref, "x", NOPROC, begun=False))
    assert isinstance(ended, ActorExited)
    assert (ended.reason, ended.begun) == (NOPROC, False)
    assert type(again(Own("x"))) is Own
    unread = codec.error_of(CallFailure("exited"), ref, Asks())
    assert isinstance(unread, ActorExited)
    assert unread.reason == NOPROC


def test_errors_about_others_and_those_that_nobody_declares_are_told_as_text(ref: Ref):
    codec = codec_of(ref)
    other = ref.runtime.name("other")
    for error in (NoProcess(other, "x"), ActorExited(other, "x", NOPROC), Undeclared(Odd())):
        told = codec.error_of(codec.failure_of(error, ref), ref, Asks())
        assert isinstance(told, RemoteError)
        assert told.kind.endswith(type(error).__name__)


class Undeclared(Exception):
    """It holds what cannot travel."""


def test_a_promised_class_may_be_answered_by_one_that_is_declared_below_it(ref: Ref):
    codec = codec_of(ref)
    frame = NodeFrame(VERSION, Kind.ANSWER, 0, "a", 1, 1, 1, type=type_name(Cat), payload=raw(Cat("a")))
    assert codec.read_answer(frame, GetAnimal) == Animal("a")
    assert codec.read_answer(frame, GetCatOrAnimal) == Cat("a")
    assert codec.read_answer(frame, GetAny) == {"name": "a"}


class Animal(msgspec.Struct, frozen=True):
    name: str


class Cat(Animal, frozen=True):
    pass


class GetAnimal(Request[Animal]):
    pass


class GetCatOrAnimal(Request[Animal]):
    example: Cat | None = None


class GetAny(Request[Any]):
    pass


async def test_what_goes_along_with_a_message_goes_along_to_another_node():
    from foundation.cluster import Cluster, MemoryNetwork
    from foundation.telemetry import ContextPropagator, bound

    network, seen = MemoryNetwork(), []

    class Looker(Actor):
        @handle
        def note(self, message: Note) -> None:
            from foundation.telemetry.context import facts

            seen.append(dict(facts()))

    async with (
        Runtime(watchdog=None, reports=False, propagator=ContextPropagator()) as here,
        Runtime(watchdog=None, reports=False, propagator=ContextPropagator()) as there,
        Cluster(here, network.port(), node="a") as a,
        Cluster(there, network.port(), node="b") as b,
    ):
        ref = await remote(a, b, Looker)
        with bound(order="17"):
            ref.cast(Note("x"))
        await here.sleep(0.1)
    assert seen == [{"order": "17"}]
