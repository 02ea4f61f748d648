"""Becoming something else, and putting messages aside until then."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import (
    Actor,
    ActorExited,
    BadOption,
    Mailbox,
    Message,
    Request,
    Runtime,
    UnhandledMessage,
    handle,
    system,
)
from supervision.errors import BadHandler
from supervision.events import MessageDropped
from supervision.testing import barrier
from tests.supervision.probes import Recorder


class Connect(Message, frozen=True):
    """The line is there."""


class Lose(Message, frozen=True):
    """The line is gone."""


class Send(Request[str], frozen=True):
    """Something to be sent."""

    text: str


class Tell(Message, frozen=True):
    """Something to be sent without an answer."""

    text: str


class Line(Actor):
    """Keeps what is to be sent until it is connected."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @handle(Send, Tell)
    def early(self, message: Any) -> None:
        """Not now."""
        self.stash()

    @handle
    def connect(self, message: Connect) -> None:
        """Now."""
        self.become("connected")
        self.unstash_all()
        self.unstash_all()

    @handle(when="connected")
    def send(self, request: Send) -> str:
        """Send it."""
        self.log.append(request.text)
        return f"sent {request.text}"

    @handle(Tell, when="connected")
    def tell(self, message: Tell) -> None:
        """Send it."""
        self.log.append(message.text)

    @handle(when="connected")
    def lose(self, message: Lose) -> None:
        """Wait again."""
        self.become(None)


class Narrow(Line):
    """The same with room for two."""

    mailbox = Mailbox(capacity=2)


@pytest.mark.parametrize("kind", [Line, Narrow])
async def test_what_is_put_aside_is_handled_in_order_before_what_waits(runtime: Runtime, kind: type[Line]) -> None:
    log: list[str] = []
    line = await runtime.spawn(kind, log)
    first = line.call(Send("1"))
    await barrier(line)
    line.cast(Tell("2"))
    await barrier(line)
    await line.send(Connect())
    await line.send(Tell("3"))
    assert await first == "sent 1"
    await barrier(line)
    assert log == ["1", "2", "3"]
    assert (await system.get_status(line)).behaviour == "connected"


async def test_it_can_go_back_to_what_it_was(runtime: Runtime) -> None:
    log: list[str] = []
    line = await runtime.spawn(Line, log)
    for message in (Connect(), Tell("1"), Lose(), Tell("2")):
        line.cast(message)
    await barrier(line)
    assert log == ["1"]
    assert (await system.get_status(line)).behaviour is None
    line.cast(Connect())
    await barrier(line)
    assert log == ["1", "2"]


async def test_what_it_has_become_has_no_handlers_for_what_it_was_not_told(runtime: Runtime) -> None:
    class Other(Request[int], frozen=True):
        pass

    line = await runtime.spawn(Line, [])
    line.cast(Connect())
    with pytest.raises(UnhandledMessage):
        await line.call(Other())


async def test_observers_stay_when_it_becomes_something_else(runtime: Runtime) -> None:
    line = await runtime.spawn(Line, [])
    await system.log(line, 10)
    line.cast(Connect())
    await line.call(Send("1"))
    assert [type(event).__name__ for event in await system.get_log(line)] == [
        *("Received", "Handled", "Received", "Replied")
    ]
    assert (await system.get_status(line)).behaviour == "connected"


async def test_what_is_still_put_aside_when_it_ends_is_lost_with_its_mailbox(
    runtime: Runtime, events: Recorder
) -> None:
    line = await runtime.spawn(Line, [])
    call = line.call(Send("1"))
    line.cast(Tell("2"))
    await barrier(line)
    await line.stop()
    with pytest.raises(ActorExited):
        await call
    assert [event.message for event in events.of(MessageDropped)] == ["Tell(text='2')"]


async def test_becoming_what_nobody_knows_is_an_error_that_says_what_there_is(runtime: Runtime) -> None:
    class Odd(Actor):
        @handle
        def lose(self, message: Lose) -> None:
            self.become("odd")

    class Wrong(Line):
        @handle
        def lost(self, message: Lose) -> None:
            self.become("wrong")

    for kind, remedy, args in ((Odd, "mark handlers with @handle", ()), (Wrong, "knows 'connected'", ([],))):
        ref = await runtime.spawn(kind, *args)
        ref.cast(Lose())
        reason = await ref.join()
        assert remedy in str(reason)
        assert BadOption.__name__ in str(reason)


@pytest.mark.parametrize("bad", ["", 5])
def test_what_it_becomes_has_a_name(bad: Any) -> None:
    with pytest.raises(BadHandler, match="as a string"):
        handle(Tell, when=bad)


def test_two_handlers_for_one_type_and_one_name_clash() -> None:
    with pytest.raises(BadHandler, match="handles this type already"):

        class Twice(Actor):
            @handle(when="x")
            def one(self, message: Tell) -> None: ...

            @handle(when="x")
            def two(self, message: Tell) -> None: ...
