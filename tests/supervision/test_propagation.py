"""What goes along with messages, from the context of who sends them to the actor that handles them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from supervision import Actor, Call, CallTimeout, Mailbox, MailboxFull, Ref, Runtime
from supervision.events import CrashReport, MessageDropped
from supervision.testing import barrier
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder

order: ContextVar[str | None] = ContextVar("order", default=None)


class CarryOrder:
    """Carries the value of ``order``, if there is one, and keeps a list of the calls it was told of."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    def send(self, target: Ref, message: Any, call: Call[Any] | None) -> Any:
        """Carry it."""
        if call is not None:
            self.calls.append(call)
        return order.get()

    def handle(self, actor: Actor, message: Any, carried: Any, proceed: Callable[[], Any]) -> Any:
        """Set it while the message is handled."""
        token = order.set(carried)
        result = proceed()
        if inspect.iscoroutine(result):

            async def rest() -> Any:
                try:
                    return await result
                finally:
                    order.reset(token)

            return rest()
        order.reset(token)
        return result


class Small(Probe):
    """A puppet with room for one message, which refuses more."""

    mailbox = Mailbox(1, overflow="refuse")


class Patient(Probe):
    """A puppet with room for one message, for whose senders there will be room."""

    mailbox = Mailbox(1, overflow="wait")


@pytest.fixture
def propagator() -> CarryOrder:
    """What the runtime's messages carry."""
    return CarryOrder()


def within(value: str | None, do: Callable[[], Any]) -> Any:
    """Do something while ``order`` has a value."""

    def inside() -> Any:
        order.set(value)
        return do()

    return copy_context().run(inside)


def write(actor: Any) -> None:
    """Write down the order that is being handled."""
    actor.log.append(order.get())


@pytest.mark.parametrize("kind", [Probe, Small, Patient])
async def test_what_is_carried_goes_from_actor_to_actor_with_its_own_message(runtime: Runtime, kind: Any) -> None:
    last = await runtime.spawn(kind)
    first = await runtime.spawn(kind)

    def pass_on(actor: Any) -> None:
        write(actor)
        last.cast(Do(write))

    logs = [await ref.call(DoAndReply(lambda actor: actor.log)) for ref in (first, last)]
    for value in ("a", None, "b"):
        within(value, lambda: first.cast(Do(pass_on)))
        await barrier(first)
        await barrier(last)
    assert logs == [["a", None, "b"], ["a", None, "b"]]


@pytest.mark.parametrize("kind", [Probe, Small, Patient])
async def test_a_handler_that_waits_keeps_it_and_its_calls_carry_it_on(runtime: Runtime, kind: Any) -> None:
    last = await runtime.spawn(kind)
    first = await runtime.spawn(kind)

    async def ask(actor: Any) -> list[str | None]:
        await runtime.sleep(1)
        there = await last.call(DoAndReply(lambda actor: order.get()))
        return [order.get(), there]

    assert await within("a", lambda: first.call(DoAndReply(ask))) == ["a", "a"]
    assert await within(None, lambda: first.call(DoAndReply(ask))) == [None, None]


async def test_the_propagator_is_told_of_the_call_whose_end_it_may_wait_for(
    runtime: Runtime, propagator: CarryOrder
) -> None:
    puppet = await runtime.spawn(Probe)
    call = within("a", lambda: puppet.call(DoAndReply(lambda actor: 7)))
    assert propagator.calls == [call]
    assert await call == 7


async def test_a_message_that_is_put_aside_keeps_what_it_carries(runtime: Runtime) -> None:
    puppet = await runtime.spawn(Probe)
    first = True

    def later(actor: Any) -> None:
        nonlocal first
        if first:
            first = False
            actor.stash()
        else:
            write(actor)

    within("a", lambda: puppet.cast(Do(later)))
    within("b", lambda: puppet.cast(Do(lambda actor: actor.unstash_all())))
    await barrier(puppet)
    assert await puppet.call(DoAndReply(lambda actor: actor.log)) == ["a"]


async def test_a_message_that_waits_for_room_keeps_what_it_carries(runtime: Runtime) -> None:
    puppet = await runtime.spawn(Patient)
    within("a", lambda: puppet.cast(Do(write)))
    await within("b", lambda: asyncio.ensure_future(puppet.send(Do(write))))
    await barrier(puppet)
    assert await puppet.call(DoAndReply(lambda actor: actor.log)) == ["a", "b"]


async def test_errors_and_dead_letters_name_the_message_and_not_what_it_travels_in(
    runtime: Runtime, events: Recorder
) -> None:
    small = await runtime.spawn(Small)
    small.cast(Note(1))
    order.set("a")
    with pytest.raises(MailboxFull) as refused:
        await small.send(Note(2))
    assert refused.value.request == Note(2)
    small.cast(Note(3))
    await barrier(small)
    small.kill()
    small.cast(Note(4))
    order.set(None)
    assert [event.message for event in events.of(MessageDropped)] == ["Note(text=3)", "Note(text=4)"]


async def test_a_crash_report_names_the_message_and_not_what_it_travels_in(runtime: Runtime, events: Recorder) -> None:
    puppet = await runtime.spawn(Probe)
    within("a", lambda: puppet.cast(Note(1)))
    within("a", lambda: puppet.cast(Do("1")))
    await puppet.join()
    (report,) = events.of(CrashReport)
    assert report.message == "Do(what='1')"


async def test_messages_of_the_kernel_carry_nothing(runtime: Runtime) -> None:
    puppet = await runtime.spawn(Probe, [], True)
    log = await puppet.call(DoAndReply(lambda actor: actor.log))
    within("a", lambda: puppet.exit("reason"))
    await barrier(puppet)
    assert [entry[0] for entry in log] == ["exit"]


async def test_a_call_that_comes_too_late_is_not_handled_and_its_answer_vanishes(runtime: Runtime) -> None:
    puppet = await runtime.spawn(Probe)
    puppet.cast(Do(lambda actor: runtime.sleep(2)))
    with pytest.raises(CallTimeout):
        await within("a", lambda: puppet.call(DoAndReply(write), timeout=1))
    await barrier(puppet)
    assert await puppet.call(DoAndReply(lambda actor: actor.log)) == []


class Remark(Note, frozen=True):
    """A note of another class."""


async def test_a_message_of_a_subclass_finds_the_handler_of_its_base(runtime: Runtime) -> None:
    puppet = await runtime.spawn(Probe)
    within("a", lambda: puppet.cast(Remark(1)))
    assert await puppet.call(DoAndReply(lambda actor: actor.log)) == [1]
