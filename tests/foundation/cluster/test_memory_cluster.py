"""Nodes in one process: what each word of an address does when the actor lives on another node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundation.cluster import NodeNameTaken, NotReached, PayloadTooLarge
from foundation.cluster.credit import AHEAD, BYTES, WINDOW
from foundation.cluster.wire import RefData
from foundation.events import NodeDown, NodeUp
from supervision import Actor, Call, Ref, Runtime, handle
from supervision.errors import ActorExited, BadOption, CallTimeout, Fenced, MailboxFull, NoProcess, UnhandledMessage
from supervision.events import MessageDropped
from supervision.isolation import NotTransferable, RemoteError
from supervision.mailbox import MailboxStatistics
from supervision.reasons import KILLED, NOPROC, NORMAL, Abnormal, Crashed, NoConnection, Shutdown
from tests.foundation.cluster.conftest import Nodes, remote
from tests.foundation.cluster.kinds import (
    Anything,
    Clerk,
    Crash,
    Echo,
    Full,
    Introduce,
    LetGo,
    Mistaken,
    Myself,
    Note,
    NoteFor,
    Notes,
    Patient,
    Point,
    Slow,
    Unfit,
    Unknown,
    Wait,
    Watcher,
)


async def watched(runtime: Runtime, target: Ref) -> Watcher:
    """Start an actor that monitors another one, and return it."""
    cell = runtime.own_cell("watcher", await runtime.spawn(Watcher))
    cell.monitor(target)
    watcher = cell.actor
    assert isinstance(watcher, Watcher)
    return watcher


# -- messages and calls ------------------------------------------------------------------------------------------------


async def test_messages_of_one_sender_arrive_in_their_order_and_before_its_calls(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    for n in range(100):
        clerk.cast(Note(str(n)))
    await clerk.send(Note("sent"))
    assert await clerk.call(Notes()) == [*map(str, range(100)), "sent"]


async def test_a_name_of_the_cluster_is_used_like_one_of_the_runtime(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    await b.register("clerk", await b.runtime.spawn(Clerk))
    await a.wait_for_name("clerk")
    name = a.runtime.name("clerk")
    name.cast(Note("cast"))
    await name.send(Note("sent"))
    assert await name.call(Notes()) == ["cast", "sent"]
    await name.stop()
    with pytest.raises(NoProcess):
        await name.call(Notes())


async def test_a_name_of_the_runtime_comes_before_one_of_the_cluster(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    await b.register("clerk", await b.runtime.spawn(Clerk))
    await a.wait_for_name("clerk")
    own = await a.runtime.spawn(Clerk, name="clerk")
    assert a.runtime.whereis("clerk") is own
    own.kill()
    assert a.runtime.whereis("clerk") is not own


async def test_an_address_tells_node_number_and_what_is_known(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    assert (clerk.node, clerk.path, str(clerk)) == ("b", f"b/#{clerk.id}", f"<Actor b/#{clerk.id}>")
    assert clerk.alive
    assert clerk.reason is None
    assert clerk.mailbox_statistics() == MailboxStatistics(0, None, 0)
    assert a.runtime.node == "a"


async def test_errors_that_the_request_declares_come_as_they_are_and_others_as_what_can_be_trusted(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    with pytest.raises(Unfit) as caught:
        await clerk.call(Echo("unfit"))
    assert caught.value.why == "today"
    with pytest.raises(ValueError, match="not that"):
        await clerk.call(Echo("wrong"))
    with pytest.raises(UnhandledMessage):
        await clerk.call(Unknown())
    assert await clerk.call(Echo("fine")) == "fine"


async def test_answers_are_what_the_request_promises_or_an_error(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    assert await clerk.call(Anything("list")) == [1]
    assert await clerk.call(Anything("none")) is None
    assert await clerk.call(Anything("point")) == {"x": 3}  # its class is not declared here
    with pytest.raises(NotTransferable, match="cannot be sent"):
        await clerk.call(Anything("loop"))
    with pytest.raises(NotTransferable, match="bytes") as caught:
        await clerk.call(Anything("huge"))
    assert caught.value.begun
    with pytest.raises(RemoteError, match=r"^a plain value: the answer could not be read"):
        await clerk.call(Mistaken())


async def test_addresses_travel_in_messages_and_answers(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    own = await a.runtime.spawn(Clerk)
    clerk.cast(NoteFor(own, "back"))
    assert await clerk.call(Introduce(own, a.runtime.name("desk"))) == "desk"
    assert await own.call(Notes()) == ["back", "hello"]
    assert await clerk.call(Myself()) is clerk
    clerk.cast(NoteFor(clerk, "to myself"))
    await clerk.call(Notes())
    assert await clerk.call(Notes()) == ["to myself"]


async def test_the_address_of_an_own_actor_that_has_ended_comes_back_as_one_that_has_ended(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    own = await a.runtime.spawn(Clerk)
    own.kill()
    ref = a.peers.ref(RefData("a", a.identity.epoch, own.id))
    assert not ref.alive
    assert ref.reason == NOPROC
    assert await ref.join() == NOPROC
    with pytest.raises(NoProcess, match=r": no such actor$"):
        await ref.call(Notes())
    ref.cast(Note("late"))
    assert a.runtime.statistics().dead_letters["noproc"] == 1
    assert clerk.alive


async def test_what_cannot_travel_is_refused_before_it_is_sent(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    with pytest.raises(PayloadTooLarge) as caught:
        await clerk.call(Echo("x" * (1 << 20)))
    assert not caught.value.begun
    with pytest.raises(NotTransferable, match="more than 64 bits as text") as unfit:
        await clerk.send(Point(1 << 70))
    assert not unfit.value.begun
    with pytest.raises(PayloadTooLarge):
        await clerk.send(Note("x" * (1 << 20)))
    with pytest.raises(NotTransferable):
        await clerk.send(object())
    clerk.cast(object())
    assert a.runtime.statistics().dead_letters["not_transferable"] == 1
    assert await clerk.call(Notes()) == []
    assert nodes.told("a", NodeDown) == []


async def test_messages_of_types_nobody_declares_are_dead_letters_over_there(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    clerk.cast(Point(1))
    await clerk.call(Notes())
    assert b.runtime.statistics().dead_letters["unknown_type"] == 1


async def test_a_deadline_travels_and_a_call_that_nobody_waits_for_is_not_handled(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    first = clerk.call(Wait(), timeout=None)
    with pytest.raises(CallTimeout):
        await clerk.call(Wait(), timeout=1.0)
    given_up: Call[str] = clerk.call(Wait())
    await a.runtime.sleep(0.1)
    given_up.cancel()
    await a.runtime.sleep(0.1)
    clerk.cast(LetGo())
    await a.runtime.sleep(0.1)
    assert not first.done()  # its handler waits, and so does all behind it
    first.cancel()


async def test_a_call_that_is_answered_or_fails_is_kept_no_longer(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    for _ in range(10):
        await clerk.call(Echo("x"))
    assert len(a.runtime.scheduler.waiting) == 0
    waiting = clerk.call(Wait())
    await a.runtime.sleep(0.1)
    nodes.network.kill("b")
    with pytest.raises(ActorExited):
        await waiting
    assert len(a.runtime.scheduler.waiting) == 0


async def test_an_answer_that_comes_late_vanishes(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    nodes.network.delay = (0.2, 0.2)
    call = clerk.call(Echo("late"), timeout=0.3)
    with pytest.raises(CallTimeout):
        await call
    await a.runtime.sleep(1.0)
    assert await clerk.call(Echo("again")) == "again"


async def test_a_call_to_a_mailbox_that_refuses_fails_as_at_home(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    full = await remote(a, b, Full)
    full.cast(Note("in hand"))
    await a.runtime.sleep(0.1)
    full.cast(Note("waits"))
    with pytest.raises(MailboxFull):
        await full.call(Wait())
    full.cast(Note("too many"))
    await a.runtime.sleep(0.1)
    assert b.runtime.statistics().dead_letters["mailbox_full"] == 2


async def test_what_a_mailbox_lets_wait_keeps_its_order(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    patient = await remote(a, b, Patient)
    for n in range(10):
        patient.cast(Note(str(n)))
    await a.runtime.sleep(0.1)
    own = b.runtime.actor(patient.id)
    assert own is not None
    assert own.mailbox_statistics().waiting == 8
    assert b.runtime.statistics().dead_letters == {}


# -- credit ------------------------------------------------------------------------------------------------------------


async def test_senders_wait_for_credit_and_casts_beyond_are_dead_letters(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    slow = await remote(a, b, Slow)
    for _ in range(WINDOW):
        slow.cast(Note("in"))
    sending = asyncio.ensure_future(slow.send(Note("waits")))
    given_up = asyncio.ensure_future(slow.send(Note("given up")))
    call: Call[str] = slow.call(Unknown(), timeout=60.0)
    cancelled: Call[str] = slow.call(Unknown(), timeout=60.0)
    await a.runtime.sleep(0.5)
    assert not sending.done()
    given_up.cancel()
    cancelled.cancel()
    for _ in range(AHEAD + 5):
        slow.cast(Note("too many"))
    assert a.runtime.statistics().dead_letters["no_credit"] == 5 + 4
    assert slow.mailbox_statistics().length == AHEAD
    other = await remote(a, b, Clerk)
    assert await other.call(Echo("meanwhile")) == "meanwhile"
    own = b.runtime.own_cell("slow", b.runtime.actor(slow.id))
    own.actor.gate.set()  # type: ignore[attr-defined]
    await sending
    with pytest.raises(UnhandledMessage):
        await call
    await a.runtime.sleep(1.0)
    assert own.actor.handled == WINDOW + 1 + AHEAD - 4  # type: ignore[attr-defined]
    assert slow.mailbox_statistics().length == 0


async def test_who_waits_for_credit_hears_of_the_end(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    slow = await remote(a, b, Slow)
    for _ in range(WINDOW):
        slow.cast(Note("in"))
    sending = asyncio.ensure_future(slow.send(Note("waits")))
    call: Call[str] = slow.call(Unknown(), timeout=None)
    given_up: Call[str] = slow.call(Unknown(), timeout=None)
    await a.runtime.sleep(0.1)
    given_up.cancel()
    gone = asyncio.ensure_future(slow.send(Note("gone")))
    await a.runtime.sleep(0.1)
    gone.cancel()
    await a.runtime.sleep(0.1)
    slow.kill()
    await sending
    with pytest.raises(NoProcess):
        await call
    assert a.runtime.statistics().dead_letters["noproc"] == 1


async def test_who_sends_large_messages_waits_long_before_there_are_many(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    slow = await remote(a, b, Slow)
    large = Note("x" * (BYTES // 8))
    sending = [asyncio.ensure_future(slow.send(large)) for _ in range(20)]
    await a.runtime.sleep(0.5)
    assert sum(one.done() for one in sending) == 8
    for one in sending[8:12]:
        one.cancel()
    actor: Any = b.runtime.own_cell("slow", b.runtime.actor(slow.id)).actor
    actor.gate.set()
    await asyncio.gather(*sending, return_exceptions=True)
    for _ in range(20):
        await slow.send(large)
    assert slow.mailbox_statistics().length == 0
    await slow.stop()
    assert actor.handled == 16 + 20
    assert a.runtime.statistics().dead_letters == {}


async def test_a_call_that_may_have_reached_a_handler_never_says_that_it_was_not_begun(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk, slow = await remote(a, b, Clerk), await remote(a, b, Slow)
    call = clerk.call(Wait(), timeout=1.0)
    assert call.begun
    with pytest.raises(CallTimeout) as caught:
        await call
    assert caught.value.begun
    for _ in range(WINDOW):
        slow.cast(Note("in"))
    with pytest.raises(CallTimeout) as caught:
        await slow.call(Wait(), timeout=1.0)
    assert not caught.value.begun  # it has waited for credit all the time


async def test_credit_comes_back_for_as_many_messages_as_one_likes(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    for n in range(5 * WINDOW):
        await clerk.send(Note(str(n)))
    assert await clerk.call(Notes()) == [str(n) for n in range(5 * WINDOW)]


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_a_monitor_fires_once_with_the_real_reason_and_after_all_messages(nodes: Nodes):
    """C012, C014."""
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    watcher = await watched(a.runtime, clerk)
    own = next(ref for ref in a.runtime.actors() if issubclass(ref.kind, Watcher))
    for n in range(1000):
        await clerk.send(NoteFor(own, str(n)))
    clerk.cast(Crash())
    await clerk.join()
    await a.runtime.sleep(0.1)
    assert watcher.notes == [*map(str, range(1000)), "down"]
    (down,) = watcher.downs
    assert isinstance(down.reason, Crashed)
    assert down.target is clerk
    assert not clerk.alive
    assert clerk.reason == down.reason


async def test_a_monitor_of_one_that_has_ended_or_is_not_there_fires_at_once(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    joining = asyncio.ensure_future(clerk.join())
    await a.runtime.sleep(0.1)
    clerk.kill()
    assert await joining == KILLED
    assert [down.reason for down in (await settled_watch(a.runtime, clerk)).downs] == [KILLED]
    unheard = await remote(a, b, Clerk)
    own = b.runtime.actor(unheard.id)
    assert own is not None
    own.kill()
    watcher = await watched(a.runtime, unheard)
    await a.runtime.sleep(0.1)
    assert [down.reason for down in watcher.downs] == [NOPROC]


async def test_a_monitor_by_name_and_one_that_is_taken_away(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    await b.register("clerk", await b.runtime.spawn(Clerk))
    clerk = await a.wait_for_name("clerk")
    ref = await a.runtime.spawn(Watcher)
    cell = a.runtime.own_cell("watcher", ref)
    by_name = cell.monitor(a.runtime.name("clerk"))
    taken = cell.monitor(clerk)
    assert cell.demonitor(taken, flush=False)
    assert not cell.demonitor(taken, flush=True)
    clerk.exit(Shutdown("enough"))
    assert await clerk.join() == Shutdown("enough")
    await a.runtime.sleep(0.1)
    watcher = cell.actor
    assert isinstance(watcher, Watcher)
    assert [(down.monitor, down.target) for down in watcher.downs] == [(by_name, a.runtime.name("clerk"))]


async def test_a_watcher_that_ends_watches_no_more(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    ref = await a.runtime.spawn(Watcher)
    a.runtime.own_cell("watcher", ref).monitor(clerk)
    ref.kill()
    clerk.kill()
    assert await clerk.join() == KILLED


async def test_stop_ends_in_order_behind_what_was_sent_and_waits(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    await clerk.stop()
    assert clerk.reason == NORMAL
    with pytest.raises(NoProcess):
        await clerk.stop()
    other = await remote(a, b, Clerk)
    other.cast(Wait())
    stopping = asyncio.ensure_future(other.stop("enough"))
    await a.runtime.sleep(0.1)
    other.kill()
    with pytest.raises(ActorExited) as caught:
        await stopping
    assert caught.value.reason == KILLED


async def test_stop_of_one_that_ended_unheard_and_one_that_takes_too_long(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    unheard = await remote(a, b, Clerk)
    own = b.runtime.actor(unheard.id)
    assert own is not None
    own.kill()
    unheard.exit("too late")
    with pytest.raises(NoProcess):
        await unheard.stop()
    busy = await remote(a, b, Clerk)
    busy.cast(Wait())
    with pytest.raises(CallTimeout):
        await busy.stop(timeout=1.0)
    busy.exit(Abnormal("enough"))
    assert await busy.join() == Abnormal("enough")


async def test_messages_and_calls_to_one_that_ended_unheard(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    for what in ("cast", "call"):
        clerk = await remote(a, b, Clerk)
        own = b.runtime.actor(clerk.id)
        assert own is not None
        own.kill()
        if what == "cast":
            clerk.cast(Note("late"))
            await a.runtime.sleep(0.1)
            assert b.runtime.statistics().dead_letters["noproc"] == 1
        else:
            with pytest.raises(NoProcess):
                await clerk.call(Notes())
        assert clerk.reason == NOPROC


async def test_a_call_fails_when_the_actor_ends_with_it_in_hand(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    call = clerk.call(Wait())
    await a.runtime.sleep(0.1)
    clerk.kill()
    with pytest.raises(ActorExited) as caught:
        await call
    assert (caught.value.reason, caught.value.begun, caught.value.target) == (KILLED, True, clerk)


# -- broken links ------------------------------------------------------------------------------------------------------


async def test_a_node_that_is_killed_is_noticed_in_time_by_everybody_who_waits(nodes: Nodes):
    """C015, C023."""
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    watchers = [await watched(a.runtime, clerk) for _ in range(20)]
    calls = [clerk.call(Wait(), timeout=60.0) for _ in range(200)]
    joining = asyncio.ensure_future(clerk.join())
    given_up = asyncio.ensure_future(clerk.join())
    stopping = asyncio.ensure_future(clerk.stop())
    await a.runtime.sleep(0.3)
    given_up.cancel()
    killed = a.runtime.clock.time()
    nodes.network.kill("b")
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert a.runtime.clock.time() - killed <= 1.3
    assert {(type(error), error.reason, error.begun) for error in ended} == {  # type: ignore[union-attr]
        (ActorExited, NoConnection("b"), True)
    }
    assert await joining == NoConnection("b")
    with pytest.raises(ActorExited, match="no connection to node b"):
        await stopping
    assert [down.reason for watcher in watchers for down in watcher.downs] == [NoConnection("b")] * 20
    assert [event.why for event in nodes.told("a", NodeDown)] == ["nothing heard for 1 s"]  # type: ignore[attr-defined]
    assert a.nodes() == {}


async def test_without_a_connection_nothing_is_sent_and_everybody_hears_so(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    nodes.network.isolate("b")
    await a.runtime.sleep(2.0)
    assert not clerk.alive
    assert clerk.reason is None
    with pytest.raises(ActorExited) as caught:
        await clerk.call(Notes())
    assert (caught.value.reason, caught.value.begun) == (NoConnection("b"), False)
    with pytest.raises(ActorExited):
        await clerk.stop()
    clerk.cast(Note("lost"))
    await clerk.send(Note("lost"))
    clerk.exit("nothing happens")
    assert a.runtime.statistics().dead_letters["noconnection"] == 2
    assert await clerk.join() == NoConnection("b")
    assert [down.reason for down in (await settled_watch(a.runtime, clerk)).downs] == [NoConnection("b")]
    assert clerk.mailbox_statistics().length == 0


async def settled_watch(runtime: Runtime, target: Ref) -> Watcher:
    """Start an actor that monitors another one, and let it hear what is known."""
    watcher = await watched(runtime, target)
    await runtime.sleep(0.1)
    return watcher


async def test_after_a_heal_the_same_address_works_in_a_new_session(nodes: Nodes):
    """C020: cut in one direction, both ends notice; both have a new session after the heal."""
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    back = await remote(b, a, Clerk)
    watchers = await watched(a.runtime, clerk), await watched(b.runtime, back)
    cut = a.runtime.clock.time()
    nodes.network.cut("b", "a")
    await a.runtime.sleep(1.3)
    assert [len(watcher.downs) for watcher in watchers] == [1, 1]
    clerk.cast(Note("lost"))
    nodes.network.heal()
    await a.wait_for_node("b")
    await b.wait_for_node("a")
    assert await clerk.call(Notes()) == []
    assert await back.call(Notes()) == []
    assert len(nodes.told("a", NodeUp)) == 2
    assert a.runtime.clock.time() - cut < 3.0


async def test_C021_a_short_cut_of_beats_breaks_nothing(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    nodes.network.cut("b", "a")
    nodes.network.cut("a", "b")
    await a.runtime.sleep(0.7)
    nodes.network.heal()
    await a.runtime.sleep(2.0)
    assert await clerk.call(Notes()) == []
    assert nodes.told("a", NodeDown) == nodes.told("b", NodeDown) == []


async def test_C017_a_message_lost_in_the_middle_breaks_the_link_at_both_ends(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    back = await remote(b, a, Clerk)
    watchers = await watched(a.runtime, clerk), await watched(b.runtime, back)
    await a.runtime.sleep(0.1)
    clerk.cast(Note("1"))
    await a.runtime.sleep(0.01)
    nodes.network.cut("a", "b")
    clerk.cast(Note("2"))
    nodes.network.heal()
    clerk.cast(Note("3"))
    clerk.cast(Note("4"))
    await a.runtime.sleep(0.1)
    assert [len(watcher.downs) for watcher in watchers] == [1, 1]
    await a.wait_for_node("b")
    assert await clerk.call(Notes()) == ["1"]
    assert b.statistics().frames == {"gap": 1, "late": 1}


async def test_the_loss_of_the_last_message_is_noticed_within_a_second(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    watcher = await watched(a.runtime, clerk)
    await a.runtime.sleep(0.1)
    nodes.network.cut("a", "b")
    clerk.cast(Note("lost"))
    nodes.network.heal()
    await a.runtime.sleep(1.0)
    assert [down.reason for down in watcher.downs] == [NoConnection("b")]


async def test_C022_each_message_is_seen_once_though_every_frame_comes_twice(nodes: Nodes):
    nodes.network.duplicates = 1.0
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    for n in range(300):
        await clerk.send(Note(str(n)))
    assert await clerk.call(Notes()) == [str(n) for n in range(300)]
    assert b.statistics().frames["duplicate"] >= 300
    assert nodes.told("a", NodeDown) == []


@pytest.mark.parametrize("seed", range(20))
async def test_with_losses_at_random_what_arrives_is_in_order_and_every_hole_was_told(nodes: Nodes, seed: int):
    """I4, I6, I7: per session a prefix is delivered, once; who watches hears of each break."""
    nodes.network.random.seed(seed)
    nodes.network.delay = (0.001, 0.05)
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    nodes.network.loss = 0.02
    nodes.network.duplicates = 0.05
    sent: list[list[str]] = []
    for _ in range(6):
        await a.wait_for_node("b", 60.0)
        downs = (await watched(a.runtime, clerk)).downs
        batch: list[str] = []
        sent.append(batch)
        for n in range(30):
            if downs:
                break
            batch.append(f"{len(sent)}-{n}")
            clerk.cast(Note(batch[-1]))
            await a.runtime.sleep(0.02)
    nodes.network.loss = nodes.network.duplicates = 0.0
    await a.runtime.sleep(5.0)
    await a.wait_for_node("b")
    got = await clerk.call(Notes())
    assert got == sorted(set(got), key=got.index)
    assert got == [note for batch in sent for note in batch if note in got]
    for batch in sent:
        arrived = [note for note in batch if note in got]
        assert arrived == batch[: len(arrived)]


async def test_C007_a_node_that_leaves_says_so_and_nobody_suspects_it(nodes: Nodes):
    a, _ = await nodes.start("a", "b")
    async with Runtime(watchdog=None, reports=False) as runtime:
        async with type(a)(runtime, nodes.network.port(), node="c") as c:
            await a.wait_for_node("c")
            await c.register("clerk", await runtime.spawn(Clerk))
            clerk = await a.wait_for_name("clerk")
            c.peers.ref(RefData("nowhere", 1, 1)).cast(Note("lost"))
            assert runtime.statistics().dead_letters == {"noconnection": 1}
        await a.runtime.sleep(0.5)
        assert [(event.node, event.why) for event in nodes.told("a", NodeDown)] == [("c", "left")]  # type: ignore[attr-defined]
        assert a.whereis("clerk") is None
        assert not clerk.alive
        assert runtime.whereis("clerk") is None
        began = runtime.clock.time()
        async with type(a)(runtime, nodes.network.port(), node="c") as c:  # it need not wait for anything
            assert runtime.clock.time() - began < 1.0
            assert c.identity.epoch == 2
            await a.wait_for_node("c")
        assert clerk.reason == NOPROC


async def test_a_process_that_takes_the_place_of_another_one_makes_its_addresses_past(nodes: Nodes):
    """C002, without an obituary."""
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    nodes.network.kill("b")
    async with Runtime(watchdog=None, reports=False) as runtime:
        began = runtime.clock.time()
        async with type(a)(runtime, nodes.network.port(), node="b") as again:
            assert 27.0 <= runtime.clock.time() - began <= 32.0
            assert again.identity.epoch == 2
            await a.wait_for_node("b")
            assert clerk.reason == NOPROC
            with pytest.raises(NoProcess):
                await clerk.call(Notes())
            assert [down.reason for down in (await settled_watch(a.runtime, clerk)).downs] == [NOPROC]


async def test_C004_a_name_of_a_node_that_is_taken_is_refused_while_the_other_one_lives(nodes: Nodes):
    a, _ = await nodes.start("a", "b")
    async with Runtime(watchdog=None, reports=False) as runtime:
        with pytest.raises(NodeNameTaken, match="alive"):
            await type(a)(runtime, nodes.network.port(), node="b").__aenter__()
        assert runtime.elsewhere is None
    assert a.nodes() == {"b": 1}


async def test_two_processes_that_begin_as_one_node_at_once_never_both_pass(nodes: Nodes):
    (a,) = await nodes.start("a")
    async with Runtime(watchdog=None, reports=False) as one, Runtime(watchdog=None, reports=False) as two:
        attempts = [type(a)(runtime, nodes.network.port(), node="b").__aenter__() for runtime in (one, two)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(NodeNameTaken) == 1
        (won,) = (outcome for outcome in outcomes if isinstance(outcome, type(a)))
        await won.__aexit__(None, None, None)


async def test_what_is_not_there_is_not_waited_for_for_ever(nodes: Nodes):
    (a,) = await nodes.start("a")
    with pytest.raises(NotReached, match="node z: not reached within 1 s"):
        await a.wait_for_node("z", 1.0)
    with pytest.raises(NotReached, match="name z"):
        await a.wait_for_name("z", 1.0)


async def test_a_runtime_is_in_one_cluster_and_a_node_has_a_name(nodes: Nodes):
    (a,) = await nodes.start("a")
    with pytest.raises(BadOption, match="in a cluster already"):
        await type(a)(a.runtime, nodes.network.port(), node="z").__aenter__()
    assert a.runtime.elsewhere is not None
    for wrong in ("", "a b", "a.b", "x" * 65, None):
        with pytest.raises(BadOption):
            type(a)(a.runtime, nodes.network.port(), node=wrong)  # type: ignore[arg-type]


async def test_a_node_whose_loop_stood_still_does_not_blame_the_others(nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    a, _ = await nodes.start("a", "b")
    now = a.peers.now
    monkeypatch.setattr(a.peers, "now", lambda: now() + 5.0)
    await a.runtime.sleep(3.0)
    assert nodes.told("a", NodeDown) == []


async def test_a_message_shows_that_the_link_is_open_when_the_hello_was_lost(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    (peer,) = b.peers
    peer.link.up = False
    clerk.cast(Note("x"))
    await a.runtime.sleep(0.01)
    assert len(nodes.told("b", NodeUp)) == 2
    assert await clerk.call(Notes()) == ["x"]


async def test_a_call_that_is_given_up_in_the_moment_of_a_break_stays_given_up(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    call = clerk.call(Wait())
    (peer,) = a.peers
    call.cancel()
    peer.break_off("it is tested")
    await a.runtime.sleep(0.1)
    assert call.cancelled()


async def test_only_nodes_that_have_to_do_with_an_actor_hear_of_its_end(nodes: Nodes):
    a, b, c = await nodes.start("a", "b", "c")
    clerk = await remote(a, b, Clerk)
    await clerk.call(Notes())
    sent = [peer.link.sent for peer in b.peers if peer.node == "c"]
    clerk.kill()
    await a.runtime.sleep(0.1)
    assert clerk.reason == KILLED
    assert [peer.link.sent for peer in b.peers if peer.node == "c"] == sent
    assert c.nodes() == {"a": 1, "b": 1}


class Zombie(Actor):
    """Does not end when it is killed, and tries everything then."""

    def __init__(self, clerk: Ref) -> None:
        self._clerk = clerk
        self.outcomes: list[object] = []

    @handle
    async def note(self, message: Note) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            clerk = self._clerk
            clerk.cast(Note("cast"))
            await clerk.send(Note("sent"))
            clerk.exit("exit")
            clerk.kill()
            for trying in (clerk.call(Notes()), clerk.stop()):
                try:
                    await trying
                except Fenced as error:
                    self.outcomes.append(type(error))


async def test_what_a_killed_actor_still_does_has_no_effect_elsewhere(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    ref = await a.runtime.spawn(Zombie, clerk)
    zombie: Any = a.runtime.own_cell("zombie", ref).actor
    ref.cast(Note("x"))
    await a.runtime.sleep(0.1)
    ref.kill()
    await a.runtime.sleep(1.0)
    assert zombie.outcomes == [Fenced, Fenced]
    assert await clerk.call(Notes()) == []
    assert a.runtime.statistics().dead_letters["fenced"] == 2


async def test_dead_letters_to_other_nodes_are_told(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    clerk.cast(object())
    (dropped,) = nodes.told("a", MessageDropped)
    assert isinstance(dropped, MessageDropped)
    assert (dropped.why, dropped.path) == ("not_transferable", clerk.path)


async def test_C066_without_credit_signals_and_other_actors_are_reached_all_the_same(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    slow, clerk = await remote(a, b, Slow), await remote(a, b, Clerk)
    for _ in range(2 * WINDOW):
        slow.cast(Note("x"))
    began = a.runtime.clock.time()
    assert await clerk.call(Echo("x")) == "x"
    slow.kill()
    assert await slow.join() in (KILLED, NOPROC)
    assert a.runtime.clock.time() - began < 0.05


async def test_timers_send_to_other_nodes(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    a.runtime.send_after(1.0, Note("later"), clerk)
    await a.runtime.sleep(1.1)
    assert await clerk.call(Notes()) == ["later"]


async def test_C025_the_deadline_of_a_request_in_hand_bounds_the_calls_made_for_it(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)

    class Between(Actor):
        @handle
        async def echo(self, request: Echo) -> str:
            return await clerk.call(Wait(), timeout=None)

    between = await a.runtime.spawn(Between)
    began = a.runtime.clock.time()
    with pytest.raises(CallTimeout):
        await between.call(Echo("x"), timeout=2.0)
    assert a.runtime.clock.time() - began == pytest.approx(2.0)


async def test_links_across_nodes_are_refused(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await remote(a, b, Clerk)
    own = a.runtime.own_cell("own", await a.runtime.spawn(Watcher))
    with pytest.raises(BadOption, match="of this runtime"):
        own.link_or_tell(clerk)
    with pytest.raises(BadOption, match="of this runtime"):
        b.runtime.own_cell("own", await b.runtime.spawn(Watcher)).monitor(clerk)
